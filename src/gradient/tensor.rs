//! Constant tensors: one representation, whatever field of `TensorProto` they came in.
//!
//! Invariant: `data` holds exactly `element.size()` little-endian bytes for each element of `dims`, row-major.

use bytes::Bytes;
use half::{bf16, f16};

use super::{
    error::{GradientError, Result},
    graph::{Dim, ElementType, ValueType},
};
use crate::limits;

/// Integer tensors up to this many elements take part in shape computations.
const SMALL: usize = 64;

/// A constant.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    element: ElementType,
    dims: Vec<u64>,
    data: Bytes,
}

/// The number of elements, or an error where a bound is passed.
pub(crate) fn count_elements(dims: &[u64]) -> Result<u64> {
    if dims.len() > limits::TENSOR_RANK {
        return Err(GradientError::Limit(format!(
            "a tensor of {} dimensions, more than {}",
            dims.len(),
            limits::TENSOR_RANK
        )));
    }
    let count = dims.iter().try_fold(1u64, |count, &dim| count.checked_mul(dim));
    count.filter(|&count| count <= limits::TENSOR_ELEMENTS).ok_or_else(|| {
        GradientError::Limit(format!("a tensor of shape {dims:?}, more than {} elements", limits::TENSOR_ELEMENTS))
    })
}

impl Tensor {
    /// A tensor of raw little-endian bytes.
    ///
    /// # Errors
    /// Where the shape is beyond the limits, or the bytes are not as many as it needs.
    pub fn new(element: ElementType, dims: Vec<u64>, data: Bytes) -> Result<Self> {
        let wanted = count_elements(&dims)?.checked_mul(element.size() as u64);
        if wanted != Some(data.len() as u64) {
            return Err(GradientError::Invalid(format!(
                "a {element} tensor of shape {dims:?} with {} bytes of data",
                data.len()
            )));
        }
        Ok(Tensor { element, dims, data })
    }

    /// A float tensor; values are rounded to `element`.
    ///
    /// # Errors
    /// Where `element` is no float type, or the values are not as many as the shape needs.
    pub fn from_floats(element: ElementType, dims: Vec<u64>, values: &[f64]) -> Result<Self> {
        let mut data = Vec::with_capacity(values.len().saturating_mul(element.size()));
        for &value in values {
            match element {
                ElementType::Float32 => data.extend((value as f32).to_le_bytes()),
                ElementType::Float64 => data.extend(value.to_le_bytes()),
                ElementType::Float16 => data.extend(f16::from_f64(value).to_le_bytes()),
                ElementType::Bfloat16 => data.extend(bf16::from_f64(value).to_le_bytes()),
                other => return Err(GradientError::Invalid(format!("fractions in a tensor of {other}"))),
            }
        }
        Tensor::new(element, dims, data.into())
    }

    /// An identity matrix of floats.
    ///
    /// # Errors
    /// Where `element` is no float type, or the matrix passes a bound.
    pub(crate) fn identity(element: ElementType, size: u64) -> Result<Self> {
        let count = count_elements(&[size, size])?;
        let entries = (0..count).map(|at| f64::from(u8::from(at.is_multiple_of(size + 1))));
        Tensor::from_floats(element, vec![size, size], &entries.collect::<Vec<_>>())
    }

    /// The elements in another shape.
    ///
    /// # Errors
    /// Where the shape needs another number of elements.
    pub(crate) fn reshaped(self, dims: Vec<u64>) -> Result<Self> {
        Tensor::new(self.element, dims, self.data)
    }

    /// An int64 tensor.
    ///
    /// # Errors
    /// Where the values are not as many as the shape needs.
    pub fn from_integers(dims: Vec<u64>, values: &[i64]) -> Result<Self> {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Tensor::new(ElementType::Int64, dims, data.into())
    }

    pub fn element(&self) -> ElementType {
        self.element
    }

    pub fn dims(&self) -> &[u64] {
        &self.dims
    }

    /// Row-major little-endian bytes.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.data.len() / self.element.size()
    }

    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    pub fn value_type(&self) -> ValueType {
        ValueType::new(self.element, self.dims.iter().map(|&dim| Dim::Known(dim)).collect())
    }

    /// The values of a float tensor of any width; `None` for other types.
    pub fn floats(&self) -> Option<Vec<f64>> {
        let chunks = self.data.chunks_exact(self.element.size());
        let read: fn(&[u8]) -> Option<f64> = match self.element {
            ElementType::Float32 => |bytes| bytes.try_into().ok().map(|b| f32::from_le_bytes(b).into()),
            ElementType::Float64 => |bytes| bytes.try_into().ok().map(f64::from_le_bytes),
            ElementType::Float16 => |bytes| bytes.try_into().ok().map(|b| f16::from_le_bytes(b).into()),
            ElementType::Bfloat16 => |bytes| bytes.try_into().ok().map(|b| bf16::from_le_bytes(b).into()),
            _ => return None,
        };
        chunks.map(read).collect()
    }

    /// The values of an integer or boolean tensor of any width; `None` for other types and for what exceeds i64.
    pub fn integers(&self) -> Option<Vec<i64>> {
        let chunks = self.data.chunks_exact(self.element.size());
        let read: fn(&[u8]) -> Option<i64> = match self.element {
            ElementType::Int64 => |bytes| bytes.try_into().ok().map(i64::from_le_bytes),
            ElementType::Int32 => |bytes| bytes.try_into().ok().map(|b| i32::from_le_bytes(b).into()),
            ElementType::Int16 => |bytes| bytes.try_into().ok().map(|b| i16::from_le_bytes(b).into()),
            ElementType::Int8 => |bytes| bytes.try_into().ok().map(|b| i8::from_le_bytes(b).into()),
            ElementType::Uint64 => |bytes| bytes.try_into().ok().map(u64::from_le_bytes)?.try_into().ok(),
            ElementType::Uint32 => |bytes| bytes.try_into().ok().map(|b| u32::from_le_bytes(b).into()),
            ElementType::Uint16 => |bytes| bytes.try_into().ok().map(|b| u16::from_le_bytes(b).into()),
            ElementType::Uint8 | ElementType::Bool => |bytes| bytes.first().map(|&byte| byte.into()),
            _ => return None,
        };
        chunks.map(read).collect()
    }

    /// The integers of a tensor small enough to describe a shape.
    pub(crate) fn small_integers(&self) -> Option<Vec<i64>> {
        if self.len() > SMALL || self.element == ElementType::Bool { None } else { self.integers() }
    }

    /// The only value of a tensor with one element.
    pub(crate) fn scalar(&self) -> Option<f64> {
        match self.floats()?.as_slice() {
            [value] => Some(*value),
            _ => None,
        }
    }

    /// The axes in another order, as ONNX `Transpose` does it.
    pub(crate) fn permuted(&self, permutation: &[usize]) -> Option<Self> {
        let strides = strides(&self.dims);
        let dims: Option<Vec<u64>> = permutation.iter().map(|&axis| self.dims.get(axis).copied()).collect();
        let steps: Option<Vec<usize>> = permutation.iter().map(|&axis| strides.get(axis).copied()).collect();
        let (dims, steps) = (dims?, steps?);
        self.gathered(&dims, &steps, 0)
    }

    /// The elements at `start + Σ index·step`, over all indices of `dims` in row-major order.
    fn gathered(&self, dims: &[u64], steps: &[usize], start: usize) -> Option<Self> {
        let size = self.element.size();
        let mut data = Vec::with_capacity(self.data.len());
        let mut index = vec![0u64; dims.len()];
        let mut offset = start;
        for _ in 0..count_elements(dims).ok()? {
            let at = offset.checked_mul(size)?;
            data.extend_from_slice(self.data.get(at..at.checked_add(size)?)?);
            for ((position, &dim), &step) in index.iter_mut().zip(dims).zip(steps).rev() {
                *position += 1;
                offset += step;
                if *position < dim {
                    break;
                }
                *position = 0;
                offset -= step * usize::try_from(dim).ok()?;
            }
        }
        Tensor::new(self.element, dims.to_vec(), data.into()).ok()
    }

    /// A convolution weight `[groups·M, C, k…]` as the weight `[groups·C, M, k…]` of the adjoint convolution: input and
    /// output channels exchanged within each group, kernels reversed along every spatial axis.
    pub(crate) fn adjoint_kernel(&self, groups: usize) -> Option<Self> {
        let (&[rows, columns], kernel) = self.dims.split_first_chunk::<2>()?;
        let spatial: u64 = kernel.iter().product();
        let (rows, columns, spatial) =
            (usize::try_from(rows).ok()?, usize::try_from(columns).ok()?, usize::try_from(spatial).ok()?);
        if groups == 0 || rows % groups != 0 {
            return None;
        }
        let per_group = rows / groups;
        let size = self.element.size();
        let mut data = Vec::with_capacity(self.data.len());
        for group in 0..groups {
            for column in 0..columns {
                for row in 0..per_group {
                    let start = ((group * per_group + row) * columns + column) * spatial * size;
                    let block = self.data.get(start..start + spatial * size)?;
                    block.rchunks_exact(size).for_each(|element| data.extend_from_slice(element));
                }
            }
        }
        let mut dims = vec![(groups * columns) as u64, per_group as u64];
        dims.extend_from_slice(kernel);
        Tensor::new(self.element, dims, data.into()).ok()
    }
}

/// Row-major strides in elements.
fn strides(dims: &[u64]) -> Vec<usize> {
    let mut strides: Vec<usize> = dims
        .iter()
        .rev()
        .scan(1usize, |stride, &dim| {
            let current = *stride;
            *stride = stride.saturating_mul(dim as usize);
            Some(current)
        })
        .collect();
    strides.reverse();
    strides
}
