//! Computes a model in another float type: half precision in single, where more kernels exist and gradients mean more;
//! single in half, for graphics cards; everything in double, to measure with.
//!
//! Invariant: the operators stay; constants, types and casts change, in subgraphs too.

use std::collections::BTreeMap;

use super::{
    error::Result,
    graph::{Attribute, ElementType, Graph, Node, ValueType},
    shape,
    tensor::Tensor,
};

use ElementType::{Bfloat16, Float16, Float32};

/// The largest number in half precision.
const LARGEST_HALF: f64 = 65_504.0;

/// The model computed in float32 where it was in float16 or bfloat16. Its inputs and outputs keep their types: casts
/// lie at the borders.
///
/// # Errors
/// Where the widened model contradicts an operator's definition.
pub fn widened(graph: &Graph) -> Result<Graph> {
    computed_in(graph, Float32, &|element| matches!(element, Float16 | Bfloat16), "widened")
}

/// The model computed in float16 where it was in float32, to be derived so. Its inputs and outputs keep their types: casts lie
/// at the borders. What is larger than float16 holds is the largest that it does. A model with a gradient graph of its own
/// stays as it is.
///
/// # Errors
/// Where the narrowed model contradicts an operator's definition.
pub fn narrowed(graph: &Graph) -> Result<Graph> {
    if graph.has_pullback() {
        return Ok(graph.clone());
    }
    computed_in(graph, Float16, &|element| element == Float32, "narrowed")
}

/// The model with some floats in another type, between its inputs and outputs.
fn computed_in(graph: &Graph, inner: ElementType, is_other: &dyn Fn(ElementType) -> bool, how: &str) -> Result<Graph> {
    let own = graph.pullback.as_ref();
    let pullback = own.map(|own| own.mapped(|graph| computed_in(graph, inner, is_other, how))).transpose()?;
    if !has_type(graph, is_other) {
        return Ok(Graph { pullback, ..graph.clone() });
    }
    let graph = &Graph { pullback: None, ..graph.clone() };
    let inputs: BTreeMap<String, ElementType> = interface(graph, &graph.inputs, is_other);
    let outputs: BTreeMap<String, ElementType> = interface(graph, &graph.outputs, is_other);
    let mut changed = retyped(graph, is_other, inner)?;
    let mut name_of = names(&changed);
    let mut renamed: BTreeMap<String, String> = BTreeMap::new();
    for name in inputs.keys() {
        renamed.insert(name.clone(), name_of(&format!("{name}/{how}")));
    }
    // An output gets the narrow type under its name, so what makes it needs another.
    let produced: Vec<&String> = outputs.keys().filter(|name| !renamed.contains_key(*name)).collect();
    for &name in &produced {
        renamed.insert(name.clone(), name_of(&format!("{name}/{how}")));
    }
    for name in changed.nodes.iter_mut().flat_map(|node| node.inputs.iter_mut().chain(&mut node.outputs)) {
        if let Some(new) = renamed.get(name) {
            name.clone_from(new);
        }
    }
    for &name in &produced {
        let new = renamed.get(name).unwrap_or(name);
        if let Some(tensor) = changed.initializers.remove(name) {
            changed.set_initializer(new, tensor);
        }
        if let Some(value_type) = changed.types.get(name).cloned() {
            changed.types.insert(new.clone(), value_type);
        }
    }
    let cast = |from: &str, to: &str, element: ElementType| Node {
        attributes: BTreeMap::from([("to".to_owned(), Attribute::Int(element.code().into()))]),
        ..Node::new("Cast", &[from], &[to])
    };
    let mut nodes: Vec<Node> = Vec::with_capacity(changed.nodes.len() + inputs.len() + outputs.len());
    for (name, element) in &inputs {
        if let Some(value_type) = changed.types.get_mut(name) {
            value_type.element = *element;
        }
        nodes.extend(renamed.get(name).map(|new| cast(name, new, inner)));
    }
    nodes.append(&mut changed.nodes);
    for name in produced {
        nodes.extend(outputs.get(name).zip(renamed.get(name)).map(|(element, new)| cast(new, name, *element)));
    }
    changed.nodes = nodes;
    changed.pullback = pullback;
    shape::inferred_again(changed)
}

/// The model with all floats in float32, those of its inputs and outputs too.
///
/// # Errors
/// As [`widened`].
pub fn in_single(graph: &Graph) -> Result<Graph> {
    retyped(graph, &|element| element != Float32, Float32)
}

/// Whether a value or a constant is of a type, in subgraphs too.
fn has_type(graph: &Graph, which: &dyn Fn(ElementType) -> bool) -> bool {
    let mut elements = graph.types.values().map(|value_type| value_type.element);
    let mut attributes = graph.nodes.iter().flat_map(|node| node.attributes.values());
    elements.any(which)
        || attributes.any(|attribute| match attribute {
            Attribute::Tensor(tensor) => which(tensor.element()),
            Attribute::Graph(subgraph) => has_type(&subgraph.graph, which),
            _ => false,
        })
}

fn interface(graph: &Graph, names: &[String], which: impl Fn(ElementType) -> bool) -> BTreeMap<String, ElementType> {
    let elements = names.iter().filter_map(|name| Some((name.clone(), graph.element(name)?)));
    elements.filter(|(_, element)| which(*element)).collect()
}

/// Makes names that the graph does not have.
fn names(graph: &Graph) -> impl FnMut(&str) -> String + use<> {
    let mut taken: std::collections::BTreeSet<String> = graph.types.keys().cloned().collect();
    taken.extend(graph.nodes.iter().flat_map(|node| node.outputs.iter().cloned()));
    move |wanted| {
        let mut name = wanted.to_owned();
        while !taken.insert(name.clone()) {
            name.push('\'');
        }
        name
    }
}

/// The graph with the floats that `which` holds for in another type.
pub(super) fn retyped(graph: &Graph, which: &dyn Fn(ElementType) -> bool, to: ElementType) -> Result<Graph> {
    let mut graph = graph.clone();
    if let Some(pullback) = &graph.pullback {
        graph.pullback = Some(pullback.mapped(|own| retyped(own, which, to))?);
    }
    retype(&mut graph, which, to)?;
    shape::inferred_again(graph)
}

fn retype(graph: &mut Graph, which: &dyn Fn(ElementType) -> bool, to: ElementType) -> Result<()> {
    let affected = |element: ElementType| element.is_float() && which(element);
    for tensor in graph.initializers.values_mut().filter(|tensor| affected(tensor.element())) {
        *tensor = converted(tensor, to)?;
    }
    for ValueType { element, .. } in graph.types.values_mut().filter(|value_type| affected(value_type.element)) {
        *element = to;
    }
    for node in &mut graph.nodes {
        let makes_type = match node.op.as_str() {
            "Cast" => Some("to"),
            "RandomNormal" | "RandomUniform" | "RandomNormalLike" | "RandomUniformLike" | "EyeLike" | "Bernoulli"
            | "Multinomial" | "HannWindow" | "HammingWindow" | "BlackmanWindow" => Some("dtype"),
            _ => None,
        };
        for (name, attribute) in &mut node.attributes {
            match attribute {
                Attribute::Tensor(tensor) if affected(tensor.element()) => *tensor = converted(tensor, to)?,
                Attribute::Int(code) if makes_type == Some(name) => {
                    let element = i32::try_from(*code).ok().and_then(ElementType::from_code);
                    if element.is_some_and(affected) {
                        *code = to.code().into();
                    }
                }
                Attribute::Graph(subgraph) => retype(&mut subgraph.graph, which, to)?,
                _ => {}
            }
        }
        // Without a value the fill is float32.
        if node.op == "ConstantOfShape" && !node.attributes.contains_key("value") && affected(Float32) {
            node.attributes.insert("value".to_owned(), Attribute::Tensor(Tensor::from_floats(to, vec![1], &[0.0])?));
        }
    }
    Ok(())
}

fn converted(tensor: &Tensor, to: ElementType) -> Result<Tensor> {
    let values = tensor.floats().unwrap_or_default();
    // Masks of "minus infinity" are written as the lowest number, which must stay a number.
    let bound = match to {
        Float32 => f64::from(f32::MAX),
        Float16 => LARGEST_HALF,
        _ => f64::MAX,
    };
    let fit = |value: f64| if value.is_finite() { value.clamp(-bound, bound) } else { value };
    let narrower = to.size() < tensor.element().size();
    let values: Vec<f64> = if narrower { values.into_iter().map(fit).collect() } else { values };
    Tensor::from_floats(to, tensor.dims().to_vec(), &values)
}
