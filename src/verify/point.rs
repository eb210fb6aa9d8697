//! Where a model is measured: sizes for its free dimensions, and values for its inputs.

use std::collections::BTreeMap;

use ndarray::{ArrayD, IxDyn};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Named, VerifyError, run};
use crate::{
    gradient::{Dim, ElementType, Graph},
    runtime::{Executable, TypedArray},
};

/// Inputs that the caller gives, by name.
pub type Given = BTreeMap<String, ArrayD<f64>>;

/// Sizes that are tried for free dimensions other than the batch, until the model runs: of images that are halved a
/// few times, of sequences.
const SIZES: [usize; 6] = [64, 32, 48, 8, 224, 1];

/// Values of all inputs; floats are exact in float32.
pub(super) struct Point {
    values: Vec<(String, TypedArray)>,
}

impl Point {
    /// A point that the model runs at.
    pub(super) fn find(graph: &Graph, forward: &Executable, given: &Given, seed: u64) -> Result<Self, VerifyError> {
        if let Some(unknown) = given.keys().find(|name| !graph.inputs().iter().any(|port| port.name == **name)) {
            return Err(VerifyError::Input(format!("the model has no input `{unknown}`")));
        }
        let mut first = None;
        for size in SIZES {
            for batch in [2, 1] {
                let point = Point::at(graph, given, seed, batch, size)?;
                match run(forward, &point.values) {
                    Ok(_) => return Ok(point),
                    Err(error) => {
                        first.get_or_insert(error);
                    }
                }
            }
        }
        let error = first.map_or_else(String::new, |error| error.to_string());
        Err(VerifyError::Input(format!("the model runs at no size that was tried; give inputs with --input: {error}")))
    }

    fn at(graph: &Graph, given: &Given, seed: u64, batch: usize, size: usize) -> Result<Self, VerifyError> {
        let mut values = Vec::new();
        for (index, port) in graph.inputs().into_iter().enumerate() {
            let unknown = || VerifyError::Input(format!("the type of the input `{}` is not known", port.name));
            let kind = port.value_type.as_ref().ok_or_else(unknown)?;
            let array = match given.get(&port.name) {
                Some(array) => array.clone(),
                None => {
                    let dims = kind.shape.as_ref().ok_or_else(unknown)?;
                    let size_of = |(axis, dim): (usize, &Dim)| match dim {
                        Dim::Known(size) => usize::try_from(*size).unwrap_or(usize::MAX),
                        Dim::Symbol(_) if axis == 0 => batch,
                        Dim::Symbol(_) => size,
                    };
                    let shape: Vec<usize> = dims.iter().enumerate().map(size_of).collect();
                    let count = shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size));
                    if count.is_none_or(|count| count > 1 << 28) {
                        return Err(VerifyError::Input(format!("the input `{}` is too large", port.name)));
                    }
                    random(&shape, seed.wrapping_add(1000 + index as u64))
                }
            };
            let value = match kind.element {
                ElementType::Int64 => TypedArray::Int64(array.mapv(|value| value.abs().round() as i64)),
                ElementType::Int32 => TypedArray::Int32(array.mapv(|value| value.abs().round() as i32)),
                ElementType::Uint8 => TypedArray::Uint8(array.mapv(|value| value.abs().round() as u8)),
                ElementType::Bool => TypedArray::Bool(array.mapv(|value| value > 0.0)),
                _ => TypedArray::Float32(array.mapv(|value| value as f32)),
            };
            values.push((port.name, value));
        }
        Ok(Point { values })
    }

    pub(super) fn feeds(&self) -> Named {
        self.values.clone()
    }

    pub(super) fn shape(&self, input: &str) -> Vec<usize> {
        let value = self.values.iter().find(|(name, _)| name == input);
        value.map(|(_, value)| value.shape().to_vec()).unwrap_or_default()
    }

    pub(super) fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.values.iter().map(|(name, value)| (name.clone(), value.shape().to_vec())).collect()
    }

    /// The inputs with one of them moved along a direction, floats in double precision if asked.
    pub(super) fn moved(&self, input: &str, tangent: &ArrayD<f64>, step: f64, double: bool) -> Named {
        let values = self.values.iter().map(|(name, value)| {
            let TypedArray::Float32(array) = value else { return (name.clone(), value.clone()) };
            let mut array = array.mapv(f64::from);
            if name == input {
                array += &(tangent * step);
            }
            let value = if double { TypedArray::Float64(array) } else { TypedArray::Float32(array.mapv(|v| v as f32)) };
            (name.clone(), value)
        });
        values.collect()
    }
}

/// A random direction of an input, of its size and exact in float32.
pub(super) fn direction(point: &Point, input: &str, seed: u64) -> ArrayD<f64> {
    let value = point.values.iter().find(|(name, _)| name == input).map(|(_, value)| value);
    let largest = match value {
        Some(TypedArray::Float32(array)) => array.iter().fold(0.0f32, |largest, value| largest.max(value.abs())),
        _ => 0.0,
    };
    let scale = if largest > 0.0 && largest.is_finite() { largest } else { 1.0 };
    random(&point.shape(input), seed).mapv(|value| f64::from(value as f32 * scale))
}

/// Values in ±1, exact in float32.
pub(super) fn random(shape: &[usize], seed: u64) -> ArrayD<f64> {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    ArrayD::from_shape_simple_fn(IxDyn(shape), || f64::from(generator.random::<f32>() * 2.0 - 1.0))
}
