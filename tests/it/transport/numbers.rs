//! What leaves the server: every number finite, every field filled in.

use tonic::Code;
use transferscore::{
    scoring::types::{
        AdversarialExamples, Agreement, Estimate, Estimator, PairScores, Ranking, Regret, Score, TheoremCheck,
        Verification,
    },
    transport::proto::{
        AttackRequest, RankSourcesRequest, RankingMetric, TransferScoreRequest, attack_request, attack_response,
        rank_sources_request, rank_sources_response::Event, transfer_score_request,
        transfer_score_service_client::TransferScoreServiceClient,
    },
};

use super::fake::{Fake, Running, Spoil};

fn request() -> TransferScoreRequest {
    TransferScoreRequest {
        source_model: "source".to_owned(),
        reference_model: "ok".to_owned(),
        probe: Some(transfer_score_request::Probe::Dataset("digits".to_owned())),
        ..TransferScoreRequest::default()
    }
}

fn ranking_request() -> RankSourcesRequest {
    RankSourcesRequest {
        source_models: vec!["source".to_owned()],
        reference_model: "ok".to_owned(),
        probe: Some(rank_sources_request::Probe::Dataset("digits".to_owned())),
        ..RankSourcesRequest::default()
    }
}

/// Puts a bad number at each place in turn.
const SPOILS: &[(&str, Spoil)] = &[
    ("value", |scores| scores.tau1.value = f64::NAN),
    ("lower", |scores| scores.tau1.lower = f64::NEG_INFINITY),
    ("upper", |scores| scores.tau1.upper = f64::INFINITY),
    ("null floor", |scores| scores.tau1.null_floor = Some(f64::NAN)),
    ("shuffled mean", |scores| shuffled(scores).mean = f64::NAN),
    ("shuffled upper", |scores| shuffled(scores).upper = f64::NAN),
    ("alpha1", |scores| scores.source_to_reference.alpha1.value = f64::NAN),
    ("alpha2", |scores| scores.reference_to_source.alpha2.value = f64::NAN),
    ("alpha2 squared", |scores| scores.reference_to_source.alpha2.value = f64::MAX),
    ("combined", |scores| scores.reference_to_source.combined.value = f64::NAN),
    ("tau2", |scores| put(&mut scores.source_to_reference.tau2, f64::NAN)),
    ("similarity", |scores| put(&mut scores.similarity, f64::NEG_INFINITY)),
    ("white-box loss", |scores| loss(scores).white_box_loss.value = f64::INFINITY),
    ("loss ratio", |scores| put(&mut loss(scores).loss_ratio, f64::NAN)),
    ("conditional fooling rate", |scores| put(&mut loss(scores).conditional_fooling_rate, f64::NAN)),
    ("attack loss", |scores| loss(scores).attack_loss.value = f64::INFINITY),
    ("clean loss", |scores| loss(scores).clean_loss.value = f64::INFINITY),
    ("fooling rate", |scores| put(&mut loss(scores).fooling_rate, f64::NAN)),
    ("distance", |scores| scores.gradient_matching.as_mut().unwrap().distance.value = f64::NAN),
    ("explained", |scores| scores.gradient_matching.as_mut().unwrap().explained.value = f64::NAN),
    ("variant", |scores| scores.variants[0].source_to_reference.alpha1.value = f64::NAN),
    ("variant's tau1", |scores| scores.variants[0].tau1.value = f64::NAN),
    ("residual", |scores| scores.source_solver.as_mut().unwrap().max_residual = f64::NAN),
    ("mean residual", |scores| scores.reference_solver.as_mut().unwrap().mean_residual = f64::NAN),
    ("distance's error", |scores| probes(scores).distance = f64::NAN),
    ("explained's error", |scores| probes(scores).explained = f64::NAN),
    ("a theorem's left side", |scores| checks(scores).second.left = f64::NAN),
    ("a theorem's right side", |scores| checks(scores).second.right = f64::INFINITY),
    ("a theorem's slack", |scores| checks(scores).second = TheoremCheck { left: -f64::MAX, right: f64::MAX }),
    ("fit", |scores| fit(scores).r2.value = f64::NAN),
    ("held-out fit", |scores| fit(scores).held_out_r2.value = f64::NEG_INFINITY),
    ("ridge", |scores| fit(scores).ridge = f64::NAN),
    ("probe", |scores| probe(scores).accuracy.value = f64::NAN),
    ("probe's strength", |scores| probe(scores).l2 = f64::INFINITY),
    ("clean accuracy", |scores| scores.knowledge.clean_accuracy = Some(f64::NAN)),
    ("majority", |scores| probe(scores).majority_accuracy = f64::NAN),
    ("class accuracy", |scores| probe(scores).classes[0].accuracy = f64::NAN),
    ("class loss", |scores| probe(scores).classes[0].cross_entropy = f64::INFINITY),
    ("verification", |scores| verification(scores).roc_auc.value = f64::NAN),
    ("true accept rate", |scores| put(&mut verification(scores).true_accept_rates[0], f64::NAN)),
    ("threshold", |scores| verification(scores).threshold = f64::INFINITY),
    ("estimator", |scores| estimator(scores, Score::of(f64::NAN))),
    ("estimator's floor", |scores| estimator(scores, Score::of(0.0).with_floor(f64::NAN))),
    ("estimator's interval", |scores| {
        estimator(scores, Score::with_interval(Estimate::of(0.0, f64::NEG_INFINITY, 0.0)));
    }),
    ("fine-tuning", |scores| put(&mut tuned(scores).accuracy, f64::NAN)),
    ("fine-tuning's loss", |scores| put(&mut tuned(scores).cross_entropy, f64::INFINITY)),
    ("fine-tuning's R2", |scores| put(&mut tuned(scores).r2, f64::NEG_INFINITY)),
    ("fine-tuning's error", |scores| put(&mut tuned(scores).mean_squared_error, f64::NAN)),
    ("fine-tuning's majority", |scores| tuned(scores).majority_accuracy = Some(f64::NAN)),
    ("learning rate", |scores| tuned(scores).options.learning_rate = Some(f64::NAN)),
    ("curve's rate", |scores| tuned(scores).curve[0].learning_rate = f64::NAN),
    ("curve's training loss", |scores| tuned(scores).curve[1].training_loss = f64::INFINITY),
    ("curve's held-out loss", |scores| tuned(scores).curve[0].held_out_loss = f64::NAN),
    ("curve's accuracy", |scores| tuned(scores).curve[1].held_out_accuracy = Some(f64::NAN)),
    ("epsilon", |scores| scores.provenance.attack.epsilon = Some(f64::NAN)),
    ("step size", |scores| scores.provenance.attack.step_size = Some(f64::INFINITY)),
    ("radius", |scores| scores.provenance.attack.epsilons[0] = f64::NAN),
    ("decay", |scores| scores.provenance.attack.momentum.decay = Some(f64::NAN)),
    ("overshoot", |scores| scores.provenance.attack.boundary.overshoot = Some(f64::NAN)),
    ("reach", |scores| scores.provenance.attack.translation.as_mut().unwrap().reach = f64::NAN),
    ("level", |scores| scores.provenance.confidence.level = f64::NAN),
];

fn put(estimate: &mut Option<transferscore::scoring::types::Estimate>, value: f64) {
    estimate.as_mut().expect("the fake has one").value = value;
}

fn checks(scores: &mut PairScores) -> &mut transferscore::scoring::types::TheoryChecks {
    scores.theory.as_mut().and_then(|theory| theory.checks.as_mut()).expect("the fake has them")
}

fn probes(scores: &mut PairScores) -> &mut transferscore::scoring::types::ProbeErrors {
    scores.gradient_matching.as_mut().and_then(|matching| matching.probes.as_mut()).expect("the fake has them")
}

fn shuffled(scores: &mut PairScores) -> &mut transferscore::scoring::types::ShuffledNull {
    scores.tau1.shuffled.as_mut().expect("the fake has one")
}

fn loss(scores: &mut PairScores) -> &mut transferscore::scoring::types::LossScores {
    scores.reference_to_source.loss.as_mut().expect("the fake has one")
}

fn fit(scores: &mut PairScores) -> &mut transferscore::scoring::types::AffineFit {
    scores.knowledge.affine_transfer.as_mut().expect("the fake has one")
}

fn verification(scores: &mut PairScores) -> &mut Verification {
    scores.knowledge.verification.as_mut().expect("the fake has one")
}

fn estimator(scores: &mut PairScores, score: Score) {
    scores.knowledge.estimators = vec![(Estimator::Leep, score)];
}

fn probe(scores: &mut PairScores) -> &mut transferscore::scoring::types::LinearProbe {
    scores.knowledge.linear_probe.as_mut().expect("the fake has one")
}

fn tuned(scores: &mut PairScores) -> &mut transferscore::scoring::types::FineTuneScores {
    scores.knowledge.fine_tune.as_mut().expect("the fake has one")
}

#[tokio::test]
async fn no_bad_number_leaves_in_a_score_or_a_row() {
    for (place, spoil) in SPOILS {
        let running = Running::start(Fake { spoil: Some(*spoil), ..Fake::default() }).await;
        let mut service = TransferScoreServiceClient::with_origin(running.raw_client(), running.origin());
        let status = service.transfer_score(request()).await.expect_err(place);
        assert_eq!(status.code(), Code::Internal, "{place}");

        let mut events = service.rank_sources(ranking_request()).await.expect("a stream").into_inner();
        let status = loop {
            match events.message().await {
                Ok(Some(event)) => assert!(matches!(event.event, Some(Event::Progress(_))), "{place}: {event:?}"),
                Ok(None) => panic!("{place}: the stream ended well"),
                Err(status) => break status,
            }
        };
        assert_eq!(status.code(), Code::Internal, "{place}");
        running.gauges.idle().await;
    }
}

#[tokio::test]
async fn no_bad_number_leaves_in_a_ranking() {
    fn agreement(ranking: &mut Ranking) -> &mut Agreement {
        ranking.correlations[0].agreement.as_mut().expect("the fake has one")
    }
    fn regret(regret: &mut Option<Regret>) -> &mut Regret {
        regret.as_mut().expect("the fake has one")
    }
    let spoils: [fn(&mut Ranking); 15] = [
        |ranking| ranking.sources[0].probability_best = Some(f64::NAN),
        |ranking| ranking.sources[0].probability_above_next = Some(f64::NAN),
        |ranking| ranking.probability_above[0][0] = f64::NAN,
        |ranking| ranking.sources[0].value.value = f64::NAN,
        |ranking| agreement(ranking).pearson.value = f64::NAN,
        |ranking| agreement(ranking).spearman.interval = Some((f64::NAN, 1.0)),
        |ranking| agreement(ranking).kendall.p_value = f64::NAN,
        |ranking| agreement(ranking).weighted_kendall.value = f64::INFINITY,
        |ranking| regret(&mut ranking.correlations[0].regret_at_1).absolute = f64::NAN,
        |ranking| regret(&mut ranking.correlations[0].regret_at_3).relative = Some(f64::INFINITY),
        |ranking| regret(&mut ranking.correlations[0].regret_at_random).absolute = f64::NAN,
        |ranking| ranking.correlations[0].probability_top_is_best = Some(f64::NAN),
        |ranking| ranking.recommendation.sources[0].value.value = f64::NAN,
        |ranking| ranking.recommendation.from[0].weight = f64::NAN,
        |ranking| ranking.recommendation.probability = f64::NAN,
    ];
    for (index, spoil) in spoils.into_iter().enumerate() {
        let running = Running::start(Fake { spoil_ranking: Some(spoil), ..Fake::default() }).await;
        let mut service = TransferScoreServiceClient::with_origin(running.raw_client(), running.origin());
        let mut events = service.rank_sources(ranking_request()).await.expect("a stream").into_inner();
        let status = loop {
            match events.message().await {
                Ok(Some(event)) => assert!(!matches!(event.event, Some(Event::Ranking(_))), "spoil {index}"),
                Ok(None) => panic!("spoil {index}: the stream ended well"),
                Err(status) => break status,
            }
        };
        assert_eq!(status.code(), Code::Internal, "spoil {index}");
    }
}

#[tokio::test]
async fn an_answer_has_every_field_of_the_domain() {
    let running = Running::start(Fake::default()).await;
    let mut service = TransferScoreServiceClient::with_origin(running.raw_client(), running.origin());
    let answer = service.transfer_score(request()).await.expect("scores").into_inner();
    let text = format!("{answer:?}");
    // The fake fills in everything, so an absent message is one that the conversion forgot.
    assert!(!text.contains("None"), "{text}");

    let direction = answer.reference_to_source.expect("a direction");
    assert_eq!((direction.alpha2_squared, direction.combined_squared), (0.25, 0.0625));
    let provenance = answer.provenance.expect("a provenance");
    assert_eq!((provenance.seed, provenance.n_samples, provenance.dropped[0].count), (7, 8, 2));
    assert_eq!(provenance.attack.expect("an attack").steps, 10);
    assert_eq!(provenance.version, env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn a_ranking_tells_the_metric_that_was_asked_for() {
    let running = Running::start(Fake::default()).await;
    let mut service = TransferScoreServiceClient::with_origin(running.raw_client(), running.origin());
    let metrics = (1..).map_while(|number| RankingMetric::try_from(number).ok());
    assert!(metrics.clone().any(|metric| metric == RankingMetric::Recommended));
    for metric in metrics {
        let request = RankSourcesRequest { rank_by: metric.into(), ..ranking_request() };
        let mut events = service.rank_sources(request).await.expect("a stream").into_inner();
        let mut told = None;
        while let Some(event) = events.message().await.expect("an event") {
            if let Some(Event::Ranking(ranking)) = event.event {
                told = Some(ranking.rank_by());
            }
        }
        assert_eq!(told, Some(metric));
    }
}

#[tokio::test]
async fn bad_numbers_of_examples_are_not_sent() {
    let request = || AttackRequest {
        models: vec!["ok".to_owned()],
        probe: Some(attack_request::Probe::Dataset("digits".to_owned())),
        with_clean_samples: true,
        ..AttackRequest::default()
    };
    type SpoilExamples = fn(&mut AdversarialExamples);
    let spoils: [(&str, SpoilExamples); 6] = [
        ("pixel", |examples| examples.samples[[1, 2]] = f32::NAN),
        ("radius", |examples| examples.radius = Some(f64::INFINITY)),
        ("L2 norm", |examples| examples.l2_norms[0] = f64::NAN),
        ("L-infinity norm", |examples| examples.linf_norms[1] = f64::NAN),
        ("loss", |examples| examples.losses[1] = f64::INFINITY),
        ("clean sample", |examples| examples.clean_samples.as_mut().unwrap()[[1, 2]] = f32::NAN),
    ];
    for (what, spoil) in spoils {
        let running = Running::start(Fake { spoil_examples: Some(spoil), ..Fake::default() }).await;
        let mut service = TransferScoreServiceClient::with_origin(running.raw_client(), running.origin());
        let mut events = service.attack(request()).await.expect(what).into_inner();
        let status = loop {
            match events.message().await {
                Ok(Some(event)) => {
                    assert!(matches!(event.event, Some(attack_response::Event::Progress(_))), "{what}: {event:?}");
                }
                Ok(None) => panic!("{what}: the stream ended well"),
                Err(status) => break status,
            }
        };
        assert_eq!(status.code(), Code::Internal, "{what}");
    }
}
