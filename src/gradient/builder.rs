//! Emits nodes into a graph under fresh names, with their types inferred, and shares what is computed twice.
//!
//! Invariant: two emissions of the same operator on the same inputs with the same attributes give the same value, so
//! rules may ask for a mask or a constant again instead of passing it around.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    error::{GradientError, Result},
    graph::{Attribute, Dim, ElementType, Graph, Integer, Node, ValueType},
    shape,
    tensor::Tensor,
};

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

    /// Gives a value a second name and makes it a graph output.
    pub(crate) fn add_output(&mut self, name: &str, value: &str) -> Result<()> {
        // The tangent of an output that is an input is that input's own.
        if name == value {
            self.graph.outputs.push(name.to_owned());
            return Ok(());
        }
        self.claim(name)?;
        let node = Node {
            op: "Identity".to_owned(),
            name: String::new(),
            inputs: vec![value.to_owned()],
            outputs: vec![name.to_owned()],
            attributes: BTreeMap::new(),
        };
        self.push(node)?;
        self.graph.outputs.push(name.to_owned());
        Ok(())
    }

    /// Takes the nodes out, for something to be put in front of them.
    pub(crate) fn take_nodes(&mut self) -> Vec<Node> {
        std::mem::take(&mut self.graph.nodes)
    }

    /// Gives a graph input another type.
    pub(crate) fn set_type(&mut self, input: &str, value_type: ValueType) {
        self.graph.types.insert(input.to_owned(), value_type);
    }

    fn push(&mut self, node: Node) -> Result<()> {
        shape::infer_node(&mut self.graph, &node, None)?;
        self.graph.nodes.push(node);
        Ok(())
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
        let inputs: Vec<String> = inputs.iter().map(|&name| name.to_owned()).collect();
        let key =
            Emission { op: op.to_owned(), inputs: inputs.clone(), attributes: format!("{attributes:?}"), n_outputs };
        if let Some(outputs) = self.shared.get(&key) {
            return Ok(outputs.clone());
        }
        let outputs: Vec<String> = (0..n_outputs).map(|_| self.fresh_name(op)).collect();
        let node = Node { op: op.to_owned(), name: String::new(), inputs, outputs: outputs.clone(), attributes };
        self.push(node)?;
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
    pub(crate) fn above(&mut self, value: &str, bound: f64) -> Result<String> {
        let bound = self.scalar(bound, value)?;
        let condition = self.emit("Greater", &[value, &bound], &[])?;
        self.mask(&condition, value)
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

    /// The shape of a value as an int64 tensor: a constant where all sizes are known.
    pub(crate) fn shape_value(&mut self, value: &str) -> Result<String> {
        let known = self.graph.types.get(value).and_then(ValueType::known_shape);
        let known: Option<Vec<i64>> = known.map(|dims| dims.iter().map(|&dim| dim as i64).collect());
        match known {
            Some(dims) => self.integers(&dims),
            None => self.unary("Shape", value),
        }
    }

    /// One size of a value, as an int64 tensor of one element.
    pub(crate) fn size_value(&mut self, value: &str, axis: usize) -> Result<String> {
        if let Some(size) = self.shape(value)?.get(axis).and_then(Dim::known) {
            return self.integers(&[size as i64]);
        }
        let (start, end) = (Attribute::Int(axis as i64), Attribute::Int(axis as i64 + 1));
        self.emit("Shape", &[value], &[("start", start), ("end", end)])
    }

    /// Reshapes a value to the shape of another with as many elements.
    pub(crate) fn reshaped_like(&mut self, value: &str, like: &str) -> Result<String> {
        if self.same_shape(value, like) {
            return Ok(value.to_owned());
        }
        let target = match self.graph.shape(like).map(one_free_dimension) {
            Some(Some(dims)) => self.integers(&dims)?,
            _ => self.unary("Shape", like)?,
        };
        self.emit("Reshape", &[value, &target], &[("allowzero", Attribute::Int(1))]).inspect(|name| {
            if let Some(shape) = self.graph.shape(like).map(<[Dim]>::to_vec)
                && let Some(value_type) = self.graph.types.get_mut(name)
            {
                value_type.shape = Some(shape);
            }
        })
    }

    /// Reshapes a value to fixed sizes, one of which may be -1.
    pub(crate) fn reshaped(&mut self, value: &str, dims: &[i64]) -> Result<String> {
        let target = self.integers(dims)?;
        self.emit("Reshape", &[value, &target], &[])
    }

    /// Broadcasts a value to the shape of another.
    pub(crate) fn expanded_like(&mut self, value: &str, like: &str) -> Result<String> {
        if self.same_shape(value, like) {
            return Ok(value.to_owned());
        }
        let target = match self.expansion(value, like) {
            Some(target) => self.integers(&target)?,
            None => self.shape_value(like)?,
        };
        self.emit("Expand", &[value, &target], &[])
    }

    /// An `Expand` target where no size must be asked at run time: 1 leaves an axis that has its size already.
    fn expansion(&self, value: &str, like: &str) -> Option<Vec<i64>> {
        let (from, to) = (self.graph.shape(value)?, self.graph.shape(like)?);
        let added = to.len().checked_sub(from.len())?;
        let from = std::iter::repeat_n(None, added).chain(from.iter().map(Some));
        let sizes = from.zip(to).map(|(from, to)| match to {
            to if from == Some(to) => Some(1),
            Dim::Known(size) => i64::try_from(*size).ok(),
            Dim::Symbol(_) => None,
        });
        sizes.collect()
    }

    /// Zeros of the type and shape of a value.
    pub(crate) fn zeros_like(&mut self, value: &str) -> Result<String> {
        let shape = self.shape_value(value)?;
        let zero = Tensor::from_floats(self.element(value)?, vec![1], &[0.0])?;
        self.emit("ConstantOfShape", &[&shape], &[("value", Attribute::Tensor(zero))])
    }

    /// The adjoint of broadcasting `like` to the shape of `value`: sums over the axes that were repeated.
    pub(crate) fn summed_to(&mut self, value: &str, like: &str) -> Result<String> {
        if self.same_shape(value, like) {
            return Ok(value.to_owned());
        }
        let (from, to) = (self.shape(value)?, self.shape(like)?);
        let leading = from.len().saturating_sub(to.len());
        let mut axes: Vec<i64> = (0..leading as i64).collect();
        let mut keeps = true;
        for (axis, (from, to)) in from.iter().skip(leading).zip(&to).enumerate() {
            match (from, to) {
                (from, to) if from == to => {}
                (_, Dim::Known(1)) => {
                    axes.push((leading + axis) as i64);
                    keeps = false;
                }
                _ => return self.summed_at_run_time(value, like, leading),
            }
        }
        let summed = self.reduce_sum(value, &axes, !keeps)?;
        self.reshaped_like(&summed, like)
    }

    /// [`Self::summed_to`] where only the run shows which sizes of `like` are 1.
    fn summed_at_run_time(&mut self, value: &str, like: &str, leading: usize) -> Result<String> {
        let shape = self.unary("Shape", like)?;
        let ones = self.integers(&vec![1; leading])?;
        let padded = self.emit("Concat", &[&ones, &shape], &[("axis", Attribute::Int(0))])?;
        let one = self.integers(&[1])?;
        let single = self.emit("Equal", &[&padded, &one], &[])?;
        let axes = self.unary("NonZero", &single)?;
        let axes = self.reshaped(&axes, &[-1])?;
        let options = [("keepdims", Attribute::Int(1)), ("noop_with_empty_axes", Attribute::Int(1))];
        let summed = self.emit("ReduceSum", &[value, &axes], &options)?;
        // The sum has unknown sizes; its reshaped form has those of `like`.
        self.emit("Reshape", &[&summed, &shape], &[("allowzero", Attribute::Int(1))])
    }
}

/// A `Reshape` target for a shape with at most one symbol; `None` where the run must tell.
fn one_free_dimension(shape: &[Dim]) -> Option<Vec<i64>> {
    let free = shape.iter().filter(|dim| dim.known().is_none()).count();
    if free > 1 || (free == 1 && shape.contains(&Dim::Known(0))) {
        return None;
    }
    let sizes = shape.iter().map(|dim| match Integer::from(dim) {
        Integer::Known(size) => Some(size),
        Integer::Symbol(_) => Some(-1),
        Integer::Unknown => None,
    });
    sizes.collect()
}
