//! What may happen to a call, and that nothing is left of it: [`product`] of all methods, states and endings in front of a fake
//! domain, [`process`] in front of a real one. Here, what each ending tells.

mod methods;
mod peer;
mod process;
mod product;

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;
use transferscore::transport::proto::{
    AttackRequest, CompareTasksRequest, FineTuneRequest, RankSourcesRequest, TransferScoreRequest, attack_request,
    attack_response, compare_tasks_request, compare_tasks_response, fine_tune_request, fine_tune_response,
    rank_sources_request, rank_sources_response::Event, transfer_score_request,
    transfer_score_service_client::TransferScoreServiceClient,
};

use crate::transport::fake::{Fake, RawClient, Running};

#[derive(Clone, Copy, Debug)]
pub enum Shape {
    Unary,
    Stream,
    Attack,
    Compare,
    FineTune,
}

pub const SHAPES: [Shape; 5] = [Shape::Unary, Shape::Stream, Shape::Attack, Shape::Compare, Shape::FineTune];

pub struct Caller {
    service: TransferScoreServiceClient<RawClient>,
}

impl Caller {
    pub fn of(running: &Running) -> Self {
        Caller { service: TransferScoreServiceClient::with_origin(running.raw_client(), running.origin()) }
    }

    /// Makes the call to its end; tells how many results came.
    pub async fn call(mut self, shape: Shape, behaviour: &str) -> Result<usize, Status> {
        match shape {
            Shape::Unary => {
                let request = TransferScoreRequest {
                    source_model: "source".to_owned(),
                    reference_model: behaviour.to_owned(),
                    probe: Some(transfer_score_request::Probe::Dataset("digits".to_owned())),
                    ..TransferScoreRequest::default()
                };
                self.service.transfer_score(request).await?;
                Ok(1)
            }
            Shape::Stream => {
                let request = RankSourcesRequest {
                    source_models: vec!["first".to_owned(), "second".to_owned()],
                    reference_model: behaviour.to_owned(),
                    probe: Some(rank_sources_request::Probe::Dataset("digits".to_owned())),
                    ..RankSourcesRequest::default()
                };
                let mut events = self.service.rank_sources(request).await?.into_inner();
                let mut n_results = 0;
                while let Some(event) = events.message().await? {
                    n_results += usize::from(!matches!(event.event, Some(Event::Progress(_))));
                }
                Ok(n_results)
            }
            Shape::Compare => {
                let request = CompareTasksRequest {
                    models: vec![behaviour.to_owned(), "other".to_owned()],
                    probe: Some(compare_tasks_request::Probe::Dataset("digits".to_owned())),
                    ..CompareTasksRequest::default()
                };
                let mut events = self.service.compare_tasks(request).await?.into_inner();
                let mut n_results = 0;
                while let Some(event) = events.message().await? {
                    n_results += usize::from(!matches!(event.event, Some(compare_tasks_response::Event::Progress(_))));
                }
                Ok(n_results)
            }
            Shape::FineTune => {
                let request = FineTuneRequest {
                    model: behaviour.to_owned(),
                    probe: Some(fine_tune_request::Probe::Dataset("digits".to_owned())),
                    ..FineTuneRequest::default()
                };
                let mut events = self.service.fine_tune(request).await?.into_inner();
                let mut n_results = 0;
                while let Some(event) = events.message().await? {
                    n_results += usize::from(!matches!(event.event, Some(fine_tune_response::Event::Progress(_))));
                }
                Ok(n_results)
            }
            Shape::Attack => {
                let request = AttackRequest {
                    models: vec![behaviour.to_owned()],
                    probe: Some(attack_request::Probe::Dataset("digits".to_owned())),
                    ..AttackRequest::default()
                };
                let mut events = self.service.attack(request).await?.into_inner();
                let mut n_results = 0;
                while let Some(event) = events.message().await? {
                    n_results += usize::from(!matches!(event.event, Some(attack_response::Event::Progress(_))));
                }
                Ok(n_results)
            }
        }
    }
}

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

async fn assert_all_permits_are_back(running: &Running) {
    running.gauges.idle().await;
    assert_eq!((running.gauges.computing(), running.gauges.lookups()), (0, 0));
}

#[tokio::test]
async fn ok() {
    for (shape, n_results) in [(Shape::Unary, 1), (Shape::Stream, 3), (Shape::Attack, 3), (Shape::FineTune, 3)] {
        let running = Running::start(Fake::default()).await;
        assert_eq!(Caller::of(&running).call(shape, "ok").await.expect("scores"), n_results, "{shape:?}");
        assert_all_permits_are_back(&running).await;
    }
}

#[tokio::test]
async fn an_error_of_the_domain_is_told_with_reason_and_field() {
    for shape in SHAPES {
        let running = Running::start(Fake::default()).await;
        let status = Caller::of(&running).call(shape, "nowhere").await.expect_err("no such model");
        assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "MODEL_NOT_FOUND"), "{shape:?}");
        let details = status.get_error_details();
        let fields: Vec<_> = details.bad_request().into_iter().flat_map(|bad| &bad.field_violations).collect();
        assert_eq!(fields.iter().map(|violation| violation.field.as_str()).collect::<Vec<_>>(), ["reference_model"]);
        assert_all_permits_are_back(&running).await;
    }
}

#[tokio::test]
async fn a_panic_is_internal_keeps_its_secret_and_harms_no_other_call() {
    for shape in SHAPES {
        let running = Running::start(Fake::default()).await;
        let status = Caller::of(&running).call(shape, "panic").await.expect_err("the work panicked");
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Internal, "INTERNAL"), "{shape:?}");
        let details = status.get_error_details();
        let id = &details.request_info().expect("the request's id").request_id;
        assert!(!id.is_empty() && status.message().contains(id.as_str()), "{}", status.message());
        assert!(!status.message().contains("secret"), "{}", status.message());
        assert_all_permits_are_back(&running).await;
        Caller::of(&running).call(shape, "ok").await.expect("the server lives");
    }
}

#[tokio::test]
async fn past_the_queue_a_call_is_sent_away_with_a_delay() {
    for shape in SHAPES {
        let running = Running::with_settings(Fake::default(), 1, 1, Duration::ZERO).await;
        let computing = tokio::spawn(Caller::of(&running).call(shape, "wait"));
        running.fake.started().await;
        let waiting = tokio::spawn(Caller::of(&running).call(shape, "ok"));
        while running.gauges.computing() < 2 {
            tokio::task::yield_now().await;
        }
        let status = Caller::of(&running).call(shape, "ok").await.expect_err("there is no room");
        assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "SERVER_BUSY"), "{shape:?}");
        assert!(status.get_error_details().retry_info().is_some_and(|retry| retry.retry_delay.is_some()));

        running.fake.release();
        computing.await.expect("no panic").expect("the first ends well");
        waiting.await.expect("no panic").expect("the one that waited gets its turn");
        assert_all_permits_are_back(&running).await;
    }
}

#[tokio::test]
async fn look_ups_do_not_wait_behind_computations() {
    let running = Running::with_settings(Fake::default(), 1, 0, Duration::ZERO).await;
    let computing = tokio::spawn(Caller::of(&running).call(Shape::Unary, "wait"));
    running.fake.started().await;
    let client = transferscore::transport::client::Client::connect(&running.address.to_string()).await.expect("up");
    assert_eq!(client.models().await.expect("a listing").len(), 1);
    running.fake.release();
    computing.await.expect("no panic").expect("scores");
}

#[tokio::test]
async fn during_the_drain_calls_finish() {
    for shape in SHAPES {
        // An hour: were the drain waited out, the test would not end.
        let running = Running::with_settings(Fake::default(), 2, 4, Duration::from_secs(3600)).await;
        let address = running.address;
        let call = tokio::spawn(Caller::of(&running).call(shape, "wait"));
        running.fake.started().await;
        let fake = running.fake.clone();
        let served = running.stop();
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        fake.release();
        call.await.expect("no panic").expect("its answer");
        served.await.expect("no panic").expect("an end in order");
    }
}
