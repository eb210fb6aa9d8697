//! Shape inference with symbolic dimensions, one node at a time.
//!
//! Each operator's own inference lies in its rule. Here is what they share: access to the types of inputs, the rules of
//! broadcasting, and the propagation of small integer tensors, from which `Reshape` and its kin take their shapes.
//! Where inference does not know an operator, the types that the file declares are used.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    error::{GradientError, Result},
    evaluate,
    graph::{Dim, ElementType, Graph, Integer, Node, ValueType, display_shape},
    integers, rules,
    tensor::count_elements,
};

/// Why inference gives no type.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Too little is known of the inputs.
    Unknown,
    /// The inputs contradict the operator's definition.
    Wrong(String),
}

pub(crate) type Inferred<T = Vec<ValueType>> = Result<T, Cause>;

/// An operator's inference: from a node in its graph to the types of its outputs.
pub(crate) type Infer = fn(&Inference) -> Inferred;

/// Shorthand for a contradiction.
pub(crate) fn wrong<T>(reason: impl Into<String>) -> Inferred<T> {
    Err(Cause::Wrong(reason.into()))
}

/// A node and what is known about its inputs.
pub(crate) struct Inference<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) node: &'a Node,
}

impl<'a> Inference<'a> {
    pub(crate) fn value_type(&self, index: usize) -> Inferred<&'a ValueType> {
        let Some(name) = self.node.input(index) else { return wrong(format!("input {index} is missing")) };
        self.graph.types.get(name).ok_or(Cause::Unknown)
    }

    pub(crate) fn element(&self, index: usize) -> Inferred<ElementType> {
        Ok(self.value_type(index)?.element)
    }

    pub(crate) fn shape(&self, index: usize) -> Inferred<&'a [Dim]> {
        self.value_type(index)?.shape.as_deref().ok_or(Cause::Unknown)
    }

    /// The known contents of a small integer input, if it is given.
    pub(crate) fn integers(&self, index: usize) -> Option<&'a [Integer]> {
        self.graph.integers.get(self.node.input(index)?).map(Vec::as_slice)
    }

    /// The contents of a small integer input, if all are known.
    pub(crate) fn known_integers(&self, index: usize) -> Inferred<Vec<i64>> {
        let values = self.integers(index).ok_or(Cause::Unknown)?;
        values.iter().map(Integer::known).collect::<Option<Vec<i64>>>().ok_or(Cause::Unknown)
    }

    /// A dimension of an output that nothing is known about.
    pub(crate) fn fresh(&self, output: usize, axis: usize) -> Dim {
        Dim::symbol(format!("{}.{axis}", self.node.output(output).unwrap_or("?")))
    }

    /// As many fresh dimensions.
    pub(crate) fn fresh_shape(&self, output: usize, rank: usize) -> Vec<Dim> {
        (0..rank).map(|axis| self.fresh(output, axis)).collect()
    }

    /// An attribute's axis, counted from the front.
    pub(crate) fn axis(&self, name: &str, default: i64, rank: usize) -> Inferred<usize> {
        resolve_axis(self.node.int(name).unwrap_or(default), rank).map_err(Cause::Wrong)
    }
}

/// An axis counted from the front, from one that may be negative.
pub(crate) fn resolve_axis(axis: i64, rank: usize) -> Result<usize, String> {
    let signed = i64::try_from(rank).unwrap_or(i64::MAX);
    let resolved = if axis < 0 { axis.checked_add(signed) } else { Some(axis) };
    resolved
        .filter(|axis| (0..signed).contains(axis))
        .and_then(|axis| usize::try_from(axis).ok())
        .ok_or_else(|| format!("axis {axis} of a tensor of rank {rank}"))
}

/// Axes counted from the front, sorted.
pub(crate) fn resolve_axes(axes: &[i64], rank: usize) -> Result<Vec<usize>, String> {
    let mut resolved = axes.iter().map(|&axis| resolve_axis(axis, rank)).collect::<Result<Vec<_>, _>>()?;
    resolved.sort_unstable();
    if resolved.windows(2).any(|pair| pair.first() == pair.last()) {
        return Err(format!("axes {axes:?} name one axis twice"));
    }
    Ok(resolved)
}

/// The dimension that two dimensions broadcast to.
pub(crate) fn broadcast_dim(a: &Dim, b: &Dim) -> Option<Dim> {
    Some(match (a, b) {
        (a, b) if a == b => a.clone(),
        (Dim::Known(1), other) | (other, Dim::Known(1)) => other.clone(),
        (Dim::Known(_), Dim::Known(_)) => return None,
        // The symbol is 1 or the known size; either way the result is the known size.
        (Dim::Known(size), Dim::Symbol(_)) | (Dim::Symbol(_), Dim::Known(size)) => Dim::Known(*size),
        (Dim::Symbol(a), Dim::Symbol(b)) => derived("max", &[a, b], a),
    })
}

/// A symbol named after how it was computed, so that the same computation gives the same symbol.
pub(crate) fn derived(operation: &str, operands: &[&str], fallback: &str) -> Dim {
    let name = format!("{operation}({})", operands.join(","));
    if name.len() <= 120 { Dim::symbol(name) } else { Dim::symbol(format!("{operation}#{:08x}", fnv(&name, fallback))) }
}

/// FNV-1a, to keep the names of deep computations short.
fn fnv(name: &str, salt: &str) -> u64 {
    name.bytes()
        .chain(salt.bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The shape that two shapes broadcast to, numpy's way.
pub(crate) fn broadcast(a: &[Dim], b: &[Dim]) -> Inferred<Vec<Dim>> {
    let rank = a.len().max(b.len());
    let one = Dim::Known(1);
    let at = |shape: &[Dim], axis: usize| (axis + shape.len()).checked_sub(rank).and_then(|i| shape.get(i).cloned());
    (0..rank)
        .map(|axis| {
            let (left, right) = (at(a, axis), at(b, axis));
            broadcast_dim(left.as_ref().unwrap_or(&one), right.as_ref().unwrap_or(&one)).ok_or_else(|| {
                Cause::Wrong(format!("the shapes {} and {} do not broadcast", display_shape(a), display_shape(b)))
            })
        })
        .collect()
}

/// Infers the types of a node's outputs and stores them in the graph, with what is known of their contents.
///
/// # Errors
/// Where the inputs contradict the operator's definition, or a shape passes a bound.
pub(crate) fn infer_node(graph: &mut Graph, node: &Node, declared: Option<&BTreeMap<String, ValueType>>) -> Result<()> {
    let contradiction =
        |reason: String| GradientError::Node { node: node.label().to_owned(), operator: node.op.clone(), reason };
    let inference = Inference { graph, node };
    let inferred = match rules::find(&node.op) {
        Some(rule) => match (rule.infer)(&inference) {
            Ok(types) => types,
            Err(Cause::Unknown) => Vec::new(),
            Err(Cause::Wrong(reason)) => return Err(contradiction(reason)),
        },
        None => Vec::new(),
    };
    let contents = integers::propagate(&inference).or_else(|| evaluate::contents(&inference, inferred.first()?));
    if let Some((name, values)) = node.output(0).zip(contents) {
        graph.integers.insert(name.to_owned(), values);
    }
    for (index, name) in node.outputs.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
        let declared = declared.and_then(|declared| declared.get(name));
        let merged = match (inferred.get(index), declared) {
            (Some(inferred), Some(declared)) => merge(inferred, declared),
            (Some(one), None) | (None, Some(one)) => one.clone(),
            (None, None) => continue,
        };
        let known: Vec<u64> = merged.shape.iter().flatten().map(|dim| dim.known().unwrap_or(1)).collect();
        count_elements(&known).map_err(|error| contradiction(error.to_string()))?;
        graph.types.insert(name.clone(), merged);
    }
    Ok(())
}

/// What was inferred, made more precise by what the file declares.
pub(crate) fn merge(inferred: &ValueType, declared: &ValueType) -> ValueType {
    let shape = match (&inferred.shape, &declared.shape) {
        (Some(inferred), Some(declared)) if inferred.len() == declared.len() => Some(
            inferred
                .iter()
                .zip(declared)
                .map(|pair| match pair {
                    (Dim::Symbol(_), Dim::Known(size)) => Dim::Known(*size),
                    (inferred, _) => inferred.clone(),
                })
                .collect(),
        ),
        (None, declared) => declared.clone(),
        (inferred, _) => inferred.clone(),
    };
    ValueType { element: inferred.element, shape }
}

/// Infers all types anew, after an input has changed its type.
pub(super) fn inferred_again(mut graph: Graph) -> Result<Graph> {
    let old = graph.types.clone();
    let made: BTreeSet<&String> = graph.nodes.iter().flat_map(|node| &node.outputs).collect();
    graph.types.retain(|name, _| !made.contains(name));
    graph.integers.retain(|name, _| !made.contains(name));
    let nodes = std::mem::take(&mut graph.nodes);
    for node in &nodes {
        // Old types help with operators that inference does not know; sizes may have changed since.
        let declared: BTreeMap<String, ValueType> = match rules::find(&node.op) {
            Some(_) if !rules::has_declared_types(&node.op) => BTreeMap::new(),
            _ => node.outputs.iter().filter_map(|name| Some((name.clone(), old.get(name)?.clone()))).collect(),
        };
        infer_node(&mut graph, node, Some(&declared))?;
    }
    graph.nodes = nodes;
    // Where inference does not reach an output, what was known of it still holds.
    for output in &graph.outputs {
        if let (false, Some(value_type)) = (graph.types.contains_key(output), old.get(output)) {
            graph.types.insert(output.clone(), value_type.clone());
        }
    }
    Ok(graph)
}
