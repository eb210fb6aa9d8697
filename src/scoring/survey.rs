//! One reference, some sources, one probe set: the work of a pair or a ranking, from checked parts to rows.

use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use crate::{
    cancel::Cancel,
    dataset::Dataset,
    error::{Error, Kind, Reason, Result},
    limits,
    metric::GradientMoments,
    registry::{Digest, VersionCache},
    runtime::Runtime,
    scoring::{
        attack_plan::AttackPlan,
        fine_tune_plan::FineTunePlan,
        network::Network,
        pair::{self, Call},
        passes::{self, Meeting, OwnRecord, Setting},
        types::*,
        units::{self, Units},
    },
    stats::Resamples,
    telemetry::{Stage, timed},
};

/// The parts of the work, checked.
pub struct Survey {
    pub options: ScoreOptions,
    pub plan: AttackPlan,
    pub n_probes: usize,
    pub probe: Dataset,
    pub probe_digest: String,
    pub dropped: Vec<DroppedSamples>,
    pub reference: Arc<Network>,
    pub sources: Vec<Arc<Network>>,
    pub skipped: Vec<SkippedSource>,
    /// Whether a source that cannot be scored is left out with the reason, as where the request names no sources, or ends the
    /// call.
    pub leaves_out: bool,
    pub resamples: Resamples,
    /// Where sources are to be fine-tuned.
    pub fine_tune: Option<FineTunePlan>,
    pub batch_size: usize,
    pub group_bytes: usize,
}

/// Answers of earlier calls, by what they were computed from.
pub type Answers = VersionCache<(), PairScores>;

/// Where sources may be known from.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    pub answers: &'a Answers,
    pub units: &'a dyn Units,
}

impl Known<'_> {
    /// A source's scores, where a unit or an earlier answer has them.
    ///
    /// # Errors
    /// Those of the units.
    fn get(&self, key: &str, source: &Network) -> Result<Outcome> {
        if let Some(scores) = units::kept(self.units, key) {
            return Ok(Outcome::Known(Arc::new(scores)));
        }
        let Some(scores) = self.answers.get(key, &()) else { return Ok(Outcome::Open) };
        units::keep(self.units, key, source.name(), || PairScores::clone(&scores))?;
        Ok(Outcome::Known(scores))
    }

    fn put(&self, key: &str, source: &Network, scores: &Arc<PairScores>, bytes: u64) -> Result<()> {
        self.answers.put(key, (), scores, bytes);
        units::keep(self.units, key, source.name(), || PairScores::clone(scores))
    }
}

/// What an answer counts as in the cache, in bytes, beside the resampled values of its estimates.
const ANSWER_BYTES: u64 = 16 << 10;
/// Estimates of an answer, and of each variant of the attack.
const ESTIMATES: usize = 12;
const ESTIMATES_OF_VARIANT: usize = 24;

/// Scored sources, by name.
pub type Rows = Vec<(String, PairScores)>;

/// What has become of a source.
enum Outcome {
    Open,
    Known(Arc<PairScores>),
    LeftOut(Error),
}

/// Whether an error is one source's own, which leaves the others as they are.
fn is_of_source(error: &Error) -> bool {
    matches!(error.kind(), Kind::InvalidArgument | Kind::FailedPrecondition)
}

/// Counts finished samples for whoever watches.
struct Meter<'a> {
    done: u64,
    total: u64,
    on_event: &'a mut (dyn FnMut(RankingEvent) + Send),
}

impl Meter<'_> {
    fn advance(&mut self, stage: &str, n_rows: usize) {
        self.done += n_rows as u64;
        let progress = Progress { done: self.done, total: self.total, stage: stage.to_owned() };
        (self.on_event)(RankingEvent::Progress(progress));
    }
}

/// Output probes of gradient matching.
///
/// # Errors
/// [`Reason::OptionOutOfRange`].
pub fn n_probes(options: &MatchingOptions) -> Result<usize> {
    match options.n_probes {
        0 => Ok(limits::OUTPUT_PROBES),
        1 => {
            let message = "one probe has no standard error; give 2 or more";
            Err(Error::new(Reason::OptionOutOfRange, message).at("gradient_matching.n_probes"))
        }
        probes if probes > limits::JACOBIAN_ROWS => {
            let message = format!("{probes} probes are too many; give 2 to {}", limits::JACOBIAN_ROWS);
            Err(Error::new(Reason::OptionOutOfRange, message).at("gradient_matching.n_probes"))
        }
        probes => Ok(probes),
    }
}

/// Sources that are worked on together. With several groups of samples, sources are finished with the last of them only:
/// where finished ones are kept, a few are finished at a time, at the price of the reference's passes for each few.
fn batch(units: &dyn Units, groups: &[Vec<usize>]) -> usize {
    if units.are_kept() && groups.len() > 1 { limits::SOURCES_BETWEEN_UNITS } else { limits::SOURCES }
}

impl Survey {
    /// Scores every source: on each group of samples the reference, then each source in turn. Sources that are `known` are not
    /// run again. A source's row is told as soon as it is known, in the order of the sources. Gives the rows, and the sources
    /// that were left out.
    ///
    /// # Errors
    /// Those of the passes, of [`pair::score`] and of the units.
    pub fn run(
        &self,
        runtime: &Runtime,
        known: Known<'_>,
        cancel: &Cancel,
        on_event: &mut (dyn FnMut(RankingEvent) + Send),
    ) -> Result<(Rows, Vec<SkippedSource>)> {
        let keys: Vec<String> = self.sources.iter().map(|source| self.key(source, runtime)).collect();
        let pairs = keys.iter().zip(&self.sources);
        let mut outcomes: Vec<Outcome> = pairs.map(|(key, source)| known.get(key, source)).collect::<Result<_>>()?;
        let is_open = |index: &usize| matches!(outcomes.get(*index), Some(Outcome::Open));
        let open: Vec<usize> = (0..self.sources.len()).filter(is_open).collect();
        let meter = Mutex::new(Meter { done: 0, total: 0, on_event });
        let locked = || meter.lock().unwrap_or_else(PoisonError::into_inner);
        let advance = |stage: &str, n_rows: usize| locked().advance(stage, n_rows);
        let setting = self.setting(runtime, cancel, &advance);
        let groups = passes::groups(&setting, &self.reference);
        let batches: Vec<&[usize]> = open.chunks(batch(known.units, &groups)).collect();
        // A source passes twice over the probe set: itself, then through the reference under its attack.
        let trained = self.fine_tune.as_ref().map_or(0, FineTunePlan::n_passed);
        let n_passes = (batches.len() + 2 * open.len()) as u64;
        locked().total = self.probe.n_samples() as u64 * n_passes + trained * open.len() as u64;
        let mut told = Told::default();
        for batch in batches {
            let mut record = OwnRecord::default();
            let mut meetings: Vec<Meeting> = batch.iter().map(|_| Meeting::default()).collect();
            for (number, samples) in groups.iter().enumerate() {
                let own = || passes::reference_group(&setting, &self.reference, samples.clone(), number, &mut record);
                let group = timed(Stage::OwnPasses, own)?;
                let is_last = number + 1 == groups.len();
                for (&index, meeting) in batch.iter().zip(&mut meetings) {
                    let (Some(source), Some(key)) = (self.sources.get(index), keys.get(index)) else { continue };
                    let Some(outcome @ Outcome::Open) = outcomes.get_mut(index) else { continue };
                    let meet = || passes::meet(&setting, &self.reference, &group, source, meeting);
                    let met = timed(Stage::JointPasses, meet);
                    let call = self.call(&setting, runtime, &record);
                    let found = met.and_then(|()| match is_last {
                        true => {
                            timed(Stage::Statistics, || pair::score(&call, source, &std::mem::take(meeting))).map(Some)
                        }
                        false => Ok(None),
                    });
                    match found {
                        Ok(None) => {}
                        Ok(Some(found)) => {
                            let found = Arc::new(found);
                            known.put(key, source, &found, self.answer_bytes())?;
                            *outcome = Outcome::Known(found);
                        }
                        Err(error) if self.leaves_out && is_of_source(&error) => {
                            *meeting = Meeting::default();
                            *outcome = Outcome::LeftOut(error);
                        }
                        Err(error) => return Err(error),
                    }
                    told.tell(&self.sources, &outcomes, &mut *locked().on_event);
                }
            }
        }
        told.tell(&self.sources, &outcomes, &mut *locked().on_event);
        self.rows(outcomes)
    }

    /// The rows and the sources that were left out.
    ///
    /// # Errors
    /// The first source's, where none is left.
    fn rows(&self, outcomes: Vec<Outcome>) -> Result<(Rows, Vec<SkippedSource>)> {
        let (mut rows, mut skipped, mut first) = (Vec::new(), Vec::new(), None);
        for (source, outcome) in self.sources.iter().zip(outcomes) {
            let source_model = source.name().to_owned();
            match outcome {
                Outcome::Open => return Err(Error::new(Reason::Internal, "a source without an outcome")),
                Outcome::Known(scores) => rows.push((source_model, PairScores::clone(&scores))),
                Outcome::LeftOut(error) => {
                    skipped.push(SkippedSource { source_model, reason: error.message.clone() });
                    first.get_or_insert(error);
                }
            }
        }
        match first.filter(|_| rows.is_empty()) {
            Some(error) => Err(error),
            None => Ok((rows, skipped)),
        }
    }

    fn setting<'a>(
        &'a self,
        runtime: &'a Runtime,
        cancel: &'a Cancel,
        advance: &'a (dyn Fn(&str, usize) + Sync),
    ) -> Setting<'a> {
        Setting {
            workers: runtime.workers(),
            batch_size: self.batch_size,
            group_bytes: self.group_bytes,
            probe: &self.probe,
            plan: &self.plan,
            matching: !self.options.matching.skip,
            theory: self.options.theory.is_some(),
            n_probes: self.n_probes,
            seed: self.options.seed,
            resamples: &self.resamples,
            cancel,
            advance,
        }
    }

    fn call<'a>(&'a self, setting: &'a Setting<'a>, runtime: &'a Runtime, record: &'a OwnRecord) -> Call<'a> {
        Call {
            setting,
            options: &self.options,
            reference: &self.reference,
            reference_record: record,
            fine_tune: self.fine_tune.as_ref(),
            probe_digest: &self.probe_digest,
            dropped: &self.dropped,
            provider: runtime.provider(),
        }
    }

    fn answer_bytes(&self) -> u64 {
        let n_estimates = ESTIMATES + ESTIMATES_OF_VARIANT * self.plan.variants().len();
        ANSWER_BYTES + (n_estimates * self.resamples.n_resamples() * size_of::<f64>()) as u64
    }

    /// Names everything that a source's scores depend on, and what stands beside them in the answer.
    fn key(&self, source: &Network, runtime: &Runtime) -> String {
        let mut hasher = Sha256::new();
        let ScoreOptions { attack, matching, theory, knowledge, seed, confidence, .. } = &self.options;
        let parts = [
            format!("{:?} {:?}", source.identity(), self.reference.identity()),
            format!("{} {} {:?}", self.probe.name(), self.probe_digest, self.dropped),
            format!("{attack:?} {matching:?} {theory:?} {knowledge:?} {seed} {confidence:?}"),
            // A unit outlives the process that computed it.
            format!("{} {} {}", env!("CARGO_PKG_VERSION"), runtime.provider(), self.group_bytes),
        ];
        parts.iter().for_each(|part| hasher.update(part));
        Digest::finish(hasher).to_string()
    }

    /// Refuses what would not fit in memory before any work is done.
    ///
    /// # Errors
    /// [`Reason::LimitExceeded`], with the number of samples that would fit.
    pub fn check_memory(&self, allowed: u64) -> Result<()> {
        let n_samples = self.probe.n_samples();
        let needed = self.kept_bytes(n_samples);
        if needed <= allowed {
            return Ok(());
        }
        // The most samples that fit, by halving: what they need never falls as they grow.
        let (mut fitting, mut too_many) = (0, n_samples);
        while too_many - fitting > 1 {
            let middle = fitting.midpoint(too_many);
            if self.kept_bytes(middle) <= allowed { fitting = middle } else { too_many = middle }
        }
        let needed = format!("{n_samples} samples need {} MiB, the server allows {}", needed >> 20, allowed >> 20);
        let message = match fitting {
            fitting if fitting < limits::MIN_SAMPLES => {
                format!("{needed}; rank fewer sources, or models of fewer outputs")
            }
            fitting => format!("{needed}; set max_samples to {fitting} or fewer"),
        };
        Err(Error::new(Reason::LimitExceeded, message).at("max_samples"))
    }

    /// What the call needs in all beside what a tile takes inside a model, in bytes.
    pub fn needed_bytes(&self, runtime: &Runtime) -> u64 {
        let (cancel, advance) = (Cancel::default(), |_: &str, _: usize| ());
        let setting = self.setting(runtime, &cancel, &advance);
        let largest = passes::groups(&setting, &self.reference).iter().map(Vec::len).max().unwrap_or(0);
        let of_sources = self.sources.iter().map(|source| passes::sample_bytes(&setting, source)).max().unwrap_or(0);
        let group = largest * passes::sample_bytes(&setting, &self.reference) + self.batch_size * of_sources;
        let of_training = |plan: &FineTunePlan| {
            let needed = self.sources.iter().map(|source| plan.needed_bytes(source, runtime.workers().n_threads()));
            needed.max().unwrap_or(0)
        };
        let training = self.fine_tune.as_ref().map_or(0, of_training);
        self.kept_bytes(self.probe.n_samples()) + self.probe.size_bytes() + (group as u64).max(training)
    }

    /// What the call keeps of `n_samples` samples until its answer, in bytes.
    fn kept_bytes(&self, n_samples: usize) -> u64 {
        let n_variants = self.plan.variants().len() as u64;
        let d = self.reference.n_outputs() as u64;
        let rows = |network: &Network| if network.has_small_jacobian() { network.n_outputs() } else { self.n_probes };
        let of_source = |source: &Arc<Network>| {
            let e = source.n_outputs() as u64;
            let moments = match self.options.matching.skip {
                true => 0,
                false => GradientMoments::bytes(n_samples, rows(&self.reference), rows(source)) as u64,
            };
            n_samples as u64 * (4 * e + 8 * n_variants * (3 * e + 2 * d)) + moments
        };
        let draws = self.options.confidence.resamples as u64;
        n_samples as u64 * (4 * d + 8 * n_variants * d + draws) + self.sources.iter().map(of_source).sum::<u64>()
    }
}

/// How many sources' rows have been told.
#[derive(Default)]
struct Told {
    count: usize,
}

impl Told {
    /// Tells the rows that are known and whose turn it is.
    fn tell(
        &mut self,
        sources: &[Arc<Network>],
        outcomes: &[Outcome],
        on_event: &mut (dyn FnMut(RankingEvent) + Send),
    ) {
        while let (Some(source), Some(outcome)) = (sources.get(self.count), outcomes.get(self.count)) {
            match outcome {
                Outcome::Open => break,
                Outcome::LeftOut(_) => {}
                Outcome::Known(scores) => {
                    let scores = Box::new(PairScores::clone(scores));
                    on_event(RankingEvent::Row { source_model: source.name().to_owned(), scores });
                }
            }
            self.count += 1;
        }
    }
}
