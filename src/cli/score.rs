//! `score`: one source against one reference.

use comfy_table::Table;

use super::{
    Failure, json, knowledge_table,
    options::{ClientArgs, MethodArgs},
    session::Session,
    table,
};
use crate::transport::proto::{
    self, DirectionalScores, Estimate, TransferScoreRequest, TransferScoreResponse, transfer_score_request::Probe,
};

#[derive(Debug, clap::Args)]
pub struct ScoreArgs {
    /// Model whose knowledge is to be transferred
    source: String,
    /// Model of the target task
    reference: String,
    /// Dataset to measure on: samples of the target task
    #[arg(long, value_name = "NAME")]
    dataset: String,
    /// Compute both sides of the theory's theorems too
    #[arg(long)]
    theory: bool,
    /// Smoothness of both models, for theorem 3: the most that a Jacobian changes per pixel unit
    #[arg(long, value_name = "BETA", requires = "theory")]
    smoothness: Option<f64>,
    #[command(flatten)]
    method: MethodArgs,
    #[command(flatten)]
    client: ClientArgs,
}

pub async fn run(args: ScoreArgs) -> Result<(), Failure> {
    let as_json = args.client.json;
    let request = TransferScoreRequest {
        source_model: args.source,
        reference_model: args.reference,
        probe: Some(Probe::Dataset(args.dataset)),
        max_samples: args.method.max_samples,
        attack: Some(args.method.attack.options()),
        knowledge: Some(args.method.knowledge()),
        seed: args.method.seed,
        confidence: Some(args.method.confidence.into()),
        gradient_matching: Some(args.method.gradient_matching()),
        theory_checks: args.theory.then_some(proto::TheoryOptions { smoothness: args.smoothness }),
    };
    let session = Session::open(args.client).await?;
    let scores = session.client.transfer_score(request).await?;
    session.close().await?;

    if as_json {
        return json::print("TransferScoreResponse", &scores);
    }
    table::print(&scores_table(&scores))
}

/// A line for each number: its value with interval, and what chance gives.
fn scores_table(scores: &TransferScoreResponse) -> Table {
    let mut rows = table::with_columns(["metric", "value [interval]", "chance"]);
    let mut add = |metric: &str, estimate: Option<&Estimate>| {
        if estimate.is_some() {
            rows.add_row([metric.to_owned(), table::interval(estimate), table::chance(estimate)]);
        }
    };
    let directions = [
        ("reference to source", scores.reference_to_source.as_ref()),
        ("source to reference", scores.source_to_reference.as_ref()),
    ];
    for (direction, scores) in directions {
        for (metric, estimate) in scores.into_iter().flat_map(metrics) {
            add(&format!("{metric}, {direction}"), estimate);
        }
    }
    let symmetric = scores.symmetric.as_ref();
    add("tau1", symmetric.and_then(|symmetric| symmetric.tau1.as_ref()));
    add("similarity by attack transferability", symmetric.and_then(|symmetric| symmetric.similarity.as_ref()));
    let matching = scores.gradient_matching.as_ref();
    add("gradient matching, explained", matching.and_then(|matching| matching.explained.as_ref()));
    add("gradient matching, distance", matching.and_then(|matching| matching.distance.as_ref()));

    for (theorem, check) in scores.theory_checks.iter().flat_map(theorems) {
        rows.add_row([theorem.to_owned(), check, "-".to_owned()]);
    }
    let Some(knowledge) = &scores.knowledge else { return rows };
    for line in knowledge_table::lines(knowledge) {
        rows.add_row([line.name, line.value, line.chance]);
    }
    rows.add_row(["parameters of the source".to_owned(), table::magnitude(knowledge.n_parameters)]);
    rows
}

/// The theorems that were checked, "left = right" or "left <= right".
fn theorems(checks: &proto::TheoryChecks) -> impl Iterator<Item = (&'static str, String)> {
    let sides =
        [("theorem 1", "=", checks.first), ("theorem 2", "<=", checks.second), ("theorem 3", "<=", checks.third)];
    sides.into_iter().filter_map(|(theorem, relation, check)| {
        let check = check?;
        Some((theorem, format!("{} {relation} {}", table::number(check.left), table::number(check.right))))
    })
}

fn metrics(scores: &DirectionalScores) -> [(&'static str, Option<&Estimate>); 10] {
    [
        ("combined", scores.combined.as_ref()),
        ("alpha1", scores.alpha1.as_ref()),
        ("alpha2", scores.alpha2.as_ref()),
        ("tau2", scores.tau2.as_ref()),
        ("attack loss", scores.attack_loss.as_ref()),
        ("clean loss", scores.clean_loss.as_ref()),
        ("white-box loss", scores.white_box_loss.as_ref()),
        ("attack loss / white-box loss", scores.loss_ratio.as_ref()),
        ("fooling rate", scores.fooling_rate.as_ref()),
        ("fooling rate where the attack succeeds", scores.conditional_fooling_rate.as_ref()),
    ]
}
