//! Simplifies a model before it is differentiated, without changing what it computes.
//!
//! Shape computations with known results become constants; identities disappear; batch normalisation with constant
//! statistics goes into the convolution or `Gemm` before it.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    error::Result,
    fuse,
    graph::{Graph, Node},
    integers,
    tensor::Tensor,
};

/// The simplified graph; inputs, outputs and their names stay.
pub(super) fn simplified(graph: &Graph) -> Result<Graph> {
    let mut graph = graph.clone();
    fold_shapes(&mut graph)?;
    remove_identities(&mut graph);
    fold_batch_normalizations(&mut graph)?;
    fuse::fused(graph)
}

/// Makes constants of shape computations whose result is known.
fn fold_shapes(graph: &mut Graph) -> Result<()> {
    let outputs: BTreeSet<String> = graph.outputs.iter().cloned().collect();
    let mut folded = BTreeSet::new();
    for (index, values) in integers::constants(graph) {
        let Some(name) = graph.nodes.get(index).and_then(|node| node.output(0)).map(str::to_owned) else { continue };
        let Some(value_type) = graph.types.get(&name).cloned() else { continue };
        let is_output = outputs.contains(&name);
        if let (Some(dims), super::graph::ElementType::Int64, false) =
            (value_type.known_shape(), value_type.element, is_output)
            && let Ok(tensor) = Tensor::from_integers(dims, &values)
        {
            graph.set_initializer(&name, tensor);
            folded.insert(index);
        }
    }
    let mut index = 0;
    graph.nodes.retain(|_| {
        index += 1;
        !folded.contains(&(index - 1))
    });
    Ok(())
}

/// Lets the users of an identity's output use its input, except where the name is a graph output.
fn remove_identities(graph: &mut Graph) {
    let outputs: BTreeSet<&String> = graph.outputs.iter().collect();
    let mut renamed: BTreeMap<String, String> = BTreeMap::new();
    for node in &mut graph.nodes {
        node.rename_inputs(&renamed);
        if let ("Identity", [input], [output]) = (node.op.as_str(), node.inputs.as_slice(), node.outputs.as_slice())
            && !outputs.contains(output)
        {
            renamed.insert(output.clone(), input.clone());
        }
    }
    graph.nodes.retain(|node| !node.outputs.first().is_some_and(|output| renamed.contains_key(output)));
}

/// The factor and the shift of a batch normalisation, for each channel.
pub(super) struct Affine {
    pub(super) factor: Vec<f64>,
    pub(super) shift: Vec<f64>,
}

/// What a batch normalisation with constant statistics does; `None` for others.
pub(super) fn affine(graph: &Graph, node: &Node) -> Option<Affine> {
    let floats = |index: usize| graph.initializers.get(node.input(index)?)?.floats();
    let (scale, shift, mean, variance) = (floats(1)?, floats(2)?, floats(3)?, floats(4)?);
    let epsilon = f64::from(node.float("epsilon").unwrap_or(1e-5));
    let factor: Vec<f64> = scale.iter().zip(&variance).map(|(scale, var)| scale / (var + epsilon).sqrt()).collect();
    let shift: Vec<f64> = shift.iter().zip(&mean).zip(&factor).map(|((shift, mean), f)| shift - mean * f).collect();
    (factor.len() == mean.len() && shift.len() == scale.len()).then_some(Affine { factor, shift })
}

fn fold_batch_normalizations(graph: &mut Graph) -> Result<()> {
    let mut uses: BTreeMap<&str, usize> = BTreeMap::new();
    for name in graph.nodes.iter().flat_map(|node| &node.inputs).chain(&graph.outputs) {
        *uses.entry(name).or_default() += 1;
    }
    let producers: BTreeMap<&str, usize> =
        graph.nodes.iter().enumerate().filter_map(|(index, node)| Some((node.output(0)?, index))).collect();
    let mut folds = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate().filter(|(_, node)| node.op == "BatchNormalization") {
        let Some(input) = node.input(0).filter(|input| uses.get(input) == Some(&1)) else { continue };
        let Some(&producer) = producers.get(input) else { continue };
        let fold = graph.nodes.get(producer).zip(affine(graph, node));
        if let Some((weight, bias)) = fold.and_then(|(before, affine)| folded_weights(graph, before, &affine)) {
            folds.push((index, producer, weight, bias));
        }
    }
    let mut removed = BTreeSet::new();
    for (index, producer, weight, bias) in folds {
        let Some(output) = graph.nodes.get(index).and_then(|node| node.output(0)).map(str::to_owned) else { continue };
        let (weight_name, bias_name) = (format!("{output}/folded_weight"), format!("{output}/folded_bias"));
        if graph.types.contains_key(&weight_name) || graph.types.contains_key(&bias_name) {
            continue;
        }
        let Some(node) = graph.nodes.get_mut(producer) else { continue };
        node.inputs.truncate(1);
        node.inputs.extend([weight_name.clone(), bias_name.clone()]);
        node.outputs = vec![output];
        if node.op == "Gemm" {
            node.attributes.remove("alpha");
            node.attributes.remove("beta");
        }
        graph.set_initializer(&weight_name, weight);
        graph.set_initializer(&bias_name, bias);
        removed.insert(index);
    }
    let mut index = 0;
    graph.nodes.retain(|_| {
        index += 1;
        !removed.contains(&(index - 1))
    });
    Ok(())
}

/// The weight and bias of a `Conv` or `Gemm` followed by an affine map of its channels.
fn folded_weights(graph: &Graph, node: &Node, affine: &Affine) -> Option<(Tensor, Tensor)> {
    let weight = graph.initializers.get(node.input(1)?)?;
    let channels = affine.factor.len();
    let channel_axis = match node.op.as_str() {
        "Conv" => 0,
        "Gemm" if node.int("transB").unwrap_or(0) != 0 => 0,
        "Gemm" => 1,
        _ => return None,
    };
    if weight.dims().get(channel_axis).copied() != Some(channels as u64) {
        return None;
    }
    let alpha = f64::from(node.float("alpha").unwrap_or(1.0));
    let beta = f64::from(node.float("beta").unwrap_or(1.0));
    let bias = match node.input(2) {
        Some(name) => graph.initializers.get(name)?.floats()?,
        None => vec![0.0],
    };
    if bias.len() != channels && bias.len() != 1 {
        return None;
    }
    // Elements of one channel follow each other in blocks of this length.
    let block: usize = weight.dims().iter().skip(channel_axis + 1).map(|&dim| dim as usize).product();
    let values = weight.floats()?;
    let factors = affine.factor.iter().flat_map(|factor| std::iter::repeat_n(*factor, block)).cycle();
    let values: Vec<f64> = values.iter().zip(factors).map(|(value, factor)| value * alpha * factor).collect();
    let biases = bias.iter().cycle().zip(affine.factor.iter().zip(&affine.shift));
    let biases: Vec<f64> = biases.map(|(bias, (factor, shift))| beta * bias * factor + shift).collect();
    let element = weight.element();
    Some((
        Tensor::from_floats(element, weight.dims().to_vec(), &values).ok()?,
        Tensor::from_floats(element, vec![channels as u64], &biases).ok()?,
    ))
}
