//! Random models of the operators of the rule table: ⟨u, J t⟩ = ⟨Jᵀ u, t⟩, and the pair of graphs against the one graph.
//!
//! A model is drawn as a list of small numbers, each of which chooses an operator and its operands among what is there.
//! So a failure shrinks to few nodes, which the message lists.

use ndarray::ArrayD;
use proptest::{
    collection::vec,
    test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner},
};
use transferscore::gradient::{Graph, jvp, vjp, vjp_parts};

use super::{
    calculus::{Feeds, Random, Values, compile, dot, get, norm, run},
    model::{Model, Value},
    parts::pulled,
};

/// The size of the free batch when a model runs.
const BATCH: usize = 3;

/// A value of a model under construction; a batched one has the free batch in front of these sizes.
#[derive(Clone)]
struct Drawn {
    name: String,
    batched: bool,
    sizes: Vec<usize>,
}

impl Drawn {
    fn shape(&self) -> Vec<usize> {
        self.batched.then_some(BATCH).into_iter().chain(self.sizes.iter().copied()).collect()
    }

    fn last(&self) -> usize {
        self.sizes.last().copied().unwrap_or(1)
    }
}

struct Drawing {
    model: Model,
    values: Vec<Drawn>,
}

/// Smooth and kinked functions of any argument.
const ANYWHERE: [&str; 18] = [
    "Tanh",
    "Sigmoid",
    "Sin",
    "Cos",
    "Erf",
    "Softsign",
    "Softplus",
    "Neg",
    "Abs",
    "Relu",
    "LeakyRelu",
    "Elu",
    "Selu",
    "Celu",
    "HardSigmoid",
    "HardSwish",
    "Mish",
    "Gelu",
];
/// Functions that are given something between 0 and 1.
const GUARDED: [&str; 4] = ["Exp", "Log", "Sqrt", "Reciprocal"];
const BINARY: [&str; 6] = ["Add", "Sub", "Mul", "Div", "Max", "Min"];
const REDUCTIONS: [&str; 5] = ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceL2", "ReduceLogSumExp"];

impl Drawing {
    fn new() -> Self {
        let value = |name: &str, batched, sizes: &[usize]| Drawn { name: name.into(), batched, sizes: sizes.to_vec() };
        let model = Model::new(20).input("x", "n,3,4").input("z", "n,3,1").input("w", "3,4");
        Drawing {
            model,
            values: vec![value("x", true, &[3, 4]), value("z", true, &[3, 1]), value("w", false, &[3, 4])],
        }
    }

    fn node(&mut self, op: &str, inputs: &[&str], attributes: &[(&str, Value)]) -> String {
        let name = format!("{}_{}", op.to_lowercase(), self.model.graph().node.len());
        self.model = self.model.clone().node(op, inputs, &[&name], attributes);
        name
    }

    fn keep(&mut self, name: String, batched: bool, sizes: &[usize]) {
        self.values.push(Drawn { name, batched, sizes: sizes.to_vec() });
    }

    fn integers(&mut self, values: &[i64]) -> String {
        let name = format!("integers_{}", self.model.graph().initializer.len());
        self.model = self.model.clone().integers(&name, values);
        name
    }

    fn weight(&mut self, dims: &[i64]) -> String {
        let name = format!("weight_{}", self.model.graph().initializer.len());
        self.model = self.model.clone().weight(&name, dims);
        name
    }

    /// Adds what three numbers choose: a kind of operator, and two operands or an operand and a variant.
    fn step(&mut self, [kind, first, second]: [usize; 3]) {
        let a = self.values[first % self.values.len()].clone();
        let b = self.values[second % self.values.len()].clone();
        match kind % 14 {
            0..=2 => self.unary(&a, ANYWHERE[second % ANYWHERE.len()]),
            3 => {
                let guarded = self.node("Sigmoid", &[&a.name], &[]);
                let op = GUARDED[second % GUARDED.len()];
                let name = self.node(op, &[&guarded], &[]);
                self.keep(name, a.batched, &a.sizes);
            }
            4..=6 => self.binary(&a, &b, BINARY[kind / 14 % BINARY.len()]),
            7 => {
                let weight = self.weight(&[a.last() as i64, 3]);
                let name = self.node("MatMul", &[&a.name, &weight], &[]);
                let mut sizes = a.sizes.clone();
                sizes.pop();
                self.keep(name, a.batched, &[sizes, vec![3]].concat());
            }
            8 => self.reduction(&a, second),
            9 => {
                let op = ["Softmax", "LogSoftmax"][second % 2];
                let name = self.node(op, &[&a.name], &[("axis", (-1).into())]);
                self.keep(name, a.batched, &a.sizes);
            }
            10 => self.movement(&a, second),
            11 => self.joined(&a, &b, second),
            _ => self.spatial(&a, second),
        }
    }

    fn unary(&mut self, a: &Drawn, op: &str) {
        let name = self.node(op, &[&a.name], &[]);
        self.keep(name, a.batched, &a.sizes);
    }

    /// Broadcasts two values; what does not broadcast is combined with itself.
    fn binary(&mut self, a: &Drawn, b: &Drawn, op: &str) {
        let fits = |a: &Drawn, b: &Drawn| {
            let sizes = a.sizes.iter().rev().zip(b.sizes.iter().rev());
            let ranks =
                if a.batched == b.batched { a.sizes.len() == b.sizes.len() } else { a.sizes.len() >= b.sizes.len() };
            ranks && (a.batched || !b.batched) && sizes.into_iter().all(|(a, b)| a == b || *b == 1)
        };
        let b = if fits(a, b) { b } else { a };
        // Factors and divisors are kept from growing without bound.
        let second = match op {
            "Mul" => self.node("Tanh", &[&b.name], &[]),
            "Div" => self.node("Sigmoid", &[&b.name], &[]),
            _ => b.name.clone(),
        };
        let name = self.node(op, &[&a.name, &second], &[]);
        self.keep(name, a.batched, &a.sizes);
    }

    fn reduction(&mut self, a: &Drawn, variant: usize) {
        let axes = self.integers(&[-1]);
        let keep = variant.is_multiple_of(2) || a.sizes.len() < 2;
        let op = REDUCTIONS[variant / 2 % REDUCTIONS.len()];
        let name = self.node(op, &[&a.name, &axes], &[("keepdims", i64::from(keep).into())]);
        let mut sizes = a.sizes.clone();
        sizes.pop();
        if keep {
            sizes.push(1);
        }
        self.keep(name, a.batched, &sizes);
    }

    fn movement(&mut self, a: &Drawn, variant: usize) {
        let (size, mut sizes) = (a.last(), a.sizes.clone());
        sizes.pop();
        match variant % 5 {
            0 if a.batched && a.sizes.len() == 2 => {
                let name = self.node("Transpose", &[&a.name], &[("perm", [0, 2, 1].into())]);
                self.keep(name, true, &[a.sizes[1], a.sizes[0]]);
            }
            1 if a.batched => {
                let target = self.integers(&[0, -1, 1]);
                let name = self.node("Reshape", &[&a.name, &target], &[]);
                self.keep(name, true, &[a.sizes.iter().product(), 1]);
            }
            2 => {
                let parameters = [[0], [size.div_ceil(2) as i64], [-1]].map(|values| self.integers(&values));
                let [start, end, axis] = parameters.each_ref().map(String::as_str);
                let name = self.node("Slice", &[&a.name, start, end, axis], &[]);
                self.keep(name, a.batched, &[sizes, vec![size.div_ceil(2)]].concat());
            }
            3 => {
                let places = self.integers(&[size as i64 - 1, 0, 0]);
                let name = self.node("Gather", &[&a.name, &places], &[("axis", (-1).into())]);
                self.keep(name, a.batched, &[sizes, vec![3]].concat());
            }
            _ => {
                let mut pads = vec![0; 2 * a.shape().len()];
                pads[a.shape().len() - 1] = 1;
                let pads = self.integers(&pads);
                let name = self.node("Pad", &[&a.name, &pads], &[]);
                self.keep(name, a.batched, &[sizes, vec![size + 1]].concat());
            }
        }
    }

    /// Joins two values of one shape; others are joined with themselves.
    fn joined(&mut self, a: &Drawn, b: &Drawn, variant: usize) {
        let b = if a.shape() == b.shape() && a.batched == b.batched { b } else { a };
        if variant.is_multiple_of(2) {
            let name = self.node("Concat", &[&a.name, &b.name], &[("axis", (-1).into())]);
            let mut sizes = a.sizes.clone();
            *sizes.last_mut().unwrap() *= 2;
            return self.keep(name, a.batched, &sizes);
        }
        let negative = self.node("Neg", &[&a.name], &[]);
        let greater = self.node("Greater", &[&a.name, &negative], &[]);
        let name = self.node("Where", &[&greater, &a.name, &b.name], &[]);
        self.keep(name, a.batched, &a.sizes);
    }

    /// Convolution and pooling over the last axis, or a function where there are no channels.
    fn spatial(&mut self, a: &Drawn, variant: usize) {
        if !a.batched || a.sizes.len() != 2 {
            return self.unary(a, "Tanh");
        }
        let (channels, size) = (a.sizes[0], a.sizes[1]);
        let pads = ("pads", [1, 1].into());
        match variant % 5 {
            0 => {
                let weight = self.weight(&[2, channels as i64, 3]);
                let name = self.node("Conv", &[&a.name, &weight], &[pads]);
                self.keep(name, true, &[2, size]);
            }
            1 => {
                let weight = self.weight(&[2, channels as i64, 3]);
                let name = self.node("Conv", &[&a.name, &weight], &[pads, ("strides", [2].into())]);
                self.keep(name, true, &[2, size.div_ceil(2)]);
            }
            2 => {
                let name = self.node("MaxPool", &[&a.name], &[("kernel_shape", [3].into()), pads]);
                self.keep(name, true, &a.sizes);
            }
            3 => {
                let name = self.node("AveragePool", &[&a.name], &[("kernel_shape", [3].into()), pads]);
                self.keep(name, true, &a.sizes);
            }
            _ => {
                let name = self.node("GlobalAveragePool", &[&a.name], &[]);
                self.keep(name, true, &[channels, 1]);
            }
        }
    }

    /// The model with its last value and another as outputs.
    fn finished(self, other: usize) -> Model {
        let made = &self.values[3..];
        let last = &made[made.len() - 1].name;
        let other = &made[other % made.len()].name;
        let model = self.model.output(last);
        if other == last { model } else { model.output(other) }
    }
}

fn check(steps: &[[usize; 3]], other: usize, seed: u64) -> Result<(), String> {
    let mut drawing = Drawing::new();
    let inputs = drawing.values.clone();
    steps.iter().for_each(|step| drawing.step(*step));
    let mut model = drawing.finished(other);
    let nodes = needed_nodes(&mut model);
    properties(&model, &inputs, seed).map_err(|error| format!("{error}, in\n{}", nodes.join("\n")))
}

/// The nodes that the outputs depend on, a line each.
fn needed_nodes(model: &mut Model) -> Vec<String> {
    let graph = model.graph();
    let mut needed: Vec<String> = graph.output.iter().map(|output| output.name.clone()).collect();
    let mut lines = Vec::new();
    for node in graph.node.iter().rev() {
        if node.output.iter().any(|output| needed.contains(output)) {
            needed.extend(node.input.iter().cloned());
            lines.push(format!("  {} = {}({})", node.output.join(", "), node.op_type, node.input.join(", ")));
        }
    }
    lines.reverse();
    lines
}

fn properties(model: &Model, inputs: &[Drawn], seed: u64) -> Result<(), String> {
    let graph = Graph::parse(model.bytes()).map_err(|error| error.to_string())?;
    let derive = |result: transferscore::gradient::Result<Graph>| result.map_err(|error| error.to_string());
    let (pushes, pulls) = (derive(jvp(&graph, &[], &[]))?, derive(vjp(&graph, &[], &[]))?);
    let parts = vjp_parts(&graph, &[], &[]).map_err(|error| error.to_string())?;
    let mut random = Random::new(seed);
    let mut feeds = Feeds::new();
    for input in inputs {
        feeds.push((input.name.clone(), random.array(&input.shape(), Values::Distinct)));
        feeds.push((format!("tangent/{}", input.name), random.array(&input.shape(), Values::AwayFromZero)));
    }
    let pushed = run(&compile(&pushes), &feeds);
    let mut cotangents = Feeds::new();
    for port in graph.outputs() {
        let shape = get(&pushed, &port.name).shape().to_vec();
        cotangents.push((format!("cotangent/{}", port.name), random.array(&shape, Values::AwayFromZero)));
    }
    let pulled_at_once = run(&compile(&pulls), &feeds.iter().chain(&cotangents).cloned().collect());
    let (outputs, gradients) = pulled(&parts, &feeds, &[cotangents.clone(), cotangents.clone()]);
    let (mut left, mut right, mut scale) = (0.0, 0.0, 0.0);
    for port in graph.outputs() {
        let (cotangent, tangent) =
            (get(&cotangents, &format!("cotangent/{}", port.name)), get(&pushed, &format!("tangent/{}", port.name)));
        left += dot(cotangent, tangent);
        scale += norm(cotangent) * norm(tangent);
        same(get(&outputs, &port.name), get(&pulled_at_once, &port.name), &port.name)?;
    }
    for input in inputs {
        let name = format!("gradient/{}", input.name);
        let (gradient, tangent) = (get(&pulled_at_once, &name), get(&feeds, &format!("tangent/{}", input.name)));
        right += dot(gradient, tangent);
        scale += norm(gradient) * norm(tangent);
        for gradients in &gradients {
            same(get(gradients, &name), gradient, &name)?;
        }
    }
    // Where the derivative vanishes, as that of a softmax over one class, rounding is all there is.
    let length = |feeds: &Feeds, prefix: &str| {
        feeds.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, array)| norm(array)).sum::<f64>()
    };
    let rounding = 1e-6 * length(&cotangents, "cotangent/") * length(&feeds, "tangent/");
    // Not `>`, so that NaN fails.
    match (left - right).abs() <= 1e-4 * scale + rounding {
        true => Ok(()),
        false => Err(format!("⟨u, J t⟩ = {left} but ⟨Jᵀ u, t⟩ = {right} at a scale of {scale}")),
    }
}

fn same(found: &ArrayD<f32>, expected: &ArrayD<f32>, name: &str) -> Result<(), String> {
    if found.shape() != expected.shape() {
        return Err(format!("{name} has shape {:?}, not {:?}", found.shape(), expected.shape()));
    }
    match norm(&(found - expected)) <= 1e-5 * norm(expected) + 1e-6 {
        true => Ok(()),
        false => Err(format!("the pair gives {name} = {found}, the one graph {expected}")),
    }
}

#[test]
fn random_models_have_adjoint_derivatives_and_equal_pairs() {
    let config = Config { cases: 500, failure_persistence: None, max_shrink_iters: 1_000, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let number = 0..1_000usize;
    let steps = vec([number.clone(), number.clone(), number.clone()], 1..14);
    let outcome = runner.run(&(steps, number, 0..1_000u64), |(steps, other, seed)| {
        check(&steps, other, seed).map_err(TestCaseError::fail)
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}
