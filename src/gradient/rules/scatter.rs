//! Writing values into places: `ScatterElements` and `ScatterND`, with each of their reductions.
//!
//! With data d, places p and updates u, every form is linear in the updates with one weight each: `J t` writes
//! weight·t into zeros, adding up, and `Jᵀ c` takes c at the places, times the weights.

use super::{
    super::{
        builder::Builder,
        error::Result,
        graph::{Attribute, Node},
        linear::{Elementwise, Map, Pair, Site},
        tensor::Tensor,
    },
    Derivative as D, Rule,
    movement_types::same_as_first,
    rule,
};

pub(super) const RULES: &[Rule] = &[
    rule("ScatterElements", same_as_first, D::Linear(scattered)),
    rule("ScatterND", same_as_first, D::Linear(scattered)),
];

/// The node as a way to write to its places and to read them.
#[derive(Clone)]
struct Places {
    node: Node,
}

impl Places {
    fn attributes(&self, reduction: &str) -> Vec<(&'static str, Attribute)> {
        let mut attributes = vec![("reduction", Attribute::Text(reduction.to_owned()))];
        if self.node.op == "ScatterElements" {
            attributes.push(("axis", Attribute::Int(self.node.int("axis").unwrap_or(0))));
        }
        attributes
    }

    fn indices(&self) -> &str {
        self.node.input(1).unwrap_or("")
    }

    fn write(&self, builder: &mut Builder, data: &str, updates: &str, reduction: &str) -> Result<String> {
        let written = builder.emit(&self.node.op, &[data, self.indices(), updates], &self.attributes(reduction))?;
        builder.shaped_like(&written, data);
        Ok(written)
    }

    fn read(&self, builder: &mut Builder, data: &str) -> Result<String> {
        let read = if self.node.op == "ScatterElements" {
            let axis = [("axis", Attribute::Int(self.node.int("axis").unwrap_or(0)))];
            builder.emit("GatherElements", &[data, self.indices()], &axis)?
        } else {
            builder.emit("GatherND", &[data, self.indices()], &[])?
        };
        builder.shaped_like(&read, self.node.input(2).unwrap_or(""));
        Ok(read)
    }
}

fn scattered(builder: &mut Builder, site: &Site) -> Result<Map> {
    let places = Places { node: site.node.clone() };
    let (data, updates) = (site.operand(0)?, site.operand(2)?);
    let reduction = site.node.text("reduction").unwrap_or("none");
    if !matches!(reduction, "none" | "add" | "mul" | "max" | "min") {
        return Err(site.refuse(&format!("the reduction `{reduction}` is not known")));
    }
    if site.input == 0 {
        let factor = match reduction {
            "add" => None,
            "none" => {
                let (ones, zeros) = (builder.ones_like(data)?, builder.zeros_like(updates)?);
                Some(places.write(builder, &ones, &zeros, "none")?)
            }
            "mul" => {
                let ones = builder.ones_like(data)?;
                Some(places.write(builder, &ones, updates, "mul")?)
            }
            _ => Some(extreme_weights(builder, &places, site)?.0),
        };
        return Ok(Elementwise::at(site, factor));
    }
    let weight = match reduction {
        "add" => None,
        "none" => Some(survivors(builder, &places, data, updates)?),
        "mul" => Some(cofactors(builder, &places, data, updates)?),
        _ => Some(extreme_weights(builder, &places, site)?.1),
    };
    let (same, same_weight, data) = (places.clone(), weight.clone(), data.to_owned());
    let weighted = |builder: &mut Builder, value: String, weight: &Option<String>| match weight {
        Some(weight) => builder.mul(&value, weight),
        None => Ok(value),
    };
    Ok(Pair::of(
        move |builder, tangent| {
            let weighted = weighted(builder, tangent.to_owned(), &weight)?;
            let zeros = builder.zeros_like(&data)?;
            places.write(builder, &zeros, &weighted, "add")
        },
        move |builder, cotangent| {
            let read = same.read(builder, cotangent)?;
            weighted(builder, read, &same_weight)
        },
    ))
}

/// 1 for updates that are not written over by others, 0 for the rest.
fn survivors(builder: &mut Builder, places: &Places, data: &str, updates: &str) -> Result<String> {
    let nobody = builder.filled_like(data, Tensor::from_integers(vec![1], &[-1])?)?;
    let own = builder.flat_indices(updates)?;
    let winners = places.write(builder, &nobody, &own, "none")?;
    let winners = places.read(builder, &winners)?;
    let survives = builder.emit("Equal", &[&winners, &own], &[])?;
    builder.mask(&survives, updates)
}

/// The product of the data and all other updates at each update's place, right for updates that are 0 too.
fn cofactors(builder: &mut Builder, places: &Places, data: &str, updates: &str) -> Result<String> {
    let zero = builder.scalar(0.0, updates)?;
    let is_zero = builder.emit("Equal", &[updates, &zero], &[])?;
    let zeros = builder.mask(&is_zero, updates)?;
    // Updates that are 0 count as 1 in the product, and are counted.
    let nonzero = builder.add(updates, &zeros)?;
    let product = places.write(builder, data, &nonzero, "mul")?;
    let none = builder.zeros_like(data)?;
    let count = places.write(builder, &none, &zeros, "add")?;
    let (product, count) = (places.read(builder, &product)?, places.read(builder, &count)?);
    let others = builder.div(&product, &nonzero)?;
    let other_zeros = builder.sub(&count, &zeros)?;
    let half = builder.scalar(0.5, updates)?;
    let nonzero_others = builder.emit("Less", &[&other_zeros, &half], &[])?;
    let mask = builder.mask(&nonzero_others, updates)?;
    builder.mul(&others, &mask)
}

/// The weights of data and updates where the largest or smallest of them stays; those that are equal share.
fn extreme_weights(builder: &mut Builder, places: &Places, site: &Site) -> Result<(String, String)> {
    let (data, updates, output) = (site.operand(0)?, site.operand(2)?, site.y());
    let is_data = builder.emit("Equal", &[data, output], &[])?;
    let is_data = builder.mask(&is_data, data)?;
    let at_places = places.read(builder, output)?;
    let is_update = builder.emit("Equal", &[updates, &at_places], &[])?;
    let is_update = builder.mask(&is_update, updates)?;
    let count = places.write(builder, &is_data, &is_update, "add")?;
    let count_at_places = places.read(builder, &count)?;
    Ok((builder.div(&is_data, &count)?, builder.div(&is_update, &count_at_places)?))
}

/// `MaxUnpool` writes its input into zeros, at flat places of the output; where several go to one place the last stays.
pub(super) fn unpooled(builder: &mut Builder, site: &Site) -> Result<Map> {
    if site.input != 0 {
        return Err(site.refuse("it is differentiable in its first input only"));
    }
    let (input, output) = (site.x().to_owned(), site.y().to_owned());
    let places = builder.reshaped(site.operand(1)?, &[-1])?;
    let survives = {
        let own = builder.flat_indices(&input)?;
        let own = builder.reshaped(&own, &[-1])?;
        let nobody = builder.filled_like(&output, Tensor::from_integers(vec![1], &[-1])?)?;
        let nobody = builder.reshaped(&nobody, &[-1])?;
        let winners = builder.emit("ScatterElements", &[&nobody, &places, &own], &[("axis", Attribute::Int(0))])?;
        let winners = builder.emit("Gather", &[&winners, &places], &[("axis", Attribute::Int(0))])?;
        let survives = builder.emit("Equal", &[&winners, &own], &[])?;
        builder.mask(&survives, &input)?
    };
    let node = site.node.clone();
    Ok(Pair::of(
        move |builder, tangent| builder.repeated_with(&node, 0, tangent),
        move |builder, cotangent| {
            let flat = builder.reshaped(cotangent, &[-1])?;
            let taken = builder.emit("Gather", &[&flat, &places], &[("axis", Attribute::Int(0))])?;
            let taken = builder.mul(&taken, &survives)?;
            builder.reshaped_like(&taken, &input)
        },
    ))
}
