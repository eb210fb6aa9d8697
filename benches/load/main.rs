//! A real server under load, and what it adds to the work itself.
//!
//! `cargo bench --bench load -- [--clients 64] [--seconds 600]` starts the release binary with the bundled models and has that
//! many clients ask for small scores, one after the other, while one long ranking after another goes on. Three of four small
//! scores are new, one was asked for before. Before that, the same ranking is timed through gRPC and called in this process, in
//! turns. Prints a table of each; ends with 1 where a call failed other than by RESOURCE_EXHAUSTED.

#![allow(missing_docs, reason = "a program")]

mod clients;
mod figures;
#[path = "../../tests/it/operation/http.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod http;
mod observed;
mod overhead;
#[path = "../../tests/it/server_process.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod server_process;
#[path = "../../tests/it/support.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod support;

use std::{path::PathBuf, process::Command, time::Duration};

use clap::Parser;

use self::{
    clients::Tally,
    observed::{Observed, waits},
    server_process::{ServerProcess, repository},
};

#[derive(Debug, Parser)]
struct Options {
    /// Clients that ask for small scores.
    #[arg(long, default_value_t = 64)]
    clients: u64,
    /// How long they do.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Times that the ranking is timed each way; 0 leaves that out.
    #[arg(long, default_value_t = 7)]
    rounds: u64,
    /// The server's binary.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_transferscore"))]
    server: PathBuf,
    /// Another argument of `transferscore serve`; repeat for several.
    #[arg(long = "serve", value_name = "ARGUMENT", allow_hyphen_values = true)]
    arguments: Vec<String>,
    /// Cargo adds this.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    fn start(&self) -> ServerProcess {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).chain(["--log", "warn"]).collect();
        let (models, datasets) = (repository("models"), repository("models/datasets"));
        ServerProcess::start_by(Command::new(&self.server), &models, &datasets, &arguments)
    }
}

fn main() {
    let options = Options::parse();
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    if options.rounds > 0 {
        let server = options.start();
        println!("{}", overhead::measured(&runtime, &server.address, options.rounds));
    }
    let server = options.start();
    runtime.block_on(clients::warm_up(&server.address));
    let before = Observed::of(&server);
    let lasting = Duration::from_secs(options.seconds);
    let tally = runtime.block_on(clients::load(&server.address, options.clients, lasting));
    let metrics = http::get(&server.address, "/metrics").text();
    observed::until_disconnected(&server);
    let after = Observed::of(&server);
    println!("{}", table(&options, &tally, &before, &after, &metrics));
    if !tally.failures.is_empty() || tally.small.is_empty() {
        std::process::exit(1);
    }
}

fn table(options: &Options, tally: &Tally, before: &Observed, after: &Observed, metrics: &str) -> String {
    let mut lines = vec![
        format!("| {} clients for {} s, one ranking at a time beside them | |", options.clients, options.seconds),
        "|---|---|".to_owned(),
        format!("| small scores | {} |", tally.small.len()),
        format!("| rankings to their end | {} |", tally.rankings),
        format!("| calls sent away, RESOURCE_EXHAUSTED | {} |", tally.sent_away),
    ];
    lines.extend(tally.failures.iter().map(|(what, count)| format!("| FAILED: {what} | {count} |")));
    if tally.failures.is_empty() {
        lines.push("| other failures | none |".to_owned());
    }
    let seconds = |duration: Duration| format!("{:.3}", duration.as_secs_f64());
    let [median, most, nearly_all] = figures::percentiles(&tally.small);
    let longest = tally.small.iter().max().copied().unwrap_or_default();
    lines.push(format!(
        "| small scores, s: p50, p95, p99, longest | {}, {}, {}, {} |",
        seconds(median),
        seconds(most),
        seconds(nearly_all),
        seconds(longest)
    ));
    for (gate, [median, most, nearly_all]) in waits(metrics) {
        lines.push(format!("| waited at the gate {gate}, s: p50, p95, p99 | ≤ {median}, ≤ {most}, ≤ {nearly_all} |"));
    }
    let mebibytes = |bytes: u64| format!("{} MiB", bytes >> 20);
    lines.push(format!(
        "| memory: at the start, at the end, peak | {}, {}, {} |",
        mebibytes(before.resident),
        mebibytes(after.resident),
        mebibytes(after.peak)
    ));
    lines.push(format!("| threads: at the start, at the end | {}, {} |", before.threads, after.threads));
    lines.push(format!("| descriptors: at the start, at the end | {}, {} |", before.descriptors, after.descriptors));
    lines.join("\n")
}
