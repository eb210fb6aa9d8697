//! The files of `deploy/` and the page on running the service say what the program does.

use std::collections::BTreeSet;

use transferscore::{
    config::file,
    telemetry::metrics::{ALL, Kind},
};

use crate::server_process::repository;

fn read(path: &str) -> String {
    std::fs::read_to_string(repository(path)).expect(path)
}

/// Every name of a series in a text.
fn series(text: &str) -> BTreeSet<String> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let words = text.split(|character| !is_part(character));
    words.filter(|word| word.starts_with("transferscore_")).map(str::to_owned).collect()
}

/// The series that the metrics make.
fn made() -> BTreeSet<String> {
    let of = |name: &str, kind: Kind| match kind {
        Kind::Counter | Kind::Gauge => vec![name.to_owned()],
        Kind::Histogram => ["bucket", "sum", "count"].map(|part| format!("{name}_{part}")).to_vec(),
    };
    ALL.iter().flat_map(|metric| of(metric.name, metric.kind)).collect()
}

#[test]
fn the_dashboard_asks_for_metrics_that_there_are_and_shows_each() {
    let dashboard: serde_json::Value = serde_json::from_str(&read("deploy/dashboard.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let expressions: Vec<&str> = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().expect("targets"))
        .map(|target| target["expr"].as_str().expect("a query"))
        .collect();
    let asked = series(&expressions.join(" "));
    let unknown: Vec<_> = asked.difference(&made()).cloned().collect();
    assert!(unknown.is_empty(), "no metric gives {unknown:?}");
    let is_shown = |name: &str| asked.iter().any(|series| series.starts_with(name));
    let unseen: Vec<_> = ALL.iter().map(|metric| metric.name).filter(|name| !is_shown(name)).collect();
    assert!(unseen.is_empty(), "on no panel: {unseen:?}");
    for expression in expressions {
        for label in
            expression.split("by (").skip(1).filter_map(|rest| rest.split(')').next()).flat_map(|l| l.split(", "))
        {
            let names = series(expression);
            let of_metric = |metric: &&transferscore::telemetry::metrics::Metric| {
                names.iter().any(|name| name.starts_with(metric.name))
            };
            let is_label = ALL.iter().filter(of_metric).any(|metric| metric.labels.contains(&label));
            assert!(label == "le" || is_label, "{label} of {expression}");
        }
    }
}

#[test]
fn the_table_of_metrics_matches_the_code() {
    let page = read("docs/operations.md");
    let rows: Vec<Vec<String>> = page
        .lines()
        .filter(|line| line.starts_with("| `transferscore_"))
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect())
        .collect();
    let kind = |kind: Kind| match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let expected: Vec<Vec<String>> = ALL
        .iter()
        .map(|metric| {
            [metric.name, kind(metric.kind), &metric.labels.join(", "), metric.help].map(str::to_owned).to_vec()
        })
        .collect();
    assert_eq!(rows, expected);
}

#[test]
fn the_example_of_settings_can_be_read() {
    let settings = file::settings(&repository("deploy/transferscore.toml")).expect("a file of settings");
    let keys: Vec<&str> = settings.iter().map(|(key, _)| key.as_str()).collect();
    let help = crate::cli::text(&crate::cli::run(&["serve", "--help"]).stdout);
    for key in &keys {
        assert!(help.contains(&format!("--{key} ")), "{key} is no flag");
    }
    assert!(keys.contains(&"models") && keys.contains(&"listen"), "{keys:?}");
}
