//! `rank`: many sources for one reference.

use comfy_table::Table;

use super::{
    Failure, json,
    options::{ClientArgs, MethodArgs, RankingMetric},
    progress,
    session::Session,
    table,
};
use crate::transport::{
    client::{Client, ClientError},
    proto::{
        self, RankSourcesRequest, RankSourcesResponse, Ranking, RankingRow, rank_sources_request::Probe,
        rank_sources_response::Event,
    },
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
    #[command(flatten)]
    method: MethodArgs,
    #[command(flatten)]
    client: ClientArgs,
}

/// A ranking with everything that came before it.
pub struct Ranked {
    /// In the order of the request.
    pub rows: Vec<RankingRow>,
    pub ranking: Ranking,
}

pub async fn run(args: RankArgs) -> Result<(), Failure> {
    let as_json = args.client.json;
    let request = request(args.sources, args.reference, args.dataset, args.by, &args.method);
    let session = Session::open(args.client).await?;
    let ranked = rank(&session.client, request, |event| match as_json {
        true => json::print("RankSourcesResponse", event),
        false => Ok(()),
    })
    .await?;
    session.close().await?;
    if as_json { Ok(()) } else { print(&ranked) }
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
    let mut events = client.rank_sources(request).await?;
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
                return Ok(Ranked { rows, ranking: ranking.clone() });
            }
            None => {}
        }
    }
    Err(ClientError::Incomplete.into())
}

/// The ranking, how well it agrees with the knowledge measures, and who was left out.
///
/// # Errors
/// When standard output is closed.
pub fn print(ranked: &Ranked) -> Result<(), Failure> {
    table::print(&ranking_table(ranked))?;
    let ranking = &ranked.ranking;
    if let Some(correlations) = correlation_table(ranking) {
        println!("Spearman's correlation over {} sources:", ranking.sources.len());
        table::print(&correlations)?;
    }
    for skipped in &ranking.skipped {
        eprintln!("left out {}: {}", skipped.source_model, skipped.reason);
    }
    Ok(())
}

/// A row for each adversarial metric, a column for each knowledge measure that differs between the sources. The answer
/// itself has Pearson's and Kendall's coefficients too.
fn correlation_table(ranking: &proto::Ranking) -> Option<Table> {
    let varying = |correlation: &&proto::Correlation| correlation.spearman.is_some();
    let mut measures: Vec<&str> = Vec::new();
    let mut metrics: Vec<&str> = Vec::new();
    for correlation in ranking.correlations.iter().filter(varying) {
        for (names, name) in
            [(&mut measures, &correlation.knowledge_measure), (&mut metrics, &correlation.adversarial_metric)]
        {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
    }
    if metrics.is_empty() {
        return None;
    }
    let mut rows = table::with_columns(std::iter::once("").chain(measures.iter().copied()));
    for metric in metrics {
        let spearman = |measure: &&str| {
            let same = |c: &&proto::Correlation| c.adversarial_metric == metric && c.knowledge_measure == *measure;
            let value = ranking.correlations.iter().find(same).and_then(|correlation| correlation.spearman);
            value.map_or_else(|| "-".to_owned(), table::number)
        };
        rows.add_row(std::iter::once(metric.to_owned()).chain(measures.iter().map(spearman)));
    }
    Some(rows)
}

fn ranking_table(Ranked { rows, ranking }: &Ranked) -> Table {
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
    let name = metric.as_str_name().trim_start_matches("RANKING_METRIC_").to_lowercase();
    for direction in ["reference_to_source", "source_to_reference"] {
        if let Some(metric) = name.strip_suffix(direction) {
            return format!("{}, {}", metric.trim_end_matches('_'), direction.replace('_', " "));
        }
    }
    name.replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_read_as_words() {
        for (metric, expected) in [
            (proto::RankingMetric::Unspecified, "combined, reference to source"),
            (proto::RankingMetric::Alpha1SourceToReference, "alpha1, source to reference"),
            (proto::RankingMetric::LinearProbeAccuracy, "linear probe accuracy"),
        ] {
            assert_eq!(words(metric), expected);
        }
    }
}
