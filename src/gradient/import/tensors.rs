//! Tensors of whatever encoding: in the file or beside it, dense or sparse, in raw bytes or in a typed field.

use std::path::{Component, Path};

use bytes::Bytes;

use super::{
    super::{
        error::{GradientError, Result},
        graph::ElementType,
        onnx,
        tensor::{Tensor, count_elements},
    },
    at_value,
};
use crate::limits;

/// Gives the contents of a file that lies beside the model, by its path relative to the model's folder.
pub type External<'a> = &'a dyn Fn(&str) -> Result<Bytes, String>;

/// Reads tensors, and counts the bytes that they take beyond the model file's own.
pub(super) struct Tensors<'a> {
    external: External<'a>,
    external_bytes: u64,
    /// What constants may still grow to that take more memory than they took in the file.
    pub(super) expansion_bytes: u64,
}

impl<'a> Tensors<'a> {
    pub(super) fn new(external: External<'a>) -> Self {
        Tensors { external, external_bytes: 0, expansion_bytes: limits::MODEL_EXPANSION_BYTES }
    }

    /// Brings a tensor to raw bytes; `None` where its elements are of a type that nothing is computed with, such as
    /// strings.
    pub(super) fn read(&mut self, proto: &mut onnx::TensorProto, name: &str) -> Result<Option<Tensor>> {
        let Some(element) = ElementType::from_code(proto.data_type) else { return Ok(None) };
        let dims: Option<Vec<u64>> = proto.dims.iter().map(|&dim| u64::try_from(dim).ok()).collect();
        let dims = dims.ok_or_else(|| GradientError::Invalid(format!("`{name}` has a negative dimension")))?;
        let data = if proto.data_location() == onnx::tensor_proto::DataLocation::External {
            let elements = count_elements(&dims).map_err(|error| at_value(error, name))?;
            self.fetch(&proto.external_data, name, elements.saturating_mul(element.size() as u64))?
        } else if proto.raw_data.is_empty() {
            typed_data(proto, element)
        } else {
            std::mem::take(&mut proto.raw_data)
        };
        Tensor::new(element, dims, data).map(Some).map_err(|error| at_value(error, name))
    }

    /// The bytes of a tensor that lie in another file.
    fn fetch(&mut self, entries: &[onnx::StringStringEntryProto], name: &str, wanted: u64) -> Result<Bytes> {
        let invalid = |reason: &str| GradientError::Invalid(format!("the external tensor `{name}` {reason}"));
        let entry = |key: &str| entries.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str());
        let number = |key: &str| match entry(key).map(str::parse::<u64>) {
            Some(Ok(value)) => Ok(Some(value)),
            None => Ok(None),
            Some(Err(_)) => Err(invalid(&format!("has no number as its {key}"))),
        };
        let location = entry("location").ok_or_else(|| invalid("names no file"))?;
        let start = number("offset")?.unwrap_or(0);
        let length = number("length")?.filter(|&length| length > 0).unwrap_or(wanted);
        if !is_inside(location) {
            return Err(invalid(&format!("lies at `{location}`, which leads out of the model's folder")));
        }
        self.external_bytes = self.external_bytes.saturating_add(length);
        if self.external_bytes > limits::MODEL_BYTES {
            return Err(GradientError::Limit(format!(
                "the tensors beside the file take more than {} bytes, the most that a model may have in one piece",
                limits::MODEL_BYTES
            )));
        }
        let file = (self.external)(location).map_err(|reason| {
            GradientError::Unsupported(format!("the tensor `{name}` lies in another file: {reason}"))
        })?;
        let range =
            usize::try_from(start).ok().zip(start.checked_add(length).and_then(|end| usize::try_from(end).ok()));
        let (start, end) = range.filter(|&(_, end)| end <= file.len()).ok_or_else(|| {
            invalid(&format!("needs {length} bytes from {start} on, but `{location}` has {}", file.len()))
        })?;
        Ok(file.slice(start..end))
    }

    /// A sparse tensor made dense.
    pub(super) fn densified(&mut self, proto: onnx::SparseTensorProto) -> Result<(String, Tensor)> {
        let (Some(mut values), Some(mut indices)) = (proto.values, proto.indices) else {
            return Err(GradientError::Invalid("a sparse tensor has no values or no indices".to_owned()));
        };
        let name = std::mem::take(&mut values.name);
        let invalid = |reason: &str| GradientError::Invalid(format!("the sparse tensor `{name}` {reason}"));
        let dims: Option<Vec<u64>> = proto.dims.iter().map(|&dim| u64::try_from(dim).ok()).collect();
        let dims = dims.ok_or_else(|| invalid("has a negative dimension"))?;
        let count = count_elements(&dims).map_err(|error| at_value(error, &name))?;
        let values = self.read(&mut values, &name)?.ok_or_else(|| invalid("is not of numbers"))?;
        let positions = self.read(&mut indices, &name)?.and_then(|tensor| tensor.integers());
        let positions = positions.ok_or_else(|| invalid("has indices that are no integers"))?;
        let size = values.element().size();
        self.expand(count.saturating_mul(size as u64))?;
        let width = positions.len().checked_div(values.len()).unwrap_or(1);
        if positions.len() != width * values.len() || (width != 1 && width != dims.len()) {
            return Err(invalid("has as many indices as fit neither its values nor its rank"));
        }
        let mut data = vec![0u8; usize::try_from(count).unwrap_or(0) * size];
        for (position, value) in positions.chunks_exact(width.max(1)).zip(values.data().chunks_exact(size)) {
            let flat = match position {
                [flat] => usize::try_from(*flat).ok(),
                coordinates => coordinates.iter().zip(&dims).try_fold(0usize, |flat, (&at, &dim)| {
                    let at = u64::try_from(at).ok().filter(|&at| at < dim)?;
                    flat.checked_mul(usize::try_from(dim).ok()?)?.checked_add(usize::try_from(at).ok()?)
                }),
            };
            let place = flat.and_then(|flat| data.chunks_exact_mut(size).nth(flat));
            place.ok_or_else(|| invalid("has an index outside its shape"))?.copy_from_slice(value);
        }
        Ok((name.clone(), Tensor::new(values.element(), dims, data.into())?))
    }

    /// Takes bytes from what constants may grow to.
    pub(super) fn expand(&mut self, bytes: u64) -> Result<()> {
        self.expansion_bytes = self.expansion_bytes.checked_sub(bytes).ok_or_else(|| {
            GradientError::Limit(format!(
                "its sparse tensors grow by more than {} bytes when they are made dense",
                limits::MODEL_EXPANSION_BYTES
            ))
        })?;
        Ok(())
    }
}

/// Whether a relative path stays in its folder.
pub(super) fn is_inside(location: &str) -> bool {
    let mut components = Path::new(location).components().peekable();
    components.peek().is_some()
        && components.all(|component| matches!(component, Component::Normal(_) | Component::CurDir))
        && !location.contains(['\\', '\0'])
}

/// The bytes of a tensor whose values are in one of the typed fields. Narrow integers share `int32_data`.
fn typed_data(proto: &onnx::TensorProto, element: ElementType) -> Bytes {
    use ElementType as E;
    let narrow = |size: usize| -> Vec<u8> {
        proto.int32_data.iter().flat_map(|value| value.to_le_bytes().into_iter().take(size)).collect()
    };
    match element {
        E::Float32 => proto.float_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
        E::Float64 => proto.double_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
        E::Int64 => proto.int64_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
        E::Uint64 => proto.uint64_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
        E::Uint32 => proto.uint64_data.iter().flat_map(|value| value.to_le_bytes().into_iter().take(4)).collect(),
        other => narrow(other.size()).into(),
    }
}
