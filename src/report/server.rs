//! What a server has and does: its models, datasets and jobs.

use askama::Template;

use super::{Page, Part, ReportError, Section, words};

/// A server as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerReport {
    pub version: String,
    /// Calls that compute, and calls that wait to.
    pub computing: usize,
    pub models: Vec<ListedModel>,
    pub datasets: Vec<ListedDataset>,
    /// Newest first; `None` for a server that keeps none.
    pub jobs: Option<Vec<ListedJob>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedModel {
    pub name: String,
    pub n_parameters: u64,
    pub digest: String,
    /// What it is, or why it cannot be used.
    pub remark: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedDataset {
    pub name: String,
    pub n_samples: u64,
    pub format: String,
    /// What it is, or why it cannot be used.
    pub remark: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedJob {
    pub name: String,
    /// What it computes.
    pub kind: String,
    pub state: String,
    pub dataset: String,
    pub n_models: u64,
    /// Of a job that runs.
    pub progress: String,
    /// Where its report is; empty for a job without one.
    pub report: String,
}

#[derive(Template)]
#[template(path = "server.html")]
struct Table<'a> {
    /// Names, and whether numbers stand below.
    columns: &'a [(&'a str, bool)],
    rows: Vec<Row>,
}

struct Row {
    cells: Vec<String>,
    /// Where the first cell leads to; may be empty.
    link: String,
}

/// The page of a server.
///
/// # Errors
/// Only where the template fails, which no input makes it do.
pub fn server_page(report: &ServerReport) -> Result<Page, ReportError> {
    let row = |cells: Vec<String>| Row { cells, link: String::new() };
    let models = report.models.iter().map(|model| {
        let digest = words::short_digest(&model.digest).to_owned();
        row(vec![model.name.clone(), words::count(model.n_parameters), digest, model.remark.clone()])
    });
    let datasets = report.datasets.iter().map(|dataset| {
        let n_samples = words::count(dataset.n_samples);
        row(vec![dataset.name.clone(), n_samples, dataset.format.clone(), dataset.remark.clone()])
    });
    let mut sections = vec![
        section("Models", &[("Model", false), ("Parameters", true), ("Digest", false), ("", false)], models.collect())?,
        section(
            "Datasets",
            &[("Dataset", false), ("Samples", true), ("Format", false), ("", false)],
            datasets.collect(),
        )?,
    ];
    if let Some(jobs) = &report.jobs {
        let jobs = jobs.iter().map(|job| Row {
            cells: vec![
                job.name.clone(),
                job.kind.clone(),
                job.state.clone(),
                job.progress.clone(),
                job.dataset.clone(),
                words::count(job.n_models),
            ],
            link: job.report.clone(),
        });
        let columns =
            [("Job", false), ("What", false), ("State", false), ("Done", true), ("Dataset", false), ("Models", true)];
        sections.push(section("Jobs", &columns, jobs.collect())?);
    }
    Ok(Page {
        title: "transferscore".to_owned(),
        summary: format!("Version {}. Calls that compute or wait to: {}.", report.version, report.computing),
        parts: vec![Part { title: String::new(), sections }],
    })
}

fn section(title: &str, columns: &[(&str, bool)], rows: Vec<Row>) -> Result<Section, ReportError> {
    Ok(Section::new(title, Table { columns, rows }.render()?))
}
