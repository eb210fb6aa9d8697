//! `TransferScoreService`: convert, call the domain, convert back.

use tonic::{Request, Response, Status};

use crate::{
    cancel::Cancel,
    error,
    scoring::types::{AdversarialEvent, Progress, RankingEvent},
    transport::{
        call::{Calls, Context, EventStream, Outlet},
        convert,
        proto::{
            AttackRequest, AttackResponse, CompareTasksRequest, CompareTasksResponse, FineTuneRequest,
            FineTuneResponse, RankSourcesRequest, RankSourcesResponse, TransferScoreRequest, TransferScoreResponse,
            transfer_score_service_server::TransferScoreService,
        },
    },
};

/// Scores pairs, ranks sources, compares tasks, makes adversarial examples and fine-tunes.
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
        let context = Context::of(&request);
        let request = convert::ranking_request(request.into_inner()).map_err(|error| context.status(&error))?;
        Ok(self.calls.stream(context, move |scoring, outlet, cancel| {
            let (is_progress, to_wire) = (|event: &_| matches!(event, RankingEvent::Progress(_)), convert::event);
            let work = |on_event: &mut (dyn FnMut(RankingEvent) + Send)| scoring.rank(&request, on_event, cancel);
            relay(outlet, cancel, is_progress, to_wire, work, convert::ranking)
        }))
    }

    type CompareTasksStream = EventStream<CompareTasksResponse>;

    async fn compare_tasks(
        &self,
        request: Request<CompareTasksRequest>,
    ) -> Result<Response<Self::CompareTasksStream>, Status> {
        let context = Context::of(&request);
        let request = convert::comparison_request(request.into_inner()).map_err(|error| context.status(&error))?;
        Ok(self.calls.stream(context, move |scoring, outlet, cancel| {
            let to_wire = |progress| Ok(convert::comparison_progress(progress));
            let work = |on_progress: &mut (dyn FnMut(Progress) + Send)| scoring.compare(&request, on_progress, cancel);
            relay(outlet, cancel, |_| true, to_wire, work, convert::comparison)
        }))
    }

    type AttackStream = EventStream<AttackResponse>;

    async fn attack(&self, request: Request<AttackRequest>) -> Result<Response<Self::AttackStream>, Status> {
        let context = Context::of(&request);
        let request = convert::adversarial_request(request.into_inner()).map_err(|error| context.status(&error))?;
        Ok(self.calls.stream(context, move |scoring, outlet, cancel| {
            let is_progress = |event: &_| matches!(event, AdversarialEvent::Progress(_));
            let work = |on_event: &mut (dyn FnMut(AdversarialEvent) + Send)| scoring.attack(&request, on_event, cancel);
            relay(outlet, cancel, is_progress, convert::attack_event, work, convert::attack_summary)
        }))
    }

    type FineTuneStream = EventStream<FineTuneResponse>;

    async fn fine_tune(&self, request: Request<FineTuneRequest>) -> Result<Response<Self::FineTuneStream>, Status> {
        let context = Context::of(&request);
        let request = convert::fine_tune_request(request.into_inner()).map_err(|error| context.status(&error))?;
        Ok(self.calls.stream(context, move |scoring, outlet, cancel| {
            let mut on_progress = |progress| outlet.offer(convert::fine_tune_progress(progress));
            let tuned = scoring.fine_tune(&request, &mut on_progress, cancel)?;
            for event in convert::fine_tuned(tuned)? {
                cancel.check()?;
                outlet.send(event)?;
            }
            Ok(())
        }))
    }
}

/// Sends the events of some work as they come, and its result as the last. Progress is left out where there is no room.
fn relay<E, R, T: Send + 'static>(
    outlet: &mut Outlet<T>,
    cancel: &Cancel,
    is_progress: impl Fn(&E) -> bool + Sync,
    to_wire: impl Fn(E) -> error::Result<T> + Sync,
    work: impl FnOnce(&mut (dyn FnMut(E) + Send)) -> error::Result<R>,
    last: impl FnOnce(R) -> error::Result<T>,
) -> error::Result<()> {
    let mut failure = None;
    let mut on_event = |event: E| {
        let is_progress = is_progress(&event);
        let sent = to_wire(event).and_then(|event| {
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
    let result = work(&mut on_event);
    if let Some(failure) = failure {
        return Err(failure);
    }
    outlet.send(last(result?)?)
}
