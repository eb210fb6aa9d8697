//! Passes of models over the probe set: what they give when clean, under their own attack and under the other's.
//!
//! Samples are worked on in groups: the reference first, then every source on the same group. What is large, Jacobians
//! and perturbations, lives as long as its group; what is kept for the answer is a few rows a sample. So a ranking of k
//! sources runs k + 1 models over the probe set, and memory does not grow with it but for those rows.
//!
//! Within a group the work goes tile by tile over the runtime's workers.

use std::ops::Range;

use ndarray::{Array1, Array2, ArrayView2, Axis, s};

use crate::{
    cancel::Cancel,
    dataset::Dataset,
    error::{Error, Reason, Result},
    limits,
    metric::{self, CrossGrams, GradientMoments, TheoryMoments},
    runtime::Workers,
    scoring::{
        attack_plan::AttackPlan,
        empirical::{CleanRows, empirical},
        jacobian_rows::{JacobianRows, Probes},
        network::{Network, Outputs},
        perturb::{self, CleanTile},
        rows::Rows,
        types::Variant,
    },
    stats::{self, Resamples},
};

/// What every pass of a call is given.
pub struct Setting<'a> {
    pub workers: &'a Workers,
    /// Samples in flight at once; bounds memory, never changes a number.
    pub batch_size: usize,
    /// Memory for the Jacobians and perturbations of a group of samples.
    pub group_bytes: usize,
    pub probe: &'a Dataset,
    pub plan: &'a AttackPlan,
    /// Whether what the theory checks need is kept.
    pub theory: bool,
    /// Whether gradients are matched, and by how many probes where a Jacobian is too large.
    pub matching: bool,
    pub n_probes: usize,
    pub seed: u64,
    pub resamples: &'a Resamples,
    pub cancel: &'a Cancel,
    /// Told what is worked on and how many samples it has finished since the last call.
    pub advance: &'a (dyn Fn(&str, usize) + Sync),
}

/// What is kept of a model on its own; rows are those of the probe set.
#[derive(Default)]
pub struct OwnRecord {
    /// Samples x outputs, clean.
    pub outputs: Rows<f32>,
    /// Samples x features, clean.
    pub features: Rows<f32>,
    /// For each variant, samples x outputs: deviation under the model's own attack.
    pub own: Vec<Rows<f64>>,
    /// Samples x 2, of the virtual attack: residual and Lanczos steps.
    pub solver: Rows<f64>,
}

/// What is kept of a source and the reference; rows are those of the probe set.
#[derive(Default)]
pub struct Meeting {
    pub source: OwnRecord,
    /// One for each variant.
    pub exchanges: Vec<Exchange>,
    /// Where gradients are matched.
    pub moments: Option<GradientMoments>,
    /// Where the theorems are checked, and both models' whole Jacobians are known.
    pub theory: Option<std::result::Result<TheoryMoments, metric::Error>>,
}

/// What a source and the reference do to each other under one variant of the attack: deviations, samples x outputs.
#[derive(Default)]
pub struct Exchange {
    /// The source under the reference's attack.
    pub by_reference: Rows<f64>,
    /// The source under the reference's attack on another sample.
    pub by_reference_shuffled: Rows<f64>,
    /// The reference under the source's attack.
    pub on_reference: Rows<f64>,
    /// The reference under the source's attack on another sample.
    pub on_reference_shuffled: Rows<f64>,
    /// Samples x 1: squared cosine of the two attacks; NaN where one is zero.
    pub squared_cosines: Rows<f64>,
    /// The same of the source's attack and the reference's on another sample.
    pub mispaired_squared_cosines: Rows<f64>,
}

/// The reference on a group of samples, rows in the order of the group.
pub struct ReferenceGroup {
    /// Indices in the probe set.
    samples: Vec<usize>,
    /// For each sample of the group the place in it of another.
    others: Vec<usize>,
    outputs: Rows<f32>,
    /// Where anything asks for them.
    jacobians: Option<JacobianRows>,
    /// For each variant, samples x inputs: unit directions at first order, else perturbations in pixel units.
    pub perturbations: Vec<Rows<f32>>,
}

/// What a sample of a group takes with its Jacobian and perturbations, in bytes.
pub fn sample_bytes(setting: &Setting<'_>, network: &Network) -> usize {
    let n_rows = setting.probes(network).map_or(0, |probes| probes.n_rows());
    network.n_inputs() * (n_rows + 4 * setting.plan.variants().len()) * size_of::<f32>()
}

/// The samples in the order in which they are visited, in groups that fit in memory.
pub fn groups(setting: &Setting<'_>, reference: &Network) -> Vec<Vec<usize>> {
    let n_samples = setting.probe.n_samples();
    let fitting = (setting.group_bytes / sample_bytes(setting, reference).max(1)).max(limits::GROUP_SAMPLES);
    let n_groups = n_samples.div_ceil(fitting);
    let mut samples: Vec<usize> = (0..n_samples).collect();
    if n_groups > 1 {
        // Attacks are mispaired within a group, which must not be of one class where the probe set is sorted.
        samples = stats::permutation(&mut stats::stream(setting.seed, stats::Purpose::Visit, 0), n_samples);
    }
    // Of nearly the same size, so that none is left with a single sample.
    let bound = |group: usize| group * n_samples / n_groups.max(1);
    (0..n_groups).map(|group| samples.iter().take(bound(group + 1)).skip(bound(group)).copied().collect()).collect()
}

/// Attacks the reference on a group of samples, the `number`th.
///
/// # Errors
/// Those of [`Network`], and [`Reason::Cancelled`].
pub fn reference_group(
    setting: &Setting<'_>,
    reference: &Network,
    samples: Vec<usize>,
    number: usize,
    record: &mut OwnRecord,
) -> Result<ReferenceGroup> {
    let mut draws = stats::stream(setting.seed, stats::Purpose::Shuffle, number as u64);
    let others = stats::cyclic_permutation(&mut draws, samples.len());
    let probes = setting.probes(reference);
    let n = samples.len();
    let mut group = ReferenceGroup {
        others,
        outputs: Rows::default(),
        // By far the largest: they go to their place as they come, so that they are held once.
        jacobians: probes.as_ref().map(|probes| probes.room(n, reference.n_inputs())),
        perturbations: setting.per_variant(Rows::default),
        samples,
    };
    let ReferenceGroup { samples, outputs, jacobians, perturbations, .. } = &mut group;
    setting.tiles(
        reference,
        samples,
        |_, samples| setting.own_tile(reference, probes.as_ref(), samples),
        |places, samples, tile| {
            record.put(setting, samples, &tile);
            outputs.put(n, places.clone(), tile.clean.outputs.view());
            for (to, from) in perturbations.iter_mut().zip(&tile.perturbations) {
                to.put(n, places.clone(), from.view());
            }
            if let (Some(to), Some(from)) = (jacobians.as_mut(), &tile.clean.jacobians) {
                to.put(places, from);
            }
            Ok(())
        },
    )?;
    Ok(group)
}

/// Attacks a source on a group of samples and reads each model under the other's attack.
///
/// # Errors
/// Those of [`Network`], and [`Reason::Cancelled`].
pub fn meet(
    setting: &Setting<'_>,
    reference: &Network,
    group: &ReferenceGroup,
    source: &Network,
    meeting: &mut Meeting,
) -> Result<()> {
    let probes = setting.probes(source);
    let n = group.samples.len();
    let foreign = group.mispaired(&group.perturbations);
    let mut perturbations: Vec<Rows<f32>> = setting.per_variant(Rows::default);
    meeting.exchanges.resize_with(setting.plan.variants().len(), Exchange::default);
    let work = |places: &Range<usize>, samples: &[usize]| {
        let tile = setting.own_tile(source, probes.as_ref(), samples)?;
        let attacked =
            |by: ArrayView2<'_, f32>| perturb::deviations(setting.plan, source, &tile.clean, some(by, places));
        let by_reference: Vec<_> = group.perturbations.iter().map(|by| attacked(by.view())).collect::<Result<_>>()?;
        let shuffled: Vec<_> = foreign.iter().map(|by| attacked(by.view())).collect::<Result<_>>()?;
        let grams = match (&group.jacobians, &tile.clean.jacobians) {
            (Some(target), Some(source)) if setting.matching => {
                let grams = CrossGrams::of(target.part(places.clone()).view(), source.view());
                Some((target.n_rows(), source.n_rows(), grams.map_err(|cause| internal(&cause))?))
            }
            _ => None,
        };
        let joint = match (&group.jacobians, &tile.clean.jacobians) {
            (Some(target), Some(source)) if setting.theory => joint_grams(&target.part(places.clone()), source)?,
            _ => None,
        };
        let light = OwnTile { clean: CleanTile { jacobians: None, ..tile.clean }, ..tile };
        Ok((light, by_reference, shuffled, grams, joint))
    };
    setting.tiles(source, &group.samples, work, |places, samples, (tile, by_reference, shuffled, grams, joint)| {
        meeting.source.put(setting, samples, &tile);
        for (to, from) in perturbations.iter_mut().zip(&tile.perturbations) {
            to.put(n, places.clone(), from.view());
        }
        let n = setting.probe.n_samples();
        for ((exchange, by_reference), shuffled) in meeting.exchanges.iter_mut().zip(&by_reference).zip(&shuffled) {
            exchange.by_reference.put(n, samples.iter().copied(), by_reference.view());
            exchange.by_reference_shuffled.put(n, samples.iter().copied(), shuffled.view());
        }
        if let Some((n_target, n_source, grams)) = grams {
            let empty = || GradientMoments::new(setting.resamples, n_target, n_source);
            let moments = meeting.moments.get_or_insert_with(empty);
            moments.add(samples, &grams).map_err(|cause| internal(&cause))?;
        }
        if let Some(grams) = joint {
            let empty = || TheoryMoments::new(n, reference.n_outputs(), source.n_outputs());
            if let Ok(theory) = meeting.theory.get_or_insert_with(empty) {
                theory.add(samples, grams.view()).map_err(|cause| internal(&cause))?;
            }
        }
        Ok(())
    })?;
    for ((exchange, own), (by, foreign)) in
        meeting.exchanges.iter_mut().zip(&perturbations).zip(group.perturbations.iter().zip(&foreign))
    {
        let cosines = |by: ArrayView2<'_, f32>| squared_cosines(own.view(), by);
        let n = setting.probe.n_samples();
        exchange.squared_cosines.put(n, group.samples.iter().copied(), cosines(by.view())?.view());
        exchange.mispaired_squared_cosines.put(n, group.samples.iter().copied(), cosines(foreign.view())?.view());
    }
    read_on(setting, reference, group, &perturbations, &mut meeting.exchanges)
}

/// Reads the reference, or any model of that group, under another's attack on the group: its deviations on the same sample
/// and on another.
///
/// # Errors
/// Those of [`Network`], and [`Reason::Cancelled`].
pub fn read_on(
    setting: &Setting<'_>,
    reference: &Network,
    group: &ReferenceGroup,
    perturbations: &[Rows<f32>],
    exchanges: &mut [Exchange],
) -> Result<()> {
    let foreign = group.mispaired(perturbations);
    let work = |places: &Range<usize>, samples: &[usize]| {
        let clean = CleanTile {
            samples: setting.probe.samples(samples),
            outputs: some(group.outputs.view(), places).to_owned(),
            jacobians: group
                .jacobians
                .as_ref()
                .filter(|_| setting.plan.is_first_order())
                .map(|all| all.part(places.clone())),
        };
        let read = |by: ArrayView2<'_, f32>| perturb::deviations(setting.plan, reference, &clean, some(by, places));
        let pairs = perturbations.iter().zip(&foreign);
        pairs.map(|(same, other)| Ok((read(same.view())?, read(other.view())?))).collect::<Result<Vec<_>>>()
    };
    let n = setting.probe.n_samples();
    setting.tiles(reference, &group.samples, work, |_, samples, read| {
        for (exchange, (same, other)) in exchanges.iter_mut().zip(&read) {
            exchange.on_reference.put(n, samples.iter().copied(), same.view());
            exchange.on_reference_shuffled.put(n, samples.iter().copied(), other.view());
        }
        Ok(())
    })
}

/// A tile of one model's own pass.
struct OwnTile {
    clean: CleanTile,
    features: Array2<f32>,
    /// One for each variant.
    perturbations: Vec<Array2<f32>>,
    own: Vec<Array2<f64>>,
    /// Rows x 2, as in [`OwnRecord::solver`].
    solver: Option<Array2<f64>>,
}

impl OwnRecord {
    fn put(&mut self, setting: &Setting<'_>, samples: &[usize], tile: &OwnTile) {
        let n = setting.probe.n_samples();
        let places = || samples.iter().copied();
        self.outputs.put(n, places(), tile.clean.outputs.view());
        self.features.put(n, places(), tile.features.view());
        self.own.resize_with(tile.own.len(), Rows::default);
        for (to, from) in self.own.iter_mut().zip(&tile.own) {
            to.put(n, places(), from.view());
        }
        if let Some(solver) = &tile.solver {
            self.solver.put(n, places(), solver.view());
        }
    }
}

impl ReferenceGroup {
    /// Of each variant's perturbations, those of another sample.
    fn mispaired(&self, perturbations: &[Rows<f32>]) -> Vec<Array2<f32>> {
        perturbations.iter().map(|rows| rows.view().select(Axis(0), &self.others)).collect()
    }
}

impl Setting<'_> {
    /// The probes of a network, where anything asks for rows of its Jacobian.
    fn probes(&self, network: &Network) -> Option<Probes> {
        let probes = Probes::of(network, self.n_probes, self.seed);
        let is_attacked = matches!(self.plan, AttackPlan::Virtual(_)) && probes.are_all();
        (self.matching || self.theory || is_attacked).then_some(probes)
    }

    fn per_variant<T>(&self, of: impl Fn() -> T) -> Vec<T> {
        self.plan.variants().iter().map(|_| of()).collect()
    }

    /// Applies `work` to every tile of some samples, given with their places among them, and hands the results to
    /// `collect` in order.
    fn tiles<T: Send>(
        &self,
        network: &Network,
        samples: &[usize],
        work: impl Fn(&Range<usize>, &[usize]) -> Result<T> + Sync,
        mut collect: impl FnMut(Range<usize>, &[usize], T) -> Result<()>,
    ) -> Result<()> {
        let tiles: Vec<(Range<usize>, &[usize])> = samples
            .chunks(network.tile())
            .enumerate()
            .map(|(tile, samples)| (tile * network.tile()..tile * network.tile() + samples.len(), samples))
            .collect();
        let in_flight = network.tiles_at_once(self.batch_size);
        let checked = |(places, samples): &(Range<usize>, &[usize])| {
            self.cancel.check()?;
            let result = work(places, samples)?;
            (self.advance)(network.name(), samples.len());
            Ok((places.clone(), samples.to_vec(), result))
        };
        self.workers.in_order(&tiles, in_flight, checked, |(places, samples, result)| {
            collect(places, &samples, result)?;
            self.cancel.check()
        })
    }

    /// What a network gives for some samples, and its attack on them.
    fn own_tile(&self, network: &Network, probes: Option<&Probes>, samples: &[usize]) -> Result<OwnTile> {
        let values = self.probe.samples(samples);
        let linearised = match self.plan {
            AttackPlan::Empirical(_) if probes.is_none() => None,
            _ => Some(network.linearised(values.view())?),
        };
        let Outputs { outputs, features } = match &linearised {
            Some(linearised) if self.plan.is_first_order() => linearised.outputs()?,
            // Of the graph that runs the perturbed samples: two graphs may round differently.
            _ => network.outputs(values.view())?,
        };
        let jacobians = match (probes, &linearised) {
            (Some(probes), Some(linearised)) => Some(probes.rows(linearised)?),
            _ => None,
        };
        let clean = CleanTile { samples: values, outputs, jacobians };
        let (perturbations, solver) = match (self.plan, &linearised) {
            (AttackPlan::Virtual(plan), Some(linearised)) => {
                let whole = clean.jacobians.as_ref().and_then(JacobianRows::whole);
                let directions = plan.directions(network, linearised, whole, samples, self.seed)?;
                let scaled = |&Variant { epsilon, level }: &Variant| {
                    directions.levels.get(level).map(|directions| directions * epsilon.unwrap_or(1.0) as f32)
                };
                (plan.variants().iter().filter_map(scaled).collect(), Some(directions.solver()))
            }
            (AttackPlan::Empirical(attack), _) => {
                let rows = CleanRows { samples: clean.samples.view(), outputs: clean.outputs.view() };
                (empirical(attack, self.seed, network, rows, samples, self.probe, self.cancel)?, None)
            }
            (AttackPlan::Virtual(_), None) => return Err(internal(&"a virtual attack is not linearised")),
        };
        let own = |perturbation: &Array2<f32>| perturb::deviations(self.plan, network, &clean, perturbation.view());
        Ok(OwnTile {
            own: perturbations.iter().map(own).collect::<Result<_>>()?,
            clean,
            features,
            perturbations,
            solver,
        })
    }
}

/// What the theory checks need of a tile, where both Jacobians are whole.
fn joint_grams(target: &JacobianRows, source: &JacobianRows) -> Result<Option<Array2<f64>>> {
    let (Some(target), Some(source)) = (target.whole(), source.whole()) else { return Ok(None) };
    metric::joint_grams(target, source).map(Some).map_err(|cause| internal(&cause))
}

/// Some rows of an array.
fn some<'a, T>(rows: ArrayView2<'a, T>, places: &Range<usize>) -> ArrayView2<'a, T> {
    rows.slice_move(s![places.clone(), ..])
}

/// Samples x 1; NaN where an attack is zero.
fn squared_cosines(own: ArrayView2<'_, f32>, other: ArrayView2<'_, f32>) -> Result<Array2<f64>> {
    let cosines = metric::squared_cosines(own, other).map_err(|cause| internal(&cause))?;
    let cosines: Array1<f64> = cosines.into_iter().map(|cosine| cosine.unwrap_or(f64::NAN)).collect();
    Ok(cosines.insert_axis(Axis(1)))
}

fn internal(cause: &dyn std::fmt::Display) -> Error {
    Error::new(Reason::Internal, format!("tiles do not fit together: {cause}"))
}
