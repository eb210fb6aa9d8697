//! What is told about models without running them.

use crate::{
    cancel::Cancel,
    dataset::Collection,
    error::{Error, Reason, Result},
    gradient::{self, Dim, ElementType, Graph, Port},
    registry::{Features, Layout, Snapshot},
    scoring::types::*,
};

/// Reads a snapshot's graph, and with it the gradient graph that its folder brings.
///
/// # Errors
/// [`Reason::ModelInvalid`].
pub fn parse(snapshot: &Snapshot) -> Result<Graph> {
    let wrong = |file: &str, cause: gradient::GradientError| {
        Error::new(Reason::ModelInvalid, format!("model `{}`: {file}{cause}", snapshot.name()))
    };
    let graph = Graph::parse_with(snapshot.bytes().clone(), &|path| snapshot.external(path));
    let graph = graph.map_err(|cause| wrong("", cause))?;
    let Some(own) = snapshot.gradient() else { return Ok(graph) };
    let joined = Graph::parse(own.clone()).and_then(|own| graph.with_pullback(own));
    joined.map_err(|cause| wrong("gradient.onnx: ", cause))
}

/// Describes a model from its file.
pub fn model(snapshot: &Snapshot) -> ModelDescription {
    let manifest = snapshot.manifest();
    let mut description = ModelDescription {
        name: snapshot.name().to_owned(),
        summary: manifest.summary.clone(),
        digest: snapshot.digest().to_string(),
        n_parameters: 0,
        output_kind: manifest.output.kind,
        classes: manifest.output.classes.clone(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        features: String::new(),
        size_bytes: snapshot.size_bytes(),
        problem: String::new(),
    };
    match parse(snapshot) {
        Ok(graph) => {
            description.n_parameters = graph.n_parameters();
            description.inputs = graph.inputs().iter().map(tensor).collect();
            description.outputs = graph.outputs().iter().map(tensor).collect();
            description.features = match &manifest.output.features {
                Features::Tensor(name) => name.clone(),
                Features::Auto => graph.features().unwrap_or_default(),
            };
        }
        Err(error) => description.problem = error.message,
    }
    description
}

/// A model that cannot even be opened.
pub fn unusable(name: &str, problem: String) -> ModelDescription {
    ModelDescription {
        name: name.to_owned(),
        summary: String::new(),
        digest: String::new(),
        n_parameters: 0,
        output_kind: None,
        classes: Vec::new(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        features: String::new(),
        size_bytes: 0,
        problem,
    }
}

/// Lists everything that stands in the way of a model's gradients.
///
/// # Errors
/// [`Reason::ModelInvalid`].
pub fn check(snapshot: &Snapshot) -> Result<ModelCheck> {
    let graph = parse(snapshot)?;
    let obstacles = gradient::check(&graph)
        .into_iter()
        .map(|obstacle| Obstacle {
            node: obstacle.node,
            operator: obstacle.operator,
            reason: obstacle.reason,
            inputs: obstacle.inputs,
        })
        .collect();
    Ok(ModelCheck { model: model(snapshot), opset: graph.opset(), obstacles, operators: graph.operator_counts() })
}

/// Derives a gradient graph, as ONNX bytes.
///
/// # Errors
/// [`Reason::ModelInvalid`], [`Reason::ModelNotDifferentiable`], [`Reason::OptionOutOfRange`] for a tensor that the
/// model does not have, [`Reason::Cancelled`].
pub fn gradient_graph(snapshot: &Snapshot, request: &GradientRequest, cancel: &Cancel) -> Result<Vec<u8>> {
    cancel.check()?;
    let graph = parse(snapshot)?;
    cancel.check()?;
    let derived = derived(&graph, request).map_err(|cause| {
        let message = format!("model `{}`: {cause}", snapshot.name());
        match cause {
            gradient::GradientError::Request(_) => {
                let error = Error::new(Reason::OptionOutOfRange, message);
                match foreign_tensor(&graph, request) {
                    Some(field) => error.at(field),
                    None => error,
                }
            }
            _ => Error::new(Reason::ModelNotDifferentiable, message),
        }
    })?;
    cancel.check()?;
    Ok(derived.to_onnx())
}

/// The field of a request that names what is no float tensor of the model, or no output of it.
fn foreign_tensor(graph: &Graph, request: &GradientRequest) -> Option<String> {
    let is_float = |port: &Port| port.element().is_none_or(ElementType::is_float);
    let are_named = |ports: Vec<Port>, name: &String| ports.iter().any(|port| port.name == *name && is_float(port));
    let inner = graph.tensors();
    let is_input = |name: &String| inner.contains(name) || are_named(graph.inputs(), name);
    let is_output = |name: &String| are_named(graph.outputs(), name);
    let of = |field: &str, index: usize| format!("{field}[{index}]");
    let input = request.inputs.iter().position(|name| !is_input(name)).map(|index| of("inputs", index));
    input.or_else(|| request.outputs.iter().position(|name| !is_output(name)).map(|index| of("outputs", index)))
}

/// Derives a gradient graph. No inputs or outputs named means every float one.
///
/// # Errors
/// Those of the derivation.
pub fn derived(graph: &Graph, request: &GradientRequest) -> gradient::Result<Graph> {
    let inputs: Vec<&str> = request.inputs.iter().map(String::as_str).collect();
    let outputs: Vec<&str> = request.outputs.iter().map(String::as_str).collect();
    let single = if request.float32 { Some(gradient::in_single(graph)?) } else { None };
    // Inner tensors become inputs.
    let graph = gradient::cut_at(single.as_ref().unwrap_or(graph), &inputs)?;
    match request.mode {
        GradientMode::Vjp => gradient::vjp(&graph, &inputs, &outputs),
        GradientMode::Jvp => gradient::jvp(&graph, &inputs, &outputs),
    }
}

fn tensor(port: &Port) -> TensorDescription {
    let value_type = port.value_type.as_ref();
    let shape = value_type.and_then(|value_type| value_type.shape.as_ref());
    TensorDescription {
        name: port.name.clone(),
        element_type: value_type.map(|value_type| value_type.element.to_string()).unwrap_or_default(),
        shape: shape.map(|shape| shape.iter().map(ToString::to_string).collect()).unwrap_or_default(),
    }
}

/// Describes a dataset.
pub fn dataset(dataset: &Collection) -> DatasetDescription {
    DatasetDescription {
        name: dataset.name().to_owned(),
        n_samples: dataset.n_samples(),
        shape: dataset.shape().to_vec(),
        n_classes: dataset.n_classes(),
        target_size: dataset.target_size(),
        format: dataset.format().to_owned(),
        classes: dataset.classes().to_vec(),
        summary: dataset.summary().to_owned(),
        licence: dataset.licence().to_owned(),
        problem: String::new(),
    }
}

/// A dataset that cannot be read.
pub fn unusable_dataset(name: String, problem: String) -> DatasetDescription {
    DatasetDescription { name, problem, ..DatasetDescription::default() }
}

/// The shape of the samples that a model itself declares, as datasets have it.
///
/// # Errors
/// [`Reason::OptionUnsupported`] where it leaves lengths open, [`Reason::ModelInvalid`].
pub fn declared_shape(snapshot: &Snapshot) -> Result<Vec<usize>> {
    let graph = parse(snapshot)?;
    let input = graph.inputs().into_iter().next();
    let declared = input.and_then(|input| input.value_type).and_then(|value_type| value_type.shape);
    let lengths = |shape: &[Dim]| -> Vec<Option<usize>> {
        shape.iter().skip(1).map(|dim| dim.known().and_then(|length| usize::try_from(length).ok())).collect()
    };
    let lengths = lengths(declared.as_deref().unwrap_or_default());
    let manifest = &snapshot.manifest().input;
    let shape: Option<Vec<usize>> = match (lengths.as_slice(), manifest.layout) {
        (&[Some(features)], _) => Some(vec![features]),
        (&[channels, height, width], Layout::Nchw) | (&[height, width, channels], Layout::Nhwc) => {
            let size = height.zip(width).map(|(height, width)| [height, width]).or(manifest.size);
            channels.zip(size).map(|(channels, [height, width])| vec![channels, height, width])
        }
        _ => None,
    };
    shape.ok_or_else(|| {
        let message = format!(
            "model `{}` does not declare its input's whole shape; name a dataset whose samples it is to take",
            snapshot.name()
        );
        Error::new(Reason::OptionUnsupported, message).at("dataset")
    })
}
