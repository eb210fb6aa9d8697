//! A step of training around a model: its weights are inputs, and what they become is outputs.
//!
//! The optimisers are PyTorch's `torch.optim.SGD` and `torch.optim.AdamW`, operation by operation, so that the same
//! batches give the same weights up to rounding.

use super::{
    super::{
        builder::Builder,
        cut, differentiate,
        error::{GradientError, Result},
        graph::{Dim, Graph, ValueType},
        prune,
    },
    loss::{Loss, with_loss},
};

/// How weights follow their gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Optimizer {
    /// Stochastic gradient descent with momentum μ and weight decay λ:
    /// `g ← g + λw; m ← μm + g; w ← w − η·m`, with Nesterov's look ahead `w ← w − η·(g + μm)`.
    Sgd { nesterov: bool },
    /// Adam with decoupled weight decay (Loshchilov and Hutter 2019):
    /// `m ← β₁m + (1−β₁)g; v ← β₂v + (1−β₂)g²; w ← (1 − ηλ)w − η/(1−β₁ᵗ) · m/(√v/√(1−β₂ᵗ) + ε)`.
    AdamW,
}

/// What a step is tuned with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuning {
    /// η.
    pub rate: f64,
    /// μ, of SGD.
    pub momentum: f64,
    /// λ.
    pub weight_decay: f64,
}

/// β₁ and β₂ of AdamW.
const ADAM_DECAYS: [f64; 2] = [0.9, 0.999];
/// ε of AdamW.
const ADAM_EPSILON: f64 = 1e-8;

impl Optimizer {
    /// What is kept of each weight from step to step; zeros before the first.
    pub fn states(self) -> &'static [&'static str] {
        match self {
            Optimizer::Sgd { .. } => &["momentum"],
            Optimizer::AdamW => &["mean", "square"],
        }
    }

    /// The inputs of one number that tune a step, and what they are fed in step t, counted from 1: η, μ and λ; or η/(1−β₁ᵗ),
    /// 1 − ηλ and √(1−β₂ᵗ).
    pub fn settings(self, tuning: &Tuning, step: usize) -> [(&'static str, f64); 3] {
        let Tuning { rate, momentum, weight_decay } = *tuning;
        match self {
            Optimizer::Sgd { .. } => {
                [("training/rate", rate), ("training/momentum", momentum), ("training/decay", weight_decay)]
            }
            Optimizer::AdamW => {
                let [first, second] = ADAM_DECAYS.map(|decay| 1.0 - decay.powf(step as f64));
                [
                    ("training/step", rate / first),
                    ("training/kept", 1.0 - rate * weight_decay),
                    ("training/correction", second.sqrt()),
                ]
            }
        }
    }
}

/// The graph of one step of training that descends a loss of `output` in some weights of a model.
///
/// | inputs beside the model's | shape | |
/// |---|---|---|
/// | `target/<output>` | as the output | see [`Loss`] |
/// | `cotangent/loss` | `[batch]` | what each sample's loss counts: 1/n for a mean, 0 for padding |
/// | `<weight>` | the weight's | |
/// | `<state>/<weight>` | the weight's | for each of [`Optimizer::states`] |
/// | each of [`Optimizer::settings`] | `[1]` | |
///
/// | outputs | shape | |
/// |---|---|---|
/// | `loss` | `[batch]` | of each sample, before the step |
/// | `next/<weight>`, `next_<state>/<weight>` | the weight's | |
///
/// # Errors
/// As [`with_loss`] and [`super::super::vjp`]; where a weight is none of the model's constants.
pub fn training_step(graph: &Graph, output: &str, weights: &[&str], loss: Loss, optimizer: Optimizer) -> Result<Graph> {
    if let Some(other) = weights.iter().find(|weight| !graph.initializers.contains_key(**weight)) {
        return Err(GradientError::Request(format!("the model has no weight `{other}`")));
    }
    let descended = with_loss(graph, output, loss)?;
    let free = cut::cut_at(&descended, weights)?;
    let mut derived = differentiate::vjp(&free, weights, &["loss"])?;
    derived.outputs = vec!["loss".to_owned()];
    let mut builder = Builder::new(derived, "training");
    let settings = optimizer.settings(&Tuning { rate: 0.0, momentum: 0.0, weight_decay: 0.0 }, 1).map(|(name, _)| name);
    let element = builder.element("loss")?;
    for name in settings {
        builder.add_input(name, ValueType::new(element, vec![Dim::Known(1)]))?;
    }
    for &weight in weights {
        let gradient = format!("gradient/{weight}");
        let states = optimizer.states().iter();
        let states = states.map(|state| builder.add_input_like(&format!("{state}/{weight}"), weight));
        let states = states.collect::<Result<Vec<String>>>()?;
        let (next, next_states) = match (optimizer, states.as_slice()) {
            (Optimizer::Sgd { nesterov }, [momentum]) => {
                sgd(&mut builder, settings, weight, &gradient, momentum, nesterov)?
            }
            (Optimizer::AdamW, [mean, square]) => adam(&mut builder, settings, weight, &gradient, [mean, square])?,
            _ => return Err(GradientError::Request("an optimiser has other states".to_owned())),
        };
        builder.add_output(&format!("next/{weight}"), &next)?;
        for (state, value) in optimizer.states().iter().zip(&next_states) {
            builder.add_output(&format!("next_{state}/{weight}"), value)?;
        }
    }
    Ok(prune::pruned(builder.into_graph()))
}

fn sgd(
    builder: &mut Builder,
    [rate, kept, decay]: [&str; 3],
    weight: &str,
    gradient: &str,
    momentum: &str,
    nesterov: bool,
) -> Result<(String, Vec<String>)> {
    let decayed = builder.mul(weight, decay)?;
    let gradient = builder.add(gradient, &decayed)?;
    let before = builder.mul(momentum, kept)?;
    let momentum = builder.add(&before, &gradient)?;
    let direction = match nesterov {
        true => {
            let ahead = builder.mul(&momentum, kept)?;
            builder.add(&gradient, &ahead)?
        }
        false => momentum.clone(),
    };
    let change = builder.mul(&direction, rate)?;
    Ok((builder.sub(weight, &change)?, vec![momentum]))
}

fn adam(
    builder: &mut Builder,
    [step, kept, correction]: [&str; 3],
    weight: &str,
    gradient: &str,
    [mean, square]: [&str; 2],
) -> Result<(String, Vec<String>)> {
    let [first, second] = ADAM_DECAYS;
    // PyTorch moves the mean by its distance from the gradient.
    let distance = builder.sub(gradient, mean)?;
    let moved = builder.scaled(&distance, 1.0 - first)?;
    let mean = builder.add(mean, &moved)?;
    let before = builder.scaled(square, second)?;
    let squared = builder.mul(gradient, gradient)?;
    let added = builder.scaled(&squared, 1.0 - second)?;
    let square = builder.add(&before, &added)?;
    let root = builder.unary("Sqrt", &square)?;
    let root = builder.div(&root, correction)?;
    let divisor = builder.shifted(&root, ADAM_EPSILON)?;
    let direction = builder.div(&mean, &divisor)?;
    let change = builder.mul(&direction, step)?;
    let shrunk = builder.mul(weight, kept)?;
    Ok((builder.sub(&shrunk, &change)?, vec![mean, square]))
}
