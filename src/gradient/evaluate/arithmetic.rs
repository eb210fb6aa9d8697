//! New values from values: elementwise, reduced, in another type. Floats are computed in double and rounded once.

use super::{
    super::{
        graph::{ElementType, Node},
        shape::resolve_axes,
        tensor::Tensor,
    },
    Operands, Values, bounded, broadcast_dims, broadcast_strides, from_integers, offsets, signed, tensor_of,
};

impl Operands<'_> {
    /// Scales for the whole tensor or for each slice along an axis.
    pub(super) fn dequantize(&self, x: &Tensor) -> Option<Tensor> {
        if self.node.int("block_size").unwrap_or(0) != 0 {
            return None;
        }
        bounded(x.dims())?;
        let scale = self.given(1)?;
        let (scales, values) = (scale.floats()?, x.integers()?);
        let zeros = match self.inputs.get(2) {
            Some(Some(zero)) => zero.integers()?,
            _ => vec![0; scales.len()],
        };
        let (inner, length) = if scales.len() == 1 {
            (1, 1)
        } else {
            let axis = self.axis(x.dims().len(), 1)?;
            (Self::around(x.dims(), axis)?.1, usize::try_from(*x.dims().get(axis)?).ok()?)
        };
        if scales.len() != length || zeros.len() != length || inner == 0 {
            return None;
        }
        let floats: Option<Vec<f64>> = values
            .iter()
            .enumerate()
            .map(|(place, &value)| {
                let channel = place / inner % length;
                Some(value.checked_sub(*zeros.get(channel)?)? as f64 * scales.get(channel)?)
            })
            .collect();
        Tensor::from_floats(scale.element(), x.dims().to_vec(), &floats?).ok()
    }

    pub(super) fn clip(&self, x: &Tensor) -> Option<Tensor> {
        let mut result = x.clone();
        for (index, op) in [(1, "Max"), (2, "Min")] {
            if let Some(bound) = self.inputs.get(index).copied().flatten() {
                result = binary(op, self.node, &result, bound)?;
            }
        }
        Some(result)
    }

    pub(super) fn reduce(&self, x: &Tensor) -> Option<Tensor> {
        bounded(x.dims())?;
        let rank = x.dims().len();
        let axes = match self.inputs.get(1) {
            Some(Some(axes)) if !axes.is_empty() => resolve_axes(&axes.integers()?, rank).ok()?,
            _ if self.node.int("noop_with_empty_axes").unwrap_or(0) != 0 => return Some(x.clone()),
            _ => (0..rank).collect(),
        };
        let kept: Vec<u64> =
            x.dims().iter().enumerate().map(|(axis, &dim)| if axes.contains(&axis) { 1 } else { dim }).collect();
        let places = offsets(x.dims(), &signed(broadcast_strides(&kept, x.dims())?)?, 0)?;
        let count = bounded(&kept)?;
        // The reduction of nothing is left to the runtime.
        let each = x.len().checked_div(count).filter(|&each| each > 0)?;
        let values = match Values::of(x)? {
            Values::Floats(values) => Values::Floats(reduced_floats(&self.node.op, &values, &places, count, each)?),
            Values::Integers(values) => Values::Integers(reduced_integers(&self.node.op, &values, &places, count)?),
        };
        let dims = if self.node.int("keepdims").unwrap_or(1) != 0 {
            kept
        } else {
            let rest = kept.iter().enumerate().filter(|(axis, _)| !axes.contains(axis));
            rest.map(|(_, &dim)| dim).collect()
        };
        tensor_of(x.element(), dims, values)
    }
}

fn reduced_floats(op: &str, values: &[f64], places: &[usize], count: usize, each: usize) -> Option<Vec<f64>> {
    let mut results: Vec<Option<f64>> = vec![None; count];
    for (&value, &place) in values.iter().zip(places) {
        let result = results.get_mut(place)?;
        *result = Some(match (op, *result) {
            (_, None) => value,
            ("ReduceSum" | "ReduceMean", Some(sum)) => sum + value,
            ("ReduceProd", Some(product)) => product * value,
            ("ReduceMax", Some(most)) => {
                if value.is_nan() {
                    return None;
                } else {
                    most.max(value)
                }
            }
            ("ReduceMin", Some(least)) => {
                if value.is_nan() {
                    return None;
                } else {
                    least.min(value)
                }
            }
            _ => return None,
        });
    }
    let divisor = if op == "ReduceMean" { each as f64 } else { 1.0 };
    results.into_iter().map(|result| result.map(|result| result / divisor)).collect()
}

fn reduced_integers(op: &str, values: &[i64], places: &[usize], count: usize) -> Option<Vec<i64>> {
    let mut results: Vec<Option<i64>> = vec![None; count];
    for (&value, &place) in values.iter().zip(places) {
        let result = results.get_mut(place)?;
        *result = Some(match (op, *result) {
            ("ReduceSum" | "ReduceProd" | "ReduceMax" | "ReduceMin", None) => value,
            ("ReduceSum", Some(sum)) => sum.checked_add(value)?,
            ("ReduceProd", Some(product)) => product.checked_mul(value)?,
            ("ReduceMax", Some(most)) => most.max(value),
            ("ReduceMin", Some(least)) => least.min(value),
            _ => return None,
        });
    }
    results.into_iter().collect()
}

pub(super) fn cast(x: &Tensor, to: ElementType) -> Option<Tensor> {
    if x.element() == to {
        return Some(x.clone());
    }
    bounded(x.dims())?;
    let dims = x.dims().to_vec();
    match (Values::of(x)?, to) {
        (Values::Floats(values), to) if to.is_float() => Tensor::from_floats(to, dims, &values).ok(),
        (Values::Floats(values), ElementType::Bool) => {
            let values: Vec<i64> = values.iter().map(|&value| (value != 0.0).into()).collect();
            from_integers(to, dims, &values)
        }
        (Values::Floats(values), to) => {
            // What does not fit is not defined, so it is left to the runtime.
            let fits = |value: f64| value.is_finite() && value.abs() < 9e18;
            let values: Option<Vec<i64>> = values.iter().map(|&v| fits(v).then_some(v.trunc() as i64)).collect();
            from_integers(to, dims, &values?)
        }
        (Values::Integers(values), to) if to.is_float() => {
            let values: Vec<f64> = values.iter().map(|&value| value as f64).collect();
            Tensor::from_floats(to, dims, &values).ok()
        }
        (Values::Integers(values), to) => from_integers(to, dims, &values),
    }
}

pub(super) fn unary(op: &str, x: &Tensor) -> Option<Tensor> {
    bounded(x.dims())?;
    let dims = x.dims().to_vec();
    match Values::of(x)? {
        Values::Floats(values) => {
            let function: fn(f64) -> f64 = match op {
                "Neg" => |x| -x,
                "Abs" => f64::abs,
                "Sqrt" => f64::sqrt,
                "Exp" => f64::exp,
                "Log" => f64::ln,
                "Reciprocal" => f64::recip,
                "Floor" => f64::floor,
                "Ceil" => f64::ceil,
                "Sin" => f64::sin,
                "Cos" => f64::cos,
                "Tanh" => f64::tanh,
                "Sigmoid" => |x| 1.0 / (1.0 + (-x).exp()),
                "Relu" => |x| if x > 0.0 { x } else { 0.0 * x },
                "Sign" => |x| if x == 0.0 { 0.0 } else { x.signum() },
                _ => return None,
            };
            let values: Vec<f64> = values.into_iter().map(function).collect();
            Tensor::from_floats(x.element(), dims, &values).ok()
        }
        Values::Integers(values) => {
            let function: fn(i64) -> i64 = match op {
                "Neg" => i64::wrapping_neg,
                "Abs" => i64::wrapping_abs,
                "Not" if x.element() == ElementType::Bool => |x| (x == 0).into(),
                "Sign" => i64::signum,
                _ => return None,
            };
            let values: Vec<i64> = values.into_iter().map(function).collect();
            from_integers(x.element(), dims, &values)
        }
    }
}

pub(super) fn binary(op: &str, node: &Node, a: &Tensor, b: &Tensor) -> Option<Tensor> {
    if a.element() != b.element() && op != "Pow" {
        return None;
    }
    let dims = broadcast_dims(a.dims(), b.dims())?;
    bounded(&dims)?;
    let at = |tensor: &Tensor| offsets(&dims, &signed(broadcast_strides(tensor.dims(), &dims)?)?, 0);
    let (left, right) = (at(a)?, at(b)?);
    let compares = matches!(op, "Equal" | "Greater" | "Less" | "GreaterOrEqual" | "LessOrEqual" | "And" | "Or" | "Xor");
    let element = if compares { ElementType::Bool } else { a.element() };
    match (Values::of(a)?, Values::of(b)?) {
        (Values::Floats(a), Values::Floats(b)) => {
            let pairs = left.iter().zip(&right).map(|(&i, &j)| Some((*a.get(i)?, *b.get(j)?)));
            if compares {
                let values: Option<Vec<i64>> = pairs.map(|pair| pair.and_then(|(a, b)| compare(op, a, b))).collect();
                return from_integers(element, dims, &values?);
            }
            let values: Option<Vec<f64>> =
                pairs.map(|pair| pair.and_then(|(a, b)| on_floats(op, node, a, b))).collect();
            Tensor::from_floats(element, dims, &values?).ok()
        }
        (Values::Integers(a), Values::Integers(b)) => {
            let pairs = left.iter().zip(&right).map(|(&i, &j)| Some((*a.get(i)?, *b.get(j)?)));
            let combine = |(a, b): (i64, i64)| if compares { compare(op, a, b) } else { on_integers(op, node, a, b) };
            let values: Option<Vec<i64>> = pairs.map(|pair| pair.and_then(combine)).collect();
            from_integers(element, dims, &values?)
        }
        // A power whose exponent is of another kind.
        (Values::Floats(a), Values::Integers(b)) => {
            let pairs = left.iter().zip(&right).map(|(&i, &j)| Some((*a.get(i)?, *b.get(j)? as f64)));
            let values: Option<Vec<f64>> = pairs.map(|pair| pair.map(|(a, b)| a.powf(b))).collect();
            Tensor::from_floats(element, dims, &values?).ok()
        }
        (Values::Integers(_), Values::Floats(_)) => None,
    }
}

fn compare<T: PartialOrd + Default>(op: &str, a: T, b: T) -> Option<i64> {
    let (yes_a, yes_b) = (a != T::default(), b != T::default());
    Some(i64::from(match op {
        "Equal" => a == b,
        "Greater" => a > b,
        "Less" => a < b,
        "GreaterOrEqual" => a >= b,
        "LessOrEqual" => a <= b,
        "And" => yes_a && yes_b,
        "Or" => yes_a || yes_b,
        "Xor" => yes_a != yes_b,
        _ => return None,
    }))
}

fn on_floats(op: &str, node: &Node, a: f64, b: f64) -> Option<f64> {
    Some(match op {
        "Add" => a + b,
        "Sub" => a - b,
        "Mul" => a * b,
        "Div" => a / b,
        "Pow" => a.powf(b),
        "Mod" if node.int("fmod") == Some(1) => a % b,
        "Min" if !a.is_nan() && !b.is_nan() => a.min(b),
        "Max" if !a.is_nan() && !b.is_nan() => a.max(b),
        _ => return None,
    })
}

fn on_integers(op: &str, node: &Node, a: i64, b: i64) -> Option<i64> {
    match op {
        "Add" => Some(a.wrapping_add(b)),
        "Sub" => Some(a.wrapping_sub(b)),
        "Mul" => Some(a.wrapping_mul(b)),
        // ONNX leaves the rounding of negative quotients open.
        "Div" if a >= 0 && b > 0 => a.checked_div(b),
        "Mod" if node.int("fmod") == Some(1) => a.checked_rem(b),
        // The result has the divisor's sign.
        "Mod" => a.checked_rem(b).map(|rest| if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }),
        "Pow" => a.checked_pow(u32::try_from(b).ok()?),
        "Min" => Some(a.min(b)),
        "Max" => Some(a.max(b)),
        _ => None,
    }
}
