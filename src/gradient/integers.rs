//! Propagates the contents of small integer tensors through the operators that exporters compute shapes with.
//!
//! Elements are numbers, symbols of dimensions, or unknown, so that `view(x.size(0), -1)` is understood with a symbolic
//! batch.

use super::{
    graph::{Dim, Graph, Integer},
    shape::{Inference, resolve_axis},
};

/// Longest tensor that is followed.
const LONGEST: usize = 64;

/// The contents of a node's first output, as far as they follow from its inputs; `None` where nothing does.
pub(crate) fn propagate(inference: &Inference) -> Option<Vec<Integer>> {
    let node = inference.node;
    let values = match node.op.as_str() {
        "Shape" => shape_of(inference)?,
        "Size" => {
            let dims: Option<Vec<u64>> = inference.shape(0).ok()?.iter().map(Dim::known).collect();
            let count = dims?.iter().try_fold(1u64, |count, &dim| count.checked_mul(dim))?;
            vec![Integer::Known(i64::try_from(count).ok()?)]
        }
        "Identity" | "Squeeze" | "Unsqueeze" | "Flatten" | "Reshape" => inference.integers(0)?.to_vec(),
        "Cast" => {
            let integral = |code: i64| matches!(code, 6 | 7);
            if !integral(node.int("to")?) {
                return None;
            }
            inference.integers(0)?.to_vec()
        }
        "Gather" => gather(inference)?,
        "Concat" => {
            let mut values = Vec::new();
            for index in 0..node.inputs.len() {
                match inference.integers(index) {
                    Some(part) => values.extend_from_slice(part),
                    None => {
                        let length = inference.shape(index).ok()?.first()?.known()?;
                        let length = usize::try_from(length).ok().filter(|&length| length <= LONGEST)?;
                        values.extend(std::iter::repeat_n(Integer::Unknown, length));
                    }
                }
            }
            values
        }
        "Slice" => slice(inference)?,
        "Add" | "Sub" | "Mul" | "Div" | "Equal" => arithmetic(inference)?,
        "Where" => chosen(inference)?,
        "ReduceProd" => {
            let known: Option<Vec<i64>> = inference.integers(0)?.iter().map(Integer::known).collect();
            vec![known?.iter().try_fold(1i64, |a, &b| a.checked_mul(b)).map_or(Integer::Unknown, Integer::Known)]
        }
        "ConstantOfShape" => {
            let count = inference.known_integers(0).ok()?;
            let count = count.iter().try_fold(1i64, |a, &b| a.checked_mul(b))?;
            let count = usize::try_from(count).ok().filter(|&count| count <= LONGEST)?;
            let value = match node.attributes.get("value") {
                Some(super::graph::Attribute::Tensor(tensor)) => *tensor.small_integers()?.first()?,
                _ => return None,
            };
            vec![Integer::Known(value); count]
        }
        _ => return None,
    };
    (values.len() <= LONGEST).then_some(values)
}

fn shape_of(inference: &Inference) -> Option<Vec<Integer>> {
    let shape = inference.shape(0).ok()?;
    let rank = i64::try_from(shape.len()).ok()?;
    let clamp = |at: i64| usize::try_from((if at < 0 { at.saturating_add(rank) } else { at }).clamp(0, rank)).ok();
    let start = clamp(inference.node.int("start").unwrap_or(0))?;
    let end = clamp(inference.node.int("end").unwrap_or(rank))?;
    Some(shape.get(start..end.max(start))?.iter().map(Integer::from).collect())
}

fn gather(inference: &Inference) -> Option<Vec<Integer>> {
    let values = inference.integers(0)?;
    if inference.node.int("axis").unwrap_or(0) != 0 || inference.shape(0).ok()?.len() != 1 {
        return None;
    }
    let indices = inference.known_integers(1).ok()?;
    indices.iter().map(|&index| values.get(resolve_axis(index, values.len()).ok()?).cloned()).collect()
}

fn slice(inference: &Inference) -> Option<Vec<Integer>> {
    let values = inference.integers(0)?;
    let one = |index: usize| match inference.known_integers(index).ok()?.as_slice() {
        [value] => Some(*value),
        _ => None,
    };
    if inference.node.input(4).is_some() && one(4)? != 1 {
        return None;
    }
    let length = i64::try_from(values.len()).ok()?;
    let clamp = |at: i64| (if at < 0 { at.saturating_add(length) } else { at }).clamp(0, length);
    let start = usize::try_from(clamp(one(1)?)).ok()?;
    let end = usize::try_from(clamp(one(2)?)).ok()?;
    values.get(start..end.max(start)).map(<[Integer]>::to_vec)
}

fn arithmetic(inference: &Inference) -> Option<Vec<Integer>> {
    let (a, b) = (inference.integers(0)?, inference.integers(1)?);
    let length = a.len().max(b.len());
    if (a.len() != length && a.len() != 1) || (b.len() != length && b.len() != 1) {
        return None;
    }
    let op = inference.node.op.as_str();
    let pairs = a.iter().cycle().zip(b.iter().cycle()).take(length);
    Some(pairs.map(|(a, b)| combine(op, a, b)).collect())
}

/// `Where` with a known condition, as exporters choose between a given size and one to infer.
fn chosen(inference: &Inference) -> Option<Vec<Integer>> {
    let (condition, yes, no) = (inference.integers(0)?, inference.integers(1)?, inference.integers(2)?);
    let length = condition.len().max(yes.len()).max(no.len());
    if [condition, yes, no].iter().any(|values| values.len() != length && values.len() != 1) {
        return None;
    }
    let choices = condition.iter().cycle().zip(yes.iter().cycle().zip(no.iter().cycle())).take(length);
    let choice = |(condition, (yes, no)): (&Integer, (&Integer, &Integer))| match condition.known() {
        Some(0) => no.clone(),
        Some(_) => yes.clone(),
        None if yes == no => yes.clone(),
        None => Integer::Unknown,
    };
    Some(choices.map(choice).collect())
}

fn combine(op: &str, a: &Integer, b: &Integer) -> Integer {
    let result = match (op, a, b) {
        ("Add", Integer::Known(a), Integer::Known(b)) => a.checked_add(*b),
        ("Sub", Integer::Known(a), Integer::Known(b)) => a.checked_sub(*b),
        ("Mul", Integer::Known(a), Integer::Known(b)) => a.checked_mul(*b),
        // ONNX leaves the rounding of negative quotients open.
        ("Div", Integer::Known(a), Integer::Known(b)) if *a >= 0 && *b > 0 => a.checked_div(*b),
        ("Equal", Integer::Known(a), Integer::Known(b)) => Some((a == b).into()),
        ("Equal", Integer::Symbol(a), Integer::Symbol(b)) if a == b => Some(1),
        // Sizes are never negative.
        ("Equal", Integer::Symbol(_), Integer::Known(size)) | ("Equal", Integer::Known(size), Integer::Symbol(_))
            if *size < 0 =>
        {
            Some(0)
        }
        ("Mul", symbol @ Integer::Symbol(_), Integer::Known(1))
        | ("Mul", Integer::Known(1), symbol @ Integer::Symbol(_))
        | ("Add", symbol @ Integer::Symbol(_), Integer::Known(0))
        | ("Add", Integer::Known(0), symbol @ Integer::Symbol(_))
        | ("Sub", symbol @ Integer::Symbol(_), Integer::Known(0))
        | ("Div", symbol @ Integer::Symbol(_), Integer::Known(1)) => return symbol.clone(),
        _ => None,
    };
    result.map_or(Integer::Unknown, Integer::Known)
}

/// Replaces the shape computations whose result is known by constants.
pub(crate) fn constants(graph: &Graph) -> Vec<(usize, Vec<i64>)> {
    let known = |node: &super::graph::Node| {
        let values = graph.integers.get(node.output(0)?)?;
        values.iter().map(Integer::known).collect::<Option<Vec<i64>>>()
    };
    let nodes = graph.nodes.iter().enumerate();
    nodes.filter(|(_, node)| node.outputs.len() == 1).filter_map(|(index, node)| Some((index, known(node)?))).collect()
}
