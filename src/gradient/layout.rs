//! Keeps what lies between convolutions in the layout in which ONNX Runtime's CPU convolutions work.
//!
//! That layout holds channels in blocks of 8 or 16. ONNX Runtime goes into it in front of a convolution and leaves it
//! before the first operator that it cannot run there, which costs a pass over the tensor each time. It runs there:
//! convolutions and poolings, a few activations, `Concat`, nearest enlargement, and `Add` and `Mul` of equal shapes. Gradient
//! graphs leave it for three reasons, each of which has another form that stays:
//!
//! - a value comes from outside, such as a transposed convolution: it enters through a 1×1 depthwise convolution of ones;
//! - a value of one pixel is spread over all, as behind a global pooling or in a squeeze-and-excitation gate: it is
//!   enlarged to the nearest pixel;
//! - all pixels are summed: they are averaged, and the average is scaled.
//!
//! Nothing but rounding changes, and other execution providers run the result as well.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    builder::Builder,
    error::Result,
    graph::{Attribute, Dim, ElementType, Graph, Node},
    tensor::Tensor,
};

/// Channels must come in multiples of this, the larger of the block sizes of ONNX Runtime's machines.
const BLOCK: u64 = 16;

/// The graph in forms that stay in the blocked layout where that saves passes.
pub(super) fn arranged(graph: Graph) -> Result<Graph> {
    if !graph.target.has_blocked_layout() || !graph.nodes.iter().any(|node| is_blocked_convolution(&graph, node)) {
        return Ok(graph);
    }
    let wanted = wanted(&graph);
    let mut builder = Builder::new(graph, "layout");
    let nodes = builder.take_nodes();
    let mut arrangement = Arrangement { builder, wanted, blocked: BTreeSet::new() };
    for node in nodes {
        arrangement.place(node)?;
    }
    Ok(arrangement.builder.into_graph())
}

/// Whether ONNX Runtime runs a convolution in the blocked layout.
fn is_blocked_convolution(graph: &Graph, node: &Node) -> bool {
    let weight = node.input(1).and_then(|weight| graph.initializers.get(weight));
    let Some(weight) = weight.filter(|weight| weight.element() == ElementType::Float32 && node.op == "Conv") else {
        return false;
    };
    let &[rows, columns, _, _] = weight.dims() else { return false };
    match node.int("group").unwrap_or(1) as u64 {
        1 => columns.is_multiple_of(BLOCK) || columns < BLOCK,
        groups if columns == 1 && rows == groups => rows.is_multiple_of(BLOCK),
        groups => columns.is_multiple_of(BLOCK) && groups > 0 && (rows / groups).is_multiple_of(BLOCK),
    }
}

/// Operators that run in any layout, and so pass on what is wanted of them.
fn runs_in_any_layout(node: &Node) -> bool {
    matches!(
        node.op.as_str(),
        "Add" | "Mul" | "Sum" | "Relu" | "Sigmoid" | "Tanh" | "HardSigmoid" | "Concat" | "BatchNormalization"
    )
}

/// The values that a convolution takes in blocks, at once or after elementwise operators.
fn wanted(graph: &Graph) -> BTreeSet<String> {
    let mut wanted: BTreeSet<String> = BTreeSet::new();
    for node in graph.nodes.iter().rev() {
        let wants = is_blocked_convolution(graph, node)
            || (runs_in_any_layout(node) && node.output(0).is_some_and(|output| wanted.contains(output)));
        if wants {
            let n_inputs =
                if matches!(node.op.as_str(), "Conv" | "BatchNormalization") { 1 } else { node.inputs.len() };
            wanted.extend(node.inputs.iter().take(n_inputs).cloned());
        }
    }
    wanted
}

/// A graph that is being written again.
struct Arrangement {
    builder: Builder,
    wanted: BTreeSet<String>,
    /// Values that ONNX Runtime has in blocks.
    blocked: BTreeSet<String>,
}

impl Arrangement {
    fn place(&mut self, node: Node) -> Result<()> {
        let stays = match node.op.as_str() {
            "Conv" => is_blocked_convolution(self.builder.graph(), &node),
            "Relu" | "Sigmoid" | "Tanh" | "HardSigmoid" | "BatchNormalization" | "GlobalAveragePool"
            | "GlobalMaxPool" => self.has_blocks(&node),
            "MaxPool" | "AveragePool" => node.output(1).is_none() && self.image(node.input(0)).is_some(),
            "Concat" => return self.place_concatenation(node),
            "Add" | "Mul" | "Sum" => return self.place_elementwise(node),
            "Expand" => return self.place_expansion(node),
            "ReduceSum" => return self.place_sum(node),
            _ => false,
        };
        self.push(node, stays)
    }

    fn push(&mut self, node: Node, stays: bool) -> Result<()> {
        if stays {
            self.blocked.extend(node.output(0).map(str::to_owned));
        }
        self.builder.keep(node)
    }

    fn has_blocks(&self, node: &Node) -> bool {
        node.input(0).is_some_and(|input| self.blocked.contains(input))
    }

    fn is_wanted(&self, node: &Node) -> bool {
        node.output(0).is_some_and(|output| self.wanted.contains(output))
    }

    /// The shape of a float32 value that is a batch of images with whole blocks of channels.
    fn image(&self, name: Option<&str>) -> Option<Vec<Dim>> {
        let value_type = self.builder.graph().types.get(name?)?;
        let shape = value_type.shape.clone().filter(|shape| shape.len() == 4)?;
        let channels = shape.get(1)?.known()?;
        if shape.contains(&Dim::Known(0)) {
            return None;
        }
        (value_type.element == ElementType::Float32 && channels.is_multiple_of(BLOCK)).then_some(shape)
    }

    /// An `Add` or `Mul` of something in blocks gets its other operands in blocks too, if a convolution wants the result.
    fn place_elementwise(&mut self, mut node: Node) -> Result<()> {
        let Some(shape) = self.image(node.output(0)) else { return self.push(node, false) };
        let is_full = |name: &String| self.builder.graph().shape(name) == Some(shape.as_slice());
        let any_blocked = node.inputs.iter().any(|input| self.blocked.contains(input) && is_full(input));
        let all_fit = node.inputs.iter().all(|input| is_full(input) || self.enlargement(input, &shape).is_some());
        let all_blocked = node.inputs.iter().all(|input| self.blocked.contains(input) && is_full(input));
        if all_blocked || !any_blocked || !all_fit || !self.is_wanted(&node) {
            return self.push(node, all_blocked);
        }
        for input in &mut node.inputs {
            *input = match self.enlargement(input, &shape) {
                Some(scales) => self.enlarged(input, &scales)?,
                None => self.entered(input)?,
            };
        }
        self.push(node, true)
    }

    /// Channels that are put behind each other, some of them in blocks.
    fn place_concatenation(&mut self, mut node: Node) -> Result<()> {
        let images = node.inputs.iter().all(|input| self.image(Some(input)).is_some());
        let blocked = node.inputs.iter().filter(|input| self.blocked.contains(*input)).count();
        let stays = node.int("axis") == Some(1) && images && blocked > 0;
        let stays = stays && (blocked == node.inputs.len() || self.is_wanted(&node));
        if stays {
            for input in &mut node.inputs {
                *input = self.entered(input)?;
            }
        }
        self.push(node, stays)
    }

    /// `Expand` of one pixel to an image.
    fn place_expansion(&mut self, mut node: Node) -> Result<()> {
        let scales = self.image(node.output(0)).and_then(|shape| self.enlargement(node.input(0)?, &shape));
        match (scales, node.input(0)) {
            (Some(scales), Some(input)) if self.is_wanted(&node) => {
                let input = self.entered(input)?;
                let (inputs, attributes) = self.resize(input, &scales)?;
                node = Node { op: "Resize".to_owned(), inputs, attributes, ..node };
                self.push(node, true)
            }
            _ => self.push(node, false),
        }
    }

    /// `ReduceSum` over all pixels.
    fn place_sum(&mut self, node: Node) -> Result<()> {
        let axes = node.input(1).and_then(|axes| self.builder.graph().initializers.get(axes)?.integers());
        let shape = self.image(node.input(0)).filter(|_| self.has_blocks(&node));
        let (Some(axes), Some([_, _, height, width])) = (axes, shape.as_deref()) else { return self.push(node, false) };
        let axes: BTreeSet<i64> = axes.iter().map(|axis| axis.rem_euclid(4)).collect();
        let keeps = node.int("keepdims").unwrap_or(1) != 0;
        let (Some(height), Some(width), true) = (height.known(), width.known(), keeps && axes.iter().eq(&[2, 3]))
        else {
            return self.push(node, false);
        };
        let mean = self.builder.unary("GlobalAveragePool", node.input(0).unwrap_or(""))?;
        let count = self.builder.scalar((height * width) as f64, &mean)?;
        let node = Node { op: "Mul".to_owned(), inputs: vec![mean, count], attributes: BTreeMap::new(), ..node };
        self.push(node, false)
    }

    /// The factors that enlarge a value of one pixel to images of `shape`.
    fn enlargement(&self, name: &str, shape: &[Dim]) -> Option<[f32; 4]> {
        let ([batch, channels, height, width], [own_batch, own_channels, one, another]) =
            (shape, self.builder.graph().shape(name)?)
        else {
            return None;
        };
        let is_pixel =
            one.known() == Some(1) && another.known() == Some(1) && shape != self.builder.graph().shape(name)?;
        let (height, width) = (height.known()?, width.known()?);
        (is_pixel && own_batch == batch && own_channels == channels).then_some([1.0, 1.0, height as f32, width as f32])
    }

    /// A value in blocks.
    fn entered(&mut self, value: &str) -> Result<String> {
        if self.blocked.contains(value) {
            return Ok(value.to_owned());
        }
        let channels = self.builder.shape(value)?.get(1).and_then(Dim::known).unwrap_or(1);
        let ones = vec![1.0; channels as usize];
        let weight = Tensor::from_floats(ElementType::Float32, vec![channels, 1, 1, 1], &ones)?;
        let weight = self.builder.constant(weight);
        let entered = self.builder.emit("Conv", &[value, &weight], &[("group", Attribute::Int(channels as i64))])?;
        self.blocked.insert(entered.clone());
        Ok(entered)
    }

    fn enlarged(&mut self, value: &str, scales: &[f32; 4]) -> Result<String> {
        let value = self.entered(value)?;
        let (inputs, attributes) = self.resize(value, scales)?;
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let attributes: Vec<(&str, Attribute)> =
            attributes.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        let enlarged = self.builder.emit("Resize", &inputs, &attributes)?;
        self.blocked.insert(enlarged.clone());
        Ok(enlarged)
    }

    /// Inputs and attributes of a `Resize` to the nearest pixel.
    fn resize(&mut self, value: String, scales: &[f32; 4]) -> Result<(Vec<String>, BTreeMap<String, Attribute>)> {
        let scales: Vec<f64> = scales.iter().map(|&scale| scale.into()).collect();
        let scales = self.builder.constant(Tensor::from_floats(ElementType::Float32, vec![4], &scales)?);
        let attributes =
            [("mode", "nearest"), ("coordinate_transformation_mode", "asymmetric"), ("nearest_mode", "floor")];
        let attributes = attributes.map(|(name, value)| (name.to_owned(), Attribute::Text(value.to_owned())));
        Ok((vec![value, String::new(), scales], attributes.into()))
    }
}
