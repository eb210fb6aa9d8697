//! `rank`: many sources for one reference.

use comfy_table::Table;

use super::{
    Failure, example_report,
    jobs::{self, JobArgs},
    json, knowledge_table,
    options::{ClientArgs, MethodArgs, RankingMetric},
    progress, ranking_report,
    reported::ReportArgs,
    session::Session,
    table,
};
use crate::transport::{
    client::{Client, ClientError},
    proto::{
        self, RankSourcesRequest, RankSourcesResponse, Ranking, RankingRow, create_job_request::Work,
        rank_sources_request::Probe, rank_sources_response::Event,
    },
};
use crate::{
    limits,
    report::{ExamplesReport, Page, RankingReport, ranking_page, recommendation_sentence},
};

#[derive(Debug, clap::Args)]
pub struct RankArgs {
    /// Models to rank [default: all others that fit the dataset]
    #[arg(value_name = "SOURCE")]
    sources: Vec<String>,
    /// Model of the target task
    #[arg(long, value_name = "MODEL")]
    reference: String,
    /// Dataset to measure on: samples of the target task
    #[arg(long, value_name = "NAME")]
    dataset: String,
    /// Metric to rank by [default: combined-reference-to-source]
    #[arg(long, value_name = "METRIC", value_enum)]
    by: Option<RankingMetric>,
    /// Score that the recommendation is made of, by its path in the answer; repeat for several [default: those of
    /// docs/metrics.md]
    #[arg(long, value_name = "PATH")]
    recommend_from: Vec<String>,
    #[command(flatten)]
    output: ReportArgs,
    /// Attack this many samples and show them in the report, at most 24
    #[arg(long, value_name = "N", default_value_t, value_parser = clap::value_parser!(u32).range(..=i64::from(limits::EXAMPLE_IMAGES)))]
    examples: u32,
    #[command(flatten)]
    method: MethodArgs,
    #[command(flatten)]
    job: JobArgs,
    #[command(flatten)]
    client: ClientArgs,
}

/// A ranking with everything that came before it.
pub struct Ranked {
    pub request: RankSourcesRequest,
    /// In the order of the request.
    pub rows: Vec<RankingRow>,
    pub ranking: Ranking,
}

pub async fn run(args: RankArgs) -> Result<(), Failure> {
    let as_json = args.client.json;
    let request = RankSourcesRequest {
        recommend_from: args.recommend_from,
        ..request(args.sources, args.reference, args.dataset, args.by, &args.method)
    };
    if args.job.as_job {
        return jobs::create(args.client, args.job, Work::Rank(request)).await;
    }
    let session = Session::open(args.client).await?;
    let ranked = rank(&session.client, request, |event| match as_json {
        true => json::print("RankSourcesResponse", event),
        false => Ok(()),
    })
    .await?;
    let examples = match args.examples {
        n if n > 0 && args.output.is_wanted() => examples(&session.client, &ranked, n).await?,
        _ => None,
    };
    session.close().await?;
    if !as_json {
        print(&ranked)?;
    }
    if args.output.is_wanted() {
        args.output.write(&page(&ranked, examples)?)?;
    }
    Ok(())
}

/// Samples attacked as the ranking does, on its reference.
async fn examples(client: &Client, ranked: &Ranked, n: u32) -> Result<Option<ExamplesReport>, Failure> {
    let RankSourcesRequest { reference_model, probe, attack, seed, .. } = &ranked.request;
    let Some(Probe::Dataset(dataset)) = probe else { return Ok(None) };
    let attack = attack.clone().unwrap_or_default();
    let found = example_report::ask(client, reference_model, dataset, attack, *seed, n).await?;
    if found.is_none() {
        eprintln!("the samples of {dataset} are no pictures: the report shows no examples");
    }
    Ok(found)
}

/// The page of a ranking.
///
/// # Errors
/// When there is nothing to report.
pub fn page(ranked: &Ranked, examples: Option<ExamplesReport>) -> Result<Page, Failure> {
    let report = ranking_report::of(ranked)
        .ok_or_else(|| Failure::Work("no source fits the dataset, so there is nothing to report".to_owned()))?;
    Ok(ranking_page(&RankingReport { examples, ..report })?)
}

/// The request for a ranking by the arguments.
pub fn request(
    source_models: Vec<String>,
    reference_model: String,
    dataset: String,
    by: Option<RankingMetric>,
    method: &MethodArgs,
) -> RankSourcesRequest {
    RankSourcesRequest {
        source_models,
        reference_model,
        probe: Some(Probe::Dataset(dataset)),
        max_samples: method.max_samples,
        attack: Some(method.attack.options()),
        knowledge: Some(method.knowledge()),
        seed: method.seed,
        confidence: Some(method.confidence.into()),
        gradient_matching: Some(method.gradient_matching()),
        rank_by: by.map_or(0, |metric| proto::RankingMetric::from(metric).into()),
        recommend_from: Vec::new(),
        theory_checks: None,
    }
}

/// Runs a ranking under a progress bar. `on_result` sees each row and the ranking as they come.
///
/// # Errors
/// When the server refuses or fails, or `on_result` does.
pub async fn rank(
    client: &Client,
    request: RankSourcesRequest,
    mut on_result: impl FnMut(&RankSourcesResponse) -> Result<(), Failure>,
) -> Result<Ranked, Failure> {
    let bar = progress::bar();
    let mut events = client.rank_sources(request.clone()).await?;
    let mut rows = Vec::new();
    while let Some(response) = events.next().await? {
        match &response.event {
            Some(Event::Progress(progress)) => progress::advance(&bar, progress),
            Some(Event::Row(row)) => {
                bar.suspend(|| on_result(&response))?;
                rows.push(row.clone());
            }
            Some(Event::Ranking(ranking)) => {
                bar.finish_and_clear();
                on_result(&response)?;
                return Ok(Ranked { request, rows, ranking: ranking.clone() });
            }
            None => {}
        }
    }
    Err(ClientError::Incomplete.into())
}

/// The ranking, what is recommended, how well each score predicts what was measured, and who was left out.
///
/// # Errors
/// When standard output is closed.
pub fn print(ranked: &Ranked) -> Result<(), Failure> {
    table::print(&ranking_table(ranked))?;
    let ranking = &ranked.ranking;
    if let Some(estimators) = estimator_table(ranked) {
        println!("Estimators of transfer, larger is better:");
        table::print(&estimators)?;
    }
    if let Some(recommendation) = &ranking.recommendation
        && let Some(sentence) = recommendation_sentence(&ranking_report::recommendation(recommendation))
    {
        println!("{sentence}");
        table::print(&recommendation_table(recommendation))?;
    }
    let mut measured: Vec<&str> = ranking.correlations.iter().map(|one| one.measured_transfer.as_str()).collect();
    measured.dedup();
    for transfer in measured {
        let rows: Vec<&proto::Correlation> =
            ranking.correlations.iter().filter(|one| one.measured_transfer == transfer).collect();
        println!("{}, and what predicts it best over the sources:", score_words(transfer));
        let (shown, n_left_out) = best_predictors(rows);
        table::print(&agreement_table(&shown))?;
        if n_left_out > 0 {
            println!("{n_left_out} more scores are in --json and --report.");
        }
    }
    for skipped in &ranking.skipped {
        eprintln!("left out {}: {}", skipped.source_model, skipped.reason);
    }
    Ok(())
}

fn recommendation_table(recommendation: &proto::Recommendation) -> Table {
    let mut lines = table::with_columns(["place", "source", "share of others it is above", "best"]);
    for source in &recommendation.sources {
        lines.add_row([
            source.rank.to_string(),
            source.source_model.clone(),
            table::interval(source.value.as_ref()),
            table::probability(source.probability_best),
        ]);
    }
    lines
}

/// The scores that agree best with the measured transfer by weighted Kendall, with what is recommended and the baselines; and
/// how many are left out.
fn best_predictors(mut correlations: Vec<&proto::Correlation>) -> (Vec<&proto::Correlation>, usize) {
    let tau = |one: &proto::Correlation| one.weighted_kendall.as_ref().map_or(f64::NEG_INFINITY, |found| found.value);
    correlations.sort_by(|a, b| tau(b).total_cmp(&tau(a)));
    let total = correlations.len();
    let mut n_scores = 0;
    correlations.retain(|one| {
        let is_kept = ALWAYS_SHOWN.contains(&one.score.as_str());
        n_scores += usize::from(!is_kept);
        is_kept || n_scores <= SHOWN_PREDICTORS
    });
    let n_left_out = total - correlations.len();
    (correlations, n_left_out)
}

/// A row for each score and baseline. The answer itself has Pearson's and Kendall's coefficients too.
fn agreement_table(correlations: &[&proto::Correlation]) -> Table {
    let columns = ["score", "sources", "Spearman", "by chance", "weighted Kendall", "regret at 1", "regret at 3"];
    let mut lines = table::with_columns(columns);
    for correlation in correlations {
        let regret = |regret: &Option<proto::Regret>| {
            regret.as_ref().map_or_else(|| "-".to_owned(), |regret| table::number(regret.absolute))
        };
        lines.add_row([
            score_words(&correlation.score),
            correlation.n_sources.to_string(),
            table::coefficient(correlation.spearman.as_ref()),
            table::probability(correlation.spearman.as_ref().map(|found| found.p_value)),
            table::coefficient(correlation.weighted_kendall.as_ref()),
            regret(&correlation.regret_at_1),
            regret(&correlation.regret_at_3),
        ]);
    }
    lines
}

/// A row for each source, best first, a column for each estimator that some source has; the values alone.
fn estimator_table(Ranked { rows, ranking, .. }: &Ranked) -> Option<Table> {
    let knowledge_of = |name: &str| {
        rows.iter().find(|row| row.source_model == name).and_then(|row| row.scores.as_ref()?.knowledge.as_ref())
    };
    let sources = || ranking.sources.iter().map(|source| source.source_model.as_str());
    let mut names: Vec<&str> = Vec::new();
    for knowledge in sources().filter_map(knowledge_of) {
        for (name, score) in knowledge_table::estimators(knowledge) {
            if score.is_some() && !names.contains(&name) {
                names.push(name);
            }
        }
    }
    if names.is_empty() {
        return None;
    }
    let mut lines = table::with_columns(std::iter::once("source").chain(names.iter().copied()));
    for source in sources() {
        let scores = knowledge_of(source).map(knowledge_table::estimators);
        let value = |name: &&str| {
            let found = scores.iter().flatten().find(|(other, _)| other == name);
            let score = found.and_then(|(_, score)| score.as_ref());
            score.map_or_else(|| "-".to_owned(), |score| table::number(score.value))
        };
        lines.add_row(std::iter::once(source.to_owned()).chain(names.iter().map(value)));
    }
    Some(lines)
}

fn ranking_table(Ranked { rows, ranking, .. }: &Ranked) -> Table {
    let metric = words(ranking.rank_by());
    let mut lines = table::with_columns([
        "rank",
        "source",
        metric.as_str(),
        "chance",
        "best",
        "above next",
        "alpha1",
        "alpha2",
        "explained",
        "matching R2",
        "linear probe",
        "parameters",
        "own task",
    ]);
    for source in &ranking.sources {
        let row = rows.iter().find(|row| row.source_model == source.source_model);
        let scores = row.and_then(|row| row.scores.as_ref());
        let direction = scores.and_then(|scores| scores.reference_to_source.as_ref());
        let matching = scores.and_then(|scores| scores.gradient_matching.as_ref());
        let knowledge = scores.and_then(|scores| scores.knowledge.as_ref());
        let function = knowledge.and_then(|knowledge| knowledge.function_matching.as_ref());
        let probe = knowledge.and_then(|knowledge| knowledge.linear_probe.as_ref());
        lines.add_row([
            source.rank.to_string(),
            source.source_model.clone(),
            table::interval(source.value.as_ref()),
            table::chance(source.value.as_ref()),
            table::probability(source.probability_best),
            table::probability(source.probability_above_next),
            table::value(direction.and_then(|scores| scores.alpha1.as_ref())),
            table::value(direction.and_then(|scores| scores.alpha2.as_ref())),
            table::value(matching.and_then(|matching| matching.explained.as_ref())),
            table::value(function.and_then(|fit| fit.r2.as_ref())),
            table::value(probe.and_then(|probe| probe.accuracy.as_ref())),
            knowledge.map_or_else(|| "-".to_owned(), |knowledge| table::magnitude(knowledge.n_parameters)),
            knowledge.and_then(|knowledge| knowledge.clean_accuracy).map_or_else(|| "-".to_owned(), table::number),
        ]);
    }
    lines
}

/// "combined, reference to source" from the enum's name.
pub fn words(metric: proto::RankingMetric) -> String {
    let metric = match metric {
        proto::RankingMetric::Unspecified => proto::RankingMetric::CombinedReferenceToSource,
        metric => metric,
    };
    if metric == proto::RankingMetric::Recommended {
        return RECOMMENDATION.to_owned();
    }
    let name = metric.as_str_name().trim_start_matches("RANKING_METRIC_").to_lowercase();
    for direction in DIRECTIONS {
        if let Some(metric) = name.strip_suffix(direction) {
            return format!("{}, {}", metric.trim_end_matches('_'), direction.replace('_', " "));
        }
    }
    spaced(&name)
}

/// The same from the path of a score's field, so that the two can be compared.
pub fn score_words(path: &str) -> String {
    let (message, name) = path.split_once('.').unwrap_or(("", path));
    if DIRECTIONS.contains(&message) {
        return format!("{}, {}", spaced(name), spaced(message));
    }
    spaced(name)
}

/// Scores whose agreement with a measured transfer the terminal shows, beside these.
const SHOWN_PREDICTORS: usize = 5;
const ALWAYS_SHOWN: [&str; 3] = ["recommendation", "knowledge.n_parameters", "knowledge.clean_accuracy"];
const RECOMMENDATION: &str = "the recommendation";
const DIRECTIONS: [&str; 2] = ["reference_to_source", "source_to_reference"];

fn spaced(name: &str) -> String {
    let name = match name {
        "recommendation" => RECOMMENDATION,
        "n_parameters" => "number of parameters",
        "clean_accuracy" => "accuracy on its own task",
        "leep" => "LEEP",
        "n_leep" => "N-LEEP",
        "nce" => "NCE",
        "log_me" => "LogME",
        "h_score" => "H-score",
        "regularized_h_score" => "regularised H-score",
        "trans_rate" => "TransRate",
        "gbc" => "GBC",
        "sfda" => "SFDA",
        "parc" => "PARC",
        "knn" => "k-NN accuracy",
        name => name,
    };
    name.replace(['_', '.'], " ").replace("r2", "R²").replace("held out", "held-out").replace("roc auc", "ROC-AUC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_predictors_are_shown_and_the_baselines_always() {
        let of = |score: &str, value: f64| proto::Correlation {
            score: score.to_owned(),
            weighted_kendall: Some(proto::Coefficient { value, ..proto::Coefficient::default() }),
            ..proto::Correlation::default()
        };
        let scores: Vec<proto::Correlation> = (0..8)
            .map(|rank| of(&format!("score {rank}"), 0.1 * f64::from(rank)))
            .chain([of("knowledge.n_parameters", -0.5), of("recommendation", 0.35)])
            .collect();
        let (shown, n_left_out) = best_predictors(scores.iter().collect());
        let names: Vec<&str> = shown.iter().map(|one| one.score.as_str()).collect();
        let expected =
            ["score 7", "score 6", "score 5", "score 4", "recommendation", "score 3", "knowledge.n_parameters"];
        assert_eq!((names.as_slice(), n_left_out), (&expected[..], 3));
    }

    #[test]
    fn metrics_read_as_words() {
        for (metric, expected) in [
            (proto::RankingMetric::Unspecified, "combined, reference to source"),
            (proto::RankingMetric::Alpha1SourceToReference, "alpha1, source to reference"),
            (proto::RankingMetric::LinearProbeAccuracy, "linear probe accuracy"),
            (proto::RankingMetric::FunctionMatchingR2, "function matching R²"),
            (proto::RankingMetric::Recommended, "the recommendation"),
            (proto::RankingMetric::RegularizedHScore, "regularised H-score"),
            (proto::RankingMetric::NParameters, "number of parameters"),
        ] {
            assert_eq!(words(metric), expected);
        }
    }

    #[test]
    fn a_score_has_the_same_words_as_the_metric_that_ranks_by_it() {
        for (path, expected) in [
            ("reference_to_source.combined", "combined, reference to source"),
            ("symmetric.tau1", "tau1"),
            ("gradient_matching.explained", "explained"),
            ("knowledge.function_matching.r2", "function matching R²"),
            ("knowledge.affine_transfer.held_out_r2", "affine transfer held-out R²"),
            ("knowledge.n_parameters", "number of parameters"),
            ("recommendation", "the recommendation"),
            ("knowledge.log_me", "LogME"),
            ("knowledge.verification.roc_auc", "verification ROC-AUC"),
        ] {
            assert_eq!(score_words(path), expected);
        }
    }
}
