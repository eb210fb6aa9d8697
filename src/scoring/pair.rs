//! One source against the reference: from the arrays of their passes to estimates.

use ndarray::{ArrayView1, ArrayView2};

use crate::{
    dataset::Dataset,
    error::{Error, Reason, Result},
    metric::{self, Answers, AttackSign, Deviations, GradientMoments, Nulls, Truth},
    registry::OutputKind,
    scoring::{
        attack_plan::AttackPlan,
        fine_tune_plan::FineTunePlan,
        knowledge,
        network::Network,
        passes::{Meeting, OwnRecord, Setting},
        theory,
        types::*,
    },
};

/// What all pairs of a call share.
pub struct Call<'a> {
    pub setting: &'a Setting<'a>,
    pub options: &'a ScoreOptions,
    pub reference: &'a Network,
    pub reference_record: &'a OwnRecord,
    pub fine_tune: Option<&'a FineTunePlan>,
    pub probe_digest: &'a str,
    pub dropped: &'a [DroppedSamples],
    pub provider: &'a str,
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
    let VariantScores { source_to_reference, reference_to_source, tau1, similarity, .. } =
        first.ok_or_else(|| Error::new(Reason::Internal, "an attack without variants"))?;
    if scores.len() == 1 {
        scores.clear();
    }
    let gradient_matching = meeting.moments.as_ref().map(|moments| match call.reference.has_small_jacobian() {
        true => metric::gradient_matching(moments, call.setting.resamples),
        false => metric::gradient_matching_by_probes(moments, call.setting.resamples),
    });
    let report = |network: &Network, record: &OwnRecord| match call.setting.plan {
        AttackPlan::Virtual(plan) => plan.report(network, record.solver.view()).map(Some),
        AttackPlan::Empirical(_) => Ok(None),
    };
    Ok(PairScores {
        source_to_reference,
        reference_to_source,
        tau1,
        similarity,
        variants: scores,
        gradient_matching: gradient_matching.transpose().map_err(failed)?,
        theory: theory::scores(call, source, meeting)?,
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
    let mut similarity = None;
    if !setting.plan.is_first_order() {
        let of_reference =
            Answers { clean: reference_record.outputs.view(), own: reference_own, black: exchange.on_reference.view() };
        let of_source =
            Answers { clean: meeting.source.outputs.view(), own: source_own, black: exchange.by_reference.view() };
        let [reference_truth, source_truth] = [reference, source].map(|model| truth(model, reference, setting.probe));
        let classes = |model: &Network| model.output_kind() == OutputKind::Logits;
        source_to_reference.loss = reference_truth
            .map(|truth| metric::losses(truth, &of_reference, classes(source).then_some(&of_source), resamples))
            .transpose()
            .map_err(failed)?;
        reference_to_source.loss = source_truth
            .map(|truth| metric::losses(truth, &of_source, classes(reference).then_some(&of_reference), resamples))
            .transpose()
            .map_err(failed)?;
        if let (Some(Truth::Labels(labels)), Some(Truth::Labels(_))) = (reference_truth, source_truth) {
            similarity = metric::similarity(labels, &of_source, &of_reference, resamples).map_err(failed)?;
        }
    }
    let [same, other] = [&exchange.squared_cosines, &exchange.mispaired_squared_cosines]
        .map(|cosines| cosines.view().iter().map(|&x| (!x.is_nan()).then_some(x)).collect::<Vec<_>>());
    let tau1 = metric::tau1(&same, reference.n_inputs(), &other, resamples).map_err(failed)?;
    Ok(VariantScores { variant, source_to_reference, reference_to_source, tau1, similarity })
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
        let (tau2, tau2_skipped) = match metric::tau2(self.white, self.black, sign, call.setting.resamples) {
            Ok(tau2) => (Some(tau2), String::new()),
            Err(cause @ metric::Error::TooManyOutputs { .. }) => (None, cause.to_string()),
            Err(cause) => return Err(cause),
        };
        Ok(DirectionalScores {
            alpha1: alphas.alpha1,
            alpha2: alphas.alpha2,
            combined: alphas.combined,
            tau2,
            tau2_skipped,
            n_dead_samples: alphas.n_dead_samples,
            loss: None,
        })
    }
}

/// What a model's outputs are judged by: labels where they are logits of the probe's classes, targets where they are of the
/// targets' size and no logits. The reference answers the probe's task, if its outputs are enough; a source only if it is
/// the same model or names the same classes.
fn truth<'a>(model: &Network, reference: &Network, probe: &'a Dataset) -> Option<Truth<'a>> {
    let is_reference = std::ptr::eq(model, reference) || model.reference().digest == reference.reference().digest;
    let is_classifier = model.output_kind() == OutputKind::Logits;
    match (probe.labels(), probe.targets()) {
        (Some(labels), _) if is_classifier => {
            let same = is_reference || (!model.classes().is_empty() && model.classes() == reference.classes());
            (same && probe.n_classes() <= model.n_outputs()).then_some(Truth::Labels(labels))
        }
        (_, Some(targets)) if !is_classifier => {
            (is_reference && targets.ncols() == model.n_outputs()).then_some(Truth::Targets(targets))
        }
        _ => None,
    }
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
