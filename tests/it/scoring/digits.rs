//! The bundled models against the oracle's float64 values, and what the README says of them.

use ndarray::{Array2, Axis, IxDyn};
use prost::Message;
use serde_json::Value;
use transferscore::{
    cancel::Cancel,
    dataset::DatasetStore,
    error::Reason,
    gradient::{
        Graph, compose,
        onnx::{
            AttributeProto, ModelProto, NodeProto, tensor_shape_proto::dimension::Value as Size,
            type_proto::Value as Kind,
        },
    },
    knowledge::LogisticProblem,
    scoring::{Scoring, types::*},
};

use super::{bundled, knowledge, options, pair};
use crate::{gradient::model::Model, server_process::repository};

const SOURCES: [&str; 5] = ["digits-0", "digits-25", "digits-50", "digits-75", "digits-100"];

fn golden() -> Value {
    let text = std::fs::read_to_string(crate::server_process::repository("tests/golden/digits.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn assert_close(what: &str, found: f64, expected: &Value, tolerance: f64) {
    let expected = expected.as_f64().unwrap();
    // Written so that NaN fails.
    assert!((found - expected).abs() <= tolerance * expected.abs().max(1.0), "{what}: {found}, oracle {expected}");
}

#[test]
fn every_source_agrees_with_the_oracle() {
    let scorer = bundled();
    let golden = golden();
    for source in SOURCES {
        let mut options = options();
        options.knowledge.ridge = Some(0.0);
        let scores = scorer.score(&pair(source, options), &Cancel::default()).unwrap();
        let expected = &golden["sources"][source];
        for (direction, found) in
            [("source_to_reference", &scores.source_to_reference), ("reference_to_source", &scores.reference_to_source)]
        {
            let expected = &expected[direction];
            assert_close(&format!("{source} {direction} alpha1"), found.alpha1.value, &expected["alpha1"], 1e-5);
            assert_close(&format!("{source} {direction} alpha2"), found.alpha2.value, &expected["alpha2"], 1e-5);
            assert_close(&format!("{source} {direction} combined"), found.combined.value, &expected["combined"], 1e-5);
            assert_close(
                &format!("{source} {direction} tau2"),
                found.tau2.as_ref().unwrap().value,
                &expected["tau2"],
                1e-5,
            );
        }
        assert_close("tau1", scores.tau1.value, &expected["tau1"], 1e-5);
        let matching = &expected["gradient_matching"];
        assert_close(
            "distance",
            scores.gradient_matching.as_ref().unwrap().distance.value,
            &matching["distance"],
            1e-5,
        );
        assert_close(
            "explained",
            scores.gradient_matching.as_ref().unwrap().explained.value,
            &matching["explained"],
            1e-5,
        );
        let fit = scores.knowledge.function_matching.unwrap();
        let least_squares = &expected["function_matching_least_squares"];
        assert_close("function matching", fit.distance.value, &least_squares["distance"], 1e-5);
        assert_close("function matching", fit.r2.value, &least_squares["r2"], 1e-5);
        let fit = scores.knowledge.affine_transfer.unwrap();
        assert_close(
            "affine transfer",
            fit.distance.value,
            &expected["affine_transfer_least_squares"]["distance"],
            1e-4,
        );
    }
}

#[test]
fn combined_rises_with_the_share_of_shared_classes() {
    let request = RankingRequest {
        source_models: SOURCES.map(str::to_owned).to_vec(),
        reference_model: "digits-reference".to_owned(),
        probe: Probe::Dataset("digits".to_owned()),
        options: options(),
        rank_by: RankingMetric::CombinedReferenceToSource,
        recommend_from: Vec::new(),
    };
    let mut events = Vec::new();
    let ranking = bundled().rank(&request, &mut |event| events.push(event), &Cancel::default()).unwrap();
    let order: Vec<&str> = ranking.sources.iter().map(|source| source.source_model.as_str()).collect();
    assert_eq!(order, ["digits-100", "digits-75", "digits-50", "digits-25", "digits-0"]);

    // By its own interval digits-75 reaches into that of digits-50; on the same resamples it is above it.
    let at = |row: usize, column: usize| ranking.probability_above[row][column];
    for (index, source) in ranking.sources.iter().enumerate() {
        assert_eq!(at(index, index), 0.5);
        assert_eq!(source.probability_above_next, ranking.sources.get(index + 1).map(|_| at(index, index + 1)));
        assert!(source.probability_above_next.is_none_or(|above| above >= 0.5), "{source:?}");
    }
    assert_eq!((at(0, 4), at(4, 0)), (1.0, 0.0));
    assert!((ranking.sources.iter().map(|source| source.probability_best.unwrap()).sum::<f64>() - 1.0).abs() < 1e-12);
    assert!(ranking.sources[0].probability_best.unwrap() > 0.9);

    let rows: Vec<&str> = events
        .iter()
        .filter_map(|event| match event {
            RankingEvent::Row { source_model, .. } => Some(source_model.as_str()),
            RankingEvent::Progress(_) => None,
        })
        .collect();
    assert_eq!(rows, SOURCES);
    let progress: Vec<&Progress> = events
        .iter()
        .filter_map(|event| match event {
            RankingEvent::Progress(progress) => Some(progress),
            RankingEvent::Row { .. } => None,
        })
        .collect();
    assert!(progress.windows(2).all(|pair| pair[0].done < pair[1].done));
    assert_eq!(progress.last().map(|progress| progress.done), Some(182 * 11));
    assert!(progress.iter().all(|progress| progress.total == 182 * 11));
}

#[test]
fn a_row_of_a_ranking_is_the_same_as_the_pair_alone() {
    let request = RankingRequest {
        source_models: vec!["digits-25".to_owned(), "digits-75".to_owned()],
        reference_model: "digits-reference".to_owned(),
        probe: Probe::Dataset("digits".to_owned()),
        options: options(),
        rank_by: RankingMetric::CombinedReferenceToSource,
        recommend_from: Vec::new(),
    };
    let scorer = bundled();
    let mut last = None;
    let keep = &mut |event| {
        if let RankingEvent::Row { scores, .. } = event {
            last = Some(*scores);
        }
    };
    scorer.rank(&request, keep, &Cancel::default()).unwrap();
    assert_eq!(last, Some(scorer.score(&pair("digits-75", options()), &Cancel::default()).unwrap()));
}

#[test]
fn the_theorems_hold_whatever_attack_is_asked_for() {
    let theory = |attack, smoothness| {
        let matching = MatchingOptions { skip: true, n_probes: 0 };
        let theory = Some(TheoryOptions { smoothness });
        let options = ScoreOptions { attack, matching, theory, ..options() };
        bundled().score(&pair("digits-75", options), &Cancel::default()).unwrap().theory.unwrap()
    };
    let first_order = theory(super::attack(AttackMethod::Virtual), Some(0.5));
    let checks = first_order.checks.unwrap();
    assert_eq!(checks.first, None);
    assert!(checks.second.left > 0.0 && checks.second.slack() > 0.0, "{checks:?}");
    assert!(checks.third.unwrap().left > 0.0 && checks.third.unwrap().slack() > 0.0, "{checks:?}");
    assert_eq!(first_order.skipped, ["theorem 1 is of models with a single output"]);

    let empirical = theory(super::attack(AttackMethod::Fgsm), None);
    assert_eq!(empirical.checks.unwrap().second, checks.second);
    assert!(empirical.skipped[0].contains("theory_checks.smoothness"), "{:?}", empirical.skipped);
}

#[test]
fn a_model_against_itself_transfers_wholly() {
    let scores = bundled().score(&pair("digits-reference", options()), &Cancel::default()).unwrap();
    for (what, value) in [
        ("alpha1", scores.source_to_reference.alpha1.value),
        ("tau1", scores.tau1.value),
        ("tau2", scores.reference_to_source.tau2.unwrap().value),
        ("explained", scores.gradient_matching.as_ref().unwrap().explained.value),
        ("function matching", scores.knowledge.function_matching.unwrap().r2.value),
    ] {
        assert!((value - 1.0).abs() < 1e-5, "{what}: {value}");
    }
}

#[test]
fn all_models_are_ranked_when_none_is_named_and_misfits_are_skipped_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("garbage.onnx"), b"not a model").unwrap();
    // It runs, and its output never changes: a source that nothing moves.
    let silent = Model::new(17)
        .input("x", "n,1,8,8")
        .node("Flatten", &["x"], &["flat"], &[])
        .weight("w", &[64, 4])
        .node("MatMul", &["flat", "w"], &["y"], &[])
        .node("Sub", &["y", "y"], &["still"], &[])
        .output("still")
        .bytes();
    std::fs::write(folder.path().join("silent.onnx"), silent).unwrap();
    let scorer = super::scorer(
        vec![crate::server_process::repository("models"), folder.path().to_owned()],
        vec![crate::server_process::repository("models/datasets")],
    );
    let request = RankingRequest {
        source_models: Vec::new(),
        reference_model: "digits-reference".to_owned(),
        probe: Probe::Dataset("digits".to_owned()),
        options: options(),
        rank_by: RankingMetric::Tau1,
        recommend_from: Vec::new(),
    };
    let ranking = scorer.rank(&request, &mut |_| (), &Cancel::default()).unwrap();
    assert_eq!(ranking.sources.len(), 5);
    let skipped: Vec<&str> = ranking.skipped.iter().map(|skipped| skipped.source_model.as_str()).collect();
    assert_eq!(skipped, ["garbage", "silent"]);
    assert!(ranking.skipped[0].reason.contains("ONNX"), "{}", ranking.skipped[0].reason);
    assert!(ranking.skipped[1].reason.contains("moves no sample"), "{}", ranking.skipped[1].reason);
    // One that was named is not left out.
    let named = RankingRequest { source_models: vec!["digits-0".to_owned(), "silent".to_owned()], ..request };
    assert!(scorer.rank(&named, &mut |_| (), &Cancel::default()).unwrap_err().message.contains("silent"));
}

/// The bundled reference behind a transposition, so that it takes images with the channels last.
fn channels_last() -> Vec<u8> {
    let bytes = std::fs::read(crate::server_process::repository("models/digits-reference/model.onnx")).unwrap();
    let mut model = ModelProto::decode(bytes.as_slice()).unwrap();
    let graph = model.graph.as_mut().unwrap();
    let Some(Kind::TensorType(tensor)) = &mut graph.input[0].r#type.as_mut().unwrap().value else { panic!("a tensor") };
    for (dim, size) in tensor.shape.as_mut().unwrap().dim.iter_mut().skip(1).zip([8, 8, 1]) {
        dim.value = Some(Size::DimValue(size));
    }
    graph.node[0].input[0] = "channels_first".to_owned();
    let permutation =
        AttributeProto { name: "perm".to_owned(), r#type: 7, ints: vec![0, 3, 1, 2], ..Default::default() };
    let transposition = NodeProto {
        input: vec![graph.input[0].name.clone()],
        output: vec!["channels_first".to_owned()],
        op_type: "Transpose".to_owned(),
        attribute: vec![permutation],
        ..Default::default()
    };
    graph.node.insert(0, transposition);
    model.encode_to_vec()
}

#[test]
fn a_model_that_wants_the_channels_last_needs_no_manifest() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("channels-last.onnx"), channels_last()).unwrap();
    let scorer = super::scorer(
        vec![crate::server_process::repository("models"), folder.path().to_owned()],
        vec![crate::server_process::repository("models/datasets")],
    );
    let scores = scorer.score(&pair("channels-last", options()), &Cancel::default()).unwrap();
    for value in [scores.source_to_reference.alpha1.value, scores.gradient_matching.as_ref().unwrap().explained.value] {
        assert!((value - 1.0).abs() < 1e-5, "{value}");
    }
}

/// Features of the bundled models, standardised as scikit-learn was given them.
fn standardised_features(source: &str) -> (Array2<f64>, Vec<usize>) {
    let bytes = std::fs::read(repository("models").join(source).join("model.onnx")).unwrap();
    let graph = Graph::parse(bytes.into()).unwrap();
    let features = graph.features().unwrap();
    let inner = compose::with_outputs(&graph, &[&features]).unwrap();
    let executable = crate::support::runtime().compile(inner.to_onnx()).unwrap();
    let digits = DatasetStore::open(&[repository("models/datasets")]).unwrap().get("digits").unwrap();
    let every: Vec<usize> = (0..digits.n_samples()).collect();
    let pixels = digits.samples(&every).into_shape_with_order(IxDyn(&[every.len(), 1, 8, 8])).unwrap();
    let input = graph.inputs().remove(0).name;
    let given = executable.run(&[(input.as_str(), pixels.view().into())]).unwrap();
    let rows = given[0].view().unwrap().mapv(f64::from).into_shape_with_order((every.len(), 48)).unwrap();
    let mean = rows.mean_axis(Axis(0)).unwrap();
    let deviation = rows.std_axis(Axis(0), 0.0);
    let varying: Vec<usize> = (0..48).filter(|&feature| deviation[feature] > 1e-7).collect();
    let standardised = ((&rows - &mean) / &deviation).select(Axis(1), &varying);
    (standardised, digits.labels().unwrap().iter().map(|&label| label as usize).collect())
}

#[test]
fn logistic_regression_on_features_reaches_the_optimum_of_scikit_learn() {
    let golden = golden();
    for source in SOURCES {
        let (features, classes) = standardised_features(source);
        let problem = LogisticProblem::new(features.view(), &classes, 4).unwrap();
        for (l2, expected) in golden["sources"][source]["logistic"].as_object().unwrap() {
            let fit = problem.solve(l2.parse().unwrap(), None).unwrap();
            assert!((fit.objective - expected.as_f64().unwrap()).abs() < 1e-5, "{source} {l2}: {fit:?} {expected}");
        }
    }
}

/// Of sources that name their classes the probabilities are known, so every measure but verification has a value.
#[test]
fn every_estimator_has_a_value_on_the_bundled_models() {
    let scores = bundled().score(&pair("digits-50", options()), &Cancel::default()).unwrap().knowledge;
    let found: Vec<Estimator> = scores.estimators.iter().map(|(estimator, _)| *estimator).collect();
    assert_eq!(found, Estimator::all().collect::<Vec<_>>());
    let skipped: Vec<KnowledgeMeasure> = scores.skipped.iter().map(|(measure, _)| *measure).collect();
    assert_eq!(skipped, [KnowledgeMeasure::Verification]);
    let paths: Vec<&str> = scores.values().iter().map(|value| value.path).collect();
    let mut expected = vec![
        "knowledge.linear_probe.accuracy",
        "knowledge.affine_transfer.held_out_r2",
        "knowledge.function_matching.r2",
        "knowledge.function_matching.held_out_r2",
    ];
    expected.extend(Estimator::all().map(Estimator::path));
    expected.push("knowledge.n_parameters");
    expected.extend(scores.clean_accuracy.map(|_| "knowledge.clean_accuracy"));
    assert_eq!(paths, expected);
    for value in scores.values() {
        assert!(value.estimate.is_none_or(|estimate| estimate.value == value.value), "{value:?}");
    }
}

#[test]
fn settings_of_the_knowledge_measures_reach_them() {
    let scorer = bundled();
    let of = |change: &dyn Fn(&mut KnowledgeOptions)| {
        let mut options = options();
        options.knowledge = knowledge(vec![
            KnowledgeMeasure::FunctionMatching,
            KnowledgeMeasure::AffineTransfer,
            KnowledgeMeasure::Verification,
            KnowledgeMeasure::Estimator(Estimator::Knn),
        ]);
        change(&mut options.knowledge);
        scorer.score(&pair("digits-25", options), &Cancel::default()).unwrap().knowledge
    };
    let plain = of(&|_| ());
    // Asked for by name, the features are verified.
    assert!(plain.verification.as_ref().unwrap().roc_auc.value > 0.6);
    let fits = |scores: &KnowledgeScores| {
        let of = |fit: &Option<AffineFit>| fit.as_ref().map(|fit| fit.n_features).unwrap();
        (of(&scores.function_matching), of(&scores.affine_transfer))
    };
    assert_eq!(fits(&plain), (4, 48));
    let turned = of(&|options| {
        options.function_matching_of = Some(HeadInput::Features);
        options.affine_transfer_of = Some(HeadInput::Outputs);
    });
    assert_eq!(fits(&turned), (48, 4));
    let by_folds = of(&|options| options.ridge_folds = 5).affine_transfer.unwrap();
    let alone = plain.affine_transfer.as_ref().unwrap();
    assert!(by_folds.held_out_r2.value != alone.held_out_r2.value);
    assert!((by_folds.held_out_r2.value - alone.held_out_r2.value).abs() < 0.05);
    let near = of(&|options| options.n_neighbors = 1);
    assert_ne!(near.estimator(Estimator::Knn), plain.estimator(Estimator::Knn));
}

#[test]
fn features_are_read_from_the_tensor_that_is_named() {
    let scorer = bundled();
    let graph = Graph::parse(std::fs::read(repository("models/digits-0/model.onnx")).unwrap().into()).unwrap();
    let of = |tensor: &str| {
        let mut options = options();
        options.knowledge = KnowledgeOptions {
            feature_tensor: Some(tensor.to_owned()),
            ..knowledge(vec![KnowledgeMeasure::AffineTransfer])
        };
        scorer.score(&pair("digits-0", options), &Cancel::default())
    };
    let automatic = graph.features().unwrap();
    let wide = graph.tensors().into_iter().next().unwrap();
    let n_features = |tensor: &str| of(tensor).unwrap().knowledge.affine_transfer.unwrap().n_features;
    assert_eq!(n_features(&automatic), 48);
    assert!(n_features(&wide) > 48);
    let error = of(&automatic[..automatic.len() - 1]).expect_err("no such tensor");
    assert_eq!((error.reason, error.field.as_deref()), (Reason::OptionUnsupported, Some("knowledge.feature_tensor")));
    assert!(error.message.contains(&format!("`{automatic}`")), "{error}");
}
