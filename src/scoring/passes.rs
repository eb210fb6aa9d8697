//! Passes of models over the probe set: what they give when clean, under their own attack and under the other's.
//!
//! Arrays have a row for each sample of the probe set, in its order. Work goes tile by tile over the runtime's workers.

use std::ops::Range;

use ndarray::{Array, Array2, Array3, Axis, RemoveAxis, Slice, concatenate};

use crate::{
    cancel::Cancel,
    dataset::Dataset,
    error::{Error, Reason, Result},
    metric::{self, CrossGrams},
    runtime::Workers,
    scoring::{
        attack_plan::AttackPlan,
        network::{Network, Outputs},
        perturb::{self, CleanTile},
    },
    stats,
};

/// What every pass of a call is given.
pub struct Setting<'a> {
    pub workers: &'a Workers,
    /// Samples in flight at once; bounds memory, never changes a number.
    pub batch_size: usize,
    pub probe: &'a Dataset,
    pub plan: &'a AttackPlan,
    pub seed: u64,
    pub cancel: &'a Cancel,
    /// Told what is worked on and how many samples it has finished since the last call.
    pub advance: &'a (dyn Fn(&str, usize) + Sync),
}

/// The reference on its own, kept for all sources.
pub struct ReferencePass {
    /// Samples x outputs, clean.
    pub outputs: Array2<f32>,
    /// Samples x outputs x inputs.
    pub jacobians: Array3<f32>,
    /// Samples x inputs: unit directions at first order, else perturbations in pixel units.
    pub perturbations: Array2<f32>,
    /// Samples x outputs: deviation under the reference's own attack.
    pub own: Array2<f64>,
}

/// A source's pass, and what it and the reference do to each other.
pub struct Meeting {
    /// Samples x outputs, clean.
    pub outputs: Array2<f32>,
    /// Samples x features, clean.
    pub features: Array2<f32>,
    /// Samples x inputs, as in [`ReferencePass`].
    pub perturbations: Array2<f32>,
    /// The source under its own attack.
    pub own: Array2<f64>,
    /// The source under the reference's attack.
    pub by_reference: Array2<f64>,
    /// The source under the reference's attack on another sample.
    pub by_reference_shuffled: Array2<f64>,
    /// The reference under the source's attack.
    pub on_reference: Array2<f64>,
    /// The reference under the source's attack on another sample.
    pub on_reference_shuffled: Array2<f64>,
    /// Squared cosines of the source's attack and the reference's on another sample.
    pub mispaired_squared_cosines: Vec<Option<f64>>,
    pub grams: CrossGrams,
}

/// Attacks the reference on every sample.
///
/// # Errors
/// Those of [`Network`], and [`Reason::Cancelled`].
pub fn reference_pass(setting: &Setting<'_>, reference: &Network) -> Result<ReferencePass> {
    // The Jacobians are by far the largest: they go to their place as they come, so that they are held once.
    let mut jacobians = Array3::zeros((setting.probe.n_samples(), reference.n_outputs(), reference.n_inputs()));
    let mut filled = 0;
    let mut tiles = Vec::new();
    setting.tiles(
        reference,
        |rows| setting.tile(reference, rows),
        |tile| {
            let rows = filled..filled + tile.own.nrows();
            filled = rows.end;
            jacobians.slice_axis_mut(Axis(0), Slice::from(rows)).assign(&tile.clean.jacobians);
            tiles.push(tile.without_jacobians());
        },
    )?;
    Ok(ReferencePass {
        outputs: stack(&tiles, |tile| &tile.outputs)?,
        jacobians,
        perturbations: stack(&tiles, |tile| &tile.perturbations)?,
        own: stack(&tiles, |tile| &tile.own)?,
    })
}

/// Attacks a source on every sample and reads each model under the other's attack.
///
/// # Errors
/// Those of [`Network`], and [`Reason::Cancelled`].
pub fn meet(
    setting: &Setting<'_>,
    reference: &Network,
    reference_pass: &ReferencePass,
    source: &Network,
) -> Result<Meeting> {
    let mut draws = stats::stream(setting.seed, stats::Purpose::Shuffle, 0);
    let others = stats::cyclic_permutation(&mut draws, setting.probe.n_samples());
    let foreign = reference_pass.perturbations.select(Axis(0), &others);
    let mut parts = Vec::new();
    let meet_tile = |rows: &Range<usize>| {
        let tile = setting.tile(source, rows)?;
        let attacked = |by: &Array2<f32>| perturb::deviations(setting.plan, source, &tile.clean, part(by, rows).view());
        let by_reference = attacked(&reference_pass.perturbations)?;
        let by_reference_shuffled = attacked(&foreign)?;
        let reference_jacobians = part(&reference_pass.jacobians, rows);
        let grams = CrossGrams::of(reference_jacobians.view(), tile.clean.jacobians.view())
            .map_err(|cause| internal(&cause))?;
        Ok(SourceTile { tile: tile.without_jacobians(), by_reference, by_reference_shuffled, grams })
    };
    setting.tiles(source, meet_tile, |part| parts.push(part))?;
    let perturbations: Array2<f32> = stack(&parts, |part| &part.tile.perturbations)?;
    let (on_reference, on_reference_shuffled) =
        read_on_reference(setting, reference, reference_pass, &perturbations, &others)?;
    Ok(Meeting {
        outputs: stack(&parts, |part| &part.tile.outputs)?,
        features: stack(&parts, |part| &part.tile.features)?,
        own: stack(&parts, |part| &part.tile.own)?,
        by_reference: stack(&parts, |part| &part.by_reference)?,
        by_reference_shuffled: stack(&parts, |part| &part.by_reference_shuffled)?,
        mispaired_squared_cosines: metric::squared_cosines(perturbations.view(), foreign.view())
            .map_err(|cause| internal(&cause))?,
        grams: CrossGrams::concatenate(parts.iter().map(|part| &part.grams)).map_err(|cause| internal(&cause))?,
        perturbations,
        on_reference,
        on_reference_shuffled,
    })
}

/// A tile of one model's own pass.
struct OwnTile {
    clean: CleanTile,
    features: Array2<f32>,
    perturbations: Array2<f32>,
    own: Array2<f64>,
}

/// What is kept of a tile once its Jacobians were used.
struct LightTile {
    outputs: Array2<f32>,
    features: Array2<f32>,
    perturbations: Array2<f32>,
    own: Array2<f64>,
}

impl OwnTile {
    fn without_jacobians(self) -> LightTile {
        let OwnTile { clean, features, perturbations, own } = self;
        LightTile { outputs: clean.outputs, features, perturbations, own }
    }
}

struct SourceTile {
    tile: LightTile,
    by_reference: Array2<f64>,
    by_reference_shuffled: Array2<f64>,
    grams: CrossGrams,
}

/// The reference's deviations under a source's attack, on the same sample and on another.
fn read_on_reference(
    setting: &Setting<'_>,
    reference: &Network,
    reference_pass: &ReferencePass,
    perturbations: &Array2<f32>,
    others: &[usize],
) -> Result<(Array2<f64>, Array2<f64>)> {
    let foreign = perturbations.select(Axis(0), others);
    let mut parts: Vec<(Array2<f64>, Array2<f64>)> = Vec::new();
    let read = |rows: &Range<usize>| {
        let clean = CleanTile {
            samples: setting.probe.tile(rows.clone()),
            outputs: part(&reference_pass.outputs, rows),
            jacobians: part(&reference_pass.jacobians, rows),
        };
        let same = perturb::deviations(setting.plan, reference, &clean, part(perturbations, rows).view())?;
        let other = perturb::deviations(setting.plan, reference, &clean, part(&foreign, rows).view())?;
        Ok((same, other))
    };
    setting.tiles(reference, read, |pair| parts.push(pair))?;
    Ok((stack(&parts, |pair| &pair.0)?, stack(&parts, |pair| &pair.1)?))
}

impl Setting<'_> {
    /// Applies `work` to every tile of a network's height, and hands the results to `collect` in order.
    fn tiles<T: Send>(
        &self,
        network: &Network,
        work: impl Fn(&Range<usize>) -> Result<T> + Sync,
        mut collect: impl FnMut(T),
    ) -> Result<()> {
        let n_samples = self.probe.n_samples();
        let tiles: Vec<Range<usize>> = (0..n_samples)
            .step_by(network.tile())
            .map(|start| start..(start + network.tile()).min(n_samples))
            .collect();
        let in_flight = self.batch_size.div_ceil(network.tile());
        let checked = |rows: &Range<usize>| {
            self.cancel.check()?;
            let result = work(rows)?;
            (self.advance)(network.name(), rows.len());
            Ok(result)
        };
        self.workers.in_order(&tiles, in_flight, checked, |result| {
            collect(result);
            Ok(())
        })
    }

    fn tile(&self, network: &Network, rows: &Range<usize>) -> Result<OwnTile> {
        let samples = self.probe.tile(rows.clone());
        let Outputs { outputs, features } = network.outputs(samples.view())?;
        let jacobians = network.jacobians(samples.view())?;
        let clean = CleanTile { samples, outputs, jacobians };
        let perturbations = perturb::attack(self.plan, self.seed, network, &clean, rows, self.probe, self.cancel)?;
        let own = perturb::deviations(self.plan, network, &clean, perturbations.view())?;
        Ok(OwnTile { clean, features, perturbations, own })
    }
}

/// Some rows of an array.
fn part<T: Clone, D: RemoveAxis>(array: &Array<T, D>, rows: &Range<usize>) -> Array<T, D> {
    array.slice_axis(Axis(0), Slice::from(rows.clone())).to_owned()
}

/// The rows of all parts, in order.
fn stack<P, T: Clone, D: RemoveAxis>(parts: &[P], array: impl Fn(&P) -> &Array<T, D>) -> Result<Array<T, D>> {
    let views: Vec<_> = parts.iter().map(|part| array(part).view()).collect();
    concatenate(Axis(0), &views).map_err(|cause| internal(&cause))
}

fn internal(cause: &dyn std::fmt::Display) -> Error {
    Error::new(Reason::Internal, format!("tiles do not fit together: {cause}"))
}
