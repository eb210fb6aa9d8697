//! What goes into a run and what comes out of it.
//!
//! A [`Value`] stays in ONNX Runtime's memory, so that one graph's output is another's input without a copy. A
//! [`TypedArray`] is a tensor of ours whose element type is known only when it is read.

use std::borrow::Cow;

use ndarray::{ArrayD, ArrayViewD};
use ort::{
    session::SessionInputValue,
    value::{DynValue, PrimitiveTensorElementType, Tensor, TensorElementType, TensorRef},
};

use super::{RuntimeError, device::Device, executable::OpenSession};

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
    /// The number of the device that it was made on.
    pub(super) card: usize,
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

impl Feed<'_> {
    /// Its first dimension, where it has one.
    fn rows(&self) -> Option<usize> {
        match self {
            Feed::View(array) => array.shape().first().copied(),
            Feed::Array(array) => array.shape().first().copied(),
            Feed::Value(_) => None,
        }
    }
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

/// Runs a session on named inputs and gives its outputs in the graph's order. Those that `stays` names stay on the device.
pub(super) fn run<'a>(
    open: &mut OpenSession,
    feeds: &[(&'a str, Feed<'a>)],
    stays: &dyn Fn(&str) -> bool,
) -> Result<Vec<Value>, RuntimeError> {
    if open.device.is_card() {
        let rows = feeds.iter().filter_map(|(_, feed)| feed.rows()).max().unwrap_or(1);
        open.meet_troubles(rows)?;
        return run_bound(open, feeds, stays).map_err(|cause| open.failed(&cause));
    }
    let card = open.card;
    let inputs = inputs(feeds.iter().map(|(name, feed)| (*name, feed.clone()))).map_err(|cause| open.failed(&cause))?;
    let given = open.session.run(inputs).map(|outputs| {
        let values = outputs.into_iter().map(|(name, inner)| Value { name: name.to_owned(), inner, card });
        values.collect()
    });
    given.map_err(|cause| open.failed(&cause))
}

/// Feeds, as a session takes them that finds a place for them itself.
pub(super) fn inputs<'a>(
    feeds: impl Iterator<Item = (&'a str, Feed<'a>)>,
) -> ort::Result<Vec<(Cow<'a, str>, SessionInputValue<'a>)>> {
    let input = |(name, feed)| {
        let input = match feed {
            Feed::View(array) => input(array)?,
            Feed::Array(TypedArray::Float32(array)) => input(array.view())?,
            Feed::Array(TypedArray::Float64(array)) => input(array.view())?,
            Feed::Array(TypedArray::Int32(array)) => input(array.view())?,
            Feed::Array(TypedArray::Int64(array)) => input(array.view())?,
            Feed::Array(TypedArray::Uint8(array)) => input(array.view())?,
            Feed::Array(TypedArray::Bool(array)) => input(array.view())?,
            Feed::Value(value) => value.inner.view().into(),
        };
        Ok((Cow::Borrowed(name), input))
    };
    feeds.map(input).collect()
}

/// As [`run`], where inputs and outputs have places of their own.
fn run_bound(
    open: &mut OpenSession,
    feeds: &[(&str, Feed<'_>)],
    stays: &dyn Fn(&str) -> bool,
) -> ort::Result<Vec<Value>> {
    let mut binding = open.session.create_binding()?;
    for (name, feed) in feeds {
        match feed {
            Feed::View(array) => binding.bind_input(*name, open.stage(name, array)?)?,
            Feed::Array(TypedArray::Float32(array)) => binding.bind_input(*name, open.stage(name, &array.view())?)?,
            Feed::Array(TypedArray::Float64(array)) => binding.bind_input(*name, &owned(array)?)?,
            Feed::Array(TypedArray::Int32(array)) => binding.bind_input(*name, &owned(array)?)?,
            Feed::Array(TypedArray::Int64(array)) => binding.bind_input(*name, &owned(array)?)?,
            Feed::Array(TypedArray::Uint8(array)) => binding.bind_input(*name, &owned(array)?)?,
            Feed::Array(TypedArray::Bool(array)) => binding.bind_input(*name, &owned(array)?)?,
            Feed::Value(value) => binding.bind_input(*name, &value.inner)?,
        }
    }
    let (device, host) = (open.device.memory()?, Device::Cpu.memory()?);
    let names: Vec<String> = open.session.outputs().iter().map(|output| output.name().to_owned()).collect();
    for name in &names {
        binding.bind_output_to_device(name, if stays(name) { &device } else { &host })?;
    }
    let card = open.card;
    let options = open.options(true)?;
    let mut outputs = match &options {
        Some(options) => open.session.run_binding_with_options(&binding, options)?,
        None => open.session.run_binding(&binding)?,
    };
    let given = names.into_iter().filter_map(|name| {
        let inner = outputs.remove(&name)?;
        Some(Value { name, inner, card })
    });
    Ok(given.collect())
}

fn owned<T>(array: &ArrayD<T>) -> ort::Result<Tensor<T>>
where
    T: PrimitiveTensorElementType + Clone + std::fmt::Debug + 'static,
{
    Tensor::from_array(array.as_standard_layout().into_owned())
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
