//! What the fake answers to attacks, comparisons and look-ups.

use transferscore::{
    error::{Error, Reason},
    scoring::types::*,
    stats::{AgainstChance, GroupAgreement},
};

use super::fake::{estimate, pair_scores};

pub fn examples(radius: f64) -> AdversarialExamples {
    let reading = |model: &str| ModelReading {
        model: model.to_owned(),
        clean_classes: vec![0, 1],
        adversarial_classes: vec![2, 1],
        successes: vec![true, false],
        clean_successes: vec![false, false],
    };
    AdversarialExamples {
        radius: Some(radius),
        shape: vec![1, 1, 3],
        indices: vec![4, 7],
        samples: ndarray::array![[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]],
        clean_samples: Some(ndarray::array![[0.0, 0.1, 0.2], [0.3, 0.4, 0.5]]),
        l2_norms: vec![0.2, 0.3],
        linf_norms: vec![radius, radius],
        losses: vec![1.0, 2.0],
        labels: vec![0, 1],
        attacked: Some(reading("")),
        evaluated: vec![reading("other")],
    }
}

pub fn adversarial_summary(request: &AdversarialRequest) -> AdversarialSummary {
    let reference = |name: &String| ModelReference { name: name.clone(), digest: "00".to_owned() };
    let rate = |model: &str| SuccessRate { model: model.to_owned(), rate: 0.5, clean_rate: 0.0 };
    let of_radius = |radius| RadiusSummary {
        radius: Some(radius),
        mean_l2_norm: 0.25,
        mean_linf_norm: radius,
        mean_loss: 1.5,
        attacked: Some(rate("")),
        evaluated: vec![rate("other")],
    };
    AdversarialSummary {
        radii: vec![of_radius(0.1), of_radius(0.2)],
        models: request.models.iter().map(reference).collect(),
        evaluated_models: request.evaluated_models.iter().map(reference).collect(),
        dataset: "digits".to_owned(),
        probe_digest: "11".to_owned(),
        n_samples: 2,
        dropped: Vec::new(),
        seed: request.seed,
        attack: request.attack.clone(),
        pooling: request.pooling,
        provider: "CPU".to_owned(),
    }
}

pub fn comparison(request: &ComparisonRequest) -> TaskComparison {
    let k = request.models.len();
    let matrix = vec![vec![estimate(0.5); k]; k];
    let PairScores { provenance, .. } = pair_scores();
    TaskComparison {
        models: request
            .models
            .iter()
            .map(|name| ModelReference { name: name.clone(), digest: "00".to_owned() })
            .collect(),
        alpha1: matrix.clone(),
        alpha2: matrix.clone(),
        combined: matrix,
        affinity: ndarray::Array2::from_elem((k, k), 0.25),
        merges: (1..k)
            .map(|i| Merge {
                first: if i == 1 { 0 } else { i },
                second: if i == 1 { 1 } else { k + i - 2 },
                height: 0.5,
                size: i + 1,
            })
            .collect(),
        groups: vec![0; k],
        cluster_by: request.cluster_by,
        cophenetic_correlation: Some(0.75),
        known_groups: request.known_groups.clone(),
        group_agreement: (!request.known_groups.is_empty()).then(|| {
            let chance = ShuffledNull { mean: 0.0, upper: 0.5 };
            let against = |value: f64| AgainstChance { value, chance, p_value: 0.25 };
            GroupAgreement {
                clusters: (0..k).map(|index| index % 2).collect(),
                adjusted_rand_index: against(0.625),
                cophenetic_correlation: Some(against(0.875)),
                n_permutations: 6,
            }
        }),
        dataset: provenance.dataset,
        probe_digest: provenance.probe_digest,
        n_samples: provenance.n_samples,
        dropped: provenance.dropped,
        seed: provenance.seed,
        attack: provenance.attack,
        confidence: provenance.confidence,
        provider: provenance.provider,
    }
}

pub fn model(name: &str) -> ModelDescription {
    let tensor = |name: &str| TensorDescription {
        name: name.to_owned(),
        element_type: "float32".to_owned(),
        shape: vec!["batch".to_owned(), "64".to_owned()],
    };
    ModelDescription {
        name: name.to_owned(),
        summary: "a model".to_owned(),
        digest: "00".to_owned(),
        n_parameters: 1_000,
        output_kind: Some(OutputKind::Logits),
        classes: Vec::new(),
        inputs: vec![tensor("image")],
        outputs: vec![tensor("logits")],
        features: "features".to_owned(),
        size_bytes: 4_000,
        problem: String::new(),
    }
}

pub fn dataset(name: &str) -> DatasetDescription {
    DatasetDescription {
        name: name.to_owned(),
        n_samples: 8,
        shape: vec![1, 8, 8],
        n_classes: 4,
        target_size: 0,
        format: "npz".to_owned(),
        ..DatasetDescription::default()
    }
}

pub fn not_found(name: &str) -> Error {
    Error::new(Reason::ModelNotFound, format!("there is no model {name}; ListModels lists those there are"))
        .at("reference_model")
}

pub fn affine_fit() -> AffineFit {
    AffineFit {
        distance: estimate(1.0),
        r2: estimate(0.5),
        held_out_distance: estimate(1.1),
        held_out_r2: estimate(0.4),
        ridge: 0.1,
        n_features: 3,
    }
}

pub fn sides() -> TheoremCheck {
    TheoremCheck { left: 1.0, right: 3.5 }
}
