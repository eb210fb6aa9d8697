//! What jobs compute: the bytes of a request to those of its result, through the same conversions as the direct calls.

use std::sync::Arc;

use prost::Message;

use super::{convert, proto};
use crate::{
    cancel::{Cancel, Turn},
    error::{Error, Reason, Result},
    jobs::{JobKind, Outcome, Work, WorkEvent},
    scoring::{Scoring, Units, types::RankingEvent},
    transport::proto::{compare_tasks_response, rank_sources_response},
};

/// Rankings and comparisons.
pub struct JobWork {
    pub scoring: Arc<dyn Scoring>,
    /// The turn in which they are computed.
    pub turn: Arc<dyn Turn>,
}

impl Work for JobWork {
    fn run(
        &self,
        kind: JobKind,
        request: &[u8],
        units: &dyn Units,
        on_event: &mut (dyn FnMut(WorkEvent) + Send),
        cancel: &Cancel,
    ) -> Result<Outcome> {
        let cancel = cancel.in_turn(Arc::clone(&self.turn));
        match kind {
            JobKind::Ranking => self.rank(request, units, on_event, &cancel),
            JobKind::Comparison => self.compare(request, units, on_event, &cancel),
        }
    }
}

impl JobWork {
    fn rank(
        &self,
        request: &[u8],
        units: &dyn Units,
        on_event: &mut (dyn FnMut(WorkEvent) + Send),
        cancel: &Cancel,
    ) -> Result<Outcome> {
        let request = convert::ranking_request(convert::decode(request)?)?;
        let (mut rows, mut failure) = (Vec::new(), None);
        let mut on_ranking_event = |event: RankingEvent| match event {
            RankingEvent::Progress(progress) => on_event(WorkEvent::Progress(progress)),
            row @ RankingEvent::Row { .. } => match row_of(row) {
                Ok(row) => {
                    on_event(WorkEvent::Row(row.encode_to_vec()));
                    rows.push(row);
                }
                // The domain cannot be told of a failed event, only to stop.
                Err(error) => {
                    failure.get_or_insert(error);
                    cancel.cancel();
                }
            },
        };
        let ranking = self.scoring.rank_in_units(&request, units, &mut on_ranking_event, cancel);
        if let Some(failure) = failure {
            return Err(failure);
        }
        let Some(rank_sources_response::Event::Ranking(ranking)) = convert::ranking(ranking?)?.event else {
            return Err(misled("a ranking"));
        };
        let sources = rows.iter().map(|row| row.source_model.clone());
        let models = sources.chain([request.reference_model]).collect();
        let result = proto::RankingResult { rows, ranking: Some(ranking) }.encode_to_vec();
        Ok(Outcome { result, models })
    }

    fn compare(
        &self,
        request: &[u8],
        units: &dyn Units,
        on_event: &mut (dyn FnMut(WorkEvent) + Send),
        cancel: &Cancel,
    ) -> Result<Outcome> {
        let request = convert::comparison_request(convert::decode(request)?)?;
        let mut on_progress = |progress| on_event(WorkEvent::Progress(progress));
        let comparison = self.scoring.compare_in_units(&request, units, &mut on_progress, cancel)?;
        let Some(compare_tasks_response::Event::Comparison(comparison)) = convert::comparison(comparison)?.event else {
            return Err(misled("a comparison"));
        };
        Ok(Outcome { result: comparison.encode_to_vec(), models: request.models })
    }
}

fn row_of(event: RankingEvent) -> Result<proto::RankingRow> {
    match convert::event(event)?.event {
        Some(rank_sources_response::Event::Row(row)) => Ok(row),
        _ => Err(misled("a row")),
    }
}

fn misled(what: &str) -> Error {
    Error::new(Reason::Internal, format!("{what} became another event"))
}
