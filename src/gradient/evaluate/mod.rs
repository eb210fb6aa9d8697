//! Computes what follows from constants alone, as exporters leave it behind: weights that are transposed or filled,
//! masks, positions, shapes.
//!
//! `moves` has what takes elements from elsewhere, `arithmetic` what computes new ones.
//!
//! Invariant: a result has at most [`limits::FOLDED_ELEMENTS`] elements, and time is linear in the sizes of operands
//! and result. `None` always means that the node stays as it is.

mod arithmetic;
mod moves;

use self::{
    arithmetic::{binary, cast, unary},
    moves::non_zero,
};
use super::{
    graph::{ElementType, Graph, Integer, Node, ValueType},
    shape::{Inference, resolve_axis},
    tensor::{Tensor, count_elements},
};
use crate::limits;

/// Longest tensor whose contents are followed without being a constant.
const LONGEST: usize = 64;

/// The outputs of a node whose inputs are all initialisers.
pub(super) fn constants(graph: &Graph, node: &Node) -> Option<Vec<Tensor>> {
    if !is_known(&node.op) {
        return None;
    }
    let constant = |name: &String| if name.is_empty() { Some(None) } else { graph.initializers.get(name).map(Some) };
    let inputs: Vec<Option<&Tensor>> = node.inputs.iter().map(constant).collect::<Option<_>>()?;
    // A node without inputs makes random numbers or constants of its own.
    inputs.iter().flatten().next()?;
    Operands { node, inputs }.results()
}

/// The contents of a node's first output where those of all inputs follow from shapes, though they are no constants.
pub(super) fn contents(inference: &Inference, output: &ValueType) -> Option<Vec<Integer>> {
    let (graph, node) = (inference.graph, inference.node);
    let is_small = output.known_shape().and_then(|dims| product(&dims)).is_some_and(|count| count <= LONGEST as u64);
    if !is_known(&node.op) || !is_small || node.outputs.len() != 1 || output.element.is_float() {
        return None;
    }
    let inputs: Option<Vec<Option<Tensor>>> = node
        .inputs
        .iter()
        .map(|name| {
            if name.is_empty() {
                return Some(None);
            }
            if let Some(tensor) = graph.initializers.get(name) {
                return (tensor.len() <= LONGEST).then(|| Some(tensor.clone()));
            }
            let values: Option<Vec<i64>> = graph.integers.get(name)?.iter().map(Integer::known).collect();
            let value_type = graph.types.get(name)?;
            Some(Some(from_integers(value_type.element, value_type.known_shape()?, &values?)?))
        })
        .collect();
    let inputs = inputs?;
    let inputs: Vec<Option<&Tensor>> = inputs.iter().map(Option::as_ref).collect();
    inputs.iter().flatten().next()?;
    let result = Operands { node, inputs }.results()?.into_iter().next()?;
    let values = result.integers().filter(|values| values.len() <= LONGEST)?;
    Some(values.into_iter().map(Integer::Known).collect())
}

fn is_known(op: &str) -> bool {
    const OPERATORS: &[&str] = &[
        "Identity",
        "Cast",
        "CastLike",
        "Reshape",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
        "Shape",
        "Size",
        "Transpose",
        "Concat",
        "Gather",
        "GatherElements",
        "Slice",
        "Split",
        "Expand",
        "Tile",
        "ConstantOfShape",
        "Range",
        "Where",
        "Equal",
        "Greater",
        "Less",
        "GreaterOrEqual",
        "LessOrEqual",
        "And",
        "Or",
        "Xor",
        "Not",
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Mod",
        "Pow",
        "Min",
        "Max",
        "Neg",
        "Abs",
        "Sqrt",
        "Exp",
        "Log",
        "Reciprocal",
        "Floor",
        "Ceil",
        "Sin",
        "Cos",
        "Tanh",
        "Sigmoid",
        "Relu",
        "Sign",
        "ReduceSum",
        "ReduceProd",
        "ReduceMax",
        "ReduceMin",
        "ReduceMean",
        "Trilu",
        "DequantizeLinear",
        "NonZero",
        "Clip",
    ];
    OPERATORS.contains(&op)
}

/// A tensor of an integer or boolean type; `None` for other types.
fn from_integers(element: ElementType, dims: Vec<u64>, values: &[i64]) -> Option<Tensor> {
    use ElementType as E;
    let size = match element {
        E::Bool => {
            let bytes: Vec<u8> = values.iter().map(|&value| u8::from(value != 0)).collect();
            return Tensor::new(element, dims, bytes.into()).ok();
        }
        E::Uint8 | E::Int8 | E::Uint16 | E::Int16 | E::Int32 | E::Int64 | E::Uint32 | E::Uint64 => element.size(),
        _ => return None,
    };
    let mut data = Vec::with_capacity(values.len() * size);
    for value in values {
        data.extend(value.to_le_bytes().into_iter().take(size));
    }
    Tensor::new(element, dims, data.into()).ok()
}

/// Row-major strides with 0 where an axis of 1 is repeated, for a shape seen as `target`.
fn broadcast_strides(dims: &[u64], target: &[u64]) -> Option<Vec<usize>> {
    let missing = target.len().checked_sub(dims.len())?;
    let mut strides = vec![0usize; target.len()];
    let mut stride = 1usize;
    for (axis, &dim) in dims.iter().enumerate().rev() {
        let wanted = *target.get(axis + missing)?;
        if dim != 1 {
            if dim != wanted {
                return None;
            }
            *strides.get_mut(axis + missing)? = stride;
        }
        stride = stride.checked_mul(usize::try_from(dim).ok()?)?;
    }
    Some(strides)
}

fn broadcast_dims(a: &[u64], b: &[u64]) -> Option<Vec<u64>> {
    let rank = a.len().max(b.len());
    let at = |dims: &[u64], axis: usize| (axis + dims.len()).checked_sub(rank).and_then(|i| dims.get(i).copied());
    (0..rank)
        .map(|axis| match (at(a, axis).unwrap_or(1), at(b, axis).unwrap_or(1)) {
            (a, b) if a == b => Some(a),
            (1, other) | (other, 1) => Some(other),
            _ => None,
        })
        .collect()
}

/// The number of elements of a result, if it may be made.
fn bounded(dims: &[u64]) -> Option<usize> {
    let count = count_elements(dims).ok().filter(|&count| count <= limits::FOLDED_ELEMENTS)?;
    usize::try_from(count).ok()
}

fn product(dims: &[u64]) -> Option<u64> {
    dims.iter().try_fold(1u64, |product, &dim| product.checked_mul(dim))
}

/// Visits the offsets of all positions of `dims` in row-major order, each axis with its step.
fn offsets(dims: &[u64], steps: &[isize], start: isize) -> Option<Vec<usize>> {
    let count = bounded(dims)?;
    let mut result = Vec::with_capacity(count);
    let mut index = vec![0u64; dims.len()];
    let mut offset = start;
    for _ in 0..count {
        result.push(usize::try_from(offset).ok()?);
        for ((position, &dim), &step) in index.iter_mut().zip(dims).zip(steps).rev() {
            *position += 1;
            offset += step;
            if *position < dim {
                break;
            }
            *position = 0;
            offset -= step.checked_mul(isize::try_from(dim).ok()?)?;
        }
    }
    Some(result)
}

/// The elements of a tensor at flat positions.
fn picked(tensor: &Tensor, dims: Vec<u64>, positions: &[usize]) -> Option<Tensor> {
    let size = tensor.element().size();
    let mut data = Vec::with_capacity(positions.len() * size);
    for &position in positions {
        let start = position.checked_mul(size)?;
        data.extend_from_slice(tensor.data().get(start..start + size)?);
    }
    Tensor::new(tensor.element(), dims, data.into()).ok()
}

fn signed(strides: Vec<usize>) -> Option<Vec<isize>> {
    strides.into_iter().map(|stride| isize::try_from(stride).ok()).collect()
}

/// Values as they are computed with.
enum Values {
    Floats(Vec<f64>),
    Integers(Vec<i64>),
}

impl Values {
    fn of(tensor: &Tensor) -> Option<Values> {
        if tensor.element().is_float() {
            tensor.floats().map(Values::Floats)
        } else {
            tensor.integers().map(Values::Integers)
        }
    }
}

fn tensor_of(element: ElementType, dims: Vec<u64>, values: Values) -> Option<Tensor> {
    match values {
        Values::Floats(values) => Tensor::from_floats(element, dims, &values).ok(),
        Values::Integers(values) => from_integers(element, dims, &values),
    }
}

/// A node and its constant inputs.
struct Operands<'a> {
    node: &'a Node,
    inputs: Vec<Option<&'a Tensor>>,
}

impl<'a> Operands<'a> {
    fn given(&self, index: usize) -> Option<&'a Tensor> {
        self.inputs.get(index).copied().flatten()
    }

    fn list(&self, index: usize) -> Option<Vec<i64>> {
        self.given(index)?.integers()
    }

    fn sizes(&self, index: usize) -> Option<Vec<u64>> {
        self.list(index)?.into_iter().map(|size| u64::try_from(size).ok()).collect()
    }

    fn results(&self) -> Option<Vec<Tensor>> {
        if self.node.op == "Split" {
            return self.split();
        }
        let result = self.result()?;
        (self.node.outputs.len() == 1).then(|| vec![result])
    }

    fn result(&self) -> Option<Tensor> {
        let x = self.given(0)?;
        match self.node.op.as_str() {
            "Identity" => Some(x.clone()),
            "Cast" => cast(x, ElementType::from_code(i32::try_from(self.node.int("to")?).ok()?)?),
            "CastLike" => cast(x, self.given(1)?.element()),
            "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => {
                let dims = self.reshaped_dims(x)?;
                Tensor::new(x.element(), dims, x.data().clone()).ok()
            }
            "Shape" => self.shape(x),
            "Size" => Tensor::from_integers(vec![], &[i64::try_from(x.len()).ok()?]).ok(),
            "Transpose" => self.transpose(x),
            "Concat" => self.concat(),
            "Gather" => self.gather(x),
            "GatherElements" => self.gather_elements(x),
            "Slice" => self.slice(x),
            "Expand" => {
                let dims = broadcast_dims(x.dims(), &self.sizes(1)?)?;
                bounded(&dims)?;
                let steps = signed(broadcast_strides(x.dims(), &dims)?)?;
                let positions = offsets(&dims, &steps, 0)?;
                picked(x, dims, &positions)
            }
            "Tile" => self.tile(x),
            "ConstantOfShape" => self.filled(),
            "Range" => self.range(x),
            "Where" => self.choose(x),
            "Trilu" => self.triangle(x),
            "NonZero" => non_zero(x),
            "DequantizeLinear" => self.dequantize(x),
            "Clip" => self.clip(x),
            "ReduceSum" | "ReduceProd" | "ReduceMax" | "ReduceMin" | "ReduceMean" => self.reduce(x),
            "Min" | "Max" | "Add" | "Sub" | "Mul" | "Div" | "Mod" | "Pow" | "Equal" | "Greater" | "Less"
            | "GreaterOrEqual" | "LessOrEqual" | "And" | "Or" | "Xor" => {
                let mut result = x.clone();
                for index in 1..self.inputs.len() {
                    result = binary(&self.node.op, self.node, &result, self.given(index)?)?;
                }
                // One operand is no comparison; only a minimum or maximum may have it.
                (self.inputs.len() == 2 || matches!(self.node.op.as_str(), "Min" | "Max")).then_some(result)
            }
            op => unary(op, x),
        }
    }

    fn axis(&self, rank: usize, default: i64) -> Option<usize> {
        resolve_axis(self.node.int("axis").unwrap_or(default), rank).ok()
    }
}
