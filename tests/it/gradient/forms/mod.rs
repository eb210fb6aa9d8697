//! The cheaper forms that derived graphs get: each where it applies, none where it would be wrong, all with the
//! derivative that finite differences have.

mod blocked;
mod drawn;
mod recognised;
mod scaled;
mod shared;
mod stems;

use std::collections::BTreeMap;

use prost::Message;
use transferscore::{
    gradient::{Graph, Target, jvp, onnx::ModelProto, vjp, vjp_parts},
    verify::{Given, verify},
};

use super::{
    calculus::{Feeds, Random, Values, compile, dot, get, norm, run},
    model::{Model, Value},
    parts::pulled,
};
use crate::support::runtime;

/// A model of images under construction.
pub struct Net {
    model: Model,
    next: usize,
}

/// A batch of square images in it.
#[derive(Clone)]
pub struct Image {
    pub name: String,
    pub channels: usize,
    pub size: usize,
}

impl Net {
    pub fn new(opset: i64) -> Self {
        Net { model: Model::new(opset), next: 0 }
    }

    /// A network on `x` of a shape like `n,3,8,8`, whose images have `size` pixels a side when it runs.
    pub fn on(shape: &str, size: usize) -> (Self, Image) {
        let mut net = Net::new(17);
        let image = net.input("x", shape, size);
        (net, image)
    }

    pub fn input(&mut self, name: &str, shape: &str, size: usize) -> Image {
        self.model = self.model.clone().input(name, shape);
        let channels = shape.split(',').nth(1).unwrap().parse().unwrap();
        Image { name: name.into(), channels, size }
    }

    /// Adds a node under a name of the caller's.
    pub fn named(&mut self, name: &str, op: &str, inputs: &[&str], attributes: &[(&str, Value)]) -> String {
        self.model = self.model.clone().node(op, inputs, &[name], attributes);
        name.into()
    }

    pub fn node(&mut self, op: &str, inputs: &[&str], attributes: &[(&str, Value)]) -> String {
        self.next += 1;
        self.named(&format!("{op}_{}", self.next), op, inputs, attributes)
    }

    /// A constant of random values.
    pub fn constant(&mut self, dims: &[usize], low: f32, high: f32) -> String {
        self.next += 1;
        let name = format!("constant_{}", self.next);
        let mut random = Random::new(self.next as u64);
        let values: Vec<f32> = (0..dims.iter().product()).map(|_| random.between(low, high)).collect();
        let dims: Vec<i64> = dims.iter().map(|&dim| dim as i64).collect();
        self.model = self.model.clone().floats(&name, &dims, &values);
        name
    }

    /// A convolution's weight that keeps the size of values.
    pub fn weight(&mut self, rows: usize, columns: usize, kernel: usize) -> String {
        let bound = (3.0 / (columns * kernel * kernel) as f32).sqrt();
        self.constant(&[rows, columns, kernel, kernel], -bound, bound)
    }

    pub fn conv(&mut self, x: &Image, channels: usize, kernel: usize, stride: usize) -> Image {
        self.grouped(x, channels, kernel, stride, 1)
    }

    pub fn depthwise(&mut self, x: &Image, kernel: usize, stride: usize) -> Image {
        self.grouped(x, x.channels, kernel, stride, x.channels)
    }

    fn grouped(&mut self, x: &Image, channels: usize, kernel: usize, stride: usize, groups: usize) -> Image {
        let weight = self.weight(channels, x.channels / groups, kernel);
        let bias = self.constant(&[channels], -0.5, 0.5);
        self.windowed(
            "Conv",
            &[&x.name, &weight, &bias],
            x,
            channels,
            (kernel, stride),
            &[("group", (groups as i64).into())],
        )
    }

    /// A sliding window, padded by half of its size.
    pub fn windowed(
        &mut self,
        op: &str,
        inputs: &[&str],
        x: &Image,
        channels: usize,
        (kernel, stride): (usize, usize),
        attributes: &[(&str, Value)],
    ) -> Image {
        let (pad, pair) = ((kernel - 1) / 2, |value: usize| [value as i64; 2].into());
        let mut all = attributes.to_vec();
        all.extend([("strides", pair(stride)), ("kernel_shape", pair(kernel)), ("pads", [pad as i64; 4].into())]);
        let name = self.node(op, inputs, &all);
        Image { name, channels, size: (x.size + 2 * pad - kernel) / stride + 1 }
    }

    pub fn pool(&mut self, op: &str, x: &Image, kernel: usize, stride: usize) -> Image {
        self.windowed(op, &[&x.name], x, x.channels, (kernel, stride), &[])
    }

    pub fn act(&mut self, op: &str, x: &Image) -> Image {
        let name = match op {
            "Relu6" => {
                let (low, high) = (self.constant(&[], 0.0, 0.0), self.constant(&[], 6.0, 6.0));
                self.node("Clip", &[&x.name, &low, &high], &[])
            }
            "x·Sigmoid" => {
                let gate = self.node("Sigmoid", &[&x.name], &[]);
                self.node("Mul", &[&x.name, &gate], &[])
            }
            "x·HardSigmoid" => {
                let gate = self.node("HardSigmoid", &[&x.name], &[("alpha", (1.0f32 / 6.0).into())]);
                self.node("Mul", &[&gate, &x.name], &[])
            }
            _ => self.node(op, &[&x.name], &[]),
        };
        Image { name, ..x.clone() }
    }

    pub fn join(&mut self, op: &str, x: &Image, other: &Image) -> Image {
        let axis = [("axis", 1.into())];
        let name = self.node(op, &[&x.name, &other.name], if op == "Concat" { &axis } else { &[] });
        let channels = if op == "Concat" { x.channels + other.channels } else { x.channels };
        Image { name, channels, ..x.clone() }
    }

    /// A batch normalisation with constant statistics.
    pub fn normalized(&mut self, x: &Image) -> Image {
        let [scale, shift, mean, variance] = [(0.5, 1.5), (-0.4, 0.4), (-0.3, 0.3), (0.5, 1.5)]
            .map(|(low, high)| self.constant(&[x.channels], low, high));
        let name = self.node("BatchNormalization", &[&x.name, &scale, &shift, &mean, &variance], &[]);
        Image { name, ..x.clone() }
    }

    /// The mean over all pixels, in one of its two forms.
    pub fn pooled(&mut self, x: &Image, op: &str) -> Image {
        let name = match op {
            "ReduceMean" => self.node("ReduceMean", &[&x.name], &[("axes", [-1, 2].into()), ("keepdims", 1.into())]),
            _ => self.node("GlobalAveragePool", &[&x.name], &[]),
        };
        Image { name, size: 1, ..x.clone() }
    }

    /// Squeeze and excitation.
    pub fn gated(&mut self, x: &Image, mean: &str, gate: &str) -> Image {
        let pooled = self.pooled(x, mean);
        let squeezed = self.conv(&pooled, 16, 1, 1);
        let squeezed = self.act("Relu", &squeezed);
        let excited = self.conv(&squeezed, x.channels, 1, 1);
        let gate = self.act(gate, &excited);
        self.join("Mul", x, &gate)
    }

    pub fn finish(self, outputs: &[&str]) -> Model {
        outputs.iter().fold(self.model, |model, output| model.output(output))
    }
}

pub type Shapes<'a> = &'a [(&'a str, &'a [usize])];

/// Checks a model: derived graphs against differences in double precision; in single precision the adjoint, the outputs
/// and the pair of graphs. Gives the graph of reverse mode.
pub fn checked(model: &Model, shapes: Shapes) -> Graph {
    let graph = Graph::parse(model.bytes()).unwrap();
    let mut random = Random::new(3);
    let feeds: Feeds =
        shapes.iter().map(|(name, shape)| ((*name).into(), random.array(shape, Values::AwayFromZero))).collect();
    let given: Given = feeds.iter().map(|(name, value)| (name.clone(), value.mapv(f64::from))).collect();
    let measured = verify(&runtime(), &graph, &given, 1).unwrap_or_else(|error| panic!("{error}: {:?}", lines(&graph)));
    assert_eq!(measured.precision, "float64", "{:?}", measured.reason);
    assert!(measured.passes() && measured.agreements.iter().any(|a| !a.constant), "{measured:?} {:#?}", lines(&graph));
    let (pulls, gradients) = in_single_precision(&graph, feeds.clone());
    let (_, others) = in_single_precision(&graph.for_target(Target::Cuda), feeds);
    for (name, gradient) in &gradients {
        let error = norm(&(gradient - get(&others, name)));
        assert!(error <= 2e-5 * norm(gradient) + 1e-6, "{name} for CUDA is off by {error}: {:#?}", lines(&pulls));
    }
    pulls
}

/// Checks a model in single precision; gives the graph of reverse mode and the gradients.
fn in_single_precision(graph: &Graph, mut feeds: Feeds) -> (Graph, Feeds) {
    let (pushes, pulls) = (jvp(graph, &[], &[]).unwrap(), vjp(graph, &[], &[]).unwrap());
    let parts = vjp_parts(graph, &[], &[]).unwrap();
    let clean = run(&compile(graph), &feeds);
    let mut random = Random::new(8);
    let mut given = |prefix: &str, values: &Feeds| -> Feeds {
        let values = values.iter().map(|(name, value)| (name, value.shape()));
        values.map(|(name, shape)| (format!("{prefix}{name}"), random.array(shape, Values::AwayFromZero))).collect()
    };
    let (tangents, cotangents) = (given("tangent/", &feeds), given("cotangent/", &clean));
    let whole = run(&compile(&pulls), &feeds.iter().chain(&cotangents).cloned().collect());
    let (outputs, gradients) = pulled(&parts, &feeds, std::slice::from_ref(&cotangents));
    feeds.extend(tangents.clone());
    let pushed = run(&compile(&pushes), &feeds);
    let near = |found: &Feeds, expected: &Feeds, name: &str| {
        let (found, expected) = (get(found, name), get(expected, name));
        let error = norm(&(found - expected));
        assert!(error <= 2e-5 * norm(expected) + 1e-6, "{name} is off by {error}: {:#?}", lines(graph));
    };
    let (mut left, mut right, mut scale) = (0.0, 0.0, 0.0);
    for (name, _) in &clean {
        near(&pushed, &clean, name);
        near(&whole, &clean, name);
        near(&outputs, &clean, name);
        let (cotangent, tangent) =
            (get(&cotangents, &format!("cotangent/{name}")), get(&pushed, &format!("tangent/{name}")));
        left += dot(cotangent, tangent);
        scale += norm(cotangent) * norm(tangent);
    }
    for (name, tangent) in &tangents {
        let name = name.replace("tangent/", "gradient/");
        near(&gradients[0], &whole, &name);
        right += dot(get(&whole, &name), tangent);
    }
    assert!((left - right).abs() <= 3e-5 * scale, "⟨u, J t⟩ = {left} but ⟨Jᵀ u, t⟩ = {right}: {:#?}", lines(graph));
    let is_gradient = |(name, _): &(String, _)| name.starts_with("gradient/");
    (pulls, whole.into_iter().filter(is_gradient).collect())
}

pub fn derived(model: &Model) -> Graph {
    vjp(&Graph::parse(model.bytes()).unwrap(), &[], &[]).unwrap()
}

/// The nodes of a graph, a line each.
pub fn lines(graph: &Graph) -> Vec<String> {
    let nodes = ModelProto::decode(graph.to_onnx().as_slice()).unwrap().graph.unwrap().node;
    nodes
        .iter()
        .map(|node| format!("{} = {}({})", node.output.join(", "), node.op_type, node.input.join(", ")))
        .collect()
}

pub fn counts(graph: &Graph) -> BTreeMap<String, usize> {
    graph.operator_counts().into_iter().collect()
}

pub fn count(graph: &Graph, op: &str) -> usize {
    counts(graph).get(op).copied().unwrap_or(0)
}

/// How many values a node of this kind brings into the blocked layout, or keeps in it.
pub fn arranged(graph: &Graph, op: &str) -> usize {
    lines(graph).iter().filter(|line| line.starts_with(&format!("layout/{op}_"))).count()
}
