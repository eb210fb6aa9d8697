//! Moves constant factors of channels into the convolution before them.
//!
//! `(W ∗ x) ⊙ m · k = (kW ∗ x) ⊙ m` for any `m`: the backward pass of batch normalisation before an activation costs nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    error::Result,
    graph::{Dim, Graph, Node},
    prune,
    tensor::Tensor,
};

/// How many products may lie between a convolution and the factor.
const LONGEST_CHAIN: usize = 3;

/// The graph without products by constant factors of channels, where a convolution can take them.
pub(super) fn absorbed(mut graph: Graph) -> Result<Graph> {
    let mut uses: BTreeMap<String, usize> = BTreeMap::new();
    for name in graph.nodes.iter().flat_map(|node| &node.inputs).chain(&graph.outputs) {
        *uses.entry(name.clone()).or_default() += 1;
    }
    let producers: BTreeMap<String, usize> = (graph.nodes.iter().enumerate())
        .flat_map(|(index, node)| node.outputs.iter().map(move |output| (output.clone(), index)))
        .collect();
    let mut taken: BTreeSet<String> = graph.inputs.iter().chain(graph.initializers.keys()).cloned().collect();
    taken.extend(producers.keys().cloned());
    let outputs: BTreeSet<String> = graph.outputs.iter().cloned().collect();
    let mut renamed: BTreeMap<String, String> = BTreeMap::new();
    for index in 0..graph.nodes.len() {
        let found = graph.nodes.get(index).and_then(|node| {
            let (value, factors, output) = product(&graph, node).filter(|(_, _, output)| !outputs.contains(*output))?;
            let source = convolution(&graph, &producers, &uses, value)?;
            let scaled = scaled(&graph, graph.nodes.get(source)?, &factors)?;
            Some((source, value.to_owned(), output.to_owned(), scaled))
        });
        let Some((source, value, output, (weight, bias))) = found else { continue };
        let Some(node) = graph.nodes.get_mut(source) else { continue };
        let Some(name) = node.output(0).map(|name| format!("{name}/scaled_by/{output}")) else { continue };
        if ["weight", "bias"].iter().any(|part| taken.contains(&format!("{name}/{part}"))) {
            continue;
        }
        node.inputs.truncate(1);
        node.inputs.push(format!("{name}/weight"));
        if bias.is_some() {
            node.inputs.push(format!("{name}/bias"));
        }
        graph.set_initializer(&format!("{name}/weight"), weight);
        if let Some(bias) = bias {
            graph.set_initializer(&format!("{name}/bias"), bias);
        }
        // A later product may follow through this one.
        let value = renamed.get(&value).cloned().unwrap_or(value);
        renamed.insert(output, value);
    }
    for node in &mut graph.nodes {
        node.rename_inputs(&renamed);
    }
    Ok(prune::pruned(graph))
}

/// The value, the factor of each channel and the output of a product by constants.
fn product<'a>(graph: &'a Graph, node: &'a Node) -> Option<(&'a str, Vec<f64>, &'a str)> {
    let ("Mul", [a, b], [output]) = (node.op.as_str(), node.inputs.as_slice(), node.outputs.as_slice()) else {
        return None;
    };
    let (value, factor) = [(a, b), (b, a)].into_iter().find(|(_, factor)| graph.initializers.contains_key(*factor))?;
    let shape = graph.shape(value)?;
    if graph.shape(output) != Some(shape) {
        return None;
    }
    let factor = graph.initializers.get(factor)?;
    let inner = shape.len().checked_sub(1)?;
    let (before, own) = factor.dims().split_at_checked(factor.dims().len().saturating_sub(inner))?;
    let (channels, pixels) = own.split_first()?;
    let by_channel = before.iter().chain(pixels).all(|&dim| dim == 1)
        && pixels.len() + 2 == shape.len()
        && shape.get(1).and_then(Dim::known) == Some(*channels);
    if by_channel { Some((value, factor.floats()?, output)) } else { None }
}

/// The node that convolves what becomes `value` by products, if nothing else uses any of these values.
fn convolution(
    graph: &Graph,
    producers: &BTreeMap<String, usize>,
    uses: &BTreeMap<String, usize>,
    value: &str,
) -> Option<usize> {
    let mut frontier = vec![value];
    for _ in 0..LONGEST_CHAIN {
        let mut next = Vec::new();
        for name in frontier {
            let Some(&index) = producers.get(name).filter(|_| uses.get(name) == Some(&1)) else { continue };
            let node = graph.nodes.get(index)?;
            let constant = |at: usize| node.input(at).is_none_or(|name| graph.initializers.contains_key(name));
            match node.op.as_str() {
                "Conv" if constant(1) && constant(2) => return Some(index),
                // Where it is the form of every adjoint.
                "ConvTranspose" if graph.target.transposes_convolutions() && constant(1) && constant(2) => {
                    return Some(index);
                }
                "Mul" => next.extend(node.inputs.iter().filter(|input| graph.shape(input) == graph.shape(value))),
                _ => {}
            }
        }
        frontier = next.into_iter().map(String::as_str).collect();
    }
    None
}

/// The weight and the bias of a convolution, or of a transposed one, times the factors of its output channels.
fn scaled(graph: &Graph, node: &Node, factors: &[f64]) -> Option<(Tensor, Option<Tensor>)> {
    let weight = graph.initializers.get(node.input(1)?)?;
    let weight = if node.op == "ConvTranspose" {
        times(weight, &by_kernel(node, weight.dims(), factors)?)?
    } else if weight.dims().first() == Some(&(factors.len() as u64)) {
        times(weight, factors)?
    } else {
        return None;
    };
    match node.input(2) {
        Some(bias) => Some((weight, Some(times(graph.initializers.get(bias)?, factors)?))),
        None => Some((weight, None)),
    }
}

/// A tensor times one factor for each of as many blocks of it.
fn times(tensor: &Tensor, factors: &[f64]) -> Option<Tensor> {
    let block = tensor.len().checked_div(factors.len())?;
    let factors = factors.iter().flat_map(|factor| std::iter::repeat_n(*factor, block));
    let values: Vec<f64> = tensor.floats()?.iter().zip(factors).map(|(value, factor)| value * factor).collect();
    Tensor::from_floats(tensor.element(), tensor.dims().to_vec(), &values).ok()
}

/// The factors of a transposed convolution's output channels for each kernel of its weight
/// `[input channels, output channels / groups, kernel…]`.
fn by_kernel(node: &Node, weight: &[u64], factors: &[f64]) -> Option<Vec<f64>> {
    let [rows, columns, ..] = *weight else { return None };
    let groups = u64::try_from(node.int("group").unwrap_or(1)).ok()?;
    let rows_of_group = rows.checked_div(groups).filter(|&of_group| of_group * groups == rows)?;
    if columns.checked_mul(groups) != Some(factors.len() as u64) || columns == 0 {
        return None;
    }
    let of_groups = factors.chunks_exact(usize::try_from(columns).ok()?);
    Some(of_groups.flat_map(|group| std::iter::repeat_n(group, rows_of_group as usize).flatten().copied()).collect())
}
