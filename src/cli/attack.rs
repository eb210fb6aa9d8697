//! `attack`: adversarial examples of one model or of several together.

use std::path::{Path, PathBuf};

use comfy_table::Table;

use super::{
    Failure,
    attack_options::AttackArgs,
    attack_report,
    example_report::{self, Shown},
    json,
    npz::{self, Array, Elements},
    options::{ClientArgs, Pooling},
    progress,
    reported::ReportArgs,
    session::Session,
    table,
};
use crate::{
    limits,
    report::attack_page,
    transport::{
        client::ClientError,
        proto::{
            self, AdversarialExamples, AttackRequest, AttackSummary, ModelReading, SuccessRate, attack_request::Probe,
            attack_response::Event,
        },
    },
};

#[derive(Debug, clap::Args)]
pub struct AdversarialArgs {
    /// Models to attack; several are attacked together
    #[arg(value_name = "MODEL", required = true)]
    attacked: Vec<String>,
    /// Dataset whose samples are attacked
    #[arg(long, value_name = "NAME")]
    dataset: String,
    /// Model that the examples are tried on; repeat for several
    #[arg(long = "evaluate", value_name = "MODEL")]
    evaluated: Vec<String>,
    /// What is ascended of several models [default: losses]
    #[arg(long, value_name = "WHAT", value_enum)]
    pooling: Option<Pooling>,
    /// File to write the examples to, .npz: x, index, y, epsilon, l2, linf, loss, clean_class, adversarial_class, success
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Use at most this many samples, drawn by the seed; 0 means all
    #[arg(long, value_name = "N", default_value_t)]
    max_samples: u32,
    /// Seed of every random draw
    #[arg(long, value_name = "N", default_value_t)]
    seed: u64,
    #[command(flatten)]
    page: ReportArgs,
    /// Samples that the report shows, at most 24
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(..=i64::from(limits::EXAMPLE_IMAGES)))]
    examples: u32,
    #[command(flatten)]
    attack: AttackArgs,
    #[command(flatten)]
    client: ClientArgs,
}

pub async fn run(args: AdversarialArgs) -> Result<(), Failure> {
    let as_json = args.client.json;
    let request = AttackRequest {
        models: args.attacked,
        pooling: args.pooling.map_or(0, |pooling| proto::Pooling::from(pooling).into()),
        evaluated_models: args.evaluated,
        probe: Some(Probe::Dataset(args.dataset)),
        max_samples: args.max_samples,
        attack: Some(args.attack.options()),
        seed: args.seed,
        with_clean_samples: args.page.is_wanted(),
    };
    let session = Session::open(args.client).await?;
    let bar = progress::bar();
    let classes = match request.models.first() {
        Some(model) if args.page.is_wanted() => example_report::classes(&session.client, model).await?,
        _ => Vec::new(),
    };
    let mut shown = Shown::new(args.examples, classes);
    let mut events = session.client.attack(request.clone()).await?;
    let mut found = Found::default();
    let mut summary = None;
    while let Some(response) = events.next().await? {
        match &response.event {
            Some(Event::Progress(progress)) => progress::advance(&bar, progress),
            Some(Event::Examples(_) | Event::Summary(_)) if as_json => {
                bar.suspend(|| json::print("AttackResponse", &response))?;
            }
            _ => {}
        }
        if let Some(Event::Examples(examples)) = &response.event {
            shown.add(examples);
        }
        match response.event {
            Some(Event::Examples(examples)) if args.output.is_some() => found.add(examples),
            Some(Event::Summary(last)) => summary = Some(last),
            _ => {}
        }
    }
    bar.finish_and_clear();
    drop(events);
    let summary = summary.ok_or(ClientError::Incomplete)?;
    session.close().await?;
    if let Some(output) = &args.output {
        found.write(output).map_err(|error| Failure::Work(format!("{}: {error}", output.display())))?;
    }
    if args.page.is_wanted() {
        args.page.write(&attack_page(&attack_report::of(&summary, shown, &request))?)?;
    }
    if as_json { Ok(()) } else { table::print(&summary_table(&summary)) }
}

/// A row for each radius.
fn summary_table(summary: &AttackSummary) -> Table {
    let rate = |rate: &SuccessRate| format!("{} ({} clean)", table::number(rate.rate), table::number(rate.clean_rate));
    let evaluated = summary.evaluated_models.iter().map(|model| format!("success on {}", model.name));
    let evaluated: Vec<String> = evaluated.collect();
    let columns = ["epsilon", "success", "mean L2", "mean Linf", "mean loss"];
    let mut rows = table::with_columns(columns.into_iter().chain(evaluated.iter().map(String::as_str)));
    for radius in &summary.radii {
        let own = [
            radius.epsilon.map_or_else(|| "-".to_owned(), table::number),
            radius.attacked.as_ref().map_or_else(|| "-".to_owned(), rate),
            table::number(radius.mean_l2_norm),
            table::number(radius.mean_linf_norm),
            table::number(radius.mean_loss),
        ];
        rows.add_row(own.into_iter().chain(radius.evaluated.iter().map(rate)));
    }
    rows
}

/// Examples as columns: those of the first radius first, each radius's in the order of the samples.
#[derive(Default)]
struct Found {
    radii: Vec<Columns>,
}

#[derive(Default)]
struct Columns {
    epsilon: Option<f64>,
    shape: Vec<usize>,
    samples: Vec<f32>,
    indices: Vec<i64>,
    labels: Vec<i64>,
    l2_norms: Vec<f64>,
    linf_norms: Vec<f64>,
    losses: Vec<f64>,
    clean_classes: Vec<i64>,
    adversarial_classes: Vec<i64>,
    successes: Vec<bool>,
}

impl Found {
    fn add(&mut self, examples: AdversarialExamples) {
        let place = self.radii.iter().position(|columns| columns.epsilon == examples.epsilon);
        let columns = match place.and_then(|place| self.radii.get_mut(place)) {
            Some(columns) => columns,
            None => {
                let shape = examples.shape.iter().map(|&length| length as usize).collect();
                self.radii.push(Columns { epsilon: examples.epsilon, shape, ..Columns::default() });
                let Some(columns) = self.radii.last_mut() else { return };
                columns
            }
        };
        columns.samples.extend(examples.samples);
        columns.indices.extend(wide(&examples.sample_indices));
        columns.labels.extend(wide(&examples.labels));
        columns.l2_norms.extend(examples.l2_norms);
        columns.linf_norms.extend(examples.linf_norms);
        columns.losses.extend(examples.losses);
        if let Some(ModelReading { clean_classes, adversarial_classes, successes, .. }) = examples.attacked {
            columns.clean_classes.extend(wide(&clean_classes));
            columns.adversarial_classes.extend(wide(&adversarial_classes));
            columns.successes.extend(successes);
        }
    }

    /// What has no entry, such as labels of a dataset without any, is left out.
    fn write(self, path: &Path) -> std::io::Result<()> {
        let shape = self.radii.first().map(|columns| columns.shape.clone()).unwrap_or_default();
        let mut all = Columns::default();
        let mut epsilons = Vec::new();
        for columns in self.radii {
            epsilons.extend(vec![columns.epsilon.unwrap_or(f64::INFINITY); columns.indices.len()]);
            all.samples.extend(columns.samples);
            all.indices.extend(columns.indices);
            all.labels.extend(columns.labels);
            all.l2_norms.extend(columns.l2_norms);
            all.linf_norms.extend(columns.linf_norms);
            all.losses.extend(columns.losses);
            all.clean_classes.extend(columns.clean_classes);
            all.adversarial_classes.extend(columns.adversarial_classes);
            all.successes.extend(columns.successes);
        }
        let rows = all.indices.len();
        let column = |name, elements| Array { name, shape: vec![rows], elements };
        let mut samples = vec![rows];
        samples.extend(shape);
        let mut arrays = vec![
            Array { name: "x", shape: samples, elements: Elements::Float32(&all.samples) },
            column("index", Elements::Int64(&all.indices)),
            column("epsilon", Elements::Float64(&epsilons)),
            column("l2", Elements::Float64(&all.l2_norms)),
            column("linf", Elements::Float64(&all.linf_norms)),
            column("loss", Elements::Float64(&all.losses)),
        ];
        if all.labels.len() == rows {
            arrays.push(column("y", Elements::Int64(&all.labels)));
        }
        if all.successes.len() == rows {
            arrays.push(column("clean_class", Elements::Int64(&all.clean_classes)));
            arrays.push(column("adversarial_class", Elements::Int64(&all.adversarial_classes)));
            arrays.push(column("success", Elements::Bool(&all.successes)));
        }
        npz::write(path, &arrays)
    }
}

fn wide(numbers: &[u32]) -> impl Iterator<Item = i64> {
    numbers.iter().map(|&number| i64::from(number))
}
