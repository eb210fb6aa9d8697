//! Emits nodes into a graph under fresh names, with their types inferred, and shares what is computed twice.
//!
//! Invariant: two emissions of the same operator on the same inputs with the same attributes give the same value, so
//! rules may ask for a mask or a constant again instead of passing it around.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    error::{GradientError, Result},
    graph::{Attribute, Dim, ElementType, Graph, Node, ValueType},
    shape,
    target::Target,
    tensor::Tensor,
};

/// The slope of a ramp that stands for a step: 2¹⁰⁰.
const STEEP: f64 = 1_267_650_600_228_229_401_496_703_205_376.0;

/// Where a step lies at most, so that its ramp's shift is a float32.
const LARGEST_STEP: f64 = 134_217_728.0;

/// What makes two emissions the same.
#[derive(PartialEq, Eq, Hash)]
struct Emission {
    op: String,
    inputs: Vec<String>,
    attributes: String,
    n_outputs: usize,
}

/// A graph under construction.
pub(crate) struct Builder {
    graph: Graph,
    prefix: &'static str,
    taken: BTreeSet<String>,
    next: usize,
    shared: HashMap<Emission, Vec<String>>,
    constants: HashMap<String, String>,
}

impl Builder {
    /// Continues `graph`; what is emitted is named `prefix/…`.
    pub(crate) fn new(graph: Graph, prefix: &'static str) -> Self {
        let mut taken: BTreeSet<String> = graph.types.keys().chain(graph.initializers.keys()).cloned().collect();
        taken.extend(graph.inputs.iter().cloned());
        taken.extend(graph.nodes.iter().flat_map(|node| node.outputs.iter().cloned()));
        Builder { graph, prefix, taken, next: 0, shared: HashMap::new(), constants: HashMap::new() }
    }

    pub(crate) fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The device that the graph will run on.
    pub(crate) fn target(&self) -> Target {
        self.graph.target
    }

    pub(crate) fn into_graph(self) -> Graph {
        self.graph
    }

    fn fresh_name(&mut self, kind: &str) -> String {
        loop {
            let name = format!("{}/{kind}_{}", self.prefix, self.next);
            self.next += 1;
            if self.taken.insert(name.clone()) {
                return name;
            }
        }
    }

    /// Reserves a name that the caller chose.
    ///
    /// # Errors
    /// Where the model uses it already.
    fn claim(&mut self, name: &str) -> Result<()> {
        if self.taken.insert(name.to_owned()) {
            Ok(())
        } else {
            Err(GradientError::Request(format!("the model has a tensor `{name}` already; rename it")))
        }
    }

    /// Adds a graph input of the type that `like` has.
    pub(crate) fn add_input_like(&mut self, name: &str, like: &str) -> Result<String> {
        self.claim(name)?;
        if let Some(value_type) = self.graph.types.get(like).cloned() {
            self.graph.types.insert(name.to_owned(), value_type);
        }
        self.graph.inputs.push(name.to_owned());
        Ok(name.to_owned())
    }

    /// Adds a graph input.
    pub(crate) fn add_input(&mut self, name: &str, value_type: ValueType) -> Result<()> {
        self.claim(name)?;
        self.graph.types.insert(name.to_owned(), value_type);
        self.graph.inputs.push(name.to_owned());
        Ok(())
    }

    /// Gives a value a second name and makes it a graph output.
    pub(crate) fn add_output(&mut self, name: &str, value: &str) -> Result<()> {
        // The tangent of an output that is an input is that input's own.
        if name == value {
            self.graph.outputs.push(name.to_owned());
            return Ok(());
        }
        self.claim(name)?;
        self.alias(name, value)?;
        self.graph.outputs.push(name.to_owned());
        Ok(())
    }

    /// Makes a value known by a name that no node gives: a new one, or one whose node was taken out.
    pub(crate) fn alias(&mut self, name: &str, value: &str) -> Result<()> {
        self.keep(Node::new("Identity", &[value], &[name]))
    }

    /// Takes the nodes out, for something to be put in front of them.
    pub(crate) fn take_nodes(&mut self) -> Vec<Node> {
        std::mem::take(&mut self.graph.nodes)
    }

    /// Puts a node back that was taken out.
    pub(crate) fn put_back(&mut self, node: Node) {
        self.graph.nodes.push(node);
    }

    /// Lets a value have what is known of the type of another name of it.
    pub(crate) fn refine(&mut self, value: &str, other: &str) {
        let Some(known) = self.graph.types.get(other) else { return };
        let refined = match self.graph.types.get(value) {
            Some(inferred) => shape::merge(inferred, known),
            None => known.clone(),
        };
        self.graph.types.insert(value.to_owned(), refined);
    }

    /// Gives a value another type.
    pub(crate) fn set_type(&mut self, value: &str, value_type: ValueType) {
        self.graph.types.insert(value.to_owned(), value_type);
    }

    /// Notes that an emitted value has the shape of another although that does not follow by inference.
    pub(crate) fn shaped_like(&mut self, value: &str, like: &str) {
        let Some(shape) = self.graph.shape(like).map(<[Dim]>::to_vec) else { return };
        if !self.same_shape(value, like)
            && !self.graph.inputs.iter().any(|input| input == value)
            && let Some(value_type) = self.graph.types.get_mut(value)
        {
            value_type.shape = Some(shape);
        }
    }

    /// Appends a node that was taken out, or another form of it: its outputs keep their names and types.
    pub(crate) fn keep(&mut self, node: Node) -> Result<()> {
        let known = |name: &String| name.is_empty() || self.graph.types.contains_key(name);
        if node.outputs.iter().all(known) {
            self.graph.nodes.push(node);
            return Ok(());
        }
        self.push(node)
    }

    /// Adds a node of the caller's making.
    pub(crate) fn push(&mut self, node: Node) -> Result<()> {
        shape::infer_node(&mut self.graph, &node, None)?;
        self.graph.nodes.push(node);
        Ok(())
    }

    /// Writes another graph's nodes, fed with values of this one, and tells what its values are called here.
    ///
    /// # Errors
    /// Where an input that it needs is not fed, or what it is fed with contradicts its operators.
    pub(crate) fn spliced(
        &mut self,
        other: &Graph,
        feeds: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>> {
        let mut names = feeds.clone();
        for (name, tensor) in &other.initializers {
            let equal = self.graph.initializers.iter().find(|(_, own)| *own == tensor).map(|(own, _)| own.clone());
            names.insert(name.clone(), equal.unwrap_or_else(|| self.constant(tensor.clone())));
        }
        for (domain, &version) in &other.domains {
            let own = self.graph.domains.entry(domain.clone()).or_insert(version);
            *own = version.max(*own);
        }
        self.graph.declared_opset = self.graph.declared_opset.max(other.declared_opset);
        for node in &other.nodes {
            // Nodes of one graph have names of their own, or none.
            let mut node = Node { name: String::new(), ..node.clone() };
            if let Some(input) = node.inputs.iter().find(|name| !name.is_empty() && !names.contains_key(*name)) {
                return Err(GradientError::Request(format!("`{input}` is not fed")));
            }
            node.rename_inputs(&names);
            let mut declared = BTreeMap::new();
            for output in node.outputs.iter_mut().filter(|name| !name.is_empty()) {
                let name = self.fresh_name(&node.op);
                declared.extend(other.types.get(output).map(|value_type| (name.clone(), foreign(value_type))));
                names.insert(std::mem::replace(output, name.clone()), name);
            }
            shape::infer_node(&mut self.graph, &node, Some(&declared))?;
            self.graph.nodes.push(node);
        }
        Ok(names)
    }

    /// Emits a node with one output and returns the output's name.
    pub(crate) fn emit(&mut self, op: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) -> Result<String> {
        let mut outputs = self.emit_all(op, inputs, attributes, 1)?;
        outputs.pop().ok_or_else(|| GradientError::Request(format!("{op} has no output")))
    }

    /// Emits a node with several outputs.
    pub(crate) fn emit_all(
        &mut self,
        op: &str,
        inputs: &[&str],
        attributes: &[(&str, Attribute)],
        n_outputs: usize,
    ) -> Result<Vec<String>> {
        let attributes: BTreeMap<String, Attribute> =
            attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let mut inputs: Vec<String> = inputs.iter().map(|&name| name.to_owned()).collect();
        if op == "Pad" {
            self.complete_pads(&mut inputs)?;
        }
        let key =
            Emission { op: op.to_owned(), inputs: inputs.clone(), attributes: format!("{attributes:?}"), n_outputs };
        if let Some(outputs) = self.shared.get(&key) {
            return Ok(outputs.clone());
        }
        let outputs: Vec<String> = (0..n_outputs).map(|_| self.fresh_name(op)).collect();
        self.push(Node { op: op.to_owned(), name: String::new(), inputs, outputs: outputs.clone(), attributes })?;
        self.shared.insert(key, outputs.clone());
        Ok(outputs)
    }

    /// The name of a node's optional output, which the node is made to give if it does not yet.
    pub(crate) fn optional_output(&mut self, node: &Node, index: usize) -> Result<String> {
        let position = self.graph.nodes.iter().position(|other| other.outputs.first() == node.outputs.first());
        let existing = position.and_then(|at| self.graph.nodes.get(at)).and_then(|node| node.output(index));
        if let Some(name) = existing {
            return Ok(name.to_owned());
        }
        let name = self.fresh_name(&node.op);
        let Some(target) = position.and_then(|at| self.graph.nodes.get_mut(at)) else {
            return Err(GradientError::Request(format!("there is no node `{}`", node.label())));
        };
        target.outputs.resize(target.outputs.len().max(index + 1), String::new());
        if let Some(output) = target.outputs.get_mut(index) {
            output.clone_from(&name);
        }
        let target = target.clone();
        shape::infer_node(&mut self.graph, &target, None)?;
        Ok(name)
    }

    /// A constant; equal constants share one initialiser.
    pub(crate) fn constant(&mut self, tensor: Tensor) -> String {
        let key = (tensor.len() <= 64).then(|| format!("{tensor:?}"));
        if let Some(name) = key.as_ref().and_then(|key| self.constants.get(key)) {
            return name.clone();
        }
        let name = self.fresh_name("constant");
        self.graph.set_initializer(&name, tensor);
        if let Some(key) = key {
            self.constants.insert(key, name.clone());
        }
        name
    }

    /// A constant that is made once for each `key`, however large.
    pub(crate) fn shared_constant(&mut self, key: &str, make: impl FnOnce() -> Result<Tensor>) -> Result<String> {
        if let Some(name) = self.constants.get(key) {
            return Ok(name.clone());
        }
        let name = self.fresh_name("constant");
        self.graph.set_initializer(&name, make()?);
        self.constants.insert(key.to_owned(), name.clone());
        Ok(name)
    }

    /// A constant that follows from an initialiser, made once for each initialiser and `purpose`.
    pub(crate) fn derived_constant(
        &mut self,
        source: &str,
        purpose: &str,
        make: impl FnOnce(&Tensor) -> Option<Tensor>,
    ) -> Option<String> {
        let key = format!("{purpose} of {source}");
        if let Some(name) = self.constants.get(&key) {
            return Some(name.clone());
        }
        let tensor = make(self.graph.initializers.get(source)?)?;
        let name = self.fresh_name("constant");
        self.graph.set_initializer(&name, tensor);
        self.constants.insert(key, name.clone());
        Some(name)
    }

    /// A scalar constant of the element type that `like` has.
    pub(crate) fn scalar(&mut self, value: f64, like: &str) -> Result<String> {
        let element = self.element(like)?;
        Ok(self.constant(Tensor::from_floats(element, vec![], &[value])?))
    }

    /// A one-dimensional int64 constant.
    pub(crate) fn integers(&mut self, values: &[i64]) -> Result<String> {
        Ok(self.constant(Tensor::from_integers(vec![values.len() as u64], values)?))
    }

    /// The element type of a value.
    ///
    /// # Errors
    /// Where neither the file nor inference tells it.
    pub(crate) fn element(&self, name: &str) -> Result<ElementType> {
        self.graph
            .element(name)
            .ok_or_else(|| GradientError::UnknownType { what: "element type", value: name.to_owned() })
    }

    /// The shape of a value.
    ///
    /// # Errors
    /// Where neither the file nor inference tells the rank.
    pub(crate) fn shape(&self, name: &str) -> Result<Vec<Dim>> {
        self.graph
            .shape(name)
            .map(<[Dim]>::to_vec)
            .ok_or_else(|| GradientError::UnknownType { what: "rank", value: name.to_owned() })
    }

    pub(crate) fn rank(&self, name: &str) -> Result<usize> {
        self.shape(name).map(|shape| shape.len())
    }

    /// Whether two values surely have one shape.
    pub(crate) fn same_shape(&self, a: &str, b: &str) -> bool {
        self.graph.shape(a).is_some_and(|shape| self.graph.shape(b) == Some(shape))
    }

    pub(crate) fn add(&mut self, a: &str, b: &str) -> Result<String> {
        self.emit("Add", &[a, b], &[])
    }

    pub(crate) fn sub(&mut self, a: &str, b: &str) -> Result<String> {
        self.emit("Sub", &[a, b], &[])
    }

    pub(crate) fn mul(&mut self, a: &str, b: &str) -> Result<String> {
        self.emit("Mul", &[a, b], &[])
    }

    pub(crate) fn div(&mut self, a: &str, b: &str) -> Result<String> {
        self.emit("Div", &[a, b], &[])
    }

    pub(crate) fn unary(&mut self, op: &str, value: &str) -> Result<String> {
        self.emit(op, &[value], &[])
    }

    /// `value · factor` with a constant factor.
    pub(crate) fn scaled(&mut self, value: &str, factor: f64) -> Result<String> {
        let factor = self.scalar(factor, value)?;
        self.mul(value, &factor)
    }

    /// `value + term` with a constant term.
    pub(crate) fn shifted(&mut self, value: &str, term: f64) -> Result<String> {
        let term = self.scalar(term, value)?;
        self.add(value, &term)
    }

    pub(crate) fn cast(&mut self, value: &str, element: ElementType) -> Result<String> {
        self.emit("Cast", &[value], &[("to", Attribute::Int(element.code().into()))])
    }

    /// 1 where `condition` holds and 0 elsewhere, of the element type that `like` has.
    pub(crate) fn mask(&mut self, condition: &str, like: &str) -> Result<String> {
        let element = self.element(like)?;
        self.cast(condition, element)
    }

    /// 1 where `value > bound` and 0 elsewhere.
    ///
    /// For float32 this is one steep [`Self::ramp`]: cheaper than a comparison and a cast, and, unlike these, run by ONNX
    /// Runtime on its blocked layout between two convolutions. Values within 2⁻¹⁰⁰ above the bound get a fraction.
    pub(crate) fn above(&mut self, value: &str, bound: f64) -> Result<String> {
        self.step(value, bound, STEEP, "Greater")
    }

    /// 1 where `value < bound` and 0 elsewhere; as [`Self::above`].
    pub(crate) fn below(&mut self, value: &str, bound: f64) -> Result<String> {
        self.step(value, bound, -STEEP, "Less")
    }

    fn step(&mut self, value: &str, bound: f64, steepness: f64, comparison: &str) -> Result<String> {
        // A power of two scales without rounding, so the sign of `(value − bound)·steepness` is exact if it is finite.
        if self.element(value)? == ElementType::Float32 && bound.abs() < LARGEST_STEP {
            return self.ramp(value, steepness, -bound * steepness);
        }
        let bound = self.scalar(bound, value)?;
        let condition = self.emit(comparison, &[value, &bound], &[])?;
        self.mask(&condition, value)
    }

    /// `slope · value + shift`, cut off below 0 and above 1. ONNX Runtime's CPU has it for float32 only; other types take
    /// the longer way.
    pub(crate) fn ramp(&mut self, value: &str, slope: f64, shift: f64) -> Result<String> {
        if self.element(value)? == ElementType::Float32 {
            let attributes = [("alpha", Attribute::Float(slope as f32)), ("beta", Attribute::Float(shift as f32))];
            return self.emit("HardSigmoid", &[value], &attributes);
        }
        let scaled = self.scaled(value, slope)?;
        let shifted = self.shifted(&scaled, shift)?;
        let (zero, one) = (self.scalar(0.0, value)?, self.scalar(1.0, value)?);
        self.emit("Clip", &[&shifted, &zero, &one], &[])
    }

    /// The axes in another order.
    pub(crate) fn permuted(&mut self, value: &str, permutation: &[usize]) -> Result<String> {
        let permutation = permutation.iter().map(|&axis| axis as i64).collect();
        self.emit("Transpose", &[value], &[("perm", Attribute::Ints(permutation))])
    }

    /// The last two axes exchanged.
    pub(crate) fn matrix_transposed(&mut self, value: &str) -> Result<String> {
        let rank = self.rank(value)?;
        let mut permutation: Vec<usize> = (0..rank).collect();
        if rank >= 2 {
            permutation.swap(rank - 1, rank - 2);
        }
        self.permuted(value, &permutation)
    }

    pub(crate) fn reduce_sum(&mut self, value: &str, axes: &[i64], keep_dims: bool) -> Result<String> {
        if axes.is_empty() {
            return Ok(value.to_owned());
        }
        let axes = self.integers(axes)?;
        self.emit("ReduceSum", &[value, &axes], &[("keepdims", Attribute::Int(keep_dims.into()))])
    }

    pub(crate) fn unsqueezed(&mut self, value: &str, axes: &[i64]) -> Result<String> {
        let axes = self.integers(axes)?;
        self.emit("Unsqueeze", &[value, &axes], &[])
    }
}

/// A type of another graph, whose symbols say nothing of the sizes here that go by the same names.
fn foreign(value_type: &ValueType) -> ValueType {
    let renamed = |dim: &Dim| match dim {
        Dim::Known(size) => Dim::Known(*size),
        Dim::Symbol(name) => Dim::symbol(format!("{name} there")),
    };
    let shape = value_type.shape.as_ref().map(|shape| shape.iter().map(renamed).collect());
    ValueType { element: value_type.element, shape }
}
