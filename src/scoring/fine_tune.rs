//! Fine-tuning, measured: a source is trained on some samples of the task and judged on others.
//!
//! Invariant: the samples that judge have no say in what is trained, nor in when it stops. Runs differ in their samples
//! alone: the head's start and the order's seed are the same for every source of a call.

use std::sync::{Mutex, PoisonError};

use ndarray::{Array1, Array2, ArrayView2, Axis};

use crate::{
    cancel::Cancel,
    dataset::Dataset,
    error::{Error, Reason, Result},
    registry::{OutputKind, Snapshot},
    runtime::{Runtime, Workers},
    scoring::{
        describe,
        fine_tune_plan::FineTunePlan,
        network::{Course, Examples, Network, Trained, Trainee, in_float32},
        pair::Call,
        passes::Meeting,
        rows::Rows,
        types::{Epoch, Estimate, FineTuneOptions, FineTuneScores, Progress, RunLength},
    },
    stats::{self, Resamples},
    training::{Judgement, Patience, Schedule, Split, Truth, Units, Verdict, batches},
};

/// A fine-tuning of one model.
pub struct FineTuning<'a> {
    pub plan: &'a FineTunePlan,
    pub probe: &'a Dataset,
    /// Samples x features of the model; needed where it is trained on them.
    pub features: Option<ArrayView2<'a, f32>>,
    pub resamples: &'a Resamples,
    pub cancel: &'a Cancel,
    /// Told how many samples were passed.
    pub advance: &'a (dyn Fn(usize) + Sync),
}

/// What a run gives.
struct Run {
    weights: Trained,
    length: RunLength,
    curve: Vec<Epoch>,
    /// Of the held-out samples, in their order.
    judgements: Vec<Judgement>,
}

impl FineTuning<'_> {
    /// Trains a run for each split, side by side, and judges them. Gives the first run's weights too.
    ///
    /// # Errors
    /// Those of [`Trainee::train`].
    pub fn measured(&self, trainee: &Trainee<'_>, workers: &Workers) -> Result<(FineTuneScores, Trained)> {
        let numbers: Vec<usize> = (0..self.plan.splits.len()).collect();
        let mut runs = Vec::with_capacity(numbers.len());
        let work = |&number: &usize| match self.plan.splits.get(number) {
            Some(split) => self.run(trainee, split, number),
            None => Err(Error::new(Reason::Internal, "a fine-tuning without samples")),
        };
        workers.trainings(&numbers, work, |run| {
            runs.push(run);
            Ok(())
        })?;
        let scores = self.scores(trainee, &runs)?;
        let first = runs.into_iter().next().map(|run| run.weights);
        Ok((scores, first.ok_or_else(|| Error::new(Reason::Internal, "a fine-tuning without runs"))?))
    }

    fn run(&self, trainee: &Trainee<'_>, split: &Split, number: usize) -> Result<Run> {
        let options = &self.plan.options;
        let seed = self.plan.seed;
        let n_batches = split.training.len().div_ceil(trainee.batch().max(1));
        let steps = n_batches * options.epochs;
        // A kept head predicts in the targets' own units.
        let units = self.probe.targets().filter(|_| !options.keep_head);
        let units = units.map(|targets| Units::of(targets.select(Axis(0), &split.training).view()));
        let schedule = Schedule {
            shape: options.schedule,
            peak: trainee.rate(options.learning_rate.unwrap_or_default(), options.batch_size),
            steps,
            warm_up: (options.warm_up.unwrap_or_default() * steps as f64).round() as usize,
        };
        let course = Course {
            schedule,
            epochs: options.epochs,
            batches: &|epoch| batches(&split.training, trainee.batch(), seed, number, epoch),
            examples: &|epoch, samples| Examples {
                rows: self.augmented(trainee, epoch, samples),
                targets: match &units {
                    Some(units) => units.counted(&self.targets(samples)),
                    None => self.targets(samples),
                },
            },
            cancel: self.cancel,
            advance: self.advance,
        };
        let mut patience = Patience::new(options.patience);
        let mut kept: Option<(usize, Trained, Vec<Judgement>)> = None;
        let mut curve = Vec::new();
        trainee.train(&course, |epoch, training_loss, weights| {
            let (training_loss, weights) = match &units {
                Some(units) => (units.squared(training_loss), trainee.in_units(weights, units)),
                None => (training_loss, weights),
            };
            let judged = self.judged(trainee, &split.held_out, &weights, epoch, schedule.peak)?;
            let (held_out_loss, held_out_accuracy) = means(&judged);
            let learning_rate = schedule.rate((epoch * n_batches).saturating_sub(1));
            curve.push(Epoch { number: epoch, learning_rate, training_loss, held_out_loss, held_out_accuracy });
            let verdict = match options.patience {
                0 => Verdict::Best,
                _ => {
                    let judged = self.judged(trainee, &split.validation, &weights, epoch, schedule.peak)?;
                    patience.observe(means(&judged).0)
                }
            };
            if verdict == Verdict::Best {
                kept = Some((epoch, weights, judged));
            }
            Ok(verdict != Verdict::Stop)
        })?;
        let (best, weights, judgements) =
            kept.ok_or_else(|| Error::new(Reason::Internal, "a fine-tuning without epochs"))?;
        Ok(Run { weights, length: RunLength { best, run: curve.len() }, curve, judgements })
    }

    /// What a model is trained on: features as they are, or samples, changed at random where that is asked for.
    fn augmented(&self, trainee: &Trainee<'_>, epoch: usize, samples: &[usize]) -> Array2<f32> {
        let mut rows = self.rows(trainee, samples);
        let augmentation = self.plan.options.augmentation;
        if augmentation.is_on() && !trainee.takes_features() {
            for (row, &sample) in rows.rows_mut().into_iter().zip(samples) {
                if let Some(pixels) = row.into_slice() {
                    augmentation.apply(pixels, self.probe.shape(), self.plan.seed, epoch, sample);
                }
            }
        }
        rows
    }

    fn rows(&self, trainee: &Trainee<'_>, samples: &[usize]) -> Array2<f32> {
        match self.features.filter(|_| trainee.takes_features()) {
            Some(features) => features.select(Axis(0), samples),
            None => self.probe.samples(samples),
        }
    }

    /// One-hot rows for labels, else the targets themselves.
    fn targets(&self, samples: &[usize]) -> Array2<f32> {
        if let Some(targets) = self.probe.targets() {
            return targets.select(Axis(0), samples);
        }
        let own = |row: usize| samples.get(row).and_then(|&sample| self.plan.classes.get(sample));
        Array2::from_shape_fn((samples.len(), self.plan.n_outputs), |(row, class)| {
            let is_own = own(row).is_some_and(|&own| own as usize == class);
            if is_own { 1.0 } else { 0.0 }
        })
    }

    fn judged(
        &self,
        trainee: &Trainee<'_>,
        samples: &[usize],
        weights: &Trained,
        epoch: usize,
        rate: f64,
    ) -> Result<Vec<Judgement>> {
        let targets = self.probe.targets();
        let truth = match (self.probe.labels(), &targets) {
            (Some(_), _) => Truth::Classes(&self.plan.classes),
            (None, Some(targets)) => Truth::Values(targets.view()),
            (None, None) => return Err(Error::new(Reason::Internal, "a fine-tuning without a task")),
        };
        let mut judged = Vec::with_capacity(samples.len());
        for part in samples.chunks(trainee.batch().max(1)) {
            let predictions = trainee.outputs(self.rows(trainee, part).view(), weights)?;
            for (&sample, prediction) in part.iter().zip(predictions.rows()) {
                judged.push(truth.judge(sample, prediction).ok_or_else(|| trainee.diverged(epoch, rate))?);
            }
        }
        Ok(judged)
    }

    fn scores(&self, trainee: &Trainee<'_>, runs: &[Run]) -> Result<FineTuneScores> {
        let n = self.probe.n_samples();
        let (mut losses, mut hits) = (vec![None; n], vec![None; n]);
        for (run, split) in runs.iter().zip(&self.plan.splits) {
            for (&sample, judgement) in split.held_out.iter().zip(&run.judgements) {
                if let (Some(loss), Some(hit)) = (losses.get_mut(sample), hits.get_mut(sample)) {
                    *loss = Some(judgement.loss);
                    *hit = judgement.hit;
                }
            }
        }
        let failed = |cause: stats::Error| Error::new(Reason::ModelExecutionFailed, cause.to_string());
        let loss = self.resamples.mean_of_live(&losses).map_err(failed)?;
        let has_labels = self.probe.labels().is_some();
        let accuracy = has_labels.then(|| self.resamples.share(&hits)).transpose().map_err(failed)?;
        let r2 = (!has_labels).then(|| self.r2(&losses)).flatten();
        let (cross_entropy, mean_squared_error) = if has_labels { (Some(loss), None) } else { (None, Some(loss)) };
        let largest = |size: fn(&Split) -> usize| self.plan.splits.iter().map(size).max().unwrap_or(0);
        let given = &self.plan.options;
        let learning_rate = given.learning_rate.map(|rate| trainee.rate(rate, given.batch_size));
        let options = FineTuneOptions { batch_size: trainee.batch(), learning_rate, ..given.clone() };
        Ok(FineTuneScores {
            accuracy,
            cross_entropy,
            r2: r2.transpose()?,
            mean_squared_error,
            majority_accuracy: self.probe.labels().map(|labels| majority(labels, &losses)),
            runs: runs.iter().map(|run| run.length).collect(),
            curve: mean_curve(runs),
            n_trained: trainee.n_trained(),
            n_training_samples: largest(|split| split.training.len()),
            n_held_out_samples: losses.iter().flatten().count(),
            options,
        })
    }

    /// 1 − Σ‖y − ŷ‖²/Σ‖y − ȳ‖² over the samples that have a loss; `None` where their targets do not vary.
    fn r2(&self, losses: &[Option<f64>]) -> Option<Result<Estimate>> {
        let targets = self.probe.targets()?.mapv(f64::from);
        let width = targets.ncols().max(1) as f64;
        let live: Vec<usize> = losses.iter().enumerate().filter_map(|(at, loss)| loss.map(|_| at)).collect();
        let mean = targets.select(Axis(0), &live).mean_axis(Axis(0))?;
        let squared = |at: usize| targets.row(at).iter().zip(&mean).map(|(y, mean)| (y - mean).powi(2)).sum::<f64>();
        let total = losses.iter().enumerate().map(|(at, loss)| if loss.is_some() { squared(at) / width } else { 0.0 });
        let total = Array1::from_iter(total);
        let residual: Array1<f64> = losses.iter().map(|loss| loss.unwrap_or(0.0)).collect();
        if total.sum() <= 0.0 {
            return None;
        }
        let estimate = self.resamples.ratio(residual.view(), total.view(), |ratio| 1.0 - ratio);
        Some(estimate.map_err(|cause| Error::new(Reason::ModelExecutionFailed, cause.to_string())))
    }
}

/// Mean loss, and mean accuracy where there are classes.
fn means(judged: &[Judgement]) -> (f64, Option<f64>) {
    let n = judged.len().max(1) as f64;
    let hits: Option<f64> = judged.iter().map(|one| one.hit.map(|hit| f64::from(u8::from(hit)))).sum();
    (judged.iter().map(|one| one.loss).sum::<f64>() / n, hits.map(|hits| hits / n))
}

/// Share of the most frequent class of the samples that have a loss.
fn majority(labels: &[u32], losses: &[Option<f64>]) -> f64 {
    let mut live: Vec<u32> = labels.iter().zip(losses).filter(|(_, loss)| loss.is_some()).map(|(&y, _)| y).collect();
    live.sort_unstable();
    let most = live.chunk_by(|a, b| a == b).map(<[u32]>::len).max().unwrap_or(0);
    most as f64 / live.len().max(1) as f64
}

/// The means of the runs' curves, over those that came as far.
fn mean_curve(runs: &[Run]) -> Vec<Epoch> {
    let longest = runs.iter().map(|run| run.curve.len()).max().unwrap_or(0);
    let point = |at: usize| {
        let points: Vec<Epoch> = runs.iter().filter_map(|run| run.curve.get(at).copied()).collect();
        let n = points.len().max(1) as f64;
        let mean = |of: fn(&Epoch) -> f64| points.iter().map(of).sum::<f64>() / n;
        let accuracies: Option<f64> = points.iter().map(|point| point.held_out_accuracy).sum();
        Epoch {
            number: at + 1,
            learning_rate: mean(|point| point.learning_rate),
            training_loss: mean(|point| point.training_loss),
            held_out_loss: mean(|point| point.held_out_loss),
            held_out_accuracy: accuracies.map(|sum| sum / n),
        }
    };
    (0..longest).map(point).collect()
}

/// The fine-tuning of a source in a ranking, on the features that were computed for the other measures.
///
/// # Errors
/// Those of [`FineTuning::measured`].
pub fn of_source(call: &Call<'_>, source: &Network, meeting: &Meeting) -> Result<FineTuneScores> {
    let plan = call.fine_tune.ok_or_else(|| Error::new(Reason::Internal, "a fine-tuning without a plan"))?;
    let setting = call.setting;
    let tuning = FineTuning {
        plan,
        probe: setting.probe,
        features: Some(meeting.source.features.view()),
        resamples: setting.resamples,
        cancel: setting.cancel,
        advance: &|n_samples| (setting.advance)(source.name(), n_samples),
    };
    let measured = source
        .trainee(plan.training(setting.probe.labels().is_some()))
        .and_then(|trainee| tuning.measured(&trainee, setting.workers));
    measured.map(|(scores, _)| scores).map_err(|error| plan.under(error))
}

/// A fine-tuning whose model is wanted.
pub struct Refinement<'a> {
    pub plan: &'a FineTunePlan,
    pub probe: &'a Dataset,
    pub network: &'a Network,
    pub resamples: &'a Resamples,
}

impl Refinement<'_> {
    /// The scores, and the model as the bytes of its file and the text of its manifest.
    ///
    /// # Errors
    /// Those of [`FineTuning::measured`].
    pub fn run(
        &self,
        runtime: &Runtime,
        snapshot: &Snapshot,
        on_progress: &mut (dyn FnMut(Progress) + Send),
        cancel: &Cancel,
    ) -> Result<(FineTuneScores, Vec<u8>, String)> {
        let Refinement { plan, probe, network, resamples } = *self;
        let under = |error| plan.under(error);
        let trainee = network.trainee(plan.training(probe.labels().is_some())).map_err(under)?;
        let features = if trainee.takes_features() { Some(self.features(runtime, cancel)?) } else { None };
        let told = Mutex::new((0, on_progress));
        let advance = |n_samples: usize| {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            told.0 += n_samples as u64;
            let progress = Progress { done: told.0, total: plan.n_passed(), stage: network.name().to_owned() };
            (told.1)(progress);
        };
        let features = features.as_ref().map(|rows| rows.view());
        let tuning = FineTuning { plan, probe, features, resamples, cancel, advance: &advance };
        let (scores, weights) = tuning.measured(&trainee, runtime.workers()).map_err(under)?;
        let graph = in_float32(&describe::parse(snapshot)?)
            .map_err(|cause| Error::new(Reason::ModelInvalid, format!("model `{}`: {cause}", network.name())))?;
        let mut manifest = snapshot.manifest().clone();
        let dataset = if probe.name().is_empty() { "samples of a request" } else { probe.name() };
        let before = if manifest.summary.is_empty() { "" } else { "; before: " };
        manifest.summary = format!("{} fine-tuned on {dataset}{before}{}", network.name(), manifest.summary);
        manifest.output.accuracy = scores.accuracy.as_ref().map(|accuracy| accuracy.value);
        if !plan.options.keep_head {
            let kind = if probe.labels().is_some() { OutputKind::Logits } else { OutputKind::Embedding };
            manifest.output.kind = Some(kind);
            // Numbers tell the outputs' labels where these are not simply 0, 1, 2 and so on.
            let has_gaps = plan.labels.iter().zip(0..).any(|(&label, place)| label != place);
            manifest.output.classes = plan.labels.iter().filter(|_| has_gaps).map(u32::to_string).collect();
        }
        Ok((scores, trainee.file(&graph, &weights)?, manifest.to_toml()))
    }

    /// The model's features of every sample.
    fn features(&self, runtime: &Runtime, cancel: &Cancel) -> Result<Array2<f32>> {
        let samples: Vec<usize> = (0..self.probe.n_samples()).collect();
        let tiles: Vec<&[usize]> = samples.chunks(self.network.tile()).collect();
        let mut rows = Rows::default();
        let work = |samples: &&[usize]| {
            cancel.check()?;
            Ok::<_, Error>(self.network.outputs(self.probe.samples(samples).view())?.features)
        };
        let mut first = 0;
        runtime.workers().in_order(&tiles, tiles.len(), work, |features: Array2<f32>| {
            rows.put(self.probe.n_samples(), first..first + features.nrows(), features.view());
            first += features.nrows();
            Ok(())
        })?;
        Ok(rows.view().to_owned())
    }
}
