//! What every derivative must satisfy, whatever the operator.

use ndarray::ArrayD;
use transferscore::{
    gradient::{Graph, Target, jvp, vjp},
    runtime::{Executable, Value},
};

use super::model::Model;
use crate::support::runtime;

/// A small seeded generator (splitmix64), so that cases are the same everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }

    pub fn array(&mut self, shape: &[usize], values: Values) -> ArrayD<f32> {
        let count = shape.iter().product();
        let flat: Vec<f32> = match values {
            Values::AwayFromZero => {
                (0..count).map(|_| self.between(0.2, 1.5) * if self.next() & 1 == 0 { 1.0 } else { -1.0 }).collect()
            }
            Values::Positive => (0..count).map(|_| self.between(0.3, 1.5)).collect(),
            Values::Distinct => {
                let mut order: Vec<usize> = (0..count).collect();
                for at in (1..count).rev() {
                    order.swap(at, (self.next() % (at as u64 + 1)) as usize);
                }
                order.into_iter().map(|rank| (rank as f32 - count as f32 / 2.0) * 0.07 + 0.03).collect()
            }
        };
        ArrayD::from_shape_vec(shape, flat).unwrap()
    }
}

/// Where a case's inputs lie, so that a small step crosses no kink.
#[derive(Clone, Copy, PartialEq)]
pub enum Values {
    AwayFromZero,
    Positive,
    /// All values differ by more than a step of the finite difference.
    Distinct,
}

/// A model, and how to test its derivative.
pub struct Case {
    pub model: Model,
    /// Sizes of the inputs, in their order.
    pub shapes: Vec<Vec<usize>>,
    pub values: Values,
    /// Whether the model is affine in all inputs together, so that large steps are exact.
    pub affine: bool,
}

pub type Feeds = Vec<(String, ArrayD<f32>)>;

pub fn compile(graph: &Graph) -> Executable {
    runtime().compile(graph.to_onnx()).unwrap_or_else(|error| panic!("{error}: {:?}", graph.operator_counts()))
}

/// Runs a graph on those feeds that it takes.
pub fn run(executable: &Executable, feeds: &Feeds) -> Feeds {
    let feeds: Vec<_> = executable
        .inputs()
        .iter()
        .map(|input| {
            let feed = feeds.iter().find(|(name, _)| *name == input.name);
            let (name, array) = feed.unwrap_or_else(|| panic!("no feed `{}`", input.name));
            (name.as_str(), array.view().into())
        })
        .collect();
    read(&executable.run(&feeds).unwrap())
}

/// The outputs of a run, all of them float32.
pub fn read(values: &[Value]) -> Feeds {
    values.iter().map(|value| (value.name().to_owned(), value.view().unwrap().to_owned())).collect()
}

pub fn get<'a>(values: &'a Feeds, name: &str) -> &'a ArrayD<f32> {
    &values.iter().find(|(other, _)| other == name).unwrap_or_else(|| panic!("no value `{name}`")).1
}

pub fn dot(a: &ArrayD<f32>, b: &ArrayD<f32>) -> f64 {
    assert_eq!(a.shape(), b.shape());
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

pub fn norm(a: &ArrayD<f32>) -> f64 {
    dot(a, a).sqrt()
}

fn named(graph: &Graph, prefix: &str, values: Vec<ArrayD<f32>>) -> Feeds {
    graph.inputs().iter().map(|port| format!("{prefix}{}", port.name)).zip(values).collect()
}

/// Both modes of a graph in the forms for a device.
fn derived(graph: &Graph, target: Target) -> Result<[Graph; 2], String> {
    let graph = graph.clone().for_target(target);
    let forward_mode = jvp(&graph, &[], &[]).map_err(|error| format!("jvp: {error}"))?;
    let reverse_mode = vjp(&graph, &[], &[]).map_err(|error| format!("vjp: {error}"))?;
    Ok([forward_mode, reverse_mode])
}

/// Checks a case: ⟨u, J t⟩ = ⟨Jᵀ u, t⟩, J t against central differences, outputs unchanged, shapes right. In the forms for
/// each device, where these differ.
pub fn check(case: &Case) -> Result<(), String> {
    let graph = Graph::parse(case.model.bytes()).map_err(|error| format!("import: {error}"))?;
    let [cpu, cuda] = [derived(&graph, Target::Cpu)?, derived(&graph, Target::Cuda)?];
    let gradients = check_modes(case, &graph, &cpu)?;
    if cpu.each_ref().map(Graph::to_onnx) == cuda.each_ref().map(Graph::to_onnx) {
        return Ok(());
    }
    let others = check_modes(case, &graph, &cuda).map_err(|error| format!("for CUDA: {error}"))?;
    for ((name, gradient), (_, other)) in gradients.iter().zip(&others) {
        if norm(&(gradient - other)) > 1e-5 * norm(gradient) + 1e-6 {
            return Err(format!("{name} is {gradient} in the forms for a CPU and {other} in those for CUDA"));
        }
    }
    Ok(())
}

/// Checks a case's graphs of forward and reverse mode, and gives the gradients.
fn check_modes(case: &Case, graph: &Graph, [forward_mode, reverse_mode]: &[Graph; 2]) -> Result<Feeds, String> {
    let original = runtime().compile(case.model.bytes()).map_err(|error| format!("original: {error}"))?;
    let mut random = Random::new(7);
    let inputs: Vec<ArrayD<f32>> = case.shapes.iter().map(|shape| random.array(shape, case.values)).collect();
    let directions: Vec<ArrayD<f32>> =
        case.shapes.iter().map(|shape| random.array(shape, Values::AwayFromZero) * 0.7).collect();
    let at = |step: f32| -> Feeds {
        let moved = inputs.iter().zip(&directions).map(|(input, direction)| input + &(direction * step)).collect();
        run(&original, &named(graph, "", moved))
    };
    let mut feeds = named(graph, "", inputs.clone());
    feeds.extend(named(graph, "tangent/", directions.clone()));
    let clean = at(0.0);
    for (name, value) in &clean {
        feeds.push((format!("cotangent/{name}"), random.array(value.shape(), Values::AwayFromZero)));
    }
    let pushed = run(&compile(forward_mode), &feeds);
    let pulled = run(&compile(reverse_mode), &feeds);
    let (step, tolerance) = if case.affine { (0.5, 2e-5) } else { (8e-3, 2e-3) };
    let (ahead, behind) = (at(step), at(-step));
    let (mut left, mut scale) = (0.0, 0.0);
    for (name, clean) in &clean {
        let tangent = get(&pushed, &format!("tangent/{name}"));
        if tangent.shape() != clean.shape() {
            return Err(format!("tangent of {name} has shape {:?}, not {:?}", tangent.shape(), clean.shape()));
        }
        for derived in [&pushed, &pulled] {
            if norm(&(get(derived, name) - clean)) > 1e-5 * norm(clean).max(1.0) {
                return Err(format!("the output {name} has changed"));
            }
        }
        let difference = (get(&ahead, name) - get(&behind, name)) / (2.0 * step);
        let error = norm(&(tangent - &difference));
        if error.is_nan() || error > tolerance * norm(&difference).max(1e-3) {
            return Err(format!("J t of {name} is {tangent} but differences give {difference}"));
        }
        let cotangent = get(&feeds, &format!("cotangent/{name}"));
        left += dot(cotangent, tangent);
        scale += norm(cotangent) * norm(tangent);
    }
    let mut right = 0.0;
    for (port, direction) in graph.inputs().iter().zip(&directions) {
        let gradient = get(&pulled, &format!("gradient/{}", port.name));
        if gradient.shape() != direction.shape() {
            return Err(format!("gradient of {} has shape {:?}", port.name, gradient.shape()));
        }
        right += dot(gradient, direction);
    }
    if scale == 0.0 {
        return Err("the derivative is zero, so the case tests nothing".into());
    }
    if (left - right).abs() > 1e-5 * scale {
        return Err(format!("⟨u, J t⟩ = {left} but ⟨Jᵀ u, t⟩ = {right}"));
    }
    Ok(pulled.into_iter().filter(|(name, _)| name.starts_with("gradient/")).collect())
}
