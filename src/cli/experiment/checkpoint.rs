//! Finished calls of an experiment, in files: a run that was killed goes on behind them.
//!
//! Invariant: a file is either whole or not there. A call counts as finished only for the same request to the same models.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::definition::{Call, Request};
use crate::{
    cli::{Failure, json, rank::Ranked},
    transport::proto::{CompareTasksRequest, Ranking, RankingRow, TaskComparison},
};

/// SHA-256 of models, by their names.
pub type Digests = BTreeMap<String, String>;

/// What a call gave.
pub enum Answer {
    Ranked(Box<Ranked>),
    Compared { comparison: Box<TaskComparison>, request: Box<CompareTasksRequest> },
}

/// A call that is done.
pub struct Finished {
    pub answer: Answer,
    pub seconds: f64,
    /// The most memory that the process had held when the call was done, with the server in it where that is its own; absent
    /// where it cannot be told.
    pub peak_bytes: Option<u64>,
}

/// The file of a call.
#[derive(Serialize, Deserialize)]
struct Record {
    title: String,
    kind: String,
    request: Box<RawValue>,
    models: Digests,
    seconds: f64,
    #[serde(default)]
    peak_bytes: Option<u64>,
    /// A ranking's rows, each a message; empty for a comparison.
    rows: Vec<Box<RawValue>>,
    result: Box<RawValue>,
}

/// The files of an experiment's calls.
pub struct Checkpoints {
    folder: PathBuf,
}

impl Checkpoints {
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(output: &Path) -> Result<Self, Failure> {
        let folder = output.join("calls");
        fs::create_dir_all(&folder)
            .map_err(|cause| Failure::Work(format!("cannot make {}: {cause}", folder.display())))?;
        Ok(Checkpoints { folder })
    }

    fn file(&self, call: &Call) -> PathBuf {
        self.folder.join(format!("{}.json", call.name))
    }

    /// What a call gave, where it was made before with the same request to the same models. A file that cannot be read counts as
    /// none.
    ///
    /// # Errors
    /// Those of [`Request::to_json`].
    pub fn find(&self, call: &Call, models: &Digests) -> Result<Option<Finished>, Failure> {
        let Ok(text) = fs::read(self.file(call)) else { return Ok(None) };
        let Ok(record) = serde_json::from_slice::<Record>(&text) else { return Ok(None) };
        let (kind, request) = call.request.to_json()?;
        if record.kind != kind || record.request.get() != request || record.models != *models {
            return Ok(None);
        }
        let finished = |answer| Finished { answer, seconds: record.seconds, peak_bytes: record.peak_bytes };
        Ok(record.answer(&call.request).map(finished).ok())
    }

    /// Keeps what a call gave.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep(&self, call: &Call, models: Digests, finished: &Finished) -> Result<(), Failure> {
        let raw = |text: String| RawValue::from_string(text).map_err(|cause| Failure::Work(cause.to_string()));
        let (kind, request) = call.request.to_json()?;
        let (rows, result) = match &finished.answer {
            Answer::Ranked(ranked) => {
                let Ranked { rows, ranking, .. } = ranked.as_ref();
                let rows: Result<Vec<_>, Failure> =
                    rows.iter().map(|row| raw(json::to_json("RankingRow", row)?)).collect();
                (rows?, json::to_json("Ranking", ranking)?)
            }
            Answer::Compared { comparison, .. } => (Vec::new(), json::to_json("TaskComparison", comparison.as_ref())?),
        };
        let record = Record {
            title: call.title.clone(),
            kind: kind.to_owned(),
            request: raw(request)?,
            models,
            seconds: finished.seconds,
            peak_bytes: finished.peak_bytes,
            rows,
            result: raw(result)?,
        };
        let text = serde_json::to_vec(&record).map_err(|cause| Failure::Work(cause.to_string()))?;
        write_whole(&self.file(call), &text)
    }
}

impl Record {
    fn answer(&self, request: &Request) -> Result<Answer, Failure> {
        match request {
            Request::Compare(request) => {
                let comparison: TaskComparison = json::from_json("TaskComparison", self.result.get())?;
                Ok(Answer::Compared { comparison: Box::new(comparison), request: request.clone() })
            }
            Request::Rank(request) => {
                let ranking: Ranking = json::from_json("Ranking", self.result.get())?;
                let rows: Result<Vec<RankingRow>, Failure> =
                    self.rows.iter().map(|row| json::from_json("RankingRow", row.get())).collect();
                Ok(Answer::Ranked(Box::new(Ranked { rows: rows?, ranking, request: request.as_ref().clone() })))
            }
        }
    }
}

/// Writes a file under another name first, so that it is never there in part.
///
/// # Errors
/// When it cannot be written.
pub fn write_whole(path: &Path, contents: &[u8]) -> Result<(), Failure> {
    let part = path.with_extension("part");
    let written = fs::write(&part, contents).and_then(|()| fs::rename(&part, path));
    written.map_err(|cause| Failure::Work(format!("cannot write {}: {cause}", path.display())))
}

/// Whether a call's models are all there; a call for all models takes what there is.
pub fn missing<'a>(request: &'a Request, there: &Digests) -> Option<&'a str> {
    request.models().into_iter().find(|name| !there.contains_key(*name))
}
