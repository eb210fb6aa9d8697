//! The compiler's own view of a model: named values, nodes in topological order, initialisers, types.
//!
//! Invariants of a [`Graph`] that [`super::import`] made: every value has one producer; every node comes after the
//! producers of its inputs; operator forms are those of opset [`WORKING_OPSET`] or, if the file's is newer, of that.

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::{onnx, pullback::Pullback, target::Target, tensor::Tensor};

/// The oldest opset whose operator forms the compiler works with; older models are converted on import.
pub const WORKING_OPSET: i64 = 21;
/// The oldest opset that is read.
pub const OLDEST_OPSET: i64 = 7;
/// The newest opset that is read: the newest that ONNX Runtime 1.31 runs.
pub const NEWEST_OPSET: i64 = 26;

/// A tensor's element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ElementType {
    Float32,
    Uint8,
    Int8,
    Uint16,
    Int16,
    Int32,
    Int64,
    Bool,
    Float16,
    Float64,
    Uint32,
    Uint64,
    Bfloat16,
}

use ElementType as E;

/// Element type, ONNX code, bytes an element, name.
const ELEMENTS: [(ElementType, i32, usize, &str); 13] = [
    (E::Float32, 1, 4, "float32"),
    (E::Uint8, 2, 1, "uint8"),
    (E::Int8, 3, 1, "int8"),
    (E::Uint16, 4, 2, "uint16"),
    (E::Int16, 5, 2, "int16"),
    (E::Int32, 6, 4, "int32"),
    (E::Int64, 7, 8, "int64"),
    (E::Bool, 9, 1, "bool"),
    (E::Float16, 10, 2, "float16"),
    (E::Float64, 11, 8, "float64"),
    (E::Uint32, 12, 4, "uint32"),
    (E::Uint64, 13, 8, "uint64"),
    (E::Bfloat16, 16, 2, "bfloat16"),
];

impl ElementType {
    /// The type of an ONNX `TensorProto.DataType` code; `None` for strings, complex and sub-byte types.
    pub fn from_code(code: i32) -> Option<Self> {
        ELEMENTS.iter().find(|entry| entry.1 == code).map(|entry| entry.0)
    }

    /// The ONNX `TensorProto.DataType` code.
    pub fn code(self) -> i32 {
        ELEMENTS.iter().find(|entry| entry.0 == self).map_or(0, |entry| entry.1)
    }

    /// Bytes of one element.
    pub fn size(self) -> usize {
        ELEMENTS.iter().find(|entry| entry.0 == self).map_or(1, |entry| entry.2)
    }

    /// The name that people know, such as `float32`.
    pub fn name(self) -> &'static str {
        ELEMENTS.iter().find(|entry| entry.0 == self).map_or("unknown", |entry| entry.3)
    }

    /// Whether values of this type can carry a gradient.
    pub fn is_float(self) -> bool {
        matches!(self, E::Float32 | E::Float64 | E::Float16 | E::Bfloat16)
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One dimension of a shape. Equal symbols stand for equal sizes; different symbols may or may not be equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    Known(u64),
    Symbol(Arc<str>),
}

impl Dim {
    /// The size where it is known.
    pub fn known(&self) -> Option<u64> {
        match self {
            Dim::Known(size) => Some(*size),
            Dim::Symbol(_) => None,
        }
    }

    pub(crate) fn symbol(name: impl AsRef<str>) -> Dim {
        Dim::Symbol(Arc::from(name.as_ref()))
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Known(size) => write!(f, "{size}"),
            Dim::Symbol(name) => f.write_str(name),
        }
    }
}

/// An element of a small integer tensor, as shape computations produce them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Integer {
    Known(i64),
    Symbol(Arc<str>),
    Unknown,
}

impl Integer {
    pub(crate) fn known(&self) -> Option<i64> {
        match self {
            Integer::Known(value) => Some(*value),
            _ => None,
        }
    }
}

impl From<&Dim> for Integer {
    fn from(dim: &Dim) -> Self {
        match dim {
            Dim::Known(size) => i64::try_from(*size).map_or(Integer::Unknown, Integer::Known),
            Dim::Symbol(name) => Integer::Symbol(name.clone()),
        }
    }
}

/// A tensor's type; `shape` is `None` where not even the rank is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueType {
    pub element: ElementType,
    pub shape: Option<Vec<Dim>>,
}

impl ValueType {
    pub fn new(element: ElementType, shape: Vec<Dim>) -> Self {
        ValueType { element, shape: Some(shape) }
    }

    /// The sizes, if all are known.
    pub fn known_shape(&self) -> Option<Vec<u64>> {
        self.shape.as_ref()?.iter().map(Dim::known).collect()
    }

    pub fn rank(&self) -> Option<usize> {
        self.shape.as_ref().map(Vec::len)
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.shape {
            Some(shape) => write!(f, "{}{}", self.element, display_shape(shape)),
            None => write!(f, "{}[?]", self.element),
        }
    }
}

/// A shape for messages, such as `[batch, 3, 32, 32]`.
pub(crate) fn display_shape(shape: &[Dim]) -> String {
    let dims: Vec<String> = shape.iter().map(Dim::to_string).collect();
    format!("[{}]", dims.join(", "))
}

/// An attribute of a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    Int(i64),
    Float(f32),
    Text(String),
    Tensor(Tensor),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Texts(Vec<String>),
    /// A branch or the body of a loop.
    Graph(Box<Subgraph>),
    /// What nothing here computes with, such as strings: written as it was read.
    Opaque(Box<onnx::AttributeProto>),
}

/// A graph inside a node. What it takes from around it are inputs of the node too, after the operator's own, so that
/// pruning and renaming see them; all subgraphs of one node have one list.
#[derive(Clone, Debug, PartialEq)]
pub struct Subgraph {
    pub(crate) graph: Graph,
    /// What the subgraph calls the last inputs of its node.
    pub(crate) captures: Vec<String>,
}

/// One operation. An empty input name is an omitted optional input; an empty output name an output nobody wants.
/// Operators outside the standard domain are named `domain::operator`.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub op: String,
    pub name: String,
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    pub attributes: BTreeMap<String, Attribute>,
}

impl Node {
    /// A node without a name and attributes.
    pub(crate) fn new(op: &str, inputs: &[&str], outputs: &[&str]) -> Node {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Node {
            op: op.to_owned(),
            name: String::new(),
            inputs: owned(inputs),
            outputs: owned(outputs),
            attributes: BTreeMap::new(),
        }
    }

    /// Takes inputs by their new names, where they have such.
    pub(crate) fn rename_inputs(&mut self, names: &BTreeMap<String, String>) {
        for input in &mut self.inputs {
            if let Some(name) = names.get(input) {
                input.clone_from(name);
            }
        }
    }

    /// The name of an input, if it is given.
    pub fn input(&self, index: usize) -> Option<&str> {
        self.inputs.get(index).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// The name of an output, if it is wanted.
    pub fn output(&self, index: usize) -> Option<&str> {
        self.outputs.get(index).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// What messages call this node: its name, or the name of its first output.
    pub fn label(&self) -> &str {
        if self.name.is_empty() { self.outputs.first().map_or("", String::as_str) } else { &self.name }
    }

    pub fn int(&self, name: &str) -> Option<i64> {
        match self.attributes.get(name) {
            Some(Attribute::Int(value)) => Some(*value),
            _ => None,
        }
    }

    pub fn float(&self, name: &str) -> Option<f32> {
        match self.attributes.get(name) {
            Some(Attribute::Float(value)) => Some(*value),
            _ => None,
        }
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        match self.attributes.get(name) {
            Some(Attribute::Text(value)) => Some(value),
            _ => None,
        }
    }

    /// The domain of the operator, empty for the standard one, and its name there.
    pub fn qualified(&self) -> (&str, &str) {
        self.op.rsplit_once("::").unwrap_or(("", &self.op))
    }

    /// How many of the last inputs are there for subgraphs alone.
    pub(crate) fn n_captures(&self) -> usize {
        let captures = self.attributes.values().map(|attribute| match attribute {
            Attribute::Graph(subgraph) => subgraph.captures.len(),
            _ => 0,
        });
        captures.max().unwrap_or(0)
    }

    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        match self.attributes.get(name) {
            Some(Attribute::Ints(values)) => Some(values),
            _ => None,
        }
    }
}

/// A model.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    pub(crate) name: String,
    pub(crate) inputs: Vec<String>,
    pub(crate) outputs: Vec<String>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) initializers: BTreeMap<String, Tensor>,
    pub(crate) types: BTreeMap<String, ValueType>,
    /// What is known about the contents of small integer tensors.
    pub(crate) integers: BTreeMap<String, Vec<Integer>>,
    /// The opset of the file.
    pub(crate) declared_opset: i64,
    /// Versions of the other domains that the file imports.
    pub(crate) domains: BTreeMap<String, i64>,
    /// Declared types of inputs and outputs that are no tensors of numbers, such as strings and sequences.
    pub(crate) foreign: BTreeMap<String, onnx::TypeProto>,
    /// The device that forms are chosen for.
    pub(crate) target: Target,
    /// The model's own gradient graph, where it has one.
    pub(super) pullback: Option<Pullback>,
}

/// An input or output of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub name: String,
    /// `None` where neither the file nor inference tells.
    pub value_type: Option<ValueType>,
}

impl Port {
    /// The element type, where it is known.
    pub fn element(&self) -> Option<ElementType> {
        self.value_type.as_ref().map(|value_type| value_type.element)
    }
}

impl Graph {
    /// A graph with nothing in it.
    pub(crate) fn empty(name: String, declared_opset: i64) -> Self {
        Graph {
            name,
            inputs: Vec::new(),
            outputs: Vec::new(),
            nodes: Vec::new(),
            initializers: BTreeMap::new(),
            types: BTreeMap::new(),
            integers: BTreeMap::new(),
            declared_opset,
            domains: BTreeMap::new(),
            foreign: BTreeMap::new(),
            target: Target::default(),
            pullback: None,
        }
    }

    /// The opset whose operator forms the nodes have, and that they are written in.
    pub(crate) fn working_opset(&self) -> i64 {
        if self.target.has_kernels_of_old_opsets() && !self.is_newer_than_working() {
            return WORKING_OPSET;
        }
        self.declared_opset.max(WORKING_OPSET)
    }

    /// Whether anything in the graph or its subgraphs came after [`WORKING_OPSET`]. Versions of operators since then only take
    /// more types, but for those that have new attributes.
    fn is_newer_than_working(&self) -> bool {
        const OPERATORS: [&str; 7] =
            ["Attention", "BitCast", "CumProd", "RMSNormalization", "RotaryEmbedding", "Swish", "TensorScatter"];
        const ATTRIBUTES: [&str; 3] = ["output_dtype", "precision", "round_mode"];
        let is_new = |node: &Node| {
            OPERATORS.contains(&node.op.as_str())
                || node.attributes.iter().any(|(name, attribute)| match attribute {
                    Attribute::Graph(subgraph) => subgraph.graph.is_newer_than_working(),
                    _ => ATTRIBUTES.contains(&name.as_str()),
                })
        };
        self.types.values().any(|value_type| value_type.element == E::Bfloat16) || self.nodes.iter().any(is_new)
    }

    pub(crate) fn shape(&self, name: &str) -> Option<&[Dim]> {
        self.types.get(name)?.shape.as_deref()
    }

    pub(crate) fn element(&self, name: &str) -> Option<ElementType> {
        self.types.get(name).map(|value_type| value_type.element)
    }

    /// Whether a value of this name exists.
    pub(crate) fn defines(&self, name: &str) -> bool {
        self.inputs.iter().any(|input| input == name)
            || self.initializers.contains_key(name)
            || self.nodes.iter().any(|node| node.outputs.iter().any(|output| output == name))
    }

    pub(crate) fn port(&self, name: &str) -> Port {
        Port { name: name.to_owned(), value_type: self.types.get(name).cloned() }
    }

    /// Adds an initialiser under a name that is not taken.
    pub(crate) fn set_initializer(&mut self, name: &str, tensor: Tensor) {
        self.types.insert(name.to_owned(), tensor.value_type());
        if let Some(values) = tensor.small_integers() {
            self.integers.insert(name.to_owned(), values.into_iter().map(Integer::Known).collect());
        }
        self.initializers.insert(name.to_owned(), tensor);
    }
}
