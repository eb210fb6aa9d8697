//! `experiment.toml`: what an experiment consists of.
//!
//! Calls are written as the messages that they are, in the protocol buffers' own JSON mapping, so that an experiment can ask
//! for whatever the service can do and has no options of its own.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{
    cli::{Failure, json},
    transport::proto::{CompareTasksRequest, RankSourcesRequest},
};

const FILE: &str = "experiment.toml";
/// The folder of an experiment's own datasets.
pub const OWN_DATASETS: &str = "datasets";

/// An experiment, checked.
#[derive(Clone, Debug)]
pub struct Definition {
    /// The folder of its models, which the file lies in.
    pub folder: PathBuf,
    /// Further folders of models, such as another experiment's.
    pub models: Vec<PathBuf>,
    pub title: String,
    /// What is asked, in one sentence.
    pub question: String,
    /// Where the paper has it.
    pub paper: String,
    /// Manifests of datasets by name: the first whose path exists is taken.
    pub datasets: BTreeMap<String, Vec<toml::Table>>,
    pub calls: Vec<Call>,
    pub transfers: Vec<Transfers>,
    pub published: Vec<Published>,
}

/// A score of every pair of models, from one ranking for each reference.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transfers {
    pub title: String,
    /// Path of the score's field in the answer.
    pub score: String,
}

/// Figures that the paper has, to be held against those of a ranking.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// What they are.
    pub title: String,
    /// The ranking that has ours.
    pub call: String,
    /// Path of the field that is ours.
    pub score: String,
    pub rows: Vec<PublishedRow>,
}

/// A figure of the paper.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedRow {
    /// What it is the figure of.
    pub name: String,
    pub value: f64,
    /// The sources that stand for it here; ours is their mean.
    pub sources: Vec<String>,
}

/// One request of an experiment.
#[derive(Clone, Debug)]
pub struct Call {
    /// Of its file among the results.
    pub name: String,
    pub title: String,
    pub request: Request,
    /// Where the sources of a ranking are steps of something.
    pub lines: Option<Lines>,
}

/// A level of each source of a ranking, such as the share of some data, to draw scores over.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lines {
    /// What the level is, in words, with its unit.
    pub axis: String,
    /// In the order of the request's sources.
    pub levels: Vec<f64>,
}

/// What a call asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    Rank(Box<RankSourcesRequest>),
    Compare(Box<CompareTasksRequest>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDefinition {
    title: String,
    question: String,
    #[serde(default)]
    paper: String,
    #[serde(default)]
    models: Vec<PathBuf>,
    #[serde(default)]
    datasets: BTreeMap<String, Vec<toml::Table>>,
    calls: Vec<RawCall>,
    #[serde(default)]
    transfers: Vec<Transfers>,
    #[serde(default)]
    published: Vec<Published>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCall {
    name: String,
    title: String,
    rank: Option<toml::Value>,
    compare: Option<toml::Value>,
    lines: Option<Lines>,
}

impl Definition {
    /// Reads the experiment of a folder.
    ///
    /// # Errors
    /// A usage failure that names the file, the call and what is wrong with it.
    pub fn read(folder: &Path) -> Result<Self, Failure> {
        let file = folder.join(FILE);
        let wrong = |cause: &dyn std::fmt::Display| Failure::Usage(format!("{}: {cause}", file.display()));
        let text = std::fs::read_to_string(&file).map_err(|cause| wrong(&cause))?;
        let raw: RawDefinition = toml::from_str(&text).map_err(|cause| wrong(&cause))?;
        let mut calls: Vec<Call> = Vec::with_capacity(raw.calls.len());
        for call in raw.calls {
            let told = |failure: Failure| wrong(&format!("call `{}`: {failure}", call.name));
            if !is_file_name(&call.name) || calls.iter().any(|other| other.name == call.name) {
                return Err(wrong(&format!(
                    "call `{}`: give each call a name of its own, of letters, digits, - and _",
                    call.name
                )));
            }
            let request = match (call.rank, call.compare) {
                (Some(rank), None) => {
                    Request::Rank(Box::new(json::from_value("RankSourcesRequest", rank).map_err(told)?))
                }
                (None, Some(compare)) => {
                    Request::Compare(Box::new(json::from_value("CompareTasksRequest", compare).map_err(told)?))
                }
                _ => return Err(wrong(&format!("call `{}`: give either `rank` or `compare`", call.name))),
            };
            if call.lines.as_ref().is_some_and(|lines| lines.levels.len() != n_sources(&request)) {
                return Err(wrong(&format!(
                    "call `{}`: give `lines` a level for each of its source_models",
                    call.name
                )));
            }
            calls.push(Call { name: call.name, title: call.title, request, lines: call.lines });
        }
        if calls.is_empty() {
            return Err(wrong(&"it has no [[calls]], so there is nothing to run"));
        }
        let is_ranking = |call: &Call| matches!(call.request, Request::Rank(_));
        if let Some(one) = raw.published.iter().find(|one| !calls.iter().any(|c| c.name == one.call && is_ranking(c))) {
            return Err(wrong(&format!("published `{}`: there is no ranking `{}`", one.title, one.call)));
        }
        let RawDefinition { title, question, paper, datasets, transfers, published, .. } = raw;
        let models = raw.models.iter().map(|path| folder.join(path)).collect();
        let folder = folder.to_owned();
        Ok(Definition { folder, models, title, question, paper, datasets, calls, transfers, published })
    }
}

impl Request {
    /// Its message's name and JSON.
    ///
    /// # Errors
    /// Where it cannot be written, which no message that was read causes.
    pub fn to_json(&self) -> Result<(&'static str, String), Failure> {
        match self {
            Request::Rank(request) => Ok(("rank", json::to_json("RankSourcesRequest", request.as_ref())?)),
            Request::Compare(request) => Ok(("compare", json::to_json("CompareTasksRequest", request.as_ref())?)),
        }
    }

    /// Names of the models that it takes; empty for all.
    pub fn models(&self) -> Vec<&str> {
        match self {
            Request::Rank(request) if request.source_models.is_empty() => Vec::new(),
            Request::Rank(request) => {
                let sources = request.source_models.iter().map(String::as_str);
                sources.chain([request.reference_model.as_str()]).collect()
            }
            Request::Compare(request) => request.models.iter().map(String::as_str).collect(),
        }
    }
}

/// Sources that a ranking names.
fn n_sources(request: &Request) -> usize {
    match request {
        Request::Rank(request) => request.source_models.len(),
        Request::Compare(_) => 0,
    }
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

/// The manifests of the datasets, each where the first of its places exists below a folder of data or among the experiment's own,
/// written below `output`: a folder to open datasets from.
///
/// # Errors
/// A usage failure that names the places where nothing was found.
pub fn write_manifests(definition: &Definition, data: &[PathBuf], output: &Path) -> Result<(), Failure> {
    let own = definition.folder.join(OWN_DATASETS);
    for (name, places) in &definition.datasets {
        let paths_of = |place: &toml::Table| -> Vec<PathBuf> {
            let path = place.get("path").and_then(toml::Value::as_str);
            path.into_iter().flat_map(|path| data.iter().chain([&own]).map(move |folder| folder.join(path))).collect()
        };
        let there = |place| paths_of(place).into_iter().find(|path| path.exists());
        let Some((place, path)) = places.iter().find_map(|place| Some((place, there(place)?))) else {
            let paths = places.iter().flat_map(paths_of).map(|path| path.display().to_string());
            let paths: Vec<String> = paths.collect();
            let message = format!(
                "the data of `{name}` is not there; put it at {}, or name the folder of data with --data",
                paths.join(" or ")
            );
            return Err(Failure::Usage(message));
        };
        let mut manifest = place.clone();
        let path = path.canonicalize()?;
        manifest.insert("path".to_owned(), toml::Value::String(path.display().to_string()));
        let folder = output.join(name);
        std::fs::create_dir_all(&folder)?;
        let text = toml::to_string(&manifest).map_err(Failure::usage)?;
        std::fs::write(folder.join("dataset.toml"), text)?;
    }
    Ok(())
}
