//! Fine-tunings as they are made of a request: every default filled in, every range checked, the samples split.

use crate::{
    dataset::Dataset,
    error::{Error, Reason, Result},
    gradient::compose::{Loss, Optimizer},
    knowledge::{Classes, stratified_folds},
    limits,
    scoring::{
        network::{Network, Training},
        types::{FineTuneMode, FineTuneOptimizer, FineTuneOptions},
    },
    training::{self, Split},
};

/// Defaults of an answer in seconds for a small network, and of no surprises. A head is trained for at least so many steps, or
/// else on few samples it would hardly have left its start.
const EPOCHS: usize = 20;
const HEAD_STEPS: usize = 500;
const BATCH_SIZE: usize = 32;
const MOMENTUM: f64 = 0.9;
const HELD_OUT: f64 = 0.25;
/// Learning rates of SGD and of AdamW.
const RATES: [f64; 2] = [0.01, 0.001];

/// A fine-tuning, checked.
#[derive(Clone, Debug)]
pub struct FineTunePlan {
    /// Nothing is left to a default.
    pub options: FineTuneOptions,
    /// A run for each.
    pub splits: Vec<Split>,
    /// Classes, or values of a target.
    pub n_outputs: usize,
    /// Each sample's class as an output of the model; 0 for all where there are targets.
    pub classes: Vec<u32>,
    /// The label of each output; empty where there are targets.
    pub labels: Vec<u32>,
    pub seed: u64,
    /// The options' path in the request.
    field: String,
}

impl FineTunePlan {
    /// Fills in defaults and splits the samples. `field` is the option's path in the request.
    ///
    /// # Errors
    /// [`Reason::OptionOutOfRange`], [`Reason::OptionUnsupported`], [`Reason::ProbeMismatch`] without at least two
    /// classes or targets, [`Reason::LimitExceeded`].
    pub fn new(options: &FineTuneOptions, probe: &Dataset, seed: u64, field: &str) -> Result<Self> {
        let Task { classes, labels, n_outputs } = Task::of(probe, options.keep_head)?;
        if options.augmentation.is_on() && probe.shape().len() != 3 {
            let message = "augmentation moves images, and these samples are none; leave flip and shift off";
            return Err(Error::new(Reason::OptionUnsupported, message).at(format!("{field}.augmentation")));
        }
        let options = resolved(options, probe.n_samples(), field)?;
        let mut splits = match options.folds {
            0 => vec![training::share(&classes, options.held_out.unwrap_or(HELD_OUT), seed)],
            n_folds => {
                let n_classes = classes.iter().max().map_or(0, |&largest| largest + 1);
                let fold_of = stratified_folds(&classes, n_classes, n_folds, seed).map_err(|cause| {
                    Error::new(Reason::OptionOutOfRange, cause.to_string()).at(format!("{field}.folds"))
                })?;
                training::folds(&fold_of, n_folds)
            }
        };
        if options.patience > 0 {
            let parted = splits.into_iter().enumerate();
            splits = parted.map(|(run, split)| split.with_validation(&classes, seed, run)).collect();
        }
        let classes = classes.into_iter().map(|class| class as u32).collect();
        let plan = FineTunePlan { options, splits, n_outputs, classes, labels, seed, field: field.to_owned() };
        if plan.splits.iter().any(|split| split.training.is_empty() || split.held_out.is_empty()) {
            let message = "the samples are too few to train on some and hold others out; give more";
            return Err(Error::new(Reason::ProbeMismatch, message).at(field));
        }
        if plan.n_passed() > limits::FINE_TUNE_SAMPLES {
            let message = format!(
                "{} samples would pass through the model, epoch by epoch, and the server allows {}; lower epochs, folds or \
                 max_samples",
                plan.n_passed(),
                limits::FINE_TUNE_SAMPLES
            );
            return Err(Error::new(Reason::LimitExceeded, message).at(format!("{field}.epochs")));
        }
        Ok(plan)
    }

    /// Samples that all runs train on, each as often as it is.
    pub fn n_passed(&self) -> u64 {
        let n_training: u64 = self.splits.iter().map(|split| split.training.len() as u64).sum();
        n_training.saturating_mul(self.options.epochs as u64)
    }

    /// Refuses a model whose training would not fit in memory, roughly estimated.
    ///
    /// # Errors
    /// [`Reason::LimitExceeded`].
    pub fn check_memory(&self, network: &Network, allowed: u64) -> Result<()> {
        let needed = self.run_bytes(network);
        if needed <= allowed {
            return Ok(());
        }
        let message = format!(
            "fine-tuning `{}` would take about {} MiB, the server allows {}; lower batch_size, or train the head alone",
            network.name(),
            needed >> 20,
            allowed >> 20
        );
        Err(self.under(Error::new(Reason::LimitExceeded, message).at("batch_size")))
    }

    /// What the runs that go on together take, in bytes.
    pub fn needed_bytes(&self, network: &Network, n_threads: usize) -> u64 {
        self.run_bytes(network).saturating_mul(self.splits.len().min(n_threads) as u64)
    }

    /// What a run takes, in bytes.
    fn run_bytes(&self, network: &Network) -> u64 {
        let whole = self.options.mode == FineTuneMode::Whole;
        // The forward passes of a head's features are those of any score.
        match whole || self.options.augmentation.is_on() {
            true => network.training_bytes(whole, self.optimizer(), self.options.batch_size),
            false => 0,
        }
    }

    /// An error about one of the options, with their path in front.
    pub fn under(&self, error: Error) -> Error {
        match error.field.clone() {
            Some(name) => error.at(format!("{}.{name}", self.field)),
            None => error,
        }
    }

    fn optimizer(&self) -> Optimizer {
        match self.options.optimizer {
            FineTuneOptimizer::Sgd => Optimizer::Sgd { nesterov: self.options.nesterov },
            FineTuneOptimizer::AdamW => Optimizer::AdamW,
        }
    }

    /// What the network is to be made ready for.
    pub fn training(&self, has_labels: bool) -> Training {
        let options = &self.options;
        Training {
            n_outputs: self.n_outputs,
            keep_head: options.keep_head,
            whole: options.mode == FineTuneMode::Whole,
            fixed_samples: !options.augmentation.is_on(),
            loss: if has_labels { Loss::SoftCrossEntropy } else { Loss::SquaredDeviation },
            optimizer: self.optimizer(),
            momentum: options.momentum.unwrap_or(MOMENTUM),
            weight_decay: options.weight_decay.unwrap_or(0.0),
            batch: options.batch_size,
            seed: self.seed,
        }
    }
}

/// What the outputs of a model are to say.
struct Task {
    /// Of each sample, 0..n_outputs; 0 for all where there are targets.
    classes: Vec<usize>,
    labels: Vec<u32>,
    n_outputs: usize,
}

impl Task {
    /// A new head has an output for each class that the samples have, in the order of their labels; a head that is kept has
    /// them where the labels say.
    fn of(probe: &Dataset, keep_head: bool) -> Result<Self> {
        let Some(labels) = probe.labels() else {
            return match probe.target_size() {
                0 => {
                    let message = "fine-tuning needs labels or targets, and the probe set has none";
                    Err(Error::new(Reason::ProbeMismatch, message))
                }
                n_outputs => Ok(Task { classes: vec![0; probe.n_samples()], labels: Vec::new(), n_outputs }),
            };
        };
        let classes = Classes::new(labels).map_err(|_| {
            let message = "all samples have the same class; fine-tuning needs at least two";
            Error::new(Reason::ProbeMismatch, message)
        })?;
        if keep_head {
            let n_outputs = probe.n_classes();
            let classes = labels.iter().map(|&label| label as usize).collect();
            return Ok(Task { classes, labels: (0..n_outputs as u32).collect(), n_outputs });
        }
        let of_samples = classes.of_samples().to_vec();
        Ok(Task { classes: of_samples, labels: classes.labels().to_vec(), n_outputs: classes.count() })
    }
}

fn resolved(options: &FineTuneOptions, n_samples: usize, field: &str) -> Result<FineTuneOptions> {
    let refuse = |reason, name: &str, message: String| Err(Error::new(reason, message).at(format!("{field}.{name}")));
    let counts = [
        ("epochs", options.epochs, limits::FINE_TUNE_EPOCHS),
        ("batch_size", options.batch_size, limits::FINE_TUNE_BATCH),
        ("folds", options.folds, limits::FOLDS),
        ("patience", options.patience, limits::FINE_TUNE_EPOCHS),
        ("shift", options.augmentation.shift, limits::FINE_TUNE_SHIFT),
    ];
    for (name, count, most) in counts {
        if count > most as usize {
            return refuse(Reason::OptionOutOfRange, name, format!("{count} is too many; give at most {most}"));
        }
    }
    let one = 1.0_f64.next_down();
    let least = f64::MIN_POSITIVE;
    let numbers = [
        ("learning_rate", options.learning_rate, least..=1e6, "a number above 0, at most 1e6"),
        ("weight_decay", options.weight_decay, 0.0..=1e6, "0 to 1e6"),
        ("momentum", options.momentum, 0.0..=one, "0 or more, below 1"),
        ("warm_up", options.warm_up, 0.0..=1.0, "a share of the steps, 0 to 1"),
        ("held_out", options.held_out, least..=one, "a share of the samples, above 0 and below 1"),
    ];
    for (name, number, range, allowed) in numbers {
        if let Some(number) = number.filter(|number| !range.contains(number)) {
            return refuse(Reason::OptionOutOfRange, name, format!("{name} is {number}; give {allowed}"));
        }
    }
    if options.folds == 1 {
        return refuse(Reason::OptionOutOfRange, "folds", "one fold holds all samples out; give 2 or more".to_owned());
    }
    if options.folds > 0 && options.held_out.is_some() {
        return refuse(
            Reason::OptionUnsupported,
            "held_out",
            "folds hold every sample out once; leave folds or held_out".to_owned(),
        );
    }
    let is_sgd = options.optimizer == FineTuneOptimizer::Sgd;
    let momentum = options.momentum.or(is_sgd.then_some(MOMENTUM));
    if !is_sgd && (options.nesterov || options.momentum.is_some()) {
        let message = "AdamW has its own momentum; leave momentum and nesterov to SGD".to_owned();
        return refuse(Reason::OptionUnsupported, "momentum", message);
    }
    if options.nesterov && momentum == Some(0.0) {
        let message = "Nesterov's method needs momentum; give one above 0".to_owned();
        return refuse(Reason::OptionUnsupported, "nesterov", message);
    }
    let or = |given: usize, default: usize| if given == 0 { default } else { given };
    let [sgd_rate, adam_rate] = RATES;
    let batch_size = or(options.batch_size, BATCH_SIZE);
    let epochs = match options.mode {
        FineTuneMode::Head => HEAD_STEPS.div_ceil(n_samples.div_ceil(batch_size).max(1)).max(EPOCHS),
        FineTuneMode::Whole => EPOCHS,
    };
    Ok(FineTuneOptions {
        epochs: or(options.epochs, epochs),
        batch_size,
        learning_rate: options.learning_rate.or(Some(if is_sgd { sgd_rate } else { adam_rate })),
        weight_decay: options.weight_decay.or(Some(0.0)),
        momentum,
        warm_up: options.warm_up.or(Some(0.0)),
        held_out: if options.folds == 0 { options.held_out.or(Some(HELD_OUT)) } else { None },
        ..options.clone()
    })
}
