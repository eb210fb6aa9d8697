//! The paper's synthetic experiment through the running server, against the values that its authors published.

use std::{collections::HashMap, path::Path};

use transferscore::transport::proto::{
    AttackOptions, Confidence, DirectionalScores, Estimate, KnowledgeMeasure, KnowledgeOptions, TransferScoreRequest,
    VirtualAttackOptions, VirtualSolver, transfer_score_request::Probe,
    transfer_score_service_client::TransferScoreServiceClient,
};

use crate::server_process::{ServerProcess, repository};

const FOLDER: &str = "../shared/data/synthetic";

/// The published values of one source, by column.
type Row = HashMap<String, f64>;

/// `expected.csv`: source name and values of each row.
fn published(folder: &Path) -> Vec<(String, Row)> {
    let text = std::fs::read_to_string(folder.join("expected.csv")).unwrap();
    let mut lines = text.lines();
    let columns: Vec<&str> = lines.next().unwrap().split(',').skip(1).collect();
    lines
        .map(|line| {
            let (source, values) = line.split_once(',').unwrap();
            let values = values.split(',').map(|value| value.parse::<f64>().unwrap());
            (source.to_owned(), columns.iter().map(|column| column.to_string()).zip(values).collect())
        })
        .collect()
}

fn request(source_model: &str, solver: VirtualSolver) -> TransferScoreRequest {
    TransferScoreRequest {
        source_model: source_model.to_owned(),
        reference_model: "reference".to_owned(),
        probe: Some(Probe::Dataset("probe".to_owned())),
        // The paper's affine head is plain least squares.
        knowledge: Some(KnowledgeOptions {
            measures: vec![KnowledgeMeasure::AffineTransfer as i32],
            ridge: Some(0.0),
            ..Default::default()
        }),
        attack: Some(AttackOptions {
            virtual_attack: Some(VirtualAttackOptions { solver: solver.into(), ..Default::default() }),
            ..Default::default()
        }),
        // Intervals are not compared: as few resamples as allowed.
        confidence: Some(Confidence { level: None, resamples: 100 }),
        ..Default::default()
    }
}

/// Everything that differs from the published value by more than the tolerance.
fn differences(source: &str, found: &[(&str, f64, f64)], expected: &Row) -> Vec<String> {
    let differs = |(column, value, tolerance): &(&str, f64, f64)| {
        let published = expected[*column];
        // Written so that NaN differs.
        let agrees = (value - published).abs() <= *tolerance;
        (!agrees).then(|| format!("{source} {column}: {value}, published {published}"))
    };
    found.iter().filter_map(differs).collect()
}

fn value(estimate: Option<&Estimate>) -> f64 {
    estimate.map_or(f64::NAN, |estimate| estimate.value)
}

fn alphas(scores: Option<DirectionalScores>) -> [f64; 3] {
    let scores = scores.unwrap();
    [&scores.alpha1, &scores.alpha2, &scores.combined].map(|estimate| value(estimate.as_ref()))
}

#[tokio::test]
async fn the_server_reproduces_the_published_values() {
    let folder = repository(FOLDER);
    if !folder.exists() {
        eprintln!("skipped: {FOLDER} is not here");
        return;
    }
    let server = ServerProcess::start(&folder, &folder);
    let mut client = TransferScoreServiceClient::connect(format!("http://{}", server.address)).await.unwrap();

    let mut wrong = Vec::new();
    let rows = published(&folder);
    assert_eq!(rows.len(), 10);
    let exact = rows.iter().map(|row| (row, VirtualSolver::Exact, 1e-5));
    // By iteration two of them: the weakest and the strongest relation.
    let iterated = [&rows[0], &rows[9]].map(|row| (row, VirtualSolver::Lanczos, 1e-4));
    for ((source, expected), solver, tolerance) in exact.chain(iterated) {
        let scores = client.transfer_score(request(source, solver)).await.unwrap().into_inner();
        assert_eq!(scores.provenance.unwrap().n_samples, 5000);
        let [alpha1_out, alpha2_out, combined_out] = alphas(scores.source_to_reference);
        let [alpha1_back, alpha2_back, combined_back] = alphas(scores.reference_to_source);
        let matching = scores.gradient_matching.unwrap();
        let transfer = scores.knowledge.unwrap().affine_transfer.unwrap();
        let found = [
            ("alpha1_source_to_reference", alpha1_out, tolerance),
            ("alpha2_source_to_reference", alpha2_out, tolerance),
            ("combined_source_to_reference", combined_out, tolerance),
            ("alpha1_reference_to_source", alpha1_back, tolerance),
            ("alpha2_reference_to_source", alpha2_back, tolerance),
            ("combined_reference_to_source", combined_back, tolerance),
            ("gradient_matching_distance", value(matching.distance.as_ref()), 1e-4),
            ("transfer_rmse_hidden_head", value(transfer.distance.as_ref()), 1e-4),
        ];
        wrong.extend(differences(source, &found, expected));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
