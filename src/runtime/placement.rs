//! Which execution provider runs each node of a graph: ONNX Runtime leaves nodes that a device has no kernel for to the
//! processor, which costs copies both ways.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use ort::session::RunOptions;
use serde_json::Value as Json;

use super::{Runtime, RuntimeError, TypedArray, one_line, value};

/// Nodes of one operator on one provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// As ONNX Runtime runs them: it fuses some.
    pub operator: String,
    pub provider: String,
    /// Names of the nodes.
    pub nodes: Vec<String>,
}

/// Runs a graph once on the runtime's first device and tells where its nodes ran, in order of operators. ONNX Runtime writes
/// that into a file, for which `folder` has room.
///
/// # Errors
/// Those of [`Runtime::compile`] and [`Executable::run`](super::Executable::run); [`RuntimeError::Run`] where the file
/// cannot be read.
pub fn placements(
    runtime: &Arc<Runtime>,
    model: &[u8],
    feeds: &[(String, TypedArray)],
    folder: &Path,
) -> Result<Vec<Placed>, RuntimeError> {
    let device = runtime.cards.first();
    let refused = |cause: &dyn std::fmt::Display| RuntimeError::Model(one_line(cause));
    let mut session = device
        .builder(&runtime.environment, &runtime.config, runtime.cards.arena_bytes(model.len() as u64), false)
        .and_then(|builder| builder.with_profiling(folder.join("profile"))?.commit_from_memory(model))
        .map_err(|cause| refused(&cause))?;
    let failed = |cause: &dyn std::fmt::Display| RuntimeError::Run(one_line(cause));
    let options = RunOptions::new().map_err(|cause| failed(&cause))?;
    let inputs = value::inputs(feeds.iter().map(|(name, array)| (name.as_str(), array.into())));
    let inputs = inputs.map_err(|cause| failed(&cause))?;
    session.run_with_options(inputs, &options).map_err(|cause| failed(&cause))?;
    let file = session.end_profiling().map_err(|cause| failed(&cause))?;
    let bytes = std::fs::read(&file).map_err(|cause| failed(&cause))?;
    let events: Vec<Json> = serde_json::from_slice(&bytes).map_err(|cause| failed(&cause))?;
    Ok(placed(&events))
}

fn placed(events: &[Json]) -> Vec<Placed> {
    let mut nodes: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for event in events {
        let text = |key: &str| event.get("args").and_then(|args| args.get(key)).and_then(Json::as_str);
        let name = event.get("name").and_then(Json::as_str).and_then(|name| name.strip_suffix("_kernel_time"));
        if let (Some(name), Some(operator), Some(provider)) = (name, text("op_name"), text("provider")) {
            nodes.entry((operator, provider)).or_default().push(name.to_owned());
        }
    }
    let one = |((operator, provider), nodes): ((&str, &str), Vec<String>)| Placed {
        operator: operator.to_owned(),
        provider: provider.to_owned(),
        nodes,
    };
    nodes.into_iter().map(one).collect()
}
