//! Measures how well a model's derived graphs agree with its finite differences.
//!
//! The forward model is run in double precision where ONNX Runtime has the kernels or the operators can be lowered to
//! some that it has, else in single precision with Richardson extrapolation. So are the derived graphs, which tells
//! wrong derivatives from rounding; how far the float32 graphs that everybody gets lie off is measured beside that.
//! Deterministic: a seed gives the same numbers.

mod placed;
mod point;

use std::sync::Arc;

use ndarray::{ArrayD, Zip};

use self::point::{Point, direction};
pub use self::{placed::placed, point::Given};
use crate::{
    gradient::{self, GradientError, Graph},
    runtime::{Executable, Runtime, RuntimeError, TypedArray},
};

/// Largest relative error where the difference is taken in double precision.
pub const DOUBLE_TOLERANCE: f64 = 1e-4;
/// Largest relative error where it is taken in single precision: a difference of step 2⁻⁷ has lost about half of the
/// seven digits.
pub const SINGLE_TOLERANCE: f64 = 2e-2;
/// Steps of a difference in double precision, for inputs and directions of one size; for each output the one counts
/// whose two sides agree better. The longer one suffers from kinks in large networks, the shorter one from rounding.
const DOUBLE_STEPS: [f64; 2] = [1e-6, 1e-8];
/// The steps in single precision, which are extrapolated from.
const SINGLE_STEPS: [f64; 2] = [1.0 / 128.0, 1.0 / 256.0];
/// Slopes below this part of the output's size count as none: inputs and directions are of one size, so that a slope
/// is the change over the whole range of the input.
const NEGLIGIBLE: f64 = 1e-6;
/// Random points that are tried until one has no kink near.
const ATTEMPTS: u64 = 3;

/// Why a model could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error(transparent)]
    Gradient(#[from] GradientError),
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error("{0}")]
    Input(String),
}

/// The agreement for one input and one output.
#[derive(Clone, Debug, PartialEq)]
pub struct Agreement {
    pub input: String,
    pub output: String,
    /// `‖J t − d‖ / ‖d‖` of the forward-mode graph against the difference `d`, for a random `t`. Where a model's own gradient
    /// graph allows of no forward mode, the difference stands in for it.
    pub tangent_error: f64,
    /// `|⟨Jᵀ u, t⟩ − ⟨u, d⟩| / |⟨u, d⟩|` of the reverse-mode graph, for a `u` that does not let ⟨u, d⟩ cancel.
    pub gradient_error: f64,
    /// `|⟨u, J t⟩ − ⟨Jᵀ u, t⟩| / |⟨u, J t⟩|`.
    pub adjoint_error: f64,
    /// `‖J₃₂ t − J t‖ / ‖J t‖`: what rounding does to the float32 graph. `None` where the derived graphs could not be
    /// run in double precision; the other errors contain it then.
    pub rounding_error: Option<f64>,
    /// Whether the differences on the two sides disagree: the model has a kink within a step.
    pub kink: bool,
    /// Whether the output changes by less than a millionth of its size in this direction, which float32 cannot tell;
    /// errors are relative to its size then.
    pub constant: bool,
}

impl Agreement {
    /// The largest of the errors.
    pub fn error(&self) -> f64 {
        // `max` would drop what is not a number.
        let errors = [self.tangent_error, self.gradient_error, self.adjoint_error];
        if errors.iter().any(|error| error.is_nan()) { f64::NAN } else { errors.into_iter().fold(0.0, f64::max) }
    }
}

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Verification {
    /// Precision of the differences.
    pub precision: &'static str,
    /// Why it is not double, where it is not.
    pub reason: Option<String>,
    /// Steps of the differences.
    pub steps: [f64; 2],
    pub tolerance: f64,
    /// Sizes of the inputs that were used.
    pub shapes: Vec<(String, Vec<usize>)>,
    pub agreements: Vec<Agreement>,
}

impl Verification {
    /// The largest error of all; not a number where one is none.
    pub fn worst(&self) -> f64 {
        self.agreements
            .iter()
            .map(Agreement::error)
            .fold(0.0, |a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) })
    }

    /// Whether all errors lie within the tolerance.
    pub fn passes(&self) -> bool {
        self.worst() <= self.tolerance
    }
}

/// The graphs that are measured.
struct Graphs {
    /// In forward mode, where the model has one.
    tangents: Option<(Graph, Executable)>,
    vjp: Graph,
    gradients: Executable,
    inputs: Vec<String>,
    outputs: Vec<String>,
}

/// Measures a model at given inputs or at random ones of ±1.
///
/// # Errors
/// Where the model cannot be differentiated or run, or given inputs do not fit it.
pub fn verify(runtime: &Arc<Runtime>, graph: &Graph, given: &Given, seed: u64) -> Result<Verification, VerifyError> {
    let graph = gradient::in_single(graph)?;
    let floats = |ports: Vec<gradient::Port>| -> Vec<String> {
        let is_float = |port: &gradient::Port| port.element().is_some_and(gradient::ElementType::is_float);
        ports.into_iter().filter(is_float).map(|port| port.name).collect()
    };
    let (inputs, outputs) = (floats(graph.inputs()), floats(graph.outputs()));
    let vjp = gradient::vjp(&graph, &[], &[])?;
    let tangents = match gradient::jvp(&graph, &[], &[]) {
        Err(GradientError::NotDifferentiable { .. }) if graph.has_pullback() => None,
        jvp => Some(jvp?),
    };
    let tangents = tangents.map(|jvp| runtime.compile(jvp.to_onnx()).map(|tangents| (jvp, tangents))).transpose()?;
    let graphs = Graphs { tangents, gradients: runtime.compile(vjp.to_onnx())?, vjp, inputs, outputs };
    let names: Vec<&str> = graphs.outputs.iter().map(String::as_str).collect();
    let forward = runtime.compile(gradient::compose::with_outputs(&graph, &names)?.to_onnx())?;
    let mut measured = measure(runtime, &graph, &graphs, &forward, given, seed)?;
    for attempt in 1..ATTEMPTS {
        let near = measured.agreements.iter().any(|agreement| agreement.kink);
        if !near || measured.passes() {
            break;
        }
        measured = measure(runtime, &graph, &graphs, &forward, given, seed.wrapping_add(attempt << 32))?;
    }
    Ok(measured)
}

fn measure(
    runtime: &Arc<Runtime>,
    graph: &Graph,
    graphs: &Graphs,
    forward: &Executable,
    given: &Given,
    seed: u64,
) -> Result<Verification, VerifyError> {
    let point = Point::find(graph, forward, given, seed)?;
    let double = in_double(runtime, graph, &graphs.outputs, &point);
    let reason = double.as_ref().err().map(ToString::to_string);
    let is_double = reason.is_none();
    let forward = double.as_ref().unwrap_or(forward);
    let doubles = if is_double { derived_in_double(runtime, graphs, &point, forward).ok() } else { None };
    let differences = Differences { forward, double: is_double, outputs: &graphs.outputs };
    let mut agreements = Vec::new();
    for (index, input) in graphs.inputs.iter().enumerate() {
        let tangent = direction(&point, input, seed.wrapping_add(1 + index as u64));
        let slopes = differences.along(&point, input, &tangent)?;
        let mut feeds = point.feeds();
        for other in &graphs.inputs {
            let shape = point.shape(other);
            let value = if other == input { tangent.clone() } else { ArrayD::zeros(shape) };
            feeds.push((format!("tangent/{other}"), TypedArray::Float32(value.mapv(|value| value as f32))));
        }
        let single = graphs.tangents.as_ref().map(|(_, tangents)| run(tangents, &feeds)).transpose()?;
        let pushed = match doubles.as_ref().map(|(tangents, _)| tangents) {
            Some(Some(tangents)) => Some(run(tangents, &doubled(feeds))?),
            _ => single.clone(),
        };
        let gradients = doubles.as_ref().map(|(_, gradients)| gradients);
        for (output, slope) in graphs.outputs.iter().zip(&slopes) {
            let context = Context { graphs, gradients, point: &point, pushed: pushed.as_ref(), slopes: &slopes };
            let mut agreement = agree(&context, (input, &tangent), (output, slope))?;
            if let (Some(_), false, Some(single), Some(pushed)) = (gradients, agreement.constant, &single, &pushed) {
                let name = format!("tangent/{output}");
                let exact = named(pushed, &name)?;
                agreement.rounding_error = Some(norm(&(named(single, &name)? - &exact)) / norm(&exact));
            }
            agreements.push(agreement);
        }
    }
    Ok(Verification {
        precision: if is_double { "float64" } else { "float32" },
        reason,
        steps: if is_double { DOUBLE_STEPS } else { SINGLE_STEPS },
        tolerance: if is_double { DOUBLE_TOLERANCE } else { SINGLE_TOLERANCE },
        shapes: point.shapes(),
        agreements,
    })
}

type Named = Vec<(String, TypedArray)>;

fn run(executable: &Executable, feeds: &Named) -> Result<Named, VerifyError> {
    let wanted = executable.inputs().iter();
    let feeds: Option<Vec<_>> = wanted
        .map(|input| {
            let (name, values) = feeds.iter().find(|(name, _)| *name == input.name)?;
            Some((name.as_str(), values.into()))
        })
        .collect();
    let feeds = feeds.ok_or_else(|| VerifyError::Input("an input has no value; give it with --input".to_owned()))?;
    let values = executable.run(&feeds)?;
    values.iter().map(|value| Ok((value.name().to_owned(), value.to_array()?))).collect()
}

fn named(values: &Named, name: &str) -> Result<ArrayD<f64>, VerifyError> {
    let value = values.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
    value
        .and_then(TypedArray::into_double)
        .ok_or_else(|| VerifyError::Input(format!("`{name}` is no tensor of floats")))
}

fn dot(a: &ArrayD<f64>, b: &ArrayD<f64>) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &ArrayD<f64>) -> f64 {
    dot(a, a).sqrt()
}

/// What all outputs of one input have in common.
struct Context<'a> {
    graphs: &'a Graphs,
    /// The reverse-mode graph in double precision.
    gradients: Option<&'a Executable>,
    point: &'a Point,
    /// What the forward-mode graph gives, where there is one.
    pushed: Option<&'a Named>,
    slopes: &'a [Slope],
}

/// Compares the derived graphs with a difference, for one input and one output.
fn agree(
    context: &Context,
    (input, tangent): (&str, &ArrayD<f64>),
    (output, Slope { slope, size: value, kink }): (&str, &Slope),
) -> Result<Agreement, VerifyError> {
    let Context { graphs, gradients, point, pushed, slopes } = *context;
    let pushed = pushed.map(|pushed| named(pushed, &format!("tangent/{output}"))).transpose()?;
    let pushed = pushed.unwrap_or_else(|| slope.clone());
    if pushed.shape() != slope.shape() {
        return Err(VerifyError::Input(format!(
            "the tangent of `{output}` has shape {:?}, the output {:?}",
            pushed.shape(),
            slope.shape()
        )));
    }
    let size = norm(slope);
    let constant = size <= NEGLIGIBLE * value;
    // Along the slope, so that nothing cancels, with something of every direction.
    let typical = if constant { 1.0 } else { size / (slope.len().max(1) as f64).sqrt() };
    let noise = point::random(slope.shape(), 77);
    let mut cotangent = slope + &(noise * (0.3 * typical));
    let scale = norm(&cotangent);
    // As the graph gets it: rounded to float32.
    cotangent.mapv_inplace(|value| f64::from((value / scale) as f32));
    let mut feeds = point.feeds();
    for (other, Slope { slope, .. }) in graphs.outputs.iter().zip(slopes) {
        let value = if other == output { cotangent.clone() } else { ArrayD::zeros(slope.shape()) };
        feeds.push((format!("cotangent/{other}"), TypedArray::Float32(value.mapv(|value| value as f32))));
    }
    let pulled = match gradients {
        Some(gradients) => run(gradients, &doubled(feeds))?,
        None => run(&graphs.gradients, &feeds)?,
    };
    let pulled = named(&pulled, &format!("gradient/{input}"))?;
    let (forward, reverse, measured) = (dot(&cotangent, &pushed), dot(&pulled, tangent), dot(&cotangent, slope));
    let mut error = pushed.clone();
    Zip::from(&mut error).and(slope).for_each(|a, b| *a -= b);
    let by = |error: f64, scale: f64| if constant { error / value.max(f64::MIN_POSITIVE) } else { error / scale };
    Ok(Agreement {
        input: input.to_owned(),
        output: output.to_owned(),
        tangent_error: by(norm(&error), size),
        gradient_error: by((reverse - measured).abs(), measured.abs()),
        adjoint_error: by((forward - reverse).abs(), forward.abs()),
        rounding_error: None,
        kink: *kink && !constant,
        constant,
    })
}

/// The same values with floats in double precision.
fn doubled(values: Named) -> Named {
    let widen = |value| match value {
        TypedArray::Float32(array) => TypedArray::Float64(array.mapv(f64::from)),
        other => other,
    };
    values.into_iter().map(|(name, value)| (name, widen(value))).collect()
}

/// The forward-mode and the reverse-mode graph in double precision, tried once.
fn derived_in_double(
    runtime: &Arc<Runtime>,
    graphs: &Graphs,
    point: &Point,
    forward: &Executable,
) -> Result<(Option<Executable>, Executable), VerifyError> {
    let mut feeds = point.moved("", &ArrayD::zeros(vec![]), 0.0, true);
    for (name, value) in run(forward, &feeds)? {
        feeds.push((format!("cotangent/{name}"), value));
    }
    for input in &graphs.inputs {
        feeds.push((format!("tangent/{input}"), TypedArray::Float64(ArrayD::zeros(point.shape(input)))));
    }
    let sizes: Vec<(&str, &[usize])> = feeds.iter().map(|(name, value)| (name.as_str(), value.shape())).collect();
    let compiled = |graph: &Graph| -> Result<Executable, VerifyError> {
        let executable = runtime.compile(gradient::in_double(graph, &sizes)?.to_onnx())?;
        run(&executable, &feeds)?;
        Ok(executable)
    };
    Ok((graphs.tangents.as_ref().map(|(jvp, _)| compiled(jvp)).transpose()?, compiled(&graphs.vjp)?))
}

/// The forward model in double precision, tried once.
fn in_double(
    runtime: &Arc<Runtime>,
    graph: &Graph,
    outputs: &[String],
    point: &Point,
) -> Result<Executable, VerifyError> {
    let names: Vec<&str> = outputs.iter().map(String::as_str).collect();
    let shapes = point.shapes();
    let sizes: Vec<(&str, &[usize])> = shapes.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())).collect();
    let graph = gradient::in_double(&gradient::compose::with_outputs(graph, &names)?, &sizes)?;
    let executable = runtime.compile(graph.to_onnx())?;
    run(&executable, &point.moved("", &ArrayD::zeros(vec![]), 0.0, true))?;
    Ok(executable)
}

/// How an output changes along a direction.
struct Slope {
    slope: ArrayD<f64>,
    /// The norm of the output itself.
    size: f64,
    kink: bool,
}

/// The forward model, ready for differences.
struct Differences<'a> {
    forward: &'a Executable,
    double: bool,
    outputs: &'a [String],
}

impl Differences<'_> {
    /// The slope of each output along a direction of one input, and whether a kink is near.
    fn along(&self, point: &Point, input: &str, tangent: &ArrayD<f64>) -> Result<Vec<Slope>, VerifyError> {
        let at = |step: f64| run(self.forward, &point.moved(input, tangent, step, self.double));
        let steps = if self.double { DOUBLE_STEPS } else { SINGLE_STEPS };
        let here = at(0.0)?;
        let mut sides = Vec::new();
        for step in steps {
            sides.push((at(step)?, at(-step)?, step));
        }
        self.outputs
            .iter()
            .map(|output| {
                let here = named(&here, output)?;
                // The slope of each step, and how far its two sides are apart.
                let mut slopes: Vec<(f64, ArrayD<f64>)> = Vec::new();
                for (ahead, behind, step) in &sides {
                    let (ahead, behind) = (named(ahead, output)?, named(behind, output)?);
                    if ahead.shape() != here.shape() || behind.shape() != here.shape() {
                        return Err(VerifyError::Input(format!(
                            "the shape of `{output}` depends on the input's values"
                        )));
                    }
                    let difference = &ahead - &behind;
                    let apart = norm(&(ahead + behind - &here * 2.0)) / norm(&difference).max(f64::MIN_POSITIVE);
                    slopes.push((apart, difference / (2.0 * step)));
                }
                let size = norm(&here);
                let (slope, kink) = match slopes.as_slice() {
                    [(apart, long), (other, short)] if self.double => {
                        let (apart, slope) = if other < apart { (other, short) } else { (apart, long) };
                        (slope.clone(), *apart > DOUBLE_TOLERANCE)
                    }
                    // Richardson: the error of order h² cancels.
                    [(apart, long), (_, short)] => ((short * 4.0 - long) / 3.0, *apart > 10.0 * SINGLE_TOLERANCE),
                    _ => (here, false),
                };
                Ok(Slope { slope, size, kink })
            })
            .collect()
    }
}
