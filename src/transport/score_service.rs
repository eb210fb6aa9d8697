//! `TransferScoreService`: convert, call the domain, convert back.

use tonic::{Request, Response, Status};

use crate::transport::{
    call::{Calls, Context, EventStream},
    convert,
    proto::{
        RankSourcesRequest, RankSourcesResponse, TransferScoreRequest, TransferScoreResponse,
        transfer_score_service_server::TransferScoreService,
    },
};

/// Scores pairs and ranks sources.
pub struct ScoreService {
    pub calls: Calls,
}

#[tonic::async_trait]
impl TransferScoreService for ScoreService {
    async fn transfer_score(
        &self,
        request: Request<TransferScoreRequest>,
    ) -> Result<Response<TransferScoreResponse>, Status> {
        let context = Context::of(&request);
        let request = convert::pair(request.into_inner()).map_err(|error| context.status(&error))?;
        self.calls.compute(context, move |scoring, cancel| convert::pair_scores(scoring.score(&request, cancel)?)).await
    }

    type RankSourcesStream = EventStream<RankSourcesResponse>;

    async fn rank_sources(
        &self,
        request: Request<RankSourcesRequest>,
    ) -> Result<Response<Self::RankSourcesStream>, Status> {
        use crate::scoring::types::RankingEvent;

        let context = Context::of(&request);
        let request = convert::ranking_request(request.into_inner()).map_err(|error| context.status(&error))?;
        Ok(self.calls.stream(context, move |scoring, outlet, cancel| {
            let mut failure = None;
            let mut on_event = |event| {
                let is_progress = matches!(event, RankingEvent::Progress(_));
                let sent = convert::event(event).and_then(|event| {
                    if is_progress {
                        outlet.offer(event);
                        return Ok(());
                    }
                    outlet.send(event)
                });
                // The domain cannot be told of a failed event, only to stop.
                if let Err(error) = sent {
                    failure.get_or_insert(error);
                    cancel.cancel();
                }
            };
            let ranking = scoring.rank(&request, &mut on_event, cancel);
            if let Some(failure) = failure {
                return Err(failure);
            }
            outlet.send(convert::ranking(ranking?)?)
        }))
    }
}
