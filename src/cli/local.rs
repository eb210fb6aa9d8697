//! Model files that a command looks at by itself, without a server and without ONNX Runtime.

use std::{cell::RefCell, collections::BTreeMap, path::Path};

use bytes::Bytes;

use super::Failure;
use crate::{
    gradient::{self, Graph, Port},
    limits, registry,
    scoring::{self, types::GradientRequest},
    transport::proto::{CheckModelResponse, Model, Obstacle, OperatorCount, TensorInfo},
};

/// The path in an argument that may also be a model's name: names have no separators, files end in `.onnx`.
pub fn path(model: &str) -> Option<&Path> {
    let path = Path::new(model);
    let is_path = model.contains(std::path::MAIN_SEPARATOR) || path.extension().is_some_and(|kind| kind == "onnx");
    is_path.then_some(path)
}

/// Whether the model in a file can be differentiated, in the server's terms.
///
/// # Errors
/// When the file cannot be read as a model.
pub fn check(path: &Path) -> Result<CheckModelResponse, Failure> {
    let (graph, size_bytes) = read(path)?;
    let obstacles: Vec<Obstacle> = gradient::check(&graph)
        .into_iter()
        .map(|found| Obstacle {
            node: found.node,
            operator: found.operator,
            reason: found.reason,
            inputs: found.inputs,
        })
        .collect();
    let operators = graph.operator_counts().into_iter();
    Ok(CheckModelResponse {
        opset: graph.opset(),
        differentiable: obstacles.is_empty(),
        obstacles,
        operators: operators
            .map(|(operator, count)| OperatorCount { operator, count: u32::try_from(count).unwrap_or(u32::MAX) })
            .collect(),
        model: Some(Model {
            name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            n_parameters: graph.n_parameters(),
            inputs: graph.inputs().iter().map(tensor).collect(),
            outputs: graph.outputs().iter().map(tensor).collect(),
            features: graph.features().unwrap_or_default(),
            size_bytes,
            ..Model::default()
        }),
    })
}

/// The gradient graph of the model in a file.
///
/// # Errors
/// When the file cannot be read as a model, or the model cannot be differentiated.
pub fn gradient(path: &Path, request: &GradientRequest) -> Result<Graph, Failure> {
    let (graph, _) = read(path)?;
    scoring::derived(&graph, request).map_err(|error| about(path, &error))
}

/// The model in a file, and the file's size in bytes. Tensors may lie in other files of its folder.
///
/// # Errors
/// When the file cannot be read as a model.
pub fn read(path: &Path) -> Result<(Graph, u64), Failure> {
    let bytes = contents(path)?;
    let size = bytes.len() as u64;
    let files = RefCell::new(BTreeMap::new());
    let external = |location: &str| beside(path, location, &mut files.borrow_mut());
    let graph = Graph::parse_with(Bytes::from(bytes), &external).map_err(|error| about(path, &error))?;
    // As the server reads it: a folder is a model, and may bring its gradient graph.
    let own = path.with_file_name(registry::GRADIENT);
    if path.file_name().is_some_and(|name| name == registry::MODEL) && own.is_file() {
        let joined = Graph::parse(contents(&own)?.into()).and_then(|own| graph.with_pullback(own));
        return Ok((joined.map_err(|error| about(&own, &error))?, size));
    }
    Ok((graph, size))
}

fn contents(path: &Path) -> Result<Vec<u8>, Failure> {
    let size = std::fs::metadata(path).map_err(|error| about(path, &error))?.len();
    if size > limits::MODEL_BYTES {
        return Err(about(
            path,
            &format!("{size} bytes are more than the {} of the largest model", limits::MODEL_BYTES),
        ));
    }
    std::fs::read(path).map_err(|error| about(path, &error))
}

/// A file in the folder of a model, links resolved; each is read once.
fn beside(model: &Path, location: &str, read: &mut BTreeMap<String, Bytes>) -> Result<Bytes, String> {
    if let Some(bytes) = read.get(location) {
        return Ok(bytes.clone());
    }
    let unreadable = |error: std::io::Error| format!("cannot read `{location}`: {error}");
    let model = model.canonicalize().map_err(unreadable)?;
    let folder = model.parent().unwrap_or(Path::new("/"));
    let file = folder.join(location).canonicalize().map_err(unreadable)?;
    let metadata = std::fs::metadata(&file).map_err(unreadable)?;
    let left = read.values().fold(limits::MODEL_BYTES, |left, bytes| left.saturating_sub(bytes.len() as u64));
    if !file.starts_with(folder) || !metadata.is_file() {
        return Err(format!("`{location}` is no file of the model's folder; put the file itself there"));
    }
    if metadata.len() > left {
        return Err(format!("`{location}` makes the model larger than {} bytes", limits::MODEL_BYTES));
    }
    let bytes = Bytes::from(std::fs::read(&file).map_err(unreadable)?);
    read.insert(location.to_owned(), bytes.clone());
    Ok(bytes)
}

fn about(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::Work(format!("{}: {error}", path.display()))
}

fn tensor(port: &Port) -> TensorInfo {
    let value_type = port.value_type.as_ref();
    let shape = value_type.and_then(|value_type| value_type.shape.as_deref()).unwrap_or_default();
    TensorInfo {
        name: port.name.clone(),
        element_type: value_type.map_or_else(String::new, |value_type| value_type.element.name().to_owned()),
        shape: shape.iter().map(ToString::to_string).collect(),
    }
}
