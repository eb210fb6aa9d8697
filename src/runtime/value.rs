//! What goes into a run and what comes out of it.
//!
//! A [`Value`] stays in ONNX Runtime's memory, so that one graph's output is another's input without a copy. A
//! [`TypedArray`] is a tensor of ours whose element type is known only when it is read.

use std::borrow::Cow;

use ndarray::{ArrayD, ArrayViewD};
use ort::{
    session::{Session, SessionInputValue},
    value::{DynValue, PrimitiveTensorElementType, Tensor, TensorElementType, TensorRef},
};

use super::{RuntimeError, one_line};

/// A tensor of one of the element types that graphs take and give here.
#[derive(Clone, Debug, PartialEq)]
pub enum TypedArray {
    Float32(ArrayD<f32>),
    Float64(ArrayD<f64>),
    Int32(ArrayD<i32>),
    Int64(ArrayD<i64>),
    Uint8(ArrayD<u8>),
    Bool(ArrayD<bool>),
}

impl TypedArray {
    pub fn shape(&self) -> &[usize] {
        match self {
            TypedArray::Float32(array) => array.shape(),
            TypedArray::Float64(array) => array.shape(),
            TypedArray::Int32(array) => array.shape(),
            TypedArray::Int64(array) => array.shape(),
            TypedArray::Uint8(array) => array.shape(),
            TypedArray::Bool(array) => array.shape(),
        }
    }

    /// Floats in double precision; `None` for other types.
    pub fn into_double(self) -> Option<ArrayD<f64>> {
        match self {
            TypedArray::Float32(array) => Some(array.mapv(f64::from)),
            TypedArray::Float64(array) => Some(array),
            _ => None,
        }
    }
}

/// An output of a run, of any element type.
pub struct Value {
    name: String,
    inner: DynValue,
}

impl Value {
    /// The output's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The elements of a float32 tensor, where they lie.
    ///
    /// # Errors
    /// [`RuntimeError::OutputType`] for any other type.
    pub fn view(&self) -> Result<ArrayViewD<'_, f32>, RuntimeError> {
        self.elements()
    }

    /// A copy of the elements in their own type.
    ///
    /// # Errors
    /// [`RuntimeError::OutputType`] for a type that [`TypedArray`] has not.
    pub fn to_array(&self) -> Result<TypedArray, RuntimeError> {
        Ok(match self.inner.dtype().tensor_type() {
            Some(TensorElementType::Float64) => TypedArray::Float64(self.elements()?.to_owned()),
            Some(TensorElementType::Int32) => TypedArray::Int32(self.elements()?.to_owned()),
            Some(TensorElementType::Int64) => TypedArray::Int64(self.elements()?.to_owned()),
            Some(TensorElementType::Uint8) => TypedArray::Uint8(self.elements()?.to_owned()),
            Some(TensorElementType::Bool) => TypedArray::Bool(self.elements()?.to_owned()),
            _ => TypedArray::Float32(self.elements()?.to_owned()),
        })
    }

    fn elements<T: PrimitiveTensorElementType>(&self) -> Result<ArrayViewD<'_, T>, RuntimeError> {
        self.inner.try_extract_array::<T>().map_err(|_| RuntimeError::OutputType(self.name.clone()))
    }
}

/// What an input is fed.
#[derive(Clone)]
pub enum Feed<'a> {
    View(ArrayViewD<'a, f32>),
    Array(&'a TypedArray),
    Value(&'a Value),
}

impl<'a> From<ArrayViewD<'a, f32>> for Feed<'a> {
    fn from(view: ArrayViewD<'a, f32>) -> Self {
        Feed::View(view)
    }
}

impl<'a> From<&'a TypedArray> for Feed<'a> {
    fn from(array: &'a TypedArray) -> Self {
        Feed::Array(array)
    }
}

impl<'a> From<&'a Value> for Feed<'a> {
    fn from(value: &'a Value) -> Self {
        Feed::Value(value)
    }
}

/// Runs a session on named inputs and gives its outputs in the graph's order.
pub(super) fn run(session: &mut Session, feeds: &[(&str, Feed<'_>)]) -> Result<Vec<Value>, RuntimeError> {
    let failed = |cause: ort::Error| RuntimeError::Run(one_line(&cause));
    let mut inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = Vec::with_capacity(feeds.len());
    for (name, feed) in feeds {
        let input = match feed {
            Feed::View(array) => input(array.view()),
            Feed::Array(TypedArray::Float32(array)) => input(array.view()),
            Feed::Array(TypedArray::Float64(array)) => input(array.view()),
            Feed::Array(TypedArray::Int32(array)) => input(array.view()),
            Feed::Array(TypedArray::Int64(array)) => input(array.view()),
            Feed::Array(TypedArray::Uint8(array)) => input(array.view()),
            Feed::Array(TypedArray::Bool(array)) => input(array.view()),
            Feed::Value(value) => Ok(value.inner.view().into()),
        };
        inputs.push((Cow::Borrowed(*name), input.map_err(failed)?));
    }
    let outputs = session.run(inputs).map_err(failed)?;
    Ok(outputs.into_iter().map(|(name, inner)| Value { name: name.to_owned(), inner }).collect())
}

/// An array where it lies, or a copy in ONNX Runtime's order of elements.
fn input<'a, T>(array: ArrayViewD<'a, T>) -> ort::Result<SessionInputValue<'a>>
where
    T: PrimitiveTensorElementType + Clone + std::fmt::Debug + 'static,
{
    if array.is_standard_layout() {
        return Ok(TensorRef::from_array_view(array)?.into());
    }
    Ok(Tensor::from_array(array.as_standard_layout().into_owned())?.into())
}
