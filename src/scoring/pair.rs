//! One source against the reference: from the arrays of their passes to estimates.

use ndarray::{Array2, ArrayView1, ArrayView2};

use crate::{
    dataset::Dataset,
    error::{Error, Reason, Result},
    metric::{self, AttackSign, Deviations, GradientMoments, Nulls},
    registry::OutputKind,
    scoring::{
        attack_plan::AttackPlan,
        knowledge,
        network::Network,
        passes::{Meeting, OwnRecord, Setting},
        perturb::argmax,
        types::*,
    },
    stats::Resamples,
};

/// What all pairs of a call share.
pub struct Call<'a> {
    pub setting: &'a Setting<'a>,
    pub options: &'a ScoreOptions,
    pub reference: &'a Network,
    pub reference_record: &'a OwnRecord,
    pub probe_digest: &'a str,
    pub dropped: &'a [DroppedSamples],
    pub provider: &'static str,
}

/// Scores one source.
///
/// # Errors
/// [`Reason::ModelExecutionFailed`] where the mathematics finds nothing to measure; those of the knowledge measures.
pub fn score(call: &Call<'_>, source: &Network, meeting: &Meeting) -> Result<PairScores> {
    let failed = |cause: metric::Error| {
        let message = format!("models `{}` and `{}`: {cause}", source.name(), call.reference.name());
        Error::new(Reason::ModelExecutionFailed, message)
    };
    let variants = call.setting.plan.variants();
    let mut scores = variants
        .iter()
        .enumerate()
        .map(|(index, &variant)| variant_scores(call, source, meeting, index, variant))
        .collect::<Result<Vec<_>>>()?;
    let first = scores.first().cloned();
    let VariantScores { source_to_reference, reference_to_source, tau1, .. } =
        first.ok_or_else(|| Error::new(Reason::Internal, "an attack without variants"))?;
    if scores.len() == 1 {
        scores.clear();
    }
    let gradient_matching =
        meeting.moments.as_ref().map(|moments| metric::gradient_matching(moments, call.setting.resamples));
    let report = |network: &Network, record: &OwnRecord| match call.setting.plan {
        AttackPlan::Virtual(plan) => plan.report(network, record.solver.view()).map(Some),
        AttackPlan::Empirical(_) => Ok(None),
    };
    Ok(PairScores {
        source_to_reference,
        reference_to_source,
        tau1,
        variants: scores,
        gradient_matching: gradient_matching.transpose().map_err(failed)?,
        knowledge: knowledge::scores(call, source, meeting)?,
        source_solver: report(source, &meeting.source)?,
        reference_solver: report(call.reference, call.reference_record)?,
        provenance: provenance(call, source),
    })
}

/// The scores of one variant of the attack.
fn variant_scores(
    call: &Call<'_>,
    source: &Network,
    meeting: &Meeting,
    index: usize,
    variant: Variant,
) -> Result<VariantScores> {
    let Call { setting, reference, reference_record, .. } = *call;
    let resamples = setting.resamples;
    let failed = |cause: metric::Error| {
        let message = format!("models `{}` and `{}`: {cause}", source.name(), reference.name());
        Error::new(Reason::ModelExecutionFailed, message)
    };
    let missing = || Error::new(Reason::Internal, "a variant of the attack was not read");
    let exchange = meeting.exchanges.get(index).ok_or_else(missing)?;
    let source_own = meeting.source.own.get(index).ok_or_else(missing)?.view();
    let reference_own = reference_record.own.get(index).ok_or_else(missing)?.view();
    let moments = meeting.moments.as_ref().filter(|_| setting.plan.is_first_order());
    let forward = Direction {
        white: source_own,
        black: exchange.on_reference.view(),
        black_own: reference_own,
        black_shuffled: exchange.on_reference_shuffled.view(),
        jacobian_energies: moments.map(GradientMoments::target_energies),
    };
    let backward = Direction {
        white: reference_own,
        black: exchange.by_reference.view(),
        black_own: source_own,
        black_shuffled: exchange.by_reference_shuffled.view(),
        jacobian_energies: moments.map(GradientMoments::source_energies),
    };
    let mut source_to_reference = forward.scores(call, reference.n_inputs()).map_err(failed)?;
    let mut reference_to_source = backward.scores(call, reference.n_inputs()).map_err(failed)?;
    if !setting.plan.is_first_order() {
        if knows_classes(reference, reference, setting.probe) {
            let (clean, black) = (reference_record.outputs.view(), exchange.on_reference.view());
            source_to_reference.loss = loss(setting.probe, clean, black, resamples)?;
        }
        if knows_classes(source, reference, setting.probe) {
            let (clean, black) = (meeting.source.outputs.view(), exchange.by_reference.view());
            reference_to_source.loss = loss(setting.probe, clean, black, resamples)?;
        }
    }
    let [same, other] = [&exchange.squared_cosines, &exchange.mispaired_squared_cosines]
        .map(|cosines| cosines.view().iter().map(|&x| (!x.is_nan()).then_some(x)).collect::<Vec<_>>());
    let tau1 = metric::tau1(&same, reference.n_inputs(), &other, resamples).map_err(failed)?;
    Ok(VariantScores { variant, source_to_reference, reference_to_source, tau1 })
}

/// What the metrics of one direction are made of: the attack is made on model 1, read on model 2.
struct Direction<'a> {
    white: ArrayView2<'a, f64>,
    black: ArrayView2<'a, f64>,
    black_own: ArrayView2<'a, f64>,
    /// Model 2 under the attack on another sample.
    black_shuffled: ArrayView2<'a, f64>,
    /// ‖J₂‖²_F of each sample, where deviations are of first order.
    jacobian_energies: Option<ArrayView1<'a, f64>>,
}

impl Direction<'_> {
    fn scores(&self, call: &Call<'_>, n_inputs: usize) -> Result<DirectionalScores, metric::Error> {
        let sign = match call.setting.plan {
            AttackPlan::Virtual(_) => AttackSign::Arbitrary,
            AttackPlan::Empirical(_) => AttackSign::Meaningful,
        };
        let floor_of = |energies: ArrayView1<'_, f64>| metric::alpha1_floor(energies, self.black_own, n_inputs);
        let alpha1_floor = self.jacobian_energies.and_then(floor_of);
        let nulls = Nulls { sign, alpha1_floor, mispaired: Some(self.black_shuffled) };
        let deviations = Deviations { white: self.white, black: self.black, black_own: self.black_own };
        let alphas = metric::alphas(&deviations, &nulls, call.setting.resamples)?;
        Ok(DirectionalScores {
            alpha1: alphas.alpha1,
            alpha2: alphas.alpha2,
            combined: alphas.combined,
            tau2: metric::tau2(self.white, self.black, sign, call.setting.resamples)?,
            n_dead_samples: alphas.n_dead_samples,
            loss: None,
        })
    }
}

/// Whether a model's outputs are logits of the probe's classes. The reference's are, if there are enough of them; a
/// source's only if it names the same classes.
fn knows_classes(model: &Network, reference: &Network, probe: &Dataset) -> bool {
    let same = std::ptr::eq(model, reference)
        || (!model.classes().is_empty() && model.classes() == reference.classes())
        || model.reference().digest == reference.reference().digest;
    same && probe.labels().is_some()
        && model.output_kind() == OutputKind::Logits
        && probe.n_classes() <= model.n_outputs()
}

/// Classification of clean and attacked samples.
fn loss(
    probe: &Dataset,
    clean: ArrayView2<'_, f32>,
    deviations: ArrayView2<'_, f64>,
    resamples: &Resamples,
) -> Result<Option<LossScores>> {
    let Some(labels) = probe.labels() else { return Ok(None) };
    let failed = |cause: crate::stats::Error| Error::new(Reason::ModelExecutionFailed, cause.to_string());
    let clean = clean.mapv(f64::from);
    let attacked = &clean + &deviations;
    let entropies = |logits: &Array2<f64>| -> Vec<f64> {
        logits.rows().into_iter().zip(labels).map(|(row, &label)| cross_entropy(row, label as usize)).collect()
    };
    let fooled: Vec<Option<f64>> = clean
        .rows()
        .into_iter()
        .zip(attacked.rows())
        .zip(labels)
        .map(|((clean, attacked), &label)| {
            let is_right = |row: ArrayView1<'_, f64>| argmax(row.iter()) == label as usize;
            is_right(clean).then(|| if is_right(attacked) { 0.0 } else { 1.0 })
        })
        .collect();
    let fooling_rate =
        if fooled.iter().any(Option::is_some) { Some(resamples.mean_of_live(&fooled).map_err(failed)?) } else { None };
    Ok(Some(LossScores {
        attack_loss: resamples.mean(&entropies(&attacked)).map_err(failed)?,
        clean_loss: resamples.mean(&entropies(&clean)).map_err(failed)?,
        fooling_rate,
    }))
}

/// −log softmax(logits)[label], in nats.
fn cross_entropy(logits: ArrayView1<'_, f64>, label: usize) -> f64 {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|logit| (logit - largest).exp()).sum();
    sum.ln() + largest - logits.get(label).copied().unwrap_or(largest)
}

fn provenance(call: &Call<'_>, source: &Network) -> Provenance {
    Provenance {
        source_model: source.reference().clone(),
        reference_model: call.reference.reference().clone(),
        dataset: call.setting.probe.name().to_owned(),
        probe_digest: call.probe_digest.to_owned(),
        n_samples: call.setting.probe.n_samples(),
        dropped: call.dropped.to_vec(),
        seed: call.options.seed,
        attack: call.setting.plan.resolved(&call.options.attack),
        confidence: call.options.confidence,
        provider: call.provider.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array1;

    use super::*;

    #[test]
    fn cross_entropy_is_that_of_the_softmax_and_does_not_overflow() {
        // −log softmax of each entry, by NumPy in float64.
        for (label, expected) in [(0, 2.407_605_964_444_38), (1, 1.407_605_964_444_38), (2, 0.407_605_964_444_38)] {
            let logits = Array1::from(vec![1.0, 2.0, 3.0]);
            assert!((cross_entropy(logits.view(), label) - expected).abs() < 1e-12);
            let shifted = logits + 1e4;
            assert!((cross_entropy(shifted.view(), label) - expected).abs() < 1e-9);
        }
    }
}
