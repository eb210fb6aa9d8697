//! Operators that ONNX Runtime's own optimiser writes into files it saves, taken apart into standard ones.
//!
//! Those that are not here stay as they are; on a path to be differentiated they are an obstacle, elsewhere they run.

use super::{
    convert::{Conversion, invalid},
    error::Result,
    graph::{Attribute, Graph, Node},
    tensor::Tensor,
};

/// The standard nodes that stand for one fused node.
struct Parts<'a> {
    conversion: &'a mut Conversion,
    graph: &'a mut Graph,
    node: Node,
    nodes: Vec<Node>,
}

impl<'a> Parts<'a> {
    fn of(conversion: &'a mut Conversion, graph: &'a mut Graph, node: Node) -> Self {
        Parts { conversion, graph, node, nodes: Vec::new() }
    }

    fn push(&mut self, op: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) -> String {
        let output = self.conversion.fresh_name(self.graph);
        self.nodes.push(Node {
            attributes: attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            ..Node::new(op, inputs, &[&output])
        });
        output
    }

    /// A scalar of the element type of the node's first input.
    fn scalar(&mut self, value: f64) -> Result<String> {
        let element = self.node.input(0).and_then(|input| self.graph.element(input));
        let element = element.filter(|element| element.is_float());
        let element = element.ok_or_else(|| invalid(&self.node, "the type of its input is not declared"))?;
        Ok(self.conversion.add_constant(self.graph, Tensor::from_floats(element, vec![], &[value])?))
    }

    fn axes(&mut self, axes: &[i64]) -> Result<String> {
        Ok(self.conversion.add_constant(self.graph, Tensor::from_integers(vec![axes.len() as u64], axes)?))
    }

    fn input(&self, index: usize) -> Result<String> {
        let input = self.node.input(index).map(str::to_owned);
        input.ok_or_else(|| invalid(&self.node, &format!("input {index} is missing")))
    }

    /// Gives values the names of the node's outputs.
    fn finish(mut self, values: &[(usize, &str)]) -> Result<Vec<Node>> {
        for (index, output) in self.node.outputs.clone().iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            let Some((_, value)) = values.iter().find(|(at, _)| *at == index) else {
                return Err(invalid(&self.node, &format!("its output {index} is not supported{MEND}")));
            };
            // The node that makes the value can make it under the output's name.
            let maker = self.nodes.iter_mut().flat_map(|node| &mut node.outputs).find(|made| made == value);
            let used = values.iter().filter(|(_, other)| other == value).count() > 1;
            match maker.filter(|_| !used) {
                Some(made) => {
                    let inner = std::mem::replace(made, output.clone());
                    let uses = self.nodes.iter_mut().flat_map(|node| &mut node.inputs);
                    uses.filter(|name| **name == inner).for_each(|name| name.clone_from(output));
                }
                None => self.nodes.push(Node::new("Identity", &[value], &[output])),
            }
        }
        if let Some(last) = self.nodes.last_mut() {
            last.name.clone_from(&self.node.name);
        }
        Ok(self.nodes)
    }

    /// The activation that a fused node ends with.
    fn activated(&mut self, value: String, parameters: &[f64]) -> Result<String> {
        let Some(activation) = self.node.text("activation").map(str::to_owned).filter(|name| !name.is_empty()) else {
            return Ok(value);
        };
        let float =
            |index: usize, default: f64| Attribute::Float(parameters.get(index).copied().unwrap_or(default) as f32);
        Ok(match activation.as_str() {
            "Relu" | "Tanh" | "Sigmoid" | "Softplus" | "Softsign" | "HardSwish" => {
                self.push(&activation, &[&value], &[])
            }
            "LeakyRelu" => self.push("LeakyRelu", &[&value], &[("alpha", float(0, 0.01))]),
            "Elu" => self.push("Elu", &[&value], &[("alpha", float(0, 1.0))]),
            "HardSigmoid" => self.push("HardSigmoid", &[&value], &[("alpha", float(0, 0.2)), ("beta", float(1, 0.5))]),
            "Clip" => {
                let low = self.scalar(parameters.first().copied().unwrap_or(f64::from(f32::MIN)))?;
                let high = self.scalar(parameters.get(1).copied().unwrap_or(f64::from(f32::MAX)))?;
                self.push("Clip", &[&value, &low, &high], &[])
            }
            other => return Err(invalid(&self.node, &format!("the activation {other} is not supported{MEND}"))),
        })
    }
}

/// What mends a fused operator that is not taken apart.
pub(super) const MEND: &str = "; save the model without ONNX Runtime's optimisations";

fn floats(node: &Node, name: &str) -> Vec<f64> {
    match node.attributes.get(name) {
        Some(Attribute::Floats(values)) => values.iter().map(|&value| value.into()).collect(),
        _ => Vec::new(),
    }
}

/// `Conv`, plus another tensor, then an activation.
pub(super) fn convolution(conversion: &mut Conversion, graph: &mut Graph, node: Node) -> Result<Vec<Node>> {
    let mut parts = Parts::of(conversion, graph, node);
    let own = ["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"];
    let attributes: Vec<(&str, Attribute)> =
        own.iter().filter_map(|&name| Some((name, parts.node.attributes.get(name)?.clone()))).collect();
    let inputs: Vec<String> = parts.node.inputs.iter().take(3).cloned().collect();
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let mut value = parts.push("Conv", &inputs, &attributes);
    if let Some(other) = parts.node.input(3).map(str::to_owned) {
        value = parts.push("Add", &[&value, &other], &[]);
    }
    let parameters = floats(&parts.node, "activation_params");
    let value = parts.activated(value, &parameters)?;
    parts.finish(&[(0, &value)])
}

/// `Gemm`, then an activation.
pub(super) fn gemm(conversion: &mut Conversion, graph: &mut Graph, node: Node) -> Result<Vec<Node>> {
    let mut parts = Parts::of(conversion, graph, node);
    let own = ["alpha", "beta", "transA", "transB"];
    let attributes: Vec<(&str, Attribute)> =
        own.iter().filter_map(|&name| Some((name, parts.node.attributes.get(name)?.clone()))).collect();
    let inputs = parts.node.inputs.clone();
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let value = parts.push("Gemm", &inputs, &attributes);
    let names = ["activation_alpha", "activation_beta"];
    let parameters: Vec<f64> = names.iter().map_while(|name| parts.node.float(name)).map(f64::from).collect();
    let value = parts.activated(value, &parameters)?;
    parts.finish(&[(0, &value)])
}

/// `alpha · op(A) · op(B)`, where op may exchange the last two axes.
pub(super) fn matmul(conversion: &mut Conversion, graph: &mut Graph, node: Node) -> Result<Vec<Node>> {
    let mut parts = Parts::of(conversion, graph, node);
    let mut operands = Vec::new();
    for (index, (matrix, batch)) in [("transA", "transBatchA"), ("transB", "transBatchB")].into_iter().enumerate() {
        let input = parts.input(index)?;
        let is_set = |name: &str| parts.node.int(name).unwrap_or(0) != 0;
        if is_set(batch) {
            return Err(invalid(&parts.node, &format!("{batch} is not supported{MEND}")));
        }
        if !is_set(matrix) {
            operands.push(input);
            continue;
        }
        let rank = parts.graph.shape(&input).map(<[_]>::len);
        let rank = rank.ok_or_else(|| invalid(&parts.node, &format!("the rank of `{input}` is not known{MEND}")))?;
        let mut order: Vec<i64> = (0..rank as i64).collect();
        // A vector stays as it is.
        if let [.., second, last] = order.as_mut_slice() {
            std::mem::swap(second, last);
        }
        operands.push(parts.push("Transpose", &[&input], &[("perm", Attribute::Ints(order))]));
    }
    let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
    let mut value = parts.push("MatMul", &operands, &[]);
    let alpha = parts.node.float("alpha").unwrap_or(1.0);
    if alpha != 1.0 {
        let alpha = parts.scalar(alpha.into())?;
        value = parts.push("Mul", &[&value, &alpha], &[]);
    }
    parts.finish(&[(0, &value)])
}

/// `Gelu`, exact or by tanh, of the input or of its sum with a bias.
pub(super) fn gelu(conversion: &mut Conversion, graph: &mut Graph, node: Node) -> Result<Vec<Node>> {
    let mut parts = Parts::of(conversion, graph, node);
    let mut value = parts.input(0)?;
    if let Some(bias) = parts.node.input(1).map(str::to_owned) {
        value = parts.push("Add", &[&value, &bias], &[]);
    }
    let approximate = if parts.node.op.ends_with("FastGelu") { "tanh" } else { "none" };
    let value = parts.push("Gelu", &[&value], &[("approximate", Attribute::Text(approximate.to_owned()))]);
    parts.finish(&[(0, &value)])
}

/// `x · sigmoid(alpha · x)`.
pub(super) fn quick_gelu(conversion: &mut Conversion, graph: &mut Graph, node: Node) -> Result<Vec<Node>> {
    let mut parts = Parts::of(conversion, graph, node);
    let input = parts.input(0)?;
    let alpha = parts.node.float("alpha").unwrap_or(1.702);
    let alpha = parts.scalar(alpha.into())?;
    let scaled = parts.push("Mul", &[&input, &alpha], &[]);
    let gate = parts.push("Sigmoid", &[&scaled], &[]);
    let value = parts.push("Mul", &[&input, &gate], &[]);
    parts.finish(&[(0, &value)])
}

/// `LayerNormalization`, or the one without mean, of the sum of an input, a skip connection and a bias.
pub(super) fn skip_layer_normalization(
    conversion: &mut Conversion,
    graph: &mut Graph,
    node: Node,
) -> Result<Vec<Node>> {
    let mut parts = Parts::of(conversion, graph, node);
    let simplified = parts.node.op.ends_with("SkipSimplifiedLayerNormalization");
    let (input, skip, scale) = (parts.input(0)?, parts.input(1)?, parts.input(2)?);
    let (shift, bias) = if simplified { (None, 3) } else { (parts.node.input(3).map(str::to_owned), 4) };
    let mut sum = parts.push("Add", &[&input, &skip], &[]);
    if let Some(bias) = parts.node.input(bias).map(str::to_owned) {
        sum = parts.push("Add", &[&sum, &bias], &[]);
    }
    let epsilon = parts.node.float("epsilon").unwrap_or(1e-12);
    let value = if simplified {
        root_mean_square(&mut parts, &sum, &scale, &[-1], epsilon.into())?
    } else {
        let mut inputs = vec![sum.as_str(), scale.as_str()];
        inputs.extend(shift.as_deref());
        let attributes = [("axis", Attribute::Int(-1)), ("epsilon", Attribute::Float(epsilon))];
        parts.push("LayerNormalization", &inputs, &attributes)
    };
    parts.finish(&[(0, &value), (3, &sum)])
}

/// The layer normalisation without mean that ONNX Runtime has in the standard domain.
pub(super) fn simplified_layer_normalization(
    conversion: &mut Conversion,
    graph: &mut Graph,
    node: Node,
) -> Result<Vec<Node>> {
    let mut parts = Parts::of(conversion, graph, node);
    let (input, scale) = (parts.input(0)?, parts.input(1)?);
    let first = parts.node.int("axis").unwrap_or(-1);
    let rank = parts.graph.shape(&input).map(|shape| shape.len() as i64);
    let axes: Vec<i64> = match (first, rank) {
        (-1, _) => vec![-1],
        (first, Some(rank)) if first < rank => (if first < 0 { first + rank } else { first }..rank).collect(),
        _ => return Err(invalid(&parts.node, &format!("the rank of `{input}` is not known{MEND}"))),
    };
    let epsilon = parts.node.float("epsilon").unwrap_or(1e-5);
    let value = root_mean_square(&mut parts, &input, &scale, &axes, epsilon.into())?;
    parts.finish(&[(0, &value)])
}

/// `x / √(mean(x²) + ε) · scale`.
fn root_mean_square(parts: &mut Parts, x: &str, scale: &str, axes: &[i64], epsilon: f64) -> Result<String> {
    let axes = parts.axes(axes)?;
    let epsilon = parts.scalar(epsilon)?;
    let square = parts.push("Mul", &[x, x], &[]);
    let mean = parts.push("ReduceMean", &[&square, &axes], &[]);
    let shifted = parts.push("Add", &[&mean, &epsilon], &[]);
    let root = parts.push("Sqrt", &[&shifted], &[]);
    let normalised = parts.push("Div", &[x, &root], &[]);
    Ok(parts.push("Mul", &[&normalised, scale], &[]))
}
