//! Which execution provider runs each node of a model's gradient graph.

use std::{path::Path, sync::Arc};

use super::{Given, Named, VerifyError, point::Point, run};
use crate::{
    gradient::{self, Graph, Port, Target},
    runtime::{Placed, Runtime, TypedArray, placements},
};

/// Runs a model's reverse-mode graph once, on the runtime's first device at given inputs or random ones, and tells where
/// its nodes ran. ONNX Runtime writes that into a file in `folder`.
///
/// # Errors
/// Where the model cannot be differentiated or run, or given inputs do not fit it.
pub fn placed(
    runtime: &Arc<Runtime>,
    graph: &Graph,
    given: &Given,
    seed: u64,
    folder: &Path,
) -> Result<Vec<Placed>, VerifyError> {
    let target = if runtime.uses_cards() { Target::Cuda } else { Target::Cpu };
    let graph = gradient::in_single(graph)?.for_target(target);
    let is_float = |port: &Port| port.element().is_some_and(gradient::ElementType::is_float);
    let outputs: Vec<String> = graph.outputs().into_iter().filter(is_float).map(|port| port.name).collect();
    let names: Vec<&str> = outputs.iter().map(String::as_str).collect();
    let forward = runtime.compile(gradient::compose::with_outputs(&graph, &names)?.to_onnx())?;
    let point = Point::find(&graph, &forward, given, seed)?;
    let mut feeds: Named = point.feeds();
    let cotangents = run(&forward, &feeds)?.into_iter().filter(|(_, value)| matches!(value, TypedArray::Float32(_)));
    feeds.extend(cotangents.map(|(name, value)| (format!("cotangent/{name}"), value)));
    let pulled = gradient::vjp(&graph, &[], &[])?;
    let taken = pulled.inputs();
    feeds.retain(|(name, _)| taken.iter().any(|port| port.name == *name));
    Ok(placements(runtime, &pulled.to_onnx(), &feeds, folder)?)
}
