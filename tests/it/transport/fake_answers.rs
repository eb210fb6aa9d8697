//! What the fake answers to attacks, comparisons and look-ups.

use transferscore::{
    error::{Error, Reason},
    scoring::types::*,
    stats::{AgainstChance, GroupAgreement},
};

use super::tuned::fine_tune_scores;

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

pub fn estimate(value: f64) -> Estimate {
    Estimate {
        null_floor: Some(0.1),
        shuffled: Some(ShuffledNull { mean: 0.1, upper: 0.2 }),
        ..Estimate::of(value, value, value)
    }
}

fn directional() -> DirectionalScores {
    let loss = LossScores {
        attack_loss: estimate(2.0),
        clean_loss: estimate(1.0),
        white_box_loss: estimate(4.0),
        loss_ratio: Some(estimate(0.5)),
        fooling_rate: Some(estimate(0.5)),
        conditional_fooling_rate: Some(estimate(0.6)),
    };
    DirectionalScores {
        alpha1: estimate(0.5),
        alpha2: estimate(0.5),
        combined: estimate(0.25),
        tau2: Some(estimate(0.5)),
        tau2_skipped: String::new(),
        n_dead_samples: 1,
        loss: Some(loss),
    }
}

pub fn pair_scores() -> PairScores {
    let reference = |name: &str| ModelReference { name: name.to_owned(), digest: "00".to_owned() };
    let solver = SolverReport {
        solver: Solver::Lanczos,
        n_converged: 7,
        mean_residual: 1e-6,
        max_residual: 2e-5,
        mean_steps: 9.5,
    };
    PairScores {
        source_to_reference: directional(),
        reference_to_source: directional(),
        tau1: estimate(0.5),
        variants: vec![VariantScores {
            variant: Variant { epsilon: Some(0.03), level: 0 },
            source_to_reference: directional(),
            reference_to_source: directional(),
            tau1: estimate(0.5),
            similarity: Some(estimate(3.0)),
        }],
        similarity: Some(estimate(3.0)),
        gradient_matching: Some(GradientMatching {
            distance: estimate(1.0),
            explained: estimate(0.5),
            probes: Some(ProbeErrors { n_probes: 32, distance: 0.1, explained: 0.01 }),
        }),
        theory: Some(TheoryScores {
            checks: Some(TheoryChecks { first: Some(sides()), second: sides(), third: Some(sides()) }),
            skipped: vec!["theorem 1 is of models with a single output".to_owned()],
        }),
        source_solver: Some(solver),
        reference_solver: Some(solver),
        knowledge: KnowledgeScores {
            function_matching: Some(affine_fit()),
            affine_transfer: Some(affine_fit()),
            linear_probe: Some(LinearProbe {
                accuracy: estimate(0.9),
                cross_entropy: estimate(0.3),
                l2: 0.01,
                folds: 5,
                n_features: 3,
                majority_accuracy: 0.25,
                classes: vec![ClassFigures { label: 0, n_samples: 8, accuracy: 0.9, cross_entropy: 0.3 }],
            }),
            verification: Some(Verification {
                accuracy: estimate(0.9),
                roc_auc: estimate(0.95),
                true_accept_rates: [Some(estimate(0.5)), Some(estimate(0.25))],
                threshold: 0.4,
                n_pairs: 6,
            }),
            estimators: Estimator::all().map(|of| (of, Score::with_interval(estimate(-1.0)))).collect(),
            fine_tune: Some(fine_tune_scores()),
            n_parameters: 1_000,
            clean_accuracy: Some(0.93),
            skipped: vec![(KnowledgeMeasure::LinearProbe, "no labels".to_owned())],
        },
        provenance: Provenance {
            source_model: reference("source"),
            reference_model: reference("ok"),
            dataset: "digits".to_owned(),
            probe_digest: "11".to_owned(),
            n_samples: 8,
            dropped: vec![DroppedSamples { reason: "over the limit".to_owned(), count: 2 }],
            seed: 7,
            attack: AttackOptions {
                method: AttackMethod::Pgd,
                norm: Some(Norm::Linf),
                epsilon: Some(0.03),
                steps: 10,
                step_size: Some(0.0075),
                random_start: true,
                loss: Some(AttackLoss::CrossEntropy),
                virtual_attack: VirtualAttackOptions { levels: 2, tolerance: Some(1e-4), ..Default::default() },
                epsilons: vec![0.1],
                restarts: 2,
                use_labels: true,
                target: Some(TargetClass::LeastLikely),
                momentum: MomentumOptions { decay: Some(0.5), of: Some(Accumulated::Directions) },
                diversity: Some(InputDiversity { probability: 0.5, least_size: 0.9 }),
                translation: Some(TranslationKernel { size: 15, reach: 3.0 }),
                scales: 2,
                boundary: BoundaryOptions { candidates: 5, overshoot: Some(0.02) },
            },
            confidence: Confidence { level: 0.95, resamples: 1_000 },
            provider: "CPU".to_owned(),
        },
    }
}
