//! Makes inputs of tensors inside a model, so that it can be differentiated with respect to them: the embedding of
//! token ids, a weight.

use super::{
    error::{GradientError, Result},
    graph::Graph,
    prune,
};

/// The graph in which each of these tensors is an input. What made them goes where nothing else needs it, and so do
/// inputs that nothing needs any more; inputs among the names stay as they are.
///
/// # Errors
/// Where the model has no tensor of a name, or its type is not known.
pub fn cut_at(graph: &Graph, names: &[&str]) -> Result<Graph> {
    let mut cut = graph.clone();
    for &name in names.iter().filter(|&&name| !graph.inputs.iter().any(|input| input == name)) {
        if !graph.defines(name) {
            let inputs = graph.inputs.join(", ");
            return Err(GradientError::Request(format!(
                "the model has no input and no inner tensor `{name}`; its inputs are {inputs}"
            )));
        }
        if !graph.types.contains_key(name) {
            return Err(GradientError::UnknownType { what: "element type", value: name.to_owned() });
        }
        if cut.inputs.iter().any(|input| input == name) {
            continue;
        }
        // The model's own gradient graph knows of no such input.
        cut.pullback = None;
        cut.initializers.remove(name);
        for output in cut.nodes.iter_mut().flat_map(|node| &mut node.outputs).filter(|output| *output == name) {
            output.clear();
        }
        cut.inputs.push(name.to_owned());
        // Its contents no longer follow from anything.
        cut.integers.remove(name);
    }
    let uses = |graph: &Graph, name: &String| {
        graph.outputs.contains(name) || graph.nodes.iter().any(|node| node.inputs.contains(name))
    };
    let mut cut = prune::pruned(cut);
    let gone: Vec<String> =
        graph.inputs.iter().filter(|name| uses(graph, name) && !uses(&cut, name)).cloned().collect();
    cut.inputs.retain(|name| !gone.contains(name));
    gone.iter().for_each(|name| {
        cut.types.remove(name);
        cut.foreign.remove(name);
    });
    Ok(cut)
}
