//! Every kind of bad request, in one table: its status, its reason, the field, and what mends it.

use tonic::{Code, Status};
use tonic_types::StatusExt;
use transferscore::{
    limits,
    transport::proto::{
        self, AttackOptions, AttackRequest, Confidence, ExportGradientGraphRequest, FineTuneOptions, FineTuneRequest,
        GetDatasetRequest, GetModelRequest, InlineDataset, KnowledgeOptions, RankSourcesRequest, TransferScoreRequest,
        attack_request, dataset_service_client::DatasetServiceClient, fine_tune_request,
        model_service_client::ModelServiceClient, rank_sources_request, transfer_score_request::Probe,
        transfer_score_service_client::TransferScoreServiceClient,
    },
};

use super::fake::{Fake, Running};

/// Status, reason, field, and words of the message that tell the mend.
type Expected = (Code, &'static str, &'static str, &'static str);

fn missing(field: &'static str, mend: &'static str) -> Expected {
    (Code::InvalidArgument, "FIELD_MISSING", field, mend)
}

fn range(field: &'static str, mend: &'static str) -> Expected {
    (Code::InvalidArgument, "OPTION_OUT_OF_RANGE", field, mend)
}

fn probe(field: &'static str, mend: &'static str) -> Expected {
    (Code::InvalidArgument, "PROBE_INVALID", field, mend)
}

fn assert_refused(case: &str, status: &Status, (code, reason, field, mend): Expected) {
    let details = status.get_error_details();
    let told = details.error_info().expect(case);
    assert_eq!((status.code(), told.reason.as_str(), told.domain.as_str()), (code, reason, "transferscore"), "{case}");
    let fields: Vec<&str> =
        details.bad_request().expect(case).field_violations.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(fields, [field], "{case}");
    assert!(status.message().contains(mend), "{case}: {:?} does not say {mend:?}", status.message());
}

fn valid() -> TransferScoreRequest {
    TransferScoreRequest {
        source_model: "source".to_owned(),
        reference_model: "ok".to_owned(),
        probe: Some(Probe::Dataset("digits".to_owned())),
        ..TransferScoreRequest::default()
    }
}

fn with(change: impl FnOnce(&mut TransferScoreRequest)) -> TransferScoreRequest {
    let mut request = valid();
    change(&mut request);
    request
}

fn with_attack(attack: AttackOptions) -> TransferScoreRequest {
    TransferScoreRequest { attack: Some(attack), ..valid() }
}

fn with_knowledge(knowledge: KnowledgeOptions) -> TransferScoreRequest {
    TransferScoreRequest { knowledge: Some(knowledge), ..valid() }
}

fn with_confidence(level: Option<f64>, resamples: u32) -> TransferScoreRequest {
    TransferScoreRequest { confidence: Some(Confidence { level, resamples }), ..valid() }
}

fn with_inline(shape: &[u32], n_numbers: usize, n_labels: usize) -> TransferScoreRequest {
    let inline = InlineDataset { shape: shape.to_vec(), samples: vec![0.5; n_numbers], labels: vec![0; n_labels] };
    TransferScoreRequest { probe: Some(Probe::InlineDataset(inline)), ..valid() }
}

fn name_cases() -> Vec<(&'static str, TransferScoreRequest, Expected)> {
    let source = |name: &str| with(|request| request.source_model = name.to_owned());
    vec![
        ("no source", source(""), missing("source_model", "ListModels")),
        ("no reference", with(|request| request.reference_model.clear()), missing("reference_model", "ListModels")),
        ("a path up", source("../secret"), range("source_model", "not a path")),
        ("an inner separator", source("a/b"), range("source_model", "path separator")),
        ("a foreign separator", source("a\\b"), range("source_model", "path separator")),
        ("a hidden file", source(".git"), range("source_model", "starts with a dot")),
        ("a line break", source("a\nb"), range("source_model", "control character")),
        ("a NUL", source("a\0b"), range("source_model", "control character")),
        ("a long name", source(&"x".repeat(limits::NAME_BYTES + 1)), range("source_model", "more than 128")),
        ("no probe", with(|request| request.probe = None), missing("dataset", "inline_dataset")),
        (
            "an empty dataset",
            with(|request| request.probe = Some(Probe::Dataset(String::new()))),
            missing("dataset", "ListDatasets"),
        ),
        (
            "a dataset's path",
            with(|request| request.probe = Some(Probe::Dataset("/etc/passwd".to_owned()))),
            range("dataset", "not a path"),
        ),
    ]
}

fn option_cases() -> Vec<(&'static str, TransferScoreRequest, Expected)> {
    let epsilon = |epsilon| with_attack(AttackOptions { epsilon: Some(epsilon), ..AttackOptions::default() });
    let step_size = |size| with_attack(AttackOptions { step_size: Some(size), ..AttackOptions::default() });
    let ridge = |ridge| with_knowledge(KnowledgeOptions { ridge: Some(ridge), ..KnowledgeOptions::default() });
    let ridge_folds = |ridge_folds| with_knowledge(KnowledgeOptions { ridge_folds, ..KnowledgeOptions::default() });
    let neighbors = |n_neighbors| with_knowledge(KnowledgeOptions { n_neighbors, ..KnowledgeOptions::default() });
    let tensor =
        |length| with_knowledge(KnowledgeOptions { feature_tensor: "a".repeat(length), ..KnowledgeOptions::default() });
    let head =
        |affine_transfer_of| with_knowledge(KnowledgeOptions { affine_transfer_of, ..KnowledgeOptions::default() });
    let folds = |folds| with_knowledge(KnowledgeOptions { folds, ..KnowledgeOptions::default() });
    let measures =
        |measures: &[i32]| with_knowledge(KnowledgeOptions { measures: measures.to_vec(), ..Default::default() });
    let attack = |change: fn(&mut AttackOptions)| {
        let mut options = AttackOptions::default();
        change(&mut options);
        with_attack(options)
    };
    vec![
        ("ε of −1", epsilon(-1.0), range("attack.epsilon", "greater than 0")),
        ("ε of 0", epsilon(0.0), range("attack.epsilon", "greater than 0")),
        ("ε of NaN", epsilon(f64::NAN), range("attack.epsilon", "finite")),
        ("ε without end", epsilon(f64::INFINITY), range("attack.epsilon", "finite")),
        ("a step back", step_size(-0.1), range("attack.step_size", "greater than 0")),
        ("too many steps", attack(|attack| attack.steps = 1_001), range("attack.steps", "1 to 1000")),
        ("an attack from the future", attack(|attack| attack.method = 99), range("attack.method", ".proto")),
        ("a norm from the future", attack(|attack| attack.norm = -1), range("attack.norm", ".proto")),
        ("a loss from the future", attack(|attack| attack.loss = 7), range("attack.loss", ".proto")),
        ("an unspecified measure", measures(&[1, 0]), range("knowledge.measures[1]", "leave the list empty")),
        ("an unknown measure", measures(&[42]), range("knowledge.measures[0]", ".proto")),
        ("a negative ridge", ridge(-0.5), range("knowledge.ridge", "0 or more")),
        ("a ridge of NaN", ridge(f64::NAN), range("knowledge.ridge", "finite")),
        ("one fold", folds(1), range("knowledge.folds", "2 to 20")),
        ("many folds", folds(21), range("knowledge.folds", "2 to 20")),
        ("one ridge fold", ridge_folds(1), range("knowledge.ridge_folds", "2 to 20")),
        ("many neighbours", neighbors(101), range("knowledge.n_neighbors", "1 to 100")),
        ("a long tensor", tensor(2_000), range("knowledge.feature_tensor", "2000 bytes")),
        ("an unknown head", head(7), range("knowledge.affine_transfer_of", ".proto")),
        ("full confidence", with_confidence(Some(1.0), 0), range("confidence.level", "between 0 and 1")),
        ("no confidence", with_confidence(Some(0.0), 0), range("confidence.level", "between 0 and 1")),
        ("a level of NaN", with_confidence(Some(f64::NAN), 0), range("confidence.level", "between 0 and 1")),
        ("few resamples", with_confidence(None, 99), range("confidence.resamples", "100 to 10000")),
        ("many resamples", with_confidence(None, 10_001), range("confidence.resamples", "100 to 10000")),
        ("few samples", with(|request| request.max_samples = 7), range("max_samples", "at least 8")),
    ]
}

fn inline_cases() -> Vec<(&'static str, TransferScoreRequest, Expected)> {
    const SHAPE: &str = "inline_dataset.shape";
    const SAMPLES: &str = "inline_dataset.samples";
    vec![
        ("no shape", with_inline(&[], 8, 0), missing(SHAPE, "[features]")),
        ("no samples", with_inline(&[4], 0, 0), missing(SAMPLES, "at least 8")),
        ("two dimensions", with_inline(&[2, 2], 32, 0), probe(SHAPE, "[channels, height, width]")),
        ("an empty dimension", with_inline(&[3, 0, 4], 24, 0), probe(SHAPE, "1 or more")),
        ("a shape past 64 bits", with_inline(&[u32::MAX; 3], 24, 0), probe(SHAPE, "[features]")),
        ("half a sample", with_inline(&[4], 33, 0), probe(SAMPLES, "whole samples")),
        ("too few samples", with_inline(&[4], 28, 0), probe(SAMPLES, "at least 8")),
        ("a label short", with_inline(&[4], 32, 7), probe("inline_dataset.labels", "one for each sample")),
    ]
}

#[tokio::test]
async fn bad_scoring_requests_are_refused_with_reason_field_and_mend() {
    let running = Running::start(Fake::default()).await;
    let mut service = TransferScoreServiceClient::with_origin(running.raw_client(), running.origin());
    service.transfer_score(valid()).await.expect("the valid request that the bad ones are made of");
    service.transfer_score(with_inline(&[4], 32, 8)).await.expect("inline samples");
    for (case, request, expected) in name_cases().into_iter().chain(option_cases()).chain(inline_cases()) {
        let ranking = RankSourcesRequest {
            source_models: vec![request.source_model.clone()],
            reference_model: request.reference_model.clone(),
            probe: request.probe.clone().map(|probe| match probe {
                Probe::Dataset(dataset) => rank_sources_request::Probe::Dataset(dataset),
                Probe::InlineDataset(inline) => rank_sources_request::Probe::InlineDataset(inline),
            }),
            max_samples: request.max_samples,
            attack: request.attack.clone(),
            knowledge: request.knowledge.clone(),
            seed: request.seed,
            confidence: request.confidence,
            gradient_matching: request.gradient_matching,
            rank_by: 0,
            recommend_from: Vec::new(),
            theory_checks: None,
        };
        let status = service.transfer_score(request).await.expect_err(case);
        assert_refused(case, &status, expected);

        let (code, reason, field, mend) = expected;
        let field = if field == "source_model" { "source_models[0]" } else { field };
        let status = service.rank_sources(ranking).await.expect_err(case);
        assert_refused(case, &status, (code, reason, field, mend));
    }
}

#[tokio::test]
async fn bad_rankings_are_refused() {
    let running = Running::start(Fake::default()).await;
    let mut service = TransferScoreServiceClient::with_origin(running.raw_client(), running.origin());
    let valid = RankSourcesRequest {
        reference_model: "ok".to_owned(),
        probe: Some(rank_sources_request::Probe::Dataset("digits".to_owned())),
        ..RankSourcesRequest::default()
    };
    let sources = |names: Vec<String>| RankSourcesRequest { source_models: names, ..valid.clone() };
    let many = (0..=limits::SOURCES).map(|index| index.to_string()).collect();
    let recommend_from = vec![String::new(); limits::RECOMMENDED_SCORES + 1];
    let cases: [(&str, RankSourcesRequest, Expected); 4] = [
        (
            "very many scores",
            RankSourcesRequest { recommend_from, ..valid.clone() },
            (Code::ResourceExhausted, "LIMIT_EXCEEDED", "recommend_from", "at most 64"),
        ),
        (
            "a source twice",
            sources(vec!["a".to_owned(), "b".to_owned(), "a".to_owned()]),
            (Code::InvalidArgument, "OPTION_UNSUPPORTED", "source_models[2]", "once"),
        ),
        ("too many", sources(many), (Code::ResourceExhausted, "LIMIT_EXCEEDED", "source_models", "at most 1000")),
        ("an unknown metric", RankSourcesRequest { rank_by: 77, ..valid.clone() }, range("rank_by", ".proto")),
    ];
    for (case, request, expected) in cases {
        let status = service.rank_sources(request).await.expect_err(case);
        assert_refused(case, &status, expected);
    }
}

#[tokio::test]
async fn bad_attacks_are_refused() {
    let running = Running::start(Fake::default()).await;
    let mut service = TransferScoreServiceClient::with_origin(running.raw_client(), running.origin());
    let valid = AttackRequest {
        models: vec!["ok".to_owned()],
        probe: Some(attack_request::Probe::Dataset("digits".to_owned())),
        ..AttackRequest::default()
    };
    let models =
        |names: &[&str]| AttackRequest { models: names.iter().map(|&name| name.to_owned()).collect(), ..valid.clone() };
    let attack = |attack: AttackOptions| AttackRequest { attack: Some(attack), ..valid.clone() };
    let many = vec!["ok"; limits::ENSEMBLE_MODELS + 1];
    let too_many = |field| (Code::ResourceExhausted, "LIMIT_EXCEEDED", field, "32 at most");
    let cases: [(&str, AttackRequest, Expected); 9] = [
        ("no model", models(&[]), missing("models", "ListModels")),
        ("an empty name", models(&["ok", ""]), missing("models[1]", "ListModels")),
        ("a path", models(&["../ok"]), range("models[0]", "not a path")),
        ("too many models", models(&many), too_many("models")),
        (
            "too many others",
            AttackRequest { evaluated_models: models(&many).models, ..valid.clone() },
            too_many("evaluated_models"),
        ),
        ("an unknown pooling", AttackRequest { pooling: 3, ..valid.clone() }, range("pooling", ".proto")),
        ("no probe", AttackRequest { probe: None, ..valid.clone() }, missing("dataset", "inline_dataset")),
        (
            "a radius of 0",
            attack(AttackOptions { epsilons: vec![0.1, 0.0], ..AttackOptions::default() }),
            range("attack.epsilons[1]", "greater than 0"),
        ),
        (
            "no target",
            attack(AttackOptions { target: Some(proto::TargetClass::default()), ..AttackOptions::default() }),
            missing("attack.target", "least_likely"),
        ),
    ];
    for (case, request, expected) in cases {
        let status = service.attack(request).await.expect_err(case);
        assert_refused(case, &status, expected);
    }
}

#[tokio::test]
async fn bad_fine_tunings_are_refused() {
    let running = Running::start(Fake::default()).await;
    let mut service = TransferScoreServiceClient::with_origin(running.raw_client(), running.origin());
    let valid = FineTuneRequest {
        model: "ok".to_owned(),
        probe: Some(fine_tune_request::Probe::Dataset("digits".to_owned())),
        ..FineTuneRequest::default()
    };
    let with = |options: FineTuneOptions| FineTuneRequest { options: Some(options), ..valid.clone() };
    let cases: [(&str, FineTuneRequest, Expected); 6] = [
        ("no model", FineTuneRequest { model: String::new(), ..valid.clone() }, missing("model", "ListModels")),
        ("no probe", FineTuneRequest { probe: None, ..valid.clone() }, missing("dataset", "inline_dataset")),
        ("few samples", FineTuneRequest { max_samples: 3, ..valid.clone() }, range("max_samples", "at least 8")),
        ("a mode", with(FineTuneOptions { mode: 9, ..Default::default() }), range("options.mode", ".proto")),
        (
            "an optimiser",
            with(FineTuneOptions { optimizer: 9, ..Default::default() }),
            range("options.optimizer", ".proto"),
        ),
        (
            "a schedule",
            with(FineTuneOptions { schedule: -1, ..Default::default() }),
            range("options.schedule", ".proto"),
        ),
    ];
    for (case, request, expected) in cases {
        let status = service.fine_tune(request).await.expect_err(case);
        assert_refused(case, &status, expected);
    }
}

#[tokio::test]
async fn bad_look_ups_are_refused() {
    let running = Running::start(Fake::default()).await;
    let mut models = ModelServiceClient::with_origin(running.raw_client(), running.origin());
    let mut datasets = DatasetServiceClient::with_origin(running.raw_client(), running.origin());

    let status = models.get_model(GetModelRequest { name: String::new() }).await.expect_err("no name");
    assert_refused("no name", &status, missing("name", "ListModels"));
    let name = "../other".to_owned();
    let status = models.check_model(proto::CheckModelRequest { name }).await.expect_err("a path");
    assert_refused("a path", &status, range("name", "not a path"));
    let request = ExportGradientGraphRequest { name: "ok".to_owned(), mode: 9, ..Default::default() };
    let status = models.export_gradient_graph(request).await.expect_err("an unknown mode");
    assert_refused("an unknown mode", &status, range("mode", ".proto"));
    let status = datasets.get_dataset(GetDatasetRequest { name: String::new() }).await.expect_err("no name");
    assert_refused("no dataset's name", &status, missing("name", "ListDatasets"));
    let name = "nowhere".to_owned();
    let status = datasets.get_dataset(GetDatasetRequest { name }).await.expect_err("an unknown dataset");
    assert_refused("an unknown dataset", &status, (Code::NotFound, "DATASET_NOT_FOUND", "name", "ListDatasets"));
}
