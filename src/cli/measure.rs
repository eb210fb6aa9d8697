//! `measure`: how fast a model's input gradients and attacks are here, by the code that scores run on.
//!
//! Without `--on-request` it measures by itself and prints a table. With it, another program says when, so that several
//! programs can take turns: JSON on a line of its own for each line read.

use std::{
    io::{self, BufRead, Write},
    num::{NonZeroU32, NonZeroUsize},
    time::Instant,
};

use clap::ValueEnum;
use comfy_table::Table;
use serde_json::{Value, json};

use super::{Failure, session, table};
use crate::{
    config::SourceArgs,
    error::Error,
    scoring::{
        Exercise, Scorer, Trial,
        types::{AttackMethod, AttackOptions},
    },
};

#[derive(Debug, clap::Args)]
pub struct MeasureArgs {
    /// Name of a model
    model: String,
    /// Dataset whose first samples are worked on
    #[arg(long, value_name = "NAME")]
    dataset: String,
    /// Samples that are worked on each time
    #[arg(long, value_name = "N", default_value = "64")]
    samples: NonZeroUsize,
    /// What to measure; repeat for several [default: both]
    #[arg(long = "work", value_name = "WORK", value_enum)]
    works: Vec<Work>,
    /// Steps of projected gradient descent within an L-infinity radius of 8/255
    #[arg(long, value_name = "N", default_value = "10")]
    steps: NonZeroU32,
    /// Times that each work is measured
    #[arg(long, value_name = "N", default_value = "5", conflicts_with = "on_request")]
    rounds: NonZeroUsize,
    /// Work when told to: for each line "WORK [TIMES [SAMPLES]]" of standard input, a line of JSON with the seconds of each
    /// time
    #[arg(long)]
    on_request: bool,
    /// Print JSON, a line for each work and round
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    sources: SourceArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Work {
    /// Outputs and the input gradient of the cross-entropy to the model's own prediction
    Gradient,
    /// Projected gradient descent
    Attack,
}

impl Work {
    const ALL: [Work; 2] = [Work::Gradient, Work::Attack];

    fn name(self) -> &'static str {
        match self {
            Work::Gradient => "gradient",
            Work::Attack => "attack",
        }
    }

    fn exercise(self) -> Exercise {
        match self {
            Work::Gradient => Exercise::Gradient,
            Work::Attack => Exercise::Attack,
        }
    }

    /// Passes through the model and back that a sample takes one after the other.
    fn steps(self, trial: &Trial) -> u32 {
        match self {
            Work::Gradient => 1,
            Work::Attack => trial.steps(),
        }
    }
}

pub async fn run(args: MeasureArgs) -> Result<(), Failure> {
    let scorer = session::scorer(args.sources.clone()).await?;
    let measured = tokio::task::spawn_blocking(move || measure(&scorer, &args));
    measured.await.map_err(|error| Failure::Work(format!("cannot measure: {error}")))?
}

fn measure(scorer: &Scorer, args: &MeasureArgs) -> Result<(), Failure> {
    let attack = AttackOptions { steps: args.steps.get(), ..AttackOptions::of(AttackMethod::Pgd) };
    let trial = scorer.trial(&args.model, &args.dataset, &attack).map_err(failed)?;
    let n_samples = args.samples.get();
    let works = if args.works.is_empty() { &Work::ALL[..] } else { &args.works };
    // The first run compiles and takes memory; what it gives tells whether others compute the same.
    let mut readings = serde_json::Map::new();
    for work in works {
        let results = trial.run(work.exercise(), n_samples).map_err(failed)?;
        let read = trial.readings(work.exercise(), &results).map_err(failed)?;
        readings.insert(work.name().to_owned(), read.into());
    }
    if args.json || args.on_request {
        tell(&json!({
            "model": args.model,
            "provider": trial.provider(),
            "threads": trial.n_threads(),
            "samples": n_samples,
            "shape": trial.sample_shape(),
            "tile": trial.tile(),
            "steps": trial.steps(),
            "readings": readings,
        }))?;
    }
    if args.on_request {
        return on_request(&trial, works, n_samples, io::stdin().lock());
    }
    let mut seconds = vec![Vec::new(); works.len()];
    for _ in 0..args.rounds.get() {
        for (work, seconds) in works.iter().zip(&mut seconds) {
            let taken = timed(&trial, *work, n_samples)?;
            seconds.push(taken);
            if args.json {
                tell(&answer(*work, &[taken]))?;
            }
        }
    }
    if args.json { Ok(()) } else { table::print(&summary(&trial, works, n_samples, &seconds)) }
}

/// Answers each line until there are no more.
fn on_request(trial: &Trial, works: &[Work], n_samples: usize, requests: impl BufRead) -> Result<(), Failure> {
    for line in requests.lines() {
        let line = line?;
        let Request { work, times, samples } = Request::read(&line, works)?;
        let n_samples = samples.unwrap_or(n_samples);
        let seconds = (0..times).map(|_| timed(trial, work, n_samples)).collect::<Result<Vec<f64>, Failure>>()?;
        tell(&answer(work, &seconds))?;
    }
    Ok(())
}

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    work: Work,
    /// Once where it does not say.
    times: u32,
    samples: Option<usize>,
}

impl Request {
    /// "gradient 3 64": a work, how many times, on how many samples.
    fn read(line: &str, works: &[Work]) -> Result<Self, Failure> {
        let refused = || {
            let known: Vec<&str> = works.iter().map(|work| work.name()).collect();
            Failure::Usage(format!("{line:?} is no request; give {} [TIMES [SAMPLES]]", known.join(" or ")))
        };
        let mut words = line.split_whitespace();
        let name = words.next().ok_or_else(refused)?;
        let work = *works.iter().find(|work| work.name() == name).ok_or_else(refused)?;
        let times = words.next().map_or(Ok(1), |times| times.parse().map_err(|_| refused()))?;
        let samples = words.next().map(|samples| samples.parse().map_err(|_| refused())).transpose()?;
        if words.next().is_some() { Err(refused()) } else { Ok(Request { work, times, samples }) }
    }
}

/// Seconds of one run over so many samples.
fn timed(trial: &Trial, work: Work, n_samples: usize) -> Result<f64, Failure> {
    let start = Instant::now();
    trial.run(work.exercise(), n_samples).map_err(failed)?;
    Ok(start.elapsed().as_secs_f64())
}

fn answer(work: Work, seconds: &[f64]) -> Value {
    json!({ "work": work.name(), "seconds": seconds })
}

fn tell(line: &Value) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    writeln!(output, "{line}")?;
    Ok(output.flush()?)
}

/// A row for each work.
fn summary(trial: &Trial, works: &[Work], n_samples: usize, seconds: &[Vec<f64>]) -> Table {
    let columns = ["work", "samples a second", "slowest", "fastest", "ms a step", "samples", "tile", "provider"];
    let mut rows = table::with_columns(columns);
    for (work, seconds) in works.iter().zip(seconds) {
        let mut sorted = seconds.clone();
        sorted.sort_by(f64::total_cmp);
        let [fastest, median, slowest] = [0, sorted.len() / 2, sorted.len().saturating_sub(1)]
            .map(|place| sorted.get(place).copied().unwrap_or(f64::NAN));
        let rate = |seconds: f64| format!("{:.1}", n_samples as f64 / seconds);
        let steps = work.steps(trial);
        rows.add_row([
            if *work == Work::Attack { format!("attack, {steps} steps") } else { work.name().to_owned() },
            rate(median),
            rate(slowest),
            rate(fastest),
            format!("{:.2}", 1e3 * median / f64::from(steps)),
            n_samples.to_string(),
            trial.tile().to_string(),
            trial.provider().to_owned(),
        ]);
    }
    rows
}

fn failed(error: Error) -> Failure {
    Failure::Work(error.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_a_work_how_many_times_and_on_how_many_samples() {
        for (line, expected) in [
            ("gradient", Some((Work::Gradient, 1, None))),
            ("attack 3", Some((Work::Attack, 3, None))),
            ("  attack\t2 64 ", Some((Work::Attack, 2, Some(64)))),
            ("", None),
            ("ranking", None),
            ("attack -1", None),
            ("attack 1.5", None),
            ("attack 1 two", None),
            ("attack 1 2 3", None),
        ] {
            let expected = expected.map(|(work, times, samples)| Request { work, times, samples });
            assert_eq!(Request::read(line, &Work::ALL).ok(), expected, "{line:?}");
        }
        assert!(Request::read("attack", &[Work::Gradient]).is_err());
    }
}
