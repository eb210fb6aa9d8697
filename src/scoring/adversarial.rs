//! Adversarial examples of one network or of several, and what other networks make of them.
//!
//! Samples are attacked tile by tile and handed on as they are done, so that memory does not grow with their number.

use std::sync::Arc;

use ndarray::{Array2, ArrayView2, Axis, Slice, Zip};

use crate::{
    attack::{Norm, PixelRange, TargetClass, argmax},
    cancel::Cancel,
    dataset::Dataset,
    error::{Error, Reason, Result},
    limits,
    registry::OutputKind,
    runtime::Runtime,
    scoring::{
        attack_plan::{AttackPlan, EmpiricalAttack},
        empirical::{Attack, Attacked, Job, mean_outputs},
        network::Network,
        types::*,
    },
};

/// Arrays of a sample's size that are held for each radius: it, its gradient, momentum, best, and what is told.
const ARRAYS_OF_SAMPLE: usize = 8;

/// The parts of the work, checked.
pub struct Undertaking {
    pub plan: EmpiricalAttack,
    pub pooling: Pooling,
    pub probe: Dataset,
    pub sources: Vec<Arc<Network>>,
    pub evaluated: Vec<Arc<Network>>,
    pub seed: u64,
    pub batch_size: usize,
    pub with_clean_samples: bool,
}

impl AdversarialRequest {
    /// The attack that the request asks for.
    ///
    /// # Errors
    /// Those of [`AttackPlan::new`]; [`Reason::OptionUnsupported`] for the virtual attack.
    pub(super) fn plan(&self) -> Result<(AttackPlan, EmpiricalAttack)> {
        let plan = AttackPlan::new(&self.attack)?;
        match &plan {
            AttackPlan::Empirical(attack) => Ok((plan.clone(), attack.clone())),
            AttackPlan::Virtual(_) => {
                let message = "the virtual attack gives directions, not examples; choose another attack, such as PGD";
                Err(Error::new(Reason::OptionUnsupported, message).at("attack.method"))
            }
        }
    }
}

impl Undertaking {
    /// Refuses models that cannot tell what the attack is about.
    ///
    /// # Errors
    /// [`Reason::OptionUnsupported`].
    pub fn check(&self) -> Result<()> {
        let needs_same_classes = self.plan.use_labels || self.plan.target.is_some();
        let n_classes = self.sources.first().map_or(0, |source| source.n_outputs());
        let refused = |message: String| Err(Error::new(Reason::OptionUnsupported, message).at("evaluated_models"));
        for network in &self.evaluated {
            if network.output_kind() != OutputKind::Logits {
                return refused(format!("model `{}` gives no logits, so no class tells of success", network.name()));
            }
            if needs_same_classes && network.n_outputs() != n_classes {
                return refused(format!(
                    "model `{}` has {} classes where the attacked model has {n_classes}; leave use_labels and target out",
                    network.name(),
                    network.n_outputs()
                ));
            }
        }
        Ok(())
    }

    /// What the attack needs in all beside what a tile takes inside a model, in bytes.
    pub fn needed_bytes(&self) -> u64 {
        let n_inputs: usize = self.probe.shape().iter().product();
        let n_arrays = ARRAYS_OF_SAMPLE * self.plan.radii.len().max(1);
        self.probe.size_bytes() + (self.batch_size * n_inputs * n_arrays * size_of::<f32>()) as u64
    }

    /// Attacks every sample.
    ///
    /// # Errors
    /// Those of the attack, and [`Reason::Cancelled`].
    pub fn run(
        &self,
        runtime: &Runtime,
        on_event: &mut (dyn FnMut(AdversarialEvent) + Send),
        cancel: &Cancel,
    ) -> Result<Vec<RadiusSummary>> {
        let height = self.sources.first().map_or(1, |source| source.tile());
        let samples: Vec<usize> = (0..self.probe.n_samples()).collect();
        let tiles: Vec<&[usize]> = samples.chunks(height).collect();
        let mut totals: Vec<Totals> = Vec::new();
        let stage = self.sources.iter().map(|source| source.name()).collect::<Vec<_>>().join(" + ");
        let mut done = 0;
        let work = |samples: &&[usize]| {
            cancel.check()?;
            Ok((samples.len(), self.tile(samples, cancel)?))
        };
        runtime.workers().in_order(&tiles, self.batch_size.div_ceil(height), work, |(n_samples, variants)| {
            totals.resize_with(variants.len(), Totals::default);
            for (total, examples) in totals.iter_mut().zip(variants) {
                total.add(&examples);
                chunks(examples).for_each(|chunk| on_event(AdversarialEvent::Examples(Box::new(chunk))));
            }
            done += n_samples as u64;
            let total = self.probe.n_samples() as u64;
            on_event(AdversarialEvent::Progress(Progress { done, total, stage: stage.clone() }));
            cancel.check()
        })?;
        Ok(totals.into_iter().map(Totals::summary).collect())
    }

    /// The examples of a tile, for each radius.
    fn tile(&self, samples: &[usize], cancel: &Cancel) -> Result<Vec<AdversarialExamples>> {
        let rows = self.probe.samples(samples);
        let outputs = |networks: &[Arc<Network>], rows: ArrayView2<'_, f32>| {
            networks.iter().map(|network| Ok(network.outputs(rows)?.outputs)).collect::<Result<Vec<Array2<f32>>>>()
        };
        let (clean, clean_others) = (outputs(&self.sources, rows.view())?, outputs(&self.evaluated, rows.view())?);
        let sources: Vec<Attacked<'_>> = self
            .sources
            .iter()
            .zip(&clean)
            .map(|(network, outputs)| Attacked { network, outputs: outputs.view() })
            .collect();
        let job = Job {
            plan: &self.plan,
            seed: self.seed,
            sources: &sources,
            pooling: self.pooling,
            rows: rows.view(),
            samples,
            probe: &self.probe,
            cancel,
        };
        let attack = Attack::new(&job)?;
        let has_logits = self.sources.iter().all(|source| source.output_kind() == OutputKind::Logits);
        let clean_mean = mean_outputs(&sources).filter(|_| has_logits);
        let labels = self.probe.labels().unwrap_or_default();
        let labels: Vec<u32> = samples.iter().filter_map(|&sample| labels.get(sample).copied()).collect();
        let aims = self.aims(&attack, &labels);
        let radii = self.plan.radii.iter().copied().map(Some).chain(self.plan.radii.is_empty().then_some(None));
        let mut variants = Vec::new();
        for (radius, perturbations) in radii.zip(attack.perturbations()?) {
            let range = if self.probe.is_pixels() { PixelRange::Unit } else { PixelRange::Unbounded };
            let mut attacked = &rows + &perturbations;
            // The sum may round to beyond the range.
            attacked.mapv_inplace(|pixel| range.clip(pixel));
            let (losses, mean) = attack.losses(attacked.view())?;
            let others = outputs(&self.evaluated, attacked.view())?;
            let evaluated = self.evaluated.iter().zip(&clean_others).zip(&others);
            variants.push(AdversarialExamples {
                radius,
                shape: self.probe.shape().to_vec(),
                indices: samples.iter().map(|&sample| self.probe.place(sample)).collect(),
                l2_norms: lengths(Norm::L2, &attacked, &rows),
                linf_norms: lengths(Norm::Linf, &attacked, &rows),
                losses,
                labels: labels.clone(),
                attacked: clean_mean.as_ref().map(|clean| reading("", clean, &mean, &aims)),
                evaluated: evaluated
                    .map(|((network, clean), attacked)| reading(network.name(), clean, attacked, &aims))
                    .collect(),
                samples: attacked,
                clean_samples: self.with_clean_samples.then(|| rows.clone()),
            });
        }
        Ok(variants)
    }

    /// What counts as success, sample by sample.
    fn aims(&self, attack: &Attack<'_>, labels: &[u32]) -> Vec<Aim> {
        let goal = attack.goal();
        let n_rows = attack.n_rows();
        match (self.plan.target, goal) {
            (Some(TargetClass::Given(class)), _) => vec![Aim::Reach(class); n_rows],
            (Some(_), Some(goal)) => goal.classes().iter().map(|&class| Aim::Reach(class)).collect(),
            _ if self.plan.use_labels => labels.iter().map(|&label| Aim::Leave(label as usize)).collect(),
            _ => vec![Aim::Change; n_rows],
        }
    }
}

/// What counts as success on a sample.
#[derive(Clone, Copy)]
enum Aim {
    Reach(usize),
    Leave(usize),
    /// Leave the model's own clean class.
    Change,
}

impl Aim {
    fn is_met(self, clean: usize, class: usize) -> bool {
        match self {
            Aim::Reach(aim) => class == aim,
            Aim::Leave(label) => class != label,
            Aim::Change => class != clean,
        }
    }
}

fn reading(model: &str, clean: &Array2<f32>, attacked: &Array2<f32>, aims: &[Aim]) -> ModelReading {
    let classes =
        |outputs: &Array2<f32>| -> Vec<usize> { outputs.rows().into_iter().map(|row| argmax(row.iter())).collect() };
    let (clean_classes, adversarial_classes) = (classes(clean), classes(attacked));
    let met = |classes: &[usize]| -> Vec<bool> {
        aims.iter().zip(&clean_classes).zip(classes).map(|((aim, &clean), &class)| aim.is_met(clean, class)).collect()
    };
    ModelReading {
        model: model.to_owned(),
        successes: met(&adversarial_classes),
        clean_successes: met(&clean_classes),
        clean_classes,
        adversarial_classes,
    }
}

/// The length of each perturbation.
fn lengths(norm: Norm, attacked: &Array2<f32>, rows: &Array2<f32>) -> Vec<f64> {
    let mut lengths = Vec::with_capacity(rows.nrows());
    Zip::from(attacked.rows()).and(rows.rows()).for_each(|attacked, row| {
        let delta: Vec<f32> = attacked.iter().zip(row).map(|(attacked, clean)| attacked - clean).collect();
        lengths.push(norm.length(&delta));
    });
    lengths
}

/// Examples in pieces of at most [`limits::CHUNK_BYTES`] of pixels, but of one sample at least.
fn chunks(examples: AdversarialExamples) -> impl Iterator<Item = AdversarialExamples> {
    let sample_bytes = (examples.samples.ncols() * size_of::<f32>()).max(1);
    let height = (limits::CHUNK_BYTES / sample_bytes).max(1);
    let n_rows = examples.samples.nrows();
    (0..n_rows).step_by(height).map(move |start| {
        fn some<T: Clone>(list: &[T], start: usize, height: usize) -> Vec<T> {
            list.iter().skip(start).take(height).cloned().collect()
        }
        let part = |reading: &ModelReading| ModelReading {
            model: reading.model.clone(),
            clean_classes: some(&reading.clean_classes, start, height),
            adversarial_classes: some(&reading.adversarial_classes, start, height),
            successes: some(&reading.successes, start, height),
            clean_successes: some(&reading.clean_successes, start, height),
        };
        let rows = Slice::from(start..(start + height).min(n_rows));
        AdversarialExamples {
            radius: examples.radius,
            shape: examples.shape.clone(),
            indices: some(&examples.indices, start, height),
            samples: examples.samples.slice_axis(Axis(0), rows).to_owned(),
            clean_samples: examples.clean_samples.as_ref().map(|clean| clean.slice_axis(Axis(0), rows).to_owned()),
            l2_norms: some(&examples.l2_norms, start, height),
            linf_norms: some(&examples.linf_norms, start, height),
            losses: some(&examples.losses, start, height),
            labels: some(&examples.labels, start, height),
            attacked: examples.attacked.as_ref().map(part),
            evaluated: examples.evaluated.iter().map(part).collect(),
        }
    })
}

/// Sums over the samples of one radius, in their order.
#[derive(Default)]
struct Totals {
    radius: Option<f64>,
    n_samples: usize,
    l2_norm: f64,
    linf_norm: f64,
    loss: f64,
    attacked: Option<Successes>,
    evaluated: Vec<Successes>,
}

#[derive(Default)]
struct Successes {
    model: String,
    attacked: usize,
    clean: usize,
}

impl Totals {
    fn add(&mut self, examples: &AdversarialExamples) {
        self.radius = examples.radius;
        self.n_samples += examples.indices.len();
        self.l2_norm += examples.l2_norms.iter().sum::<f64>();
        self.linf_norm += examples.linf_norms.iter().sum::<f64>();
        self.loss += examples.losses.iter().sum::<f64>();
        if let Some(reading) = &examples.attacked {
            self.attacked.get_or_insert_default().add(reading);
        }
        self.evaluated.resize_with(examples.evaluated.len(), Successes::default);
        self.evaluated.iter_mut().zip(&examples.evaluated).for_each(|(total, reading)| total.add(reading));
    }

    fn summary(self) -> RadiusSummary {
        let n_samples = self.n_samples.max(1) as f64;
        let rate = |successes: Successes| SuccessRate {
            model: successes.model,
            rate: successes.attacked as f64 / n_samples,
            clean_rate: successes.clean as f64 / n_samples,
        };
        RadiusSummary {
            radius: self.radius,
            mean_l2_norm: self.l2_norm / n_samples,
            mean_linf_norm: self.linf_norm / n_samples,
            mean_loss: self.loss / n_samples,
            attacked: self.attacked.map(rate),
            evaluated: self.evaluated.into_iter().map(rate).collect(),
        }
    }
}

impl Successes {
    fn add(&mut self, reading: &ModelReading) {
        self.model.clone_from(&reading.model);
        self.attacked += reading.successes.iter().filter(|&&success| success).count();
        self.clean += reading.clean_successes.iter().filter(|&&success| success).count();
    }
}
