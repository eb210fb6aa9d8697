//! What a ranking says beyond its order: how scores predict transfer, and what they recommend together.

use std::sync::OnceLock;

use transferscore::{
    cancel::Cancel,
    error::{Reason, Result},
    scoring::{Scorer, Scoring, types::*},
    stats::{kendall, pearson, spearman, weighted_kendall},
};

use super::{bundled, options};

fn request() -> RankingRequest {
    RankingRequest {
        source_models: ["digits-0", "digits-25", "digits-50", "digits-75", "digits-100"].map(str::to_owned).into(),
        reference_model: "digits-reference".to_owned(),
        probe: Probe::Dataset("digits".to_owned()),
        options: options(),
        rank_by: RankingMetric::Recommended,
        recommend_from: Vec::new(),
    }
}

/// One server for all tests here: what was measured of a pair is kept.
fn rank(request: &RankingRequest) -> Result<(Ranking, Vec<(String, PairScores)>)> {
    static SCORER: OnceLock<Scorer> = OnceLock::new();
    let mut rows = Vec::new();
    let mut keep = |event| {
        if let RankingEvent::Row { source_model, scores } = event {
            rows.push((source_model, *scores));
        }
    };
    let ranking = SCORER.get_or_init(bundled).rank(request, &mut keep, &Cancel::default())?;
    Ok((ranking, rows))
}

fn names(sources: &[RankedSource]) -> Vec<&str> {
    sources.iter().map(|source| source.source_model.as_str()).collect()
}

#[test]
fn the_recommendation_follows_the_share_of_shared_classes() {
    let (ranking, _) = rank(&request()).unwrap();
    let Recommendation { sources, from, contenders, probability } = &ranking.recommendation;
    assert_eq!(names(sources), ["digits-100", "digits-75", "digits-50", "digits-25", "digits-0"]);
    assert_eq!(&ranking.sources, sources, "it was asked to rank by it");
    assert_eq!(*probability, 0.95);
    assert!(
        contenders.contains(&"digits-100".to_owned()) && !contenders.contains(&"digits-0".to_owned()),
        "{contenders:?}"
    );
    assert!((from.iter().map(|vote| vote.weight).sum::<f64>() - 1.0).abs() < 1e-12, "{from:?}");
    assert!(from.iter().all(|vote| !vote.score.contains("linear_probe") && !vote.score.contains("n_parameters")));
    let best: f64 = sources.iter().map(|source| source.probability_best.unwrap()).sum();
    assert!((best - 1.0).abs() < 1e-12);

    let other = RankingRequest { rank_by: RankingMetric::Tau1, ..request() };
    assert_eq!(rank(&other).unwrap().0.recommendation, ranking.recommendation, "whatever is ranked by");
}

#[test]
fn a_recommendation_is_made_from_what_the_request_names() {
    let told = |paths: &[&str]| {
        let recommend_from = paths.iter().map(|&path| path.to_owned()).collect();
        rank(&RankingRequest { recommend_from, ..request() }).map(|(ranking, _)| ranking)
    };
    let ranking = told(&["symmetric.tau1", "knowledge.linear_probe.accuracy", "symmetric.tau1"]).unwrap();
    let from: Vec<(&str, f64)> =
        ranking.recommendation.from.iter().map(|vote| (vote.score.as_str(), vote.weight)).collect();
    assert_eq!(from, [("symmetric.tau1", 0.5), ("knowledge.linear_probe.accuracy", 0.5)]);
    // What is made of a measured transfer cannot be said to predict it.
    assert!(ranking.correlations.iter().all(|one| one.kind != MeasureKind::Recommendation));

    let error = told(&["symmetric.tau1", "symmetric.tau9"]).unwrap_err();
    assert_eq!((error.reason, error.field.as_deref()), (Reason::OptionOutOfRange, Some("recommend_from[1]")));
    assert!(error.message.contains("gradient_matching.explained"), "{}", error.message);
    let mut without = request();
    without.options.matching.skip = true;
    assert!(
        rank(&without).unwrap().0.recommendation.from.iter().all(|vote| vote.score != "gradient_matching.explained")
    );
    without.recommend_from = vec!["gradient_matching.explained".to_owned()];
    let error = rank(&without).unwrap_err();
    assert_eq!((error.reason, error.field.as_deref()), (Reason::OptionUnsupported, Some("recommend_from[0]")));
}

#[test]
fn every_score_is_held_against_every_measured_transfer() {
    let (ranking, rows) = rank(&request()).unwrap();
    let find = |score: &str, measured: &str| {
        let found = ranking.correlations.iter().find(|one| one.score == score && one.measured_transfer == measured);
        found.unwrap_or_else(|| panic!("{score} against {measured}"))
    };
    let probe = "knowledge.linear_probe.accuracy";
    for score in ["recommendation", "symmetric.tau1", "knowledge.function_matching.r2", "source_to_reference.alpha2"] {
        for measured in [probe, "knowledge.affine_transfer.held_out_r2"] {
            assert_eq!(find(score, measured).n_sources, 5);
        }
    }
    for value in rows[0].1.knowledge.values() {
        let takes_part =
            |one: &MeasureCorrelation| [&one.score, &one.measured_transfer].contains(&&value.path.to_owned());
        assert!(ranking.correlations.iter().any(takes_part), "{} takes no part", value.path);
    }
    let x: Vec<f64> = rows.iter().map(|(_, scores)| scores.reference_to_source.combined.value).collect();
    let y: Vec<f64> =
        rows.iter().map(|(_, scores)| scores.knowledge.linear_probe.as_ref().unwrap().accuracy.value).collect();
    let found = find("reference_to_source.combined", probe);
    let Agreement { pearson: p, spearman: s, kendall: k, weighted_kendall: w, .. } = found.agreement.unwrap();
    assert_eq!(
        [p, s, k, w].map(|found| Some(found.value)),
        [pearson(&x, &y), spearman(&x, &y), kendall(&x, &y), weighted_kendall(&x, &y)]
    );
    assert_eq!(found.regret_at_1.unwrap().absolute, 0.0, "digits-100 has the best probe");
    let mean = y.iter().sum::<f64>() / 5.0;
    let best = y.iter().copied().fold(f64::MIN, f64::max);
    assert!((found.regret_at_random.unwrap().absolute - (best - mean)).abs() < 1e-12);
    assert!(found.probability_top_is_best.unwrap() > 0.3);

    // All sources have the same form; their accuracies on their own tasks differ.
    assert_eq!(
        (find("knowledge.n_parameters", probe).agreement, find("knowledge.n_parameters", probe).kind),
        (None, MeasureKind::Baseline)
    );
    assert!(find("knowledge.clean_accuracy", probe).agreement.is_some());
    assert!(ranking.correlations.iter().all(|one| one.kind != MeasureKind::Transfer));
}

#[test]
fn statistics_of_a_ranking_repeat() {
    let fresh = || {
        let (ranking, _) = rank(&request()).unwrap();
        (ranking.correlations, ranking.recommendation)
    };
    assert_eq!(fresh(), fresh());
    let mut other = request();
    other.options.seed = 1;
    let replicates = |recommendation: &Recommendation| -> Vec<f64> {
        recommendation.sources.iter().flat_map(|source| source.value.replicates.values().to_vec()).collect()
    };
    assert_ne!(replicates(&rank(&other).unwrap().0.recommendation), replicates(&fresh().1));
}

#[test]
fn two_sources_have_no_correlations_and_still_a_recommendation() {
    let source_models = vec!["digits-0".to_owned(), "digits-100".to_owned()];
    let (ranking, _) = rank(&RankingRequest { source_models, ..request() }).unwrap();
    assert!(ranking.correlations.is_empty());
    assert_eq!(names(&ranking.recommendation.sources), ["digits-100", "digits-0"]);
    assert_eq!(ranking.recommendation.contenders, ["digits-100"]);
}
