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

/// The value of the only line of a text that has this key.
fn value<'a>(text: &'a str, key: &str) -> &'a str {
    let of_key = |line: &'a str| line.trim_start().trim_start_matches("- ").strip_prefix(key)?.strip_prefix(": ");
    let values: Vec<&str> = text.lines().filter_map(of_key).collect();
    let [value] = values[..] else { panic!("{key} has {values:?}") };
    value.trim_matches('"')
}

/// A service of the compose file: its lines.
fn service<'a>(compose: &'a str, name: &str) -> &'a str {
    let from = compose.find(&format!("\n  {name}:\n")).unwrap_or_else(|| panic!("no service {name}")) + 1;
    let lines = &compose[from..];
    let end = lines.match_indices('\n').map(|(at, _)| at + 1).find(|&at| {
        let line = lines[at..].lines().next().unwrap_or_default();
        !line.is_empty() && !line.starts_with("   ")
    });
    &lines[..end.unwrap_or(lines.len())]
}

/// Which file of `deploy/` lies where in a service: its place there, and its name here.
fn mounts(service: &str) -> Vec<(String, String)> {
    let mounts = service.lines().filter_map(|line| line.trim_start().strip_prefix("- ./"));
    mounts
        .map(|mount| {
            let [here, there, "ro"] = mount.split(':').collect::<Vec<_>>()[..] else { panic!("{mount}") };
            assert!(repository("deploy").join(here).is_file(), "there is no deploy/{here}");
            (there.to_owned(), here.to_owned())
        })
        .collect()
}

#[test]
fn grafana_is_given_the_dashboard_and_the_prometheus_that_compose_starts() {
    let compose = read("deploy/compose.yaml");
    let grafana = service(&compose, "grafana");
    let mounts_of_grafana = mounts(grafana);
    let below = |folder: &str| -> Vec<&str> {
        let lies_there = |(there, _): &&(String, String)| {
            there.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/') && !rest[1..].contains('/'))
        };
        mounts_of_grafana.iter().filter(lies_there).map(|(_, here)| here.as_str()).collect()
    };
    // The folders that Grafana itself looks in.
    let [sources] = below("/etc/grafana/provisioning/datasources")[..] else { panic!("{grafana}") };
    let [providers] = below("/etc/grafana/provisioning/dashboards")[..] else { panic!("{grafana}") };

    let folder = value(&read(&format!("deploy/{providers}")), "path").to_owned();
    assert_eq!(below(&folder), ["dashboard.json"], "in {folder}");
    let home = value(grafana, "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH");
    assert!(mounts_of_grafana.iter().any(|(there, here)| there == home && here == "dashboard.json"), "{home}");

    let sources = read(&format!("deploy/{sources}"));
    let dashboard: serde_json::Value = serde_json::from_str(&read("deploy/dashboard.json")).expect("JSON");
    assert_eq!(dashboard["templating"]["list"][0]["query"], value(&sources, "type"));
    // 9090 is where Prometheus listens unless it is told otherwise.
    assert_eq!(value(&sources, "url"), "http://prometheus:9090");
    let prometheus = service(&compose, "prometheus");
    assert!(!prometheus.contains("--web.listen-address"), "{prometheus}");
    let scraped = read("deploy/prometheus.yaml");
    assert_eq!(value(&sources, "timeInterval"), value(&scraped, "scrape_interval"));
    let [(there, here)] = &mounts(prometheus)[..] else { panic!("{prometheus}") };
    assert_eq!(here, "prometheus.yaml");
    assert!(prometheus.contains(&format!("--config.file={there}]")), "{prometheus}");
    assert!(scraped.contains(r#"targets: ["transferscore:50051"]"#), "{scraped}");
    assert!(service(&compose, "transferscore").contains(":50051\""));
}

/// The stages of the Dockerfile by name: what each is made from, and its instructions.
fn stages() -> Vec<(String, String, Vec<String>)> {
    let text = read("Dockerfile").replace("\\\n", " ");
    let mut stages: Vec<(String, String, Vec<String>)> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["FROM", base, "AS", name] => stages.push((name.to_owned(), base.to_owned(), Vec::new())),
            _ => stages.last_mut().expect("FROM comes first").2.push(line.to_owned()),
        }
    }
    stages
}

#[test]
fn images_for_processors_and_for_graphics_cards_differ_in_onnx_runtime_alone() {
    let stages = stages();
    let (default, _, cpu) = stages.last().expect("stages");
    assert_eq!(default, "cpu", "what is built without --target");
    let cuda = &stages.iter().find(|(name, ..)| name == "cuda").expect("a target").2;
    let runtime = |name: &str| format!("COPY --from=onnxruntime-{name} ");
    let as_cuda: Vec<String> = cpu.iter().map(|line| line.replace(&runtime("cpu"), &runtime("cuda"))).collect();
    assert_eq!(as_cuda.as_slice(), cuda.as_slice());
    assert_ne!(cpu.as_slice(), cuda.as_slice());
    // A number, since only of a number an orchestrator knows that it is not root.
    let user = cpu.iter().find_map(|line| line.strip_prefix("USER ")).expect("a user");
    assert!(user.parse::<u32>().is_ok_and(|user| user > 0), "{user}");
    assert!(cpu.iter().any(|line| line.starts_with("HEALTHCHECK ")));
}
