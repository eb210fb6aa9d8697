//! Several models on one probe set: each attacked on its own output, every one read under every attack.
//!
//! Samples are worked on in groups, as in [`passes`]: all models' attacks on a group are made before any model is read, so
//! that k models take k attacks and, beyond first order, k² − k readings of the probe set.

use std::sync::{Arc, Mutex, PoisonError};

use ndarray::{Array2, ArrayView2, Axis};
use sha2::{Digest as _, Sha256};

use crate::{
    cancel::Cancel,
    dataset::Dataset,
    error::{Error, Reason, Result},
    limits,
    metric::{self, AttackSign, Deviations, Nulls, tournament},
    registry::Digest,
    runtime::Runtime,
    scoring::{
        attack_plan::AttackPlan,
        group_unit::{self, GroupUnit},
        network::Network,
        passes::{self, Exchange, OwnRecord, Setting},
        types::*,
        units::{self, Units},
    },
    stats::{GroupAgreement, Resamples, cophenetic_correlation, flat_groups, group_agreement, ward},
    telemetry::{Stage, timed},
};

/// Groups that a clustering is cut into where the request names neither a number nor groups.
const DEFAULT_GROUPS: usize = 3;

/// The parts of the work, checked.
pub struct Comparison {
    /// As it was asked for; the plan is made of it.
    pub attack: AttackOptions,
    pub plan: AttackPlan,
    pub probe: Dataset,
    pub networks: Vec<Arc<Network>>,
    pub resamples: Resamples,
    pub seed: u64,
    pub batch_size: usize,
    pub group_bytes: usize,
}

/// The matrices of a comparison.
pub struct Matrices {
    pub alpha1: Vec<Vec<Estimate>>,
    pub alpha2: Vec<Vec<Estimate>>,
    pub combined: Vec<Vec<Estimate>>,
    pub affinity: Array2<f64>,
}

/// For each attacked model, how every model moves under its attack.
pub type Readings = Vec<Vec<Exchange>>;

impl Comparison {
    /// Refuses what cannot be compared, before any model runs.
    ///
    /// # Errors
    /// [`Reason::OptionUnsupported`] for several variants of the attack, [`Reason::LimitExceeded`] for too many samples.
    pub fn check(&self, allowed: u64) -> Result<()> {
        if self.plan.variants().len() > 1 {
            let message = "a comparison takes one radius and one singular level; leave the others out";
            return Err(Error::new(Reason::OptionUnsupported, message).at("attack"));
        }
        if let AttackPlan::Virtual(plan) = &self.plan {
            self.networks.iter().try_for_each(|network| plan.solver(network).map(drop))?;
        }
        let per_sample = self.kept_per_sample();
        let needed = per_sample.saturating_mul(self.probe.n_samples() as u64);
        if needed > allowed {
            let message = format!(
                "{} samples of {} models need {} MiB, the server allows {}; set max_samples to {} or fewer",
                self.probe.n_samples(),
                self.networks.len(),
                needed >> 20,
                allowed >> 20,
                allowed / per_sample.max(1)
            );
            return Err(Error::new(Reason::LimitExceeded, message).at("max_samples"));
        }
        Ok(())
    }

    /// What is kept of a sample until the answer, in bytes.
    fn kept_per_sample(&self) -> u64 {
        let outputs: u64 = self.networks.iter().map(|network| network.n_outputs() as u64).sum();
        // Each model's deviations under every attack, on the same sample and on another.
        outputs * (2 * 8 * self.networks.len() as u64 + 12)
    }

    /// What the comparison needs in all beside what a tile takes inside a model, in bytes.
    pub fn needed_bytes(&self, runtime: &Runtime) -> u64 {
        let (cancel, advance) = (Cancel::default(), |_: &str, _: usize| ());
        let setting = self.setting(runtime, &cancel, &advance);
        let group = self.groups(&setting).iter().map(Vec::len).max().unwrap_or(0);
        let of_group: usize = self.networks.iter().map(|network| group * passes::sample_bytes(&setting, network)).sum();
        let kept = self.kept_per_sample().saturating_mul(self.probe.n_samples() as u64);
        kept + self.probe.size_bytes() + of_group as u64
    }

    /// Runs all models on every group of samples that is not among the `units`, and fills the matrices.
    ///
    /// # Errors
    /// Those of the passes and of the units, and [`Reason::ModelExecutionFailed`] where the mathematics finds nothing to
    /// measure.
    pub fn run(
        &self,
        runtime: &Runtime,
        units: &dyn Units,
        on_progress: &mut (dyn FnMut(Progress) + Send),
        cancel: &Cancel,
    ) -> Result<Matrices> {
        let k = self.networks.len();
        let total = (self.probe.n_samples() * k * k) as u64;
        let meter = Mutex::new((0_u64, on_progress));
        let advance = |stage: &str, n_rows: usize| {
            let (done, on_progress) = &mut *meter.lock().unwrap_or_else(PoisonError::into_inner);
            *done += n_rows as u64;
            on_progress(Progress { done: *done, total, stage: stage.to_owned() });
        };
        let setting = self.setting(runtime, cancel, &advance);
        let mut records: Vec<OwnRecord> = self.networks.iter().map(|_| OwnRecord::default()).collect();
        let empty = |_: &Arc<Network>| self.networks.iter().map(|_| Exchange::default()).collect();
        let mut readings: Readings = self.networks.iter().map(empty).collect();
        let groups = self.groups(&setting);
        let n_groups = groups.len();
        for (number, samples) in groups.into_iter().enumerate() {
            let key = self.key(runtime, number, n_groups);
            let kept = units::kept::<GroupUnit>(units, &key);
            let mut tables = group_unit::tables(&self.networks, &mut records, &mut readings);
            if kept.is_some_and(|unit| unit.put_back(&samples, self.probe.n_samples(), &mut tables)) {
                advance("finished before", samples.len() * k * k);
                continue;
            }
            self.run_group(&setting, number, &samples, &mut records, &mut readings)?;
            let tables = group_unit::tables(&self.networks, &mut records, &mut readings);
            let unit = || GroupUnit::of(&samples, &tables);
            let name = format!("samples, part {} of {n_groups}", number + 1);
            units::keep(units, &key, &name, unit)?;
        }
        timed(Stage::Statistics, || self.matrices(&records, &readings))
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
            // A group of every model is held at once.
            group_bytes: self.group_bytes / self.networks.len().max(1),
            probe: &self.probe,
            plan: &self.plan,
            theory: false,
            matching: false,
            n_probes: limits::OUTPUT_PROBES,
            seed: self.seed,
            resamples: &self.resamples,
            cancel,
            advance,
        }
    }

    /// Attacks all models on a group of samples, then reads every one under every other's attack.
    fn run_group(
        &self,
        setting: &Setting<'_>,
        number: usize,
        samples: &[usize],
        records: &mut [OwnRecord],
        readings: &mut Readings,
    ) -> Result<()> {
        let mut groups = Vec::with_capacity(records.len());
        for (network, record) in self.networks.iter().zip(records) {
            let own = || passes::reference_group(setting, network, samples.to_vec(), number, record);
            groups.push(timed(Stage::OwnPasses, own)?);
        }
        for (attacked, (group, exchanges)) in groups.iter().zip(readings).enumerate() {
            for (read, (network, exchange)) in self.networks.iter().zip(exchanges.iter_mut()).enumerate() {
                if let (true, Some(of_network)) = (read != attacked, groups.get(read)) {
                    let exchange = std::slice::from_mut(exchange);
                    let read = || passes::read_on(setting, network, of_network, &group.perturbations, exchange);
                    timed(Stage::JointPasses, read)?;
                }
            }
        }
        Ok(())
    }

    /// Names everything that a group's rows depend on.
    fn key(&self, runtime: &Runtime, number: usize, n_groups: usize) -> String {
        let mut hasher = Sha256::new();
        for network in &self.networks {
            hasher.update(format!("{:?}", network.identity()));
        }
        let (probe, seed) = (self.probe.digest(), self.seed);
        hasher.update(format!("{probe} {:?} {seed} {number} {n_groups} {}", self.attack, self.group_bytes));
        hasher.update(format!("{} {}", env!("CARGO_PKG_VERSION"), runtime.provider()));
        Digest::finish(hasher).to_string()
    }

    /// Groups of samples that fit in memory for the model that takes the most.
    fn groups(&self, setting: &Setting<'_>) -> Vec<Vec<usize>> {
        let of_each = self.networks.iter().map(|network| passes::groups(setting, network));
        of_each.max_by_key(Vec::len).unwrap_or_default()
    }

    fn matrices(&self, records: &[OwnRecord], readings: &Readings) -> Result<Matrices> {
        let own = |record: &OwnRecord| -> Option<Array2<f64>> { record.own.first().map(|rows| rows.view().to_owned()) };
        let owns: Vec<Array2<f64>> = records.iter().filter_map(own).collect();
        let mut matrices =
            Matrices { alpha1: Vec::new(), alpha2: Vec::new(), combined: Vec::new(), affinity: Array2::zeros((0, 0)) };
        for (attacked, (white, exchanges)) in owns.iter().zip(readings).enumerate() {
            let mut rows = [Vec::new(), Vec::new(), Vec::new()];
            for (read, (own, exchange)) in owns.iter().zip(exchanges).enumerate() {
                let (black, other) = if read == attacked {
                    (own.view(), None)
                } else {
                    (exchange.on_reference.view(), Some(exchange.on_reference_shuffled.view()))
                };
                let found = self.alphas(white.view(), black, own.view(), other).map_err(|cause| {
                    let name = |index: usize| self.networks.get(index).map_or("", |network| network.name());
                    let message = format!("attack on `{}`, read on `{}`: {cause}", name(attacked), name(read));
                    Error::new(Reason::ModelExecutionFailed, message)
                })?;
                for (row, estimate) in rows.iter_mut().zip([found.alpha1, found.alpha2, found.combined]) {
                    row.push(estimate.without_replicates());
                }
            }
            let [alpha1, alpha2, combined] = rows;
            matrices.alpha1.push(alpha1);
            matrices.alpha2.push(alpha2);
            matrices.combined.push(combined);
        }
        matrices.affinity = affinity(readings, owns.len())?;
        Ok(matrices)
    }

    fn alphas(
        &self,
        white: ArrayView2<'_, f64>,
        black: ArrayView2<'_, f64>,
        black_own: ArrayView2<'_, f64>,
        mispaired: Option<ArrayView2<'_, f64>>,
    ) -> Result<metric::Alphas, metric::Error> {
        let sign = match self.plan {
            AttackPlan::Virtual(_) => AttackSign::Arbitrary,
            AttackPlan::Empirical(_) => AttackSign::Meaningful,
        };
        let nulls = Nulls { sign, alpha1_floor: None, mispaired };
        metric::alphas(&Deviations { white, black, black_own }, &nulls, &self.resamples)
    }
}

/// For each model read, a column: the tournament between the attacks on all other models, by how far each moves it.
fn affinity(readings: &Readings, k: usize) -> Result<Array2<f64>> {
    let mut affinity = Array2::zeros((k, k));
    for read in 0..k {
        let attacks: Vec<usize> = (0..k).filter(|&attacked| attacked != read).collect();
        let lengths = attacks.iter().filter_map(|&attacked| {
            let moved = readings.get(attacked)?.get(read)?.on_reference.view();
            Some(moved.map_axis(Axis(1), |deviation| deviation.dot(&deviation).sqrt()))
        });
        let lengths: Vec<_> = lengths.collect();
        let views: Vec<_> = lengths.iter().map(|lengths| lengths.view()).collect();
        let hurt = ndarray::stack(Axis(0), &views).unwrap_or_default();
        let found = tournament(hurt.view())
            .map_err(|cause| Error::new(Reason::Internal, format!("a tournament of attacks: {cause}")))?;
        for (&attacked, &weight) in attacks.iter().zip(&found.weights) {
            if let Some(to) = affinity.get_mut((attacked, read)) {
                *to = weight;
            }
        }
    }
    Ok(affinity)
}

/// A matrix's rows clustered.
pub struct Clustering {
    pub merges: Vec<Merge>,
    /// The group of each row.
    pub groups: Vec<usize>,
    pub cophenetic_correlation: Option<f64>,
    pub group_agreement: Option<GroupAgreement>,
}

impl Matrices {
    /// Clusters the rows of the matrix that the request names, cuts the clustering, and holds it against the known groups.
    pub fn clustering(&self, request: &ComparisonRequest) -> Clustering {
        let values = |rows: &[Vec<Estimate>]| {
            let values: Vec<f64> = rows.iter().flatten().map(|estimate| estimate.value).collect();
            Array2::from_shape_vec((rows.len(), rows.len()), values).unwrap_or_default()
        };
        let matrix = match request.cluster_by {
            TaskMatrix::Alpha1 => values(&self.alpha1),
            TaskMatrix::Alpha2 => values(&self.alpha2),
            TaskMatrix::Combined => values(&self.combined),
            TaskMatrix::Affinity => self.affinity.clone(),
        };
        let known = &request.known_groups;
        let n_groups = match (request.n_groups, known.len()) {
            (0, 0) => DEFAULT_GROUPS,
            (0, n_known) => n_known,
            (n_groups, _) => n_groups,
        };
        let merges = ward(matrix.view()).unwrap_or_default();
        let groups = flat_groups(&merges, matrix.nrows(), n_groups);
        let group_of = |model: &String| known.iter().position(|group| group.models.contains(model)).unwrap_or_default();
        let members: Vec<usize> = request.models.iter().map(group_of).collect();
        let agreement = || group_agreement(&merges, &members, request.confidence, request.seed);
        Clustering {
            cophenetic_correlation: cophenetic_correlation(&merges, matrix.view()),
            group_agreement: if known.is_empty() { None } else { agreement() },
            groups,
            merges,
        }
    }
}
