//! Sampling at places that are computed: `GridSample`, `AffineGrid`, `RoiAlign`.

use super::{
    super::{
        builder::Builder,
        error::{GradientError, Result},
        graph::{Attribute, Dim, ElementType, Node, ValueType},
        linear::{Map, Pair, Site},
        shape::{Inference, Inferred, wrong},
        sizes::Size,
        tensor::Tensor,
    },
    Derivative as D, Rule, rule,
};

pub(super) const RULES: &[Rule] = &[
    rule("GridSample", sample_type, D::Composed(sampled)),
    rule("AffineGrid", grid_type, D::Linear(affine_grid)),
    rule(
        "RoiAlign",
        regions_type,
        D::Refused("sampling regions is not supported; choose an output from before the regions"),
    ),
];

fn sample_type(inference: &Inference) -> Inferred {
    let (image, grid) = (inference.shape(0)?, inference.shape(1)?);
    let ([batch, channels, ..], [_, places @ .., _]) = (image, grid) else {
        return wrong("its image must have channels, and its grid coordinates");
    };
    let shape = [batch, channels].into_iter().chain(places).cloned().collect();
    Ok(vec![ValueType::new(inference.element(0)?, shape)])
}

fn grid_type(inference: &Inference) -> Inferred {
    let n_axes = inference.shape(1)?.first().and_then(Dim::known).unwrap_or(4);
    let sizes = inference.integers(1);
    let dim = |position: usize, axis: usize| match sizes.and_then(|sizes| sizes.get(position)) {
        Some(super::super::graph::Integer::Known(size)) => Dim::Known(size.unsigned_abs()),
        Some(super::super::graph::Integer::Symbol(name)) => Dim::Symbol(name.clone()),
        _ => inference.fresh(0, axis),
    };
    let n_spatial = if n_axes == 5 { 3 } else { 2 };
    let spatial = (0..n_spatial).map(|axis| dim(axis + 2, axis + 1));
    let shape = [dim(0, 0)].into_iter().chain(spatial).chain([Dim::Known(n_spatial as u64)]).collect();
    Ok(vec![ValueType::new(inference.element(0)?, shape)])
}

fn regions_type(inference: &Inference) -> Inferred {
    let [_, channels, ..] = inference.shape(0)? else { return wrong("its input must have channels") };
    let regions = inference.shape(1)?.first().cloned().unwrap_or_else(|| inference.fresh(0, 0));
    let size = |name: &str| Dim::Known(inference.node.int(name).unwrap_or(1).unsigned_abs());
    let shape = vec![regions, channels.clone(), size("output_height"), size("output_width")];
    Ok(vec![ValueType::new(inference.element(0)?, shape)])
}

/// Linear in the matrices. The places before the map are what the identity gives.
fn affine_grid(_: &mut Builder, site: &Site) -> Result<Map> {
    let (node, same) = (site.node.clone(), site.node.clone());
    let output = site.y().to_owned();
    Ok(Pair::of(
        move |builder, tangent| builder.repeated_with(&node, 0, tangent),
        move |builder, cotangent| {
            let rank = builder.rank(&output)?;
            let n_spatial = rank - 2;
            let element = builder.element(cotangent)?;
            let columns = n_spatial + 1;
            let diagonal = |at: usize| if at % columns == at / columns { 1.0 } else { 0.0 };
            let identity: Vec<f64> = (0..n_spatial * columns).map(diagonal).collect();
            let identity = Tensor::from_floats(element, vec![1, n_spatial as u64, columns as u64], &identity)?;
            let identity = builder.constant(identity);
            let spatial = (1..rank - 1).map(|axis| Size::Of(&output, axis));
            let sizes: Vec<Size> = [Size::Known(1); 2].into_iter().chain(spatial).collect();
            let sizes = builder.shape_of_sizes(&sizes)?;
            let mut places = builder.repeated(&same, &[(0, &identity), (1, &sizes)])?;
            let places = builder.reshaped(&places.pop().unwrap_or_default(), &[-1, n_spatial as i64])?;
            // A column of ones for the shift.
            let (pads, axis) = (builder.integers(&[0, 1])?, builder.integers(&[1])?);
            let one = builder.scalar(1.0, &places)?;
            let places = builder.emit("Pad", &[&places, &pads, &one, &axis], &[])?;
            let flat = builder
                .reshaped_to(cotangent, &[Size::Of(&output, 0), Size::Known(-1), Size::Known(n_spatial as i64)])?;
            let flat = builder.permuted(&flat, &[0, 2, 1])?;
            builder.emit("MatMul", &[&flat, &places], &[])
        },
    ))
}

fn refused(reason: &str) -> GradientError {
    GradientError::Unsupported(reason.to_owned())
}

/// The elements around each place, and the weight of those behind it, for one axis.
struct Neighbours {
    /// Float numbers of elements that may lie outside, with their weights; no weight is 1.
    taps: Vec<(String, Option<String>)>,
    last: String,
    size: String,
}

/// The weighted sum of the elements around each place.
fn sampled(builder: &mut Builder, node: &Node) -> Result<Vec<String>> {
    let [image, grid] = [0, 1].map(|index| node.input(index).unwrap_or(""));
    let rank = builder.rank(image)?;
    let padding = node.text("padding_mode").unwrap_or("zeros");
    if !matches!(padding, "zeros" | "border") {
        return Err(refused("padding by reflection is not supported; export it with zeros or border"));
    }
    if !(4..=5).contains(&rank) {
        return Err(refused("its image must have two or three spatial axes"));
    }
    let mut axes = Vec::new();
    for axis in 2..rank {
        // Coordinates come in the opposite order of axes.
        axes.push(neighbours(builder, node, (image, axis), (grid, rank - 1 - axis), padding == "border")?);
    }
    let flat = builder.reshaped_to(image, &[Size::Of(image, 0), Size::Of(image, 1), Size::Known(-1)])?;
    let mut sum: Option<String> = None;
    let n_taps = axes.iter().map(|axis| axis.taps.len()).product::<usize>();
    for corner in 0..n_taps {
        let mut rest = corner;
        let (mut place, mut weight): (Option<String>, Option<String>) = (None, None);
        for axis in &axes {
            let Some((tap, share)) = axis.taps.get(rest % axis.taps.len()) else { continue };
            rest /= axis.taps.len();
            let zero = builder.scalar(0.0, tap)?;
            let inside = builder.emit("Clip", &[tap, &zero, &axis.last], &[])?;
            if padding == "zeros" {
                let is_inside = builder.emit("Equal", &[&inside, tap], &[])?;
                let mask = builder.mask(&is_inside, tap)?;
                weight = Some(times(builder, weight, mask)?);
            }
            if let Some(share) = share {
                weight = Some(times(builder, weight, share.clone())?);
            }
            let inside = builder.cast(&inside, ElementType::Int64)?;
            place = Some(match place {
                Some(place) => {
                    let before = builder.mul(&place, &axis.size)?;
                    builder.add(&before, &inside)?
                }
                None => inside,
            });
        }
        let taken = taken(builder, &flat, &place.unwrap_or_default())?;
        let part = match weight {
            Some(weight) => {
                let weight = builder.reshaped_to(&weight, &[Size::Of(grid, 0), Size::Known(1), Size::Known(-1)])?;
                builder.mul(&taken, &weight)?
            }
            None => taken,
        };
        sum = Some(match sum {
            Some(sum) => builder.add(&sum, &part)?,
            None => part,
        });
    }
    let sum = sum.ok_or_else(|| refused("its image has no spatial axes"))?;
    let places = (1..rank - 1).map(|axis| Size::Of(grid, axis));
    let sizes: Vec<Size> = [Size::Of(image, 0), Size::Of(image, 1)].into_iter().chain(places).collect();
    Ok(vec![builder.reshaped_to(&sum, &sizes)?])
}

fn times(builder: &mut Builder, product: Option<String>, factor: String) -> Result<String> {
    match product {
        Some(product) => builder.mul(&product, &factor),
        None => Ok(factor),
    }
}

/// Elements of `[N, C, size]` at places `[N, …]`, the same for all channels: `[N, C, places]`.
fn taken(builder: &mut Builder, flat: &str, places: &str) -> Result<String> {
    let places = builder.reshaped_to(places, &[Size::Of(flat, 0), Size::Known(1), Size::Known(-1)])?;
    let target = builder.shape_of_sizes(&[Size::Known(1), Size::Of(flat, 1), Size::Known(1)])?;
    let places = builder.emit("Expand", &[&places, &target], &[])?;
    builder.emit("GatherElements", &[flat, &places], &[("axis", Attribute::Int(2))])
}

fn neighbours(
    builder: &mut Builder,
    node: &Node,
    (image, axis): (&str, usize),
    (grid, coordinate): (&str, usize),
    clamps: bool,
) -> Result<Neighbours> {
    let which = builder.constant(Tensor::from_integers(vec![], &[coordinate as i64])?);
    let place = builder.emit("Gather", &[grid, &which], &[("axis", Attribute::Int(-1))])?;
    let size = builder.size_value(image, axis)?;
    let element = builder.element(grid)?;
    let length = builder.cast(&size, element)?;
    let length = builder.reshaped(&length, &[])?;
    let last = builder.shifted(&length, -1.0)?;
    // From −1…1 to numbers of elements.
    let place = builder.shifted(&place, 1.0)?;
    let place = if node.int("align_corners").unwrap_or(0) != 0 {
        let half = builder.scaled(&last, 0.5)?;
        builder.mul(&place, &half)?
    } else {
        let half = builder.scaled(&length, 0.5)?;
        let place = builder.mul(&place, &half)?;
        builder.shifted(&place, -0.5)?
    };
    let place = if clamps {
        let zero = builder.scalar(0.0, &place)?;
        builder.emit("Clip", &[&place, &zero, &last], &[])?
    } else {
        place
    };
    let taps = match node.text("mode").unwrap_or("linear") {
        "nearest" => vec![(builder.unary("Round", &place)?, None)],
        "linear" | "bilinear" => {
            let before = builder.unary("Floor", &place)?;
            let behind = builder.shifted(&before, 1.0)?;
            let share = builder.sub(&place, &before)?;
            let one = builder.scalar(1.0, &share)?;
            let rest = builder.sub(&one, &share)?;
            vec![(before, Some(rest)), (behind, Some(share))]
        }
        _ => return Err(refused("cubic sampling is not supported; export it with linear or nearest")),
    };
    Ok(Neighbours { taps, last, size })
}
