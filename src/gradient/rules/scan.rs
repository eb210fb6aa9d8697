//! Running sums and products along an axis, and triangles of matrices.

use super::{
    super::{
        builder::Builder,
        error::Result,
        graph::{Attribute, Dim, ElementType, Node, ValueType},
        linear::{Map, Pair, Site},
        shape::{Inference, Inferred, resolve_axis},
        tensor::Tensor,
    },
    Derivative as D, Rule,
    normalization::type_of_x,
    rule,
};

pub(super) const RULES: &[Rule] = &[
    rule("CumSum", type_of_x, D::Linear(running_sum)),
    rule("CumProd", type_of_x, D::Composed(running_product)),
    rule("Trilu", type_of_x, D::Linear(triangle)),
    rule("EyeLike", eye_type, D::Zero),
];

/// Longest axis of a running product.
const LONGEST: u64 = 1 << 20;

fn eye_type(inference: &Inference) -> Inferred {
    let code = inference.node.int("dtype").and_then(|code| i32::try_from(code).ok());
    let like = inference.value_type(0)?;
    let element = code.and_then(ElementType::from_code).unwrap_or(like.element);
    Ok(vec![ValueType { element, shape: like.shape.clone() }])
}

fn attributes_of(node: &Node) -> Vec<(&str, Attribute)> {
    node.attributes.iter().map(|(name, value)| (name.as_str(), value.clone())).collect()
}

/// Its adjoint is the running sum from the other end.
fn running_sum(_: &mut Builder, site: &Site) -> Result<Map> {
    let axis = site.operand(1)?.to_owned();
    let sum = move |builder: &mut Builder, value: &str, exclusive: i64, reverse: i64| {
        let options = [("exclusive", Attribute::Int(exclusive)), ("reverse", Attribute::Int(reverse))];
        builder.emit("CumSum", &[value, &axis], &options)
    };
    let flag = |name: &str| i64::from(site.node.int(name).unwrap_or(0) != 0);
    let (exclusive, reverse, backward) = (flag("exclusive"), flag("reverse"), sum.clone());
    Ok(Pair::of(
        move |builder, tangent| sum(builder, tangent, exclusive, reverse),
        move |builder, cotangent| backward(builder, cotangent, exclusive, 1 - reverse),
    ))
}

/// Keeping a triangle is its own adjoint.
fn triangle(_: &mut Builder, site: &Site) -> Result<Map> {
    let node = site.node.clone();
    let keep = move |builder: &mut Builder, value: &str| {
        let inputs: Vec<&str> = std::iter::once(value).chain(node.input(1)).collect();
        builder.emit("Trilu", &inputs, &attributes_of(&node))
    };
    Ok(Pair::of(keep.clone(), keep))
}

/// Doubling: after step k each element is the product of the 2ᵏ elements up to it. Nothing is divided, so that zeros
/// do no harm.
fn running_product(builder: &mut Builder, node: &Node) -> Result<Vec<String>> {
    let site = Site { node, input: 0, output: 0 };
    let x = site.operand(0)?;
    let shape = builder.shape(x)?;
    let inference = Inference { graph: builder.graph(), node };
    let axis = match inference.known_integers(1).as_deref() {
        Ok([axis]) => resolve_axis(*axis, shape.len()).map_err(|reason| site.refuse(&reason))?,
        _ => return Err(site.refuse("its axis is not constant")),
    };
    let Some(length) = shape.get(axis).and_then(Dim::known).filter(|length| *length <= LONGEST) else {
        return Err(site.refuse("the size of its axis is not known; only known sizes are supported"));
    };
    let reverse = node.int("reverse").unwrap_or(0) != 0;
    let mut value = x.to_owned();
    if node.int("exclusive").unwrap_or(0) != 0 {
        value = shifted_by(builder, &value, axis, 1, reverse)?;
    }
    let mut step = 1;
    while step < length {
        let earlier = shifted_by(builder, &value, axis, step as i64, reverse)?;
        value = builder.mul(&value, &earlier)?;
        step *= 2;
    }
    Ok(vec![value])
}

/// The elements `step` places before, or after, each; 1 where there are none.
fn shifted_by(builder: &mut Builder, value: &str, axis: usize, step: i64, reverse: bool) -> Result<String> {
    let rank = builder.rank(value)?;
    let side = |behind: bool| {
        (0..2 * rank).map(|at| i64::from(at == axis + if behind { rank } else { 0 }) * step).collect::<Vec<i64>>()
    };
    let (front, behind) = (side(false), side(true));
    let moves = |plus: &[i64], minus: &[i64]| plus.iter().zip(minus).map(|(a, b)| a - b).collect::<Vec<i64>>();
    let pads = if reverse { moves(&behind, &front) } else { moves(&front, &behind) };
    let pads = builder.integers(&pads)?;
    let one = builder.constant(Tensor::from_floats(builder.element(value)?, vec![], &[1.0])?);
    let moved = builder.emit("Pad", &[value, &pads, &one], &[])?;
    builder.refine(&moved, value);
    Ok(moved)
}
