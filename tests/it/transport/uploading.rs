//! Client stream × {ok, cancel, deadline, error, panic, overload, shutdown, standstill}: the right status, and afterwards
//! every permit is back. And what does not belong in an upload.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;
use transferscore::{
    limits,
    transport::{
        client::Client,
        proto::{
            DatasetUploadHeader, LoadModelRequest, ModelUploadHeader, UploadModelRequest, UploadModelResponse,
            model_service_client::ModelServiceClient, upload_model_request::Piece,
        },
        server::ServerSettings,
    },
};

use super::fake::{Fake, Running, settings};

fn header(name: &str) -> Piece {
    Piece::Header(ModelUploadHeader { name: name.to_owned(), ..ModelUploadHeader::default() })
}

fn chunk(n_bytes: usize) -> Piece {
    Piece::Chunk(vec![7; n_bytes])
}

/// An upload in progress.
struct Upload {
    pieces: mpsc::Sender<UploadModelRequest>,
    answer: tokio::task::JoinHandle<Result<UploadModelResponse, Status>>,
}

impl Upload {
    fn begin(running: &Running, deadline: Option<Duration>) -> Upload {
        let (pieces, messages) = mpsc::channel(16);
        let mut request = Request::new(ReceiverStream::new(messages));
        if let Some(deadline) = deadline {
            request.set_timeout(deadline);
        }
        let mut service = ModelServiceClient::with_origin(running.raw_client(), running.origin());
        let answer = tokio::spawn(async move { Ok(service.upload_model(request).await?.into_inner()) });
        Upload { pieces, answer }
    }

    async fn send(&self, piece: Piece) {
        self.pieces.send(UploadModelRequest { piece: Some(piece) }).await.expect("the call goes on");
    }

    /// The answer, once the stream has ended.
    async fn end(self) -> Result<UploadModelResponse, Status> {
        drop(self.pieces);
        self.answer.await.expect("no panic")
    }

    /// The answer while the stream is open.
    async fn refusal(self) -> Status {
        let answer = self.answer.await.expect("no panic").expect_err("it is refused");
        drop(self.pieces);
        answer
    }
}

/// The whole of an upload.
async fn upload(running: &Running, name: &str) -> Result<UploadModelResponse, Status> {
    let upload = Upload::begin(running, None);
    for piece in [header(name), chunk(3), chunk(4)] {
        upload.send(piece).await;
    }
    upload.end().await
}

#[track_caller]
fn assert_told(status: &Status, code: Code, reason: &str) {
    let details = status.get_error_details();
    let told = details.error_info().map_or("", |info| info.reason.as_str());
    assert_eq!((status.code(), told), (code, reason), "{status:?}");
}

async fn assert_all_permits_are_back(running: &Running) {
    running.gauges.idle().await;
    assert_eq!(running.gauges.uploads(), 0);
}

#[tokio::test]
async fn an_upload_is_answered_by_what_it_became() {
    let running = Running::start(Fake::default()).await;
    let answer = upload(&running, "ok").await.expect("an answer");
    assert_eq!((answer.model.expect("a model").size_bytes, answer.replaced), (7, false));
    assert_all_permits_are_back(&running).await;
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_ends_the_work() {
    let running = Running::start(Fake::default()).await;
    // A runtime of its own goes as a client's process does, connections and all.
    let client = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
    let upload = {
        let _inside = client.enter();
        Upload::begin(&running, None)
    };
    upload.send(header("ok")).await;
    upload.send(chunk(1)).await;
    running.fake.chunk().await;
    assert_eq!(running.gauges.uploads(), 1);
    client.shutdown_background();
    running.fake.cancelled().await;
    assert_all_permits_are_back(&running).await;
}

#[tokio::test]
async fn an_upload_that_stands_still_is_ended() {
    let stall = Duration::from_millis(50);
    let running = Running::of(Fake::default(), ServerSettings { upload_stall: stall, ..settings() }).await;
    // Before the header, and after a chunk.
    assert_told(&Upload::begin(&running, None).refusal().await, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    let upload = Upload::begin(&running, None);
    upload.send(header("ok")).await;
    upload.send(chunk(1)).await;
    let status = upload.refusal().await;
    assert_told(&status, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    assert!(status.message().contains("nothing came for 50ms"), "{}", status.message());
    running.fake.cancelled().await;
    assert_all_permits_are_back(&running).await;
}

#[tokio::test]
async fn a_deadline_is_told_as_such_and_stops_the_work() {
    let running = Running::start(Fake::default()).await;
    let upload = Upload::begin(&running, Some(Duration::from_millis(300)));
    upload.send(header("wait")).await;
    let status = upload.end().await.expect_err("too late");
    assert_told(&status, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    running.fake.cancelled().await;
    assert_all_permits_are_back(&running).await;
}

#[tokio::test]
async fn errors_and_panics_of_the_work_are_told() {
    for (name, code, reason) in [("nowhere", Code::NotFound, "MODEL_NOT_FOUND"), ("panic", Code::Internal, "INTERNAL")]
    {
        let running = Running::start(Fake::default()).await;
        let status = upload(&running, name).await.expect_err(name);
        assert_told(&status, code, reason);
        assert!(!status.message().contains("secret"), "{}", status.message());
        assert_all_permits_are_back(&running).await;
        upload(&running, "ok").await.expect("the server lives");
    }
}

#[tokio::test]
async fn one_upload_too_many_is_sent_away_and_other_calls_are_not() {
    let running = Running::start(Fake::default()).await;
    let mut uploads = Vec::new();
    for _ in 0..limits::CONCURRENT_UPLOADS {
        let upload = Upload::begin(&running, None);
        upload.send(header("ok")).await;
        upload.send(chunk(1)).await;
        running.fake.chunk().await;
        uploads.push(upload);
    }
    let status = Upload::begin(&running, None).refusal().await;
    assert_told(&status, Code::ResourceExhausted, "SERVER_BUSY");
    assert!(status.get_error_details().retry_info().is_some_and(|retry| retry.retry_delay.is_some()));
    let client = Client::connect(&running.address.to_string()).await.expect("a server");
    assert_eq!(client.models().await.expect("a listing").len(), 1);
    for upload in uploads {
        upload.end().await.expect("its answer");
    }
    assert_all_permits_are_back(&running).await;
}

#[tokio::test]
async fn after_the_drain_uploads_are_cancelled_and_the_server_ends() {
    let running = Running::start(Fake::default()).await;
    let upload = Upload::begin(&running, None);
    upload.send(header("ok")).await;
    upload.send(chunk(1)).await;
    running.fake.chunk().await;
    let (fake, gauges) = (running.fake.clone(), running.gauges.clone());
    let served = running.stop();
    assert_told(&upload.refusal().await, Code::Unavailable, "SHUTTING_DOWN");
    fake.cancelled().await;
    served.await.expect("no panic").expect("an end in order");
    assert_eq!(gauges.uploads(), 0);
}

#[tokio::test]
async fn what_does_not_belong_in_an_upload_is_refused_with_its_field() {
    let running = Running::start(Fake::default()).await;
    let nothing = || UploadModelRequest { piece: None };
    let some = |piece| UploadModelRequest { piece: Some(piece) };
    let invalid = Code::InvalidArgument;
    for (case, messages, code, reason, field) in [
        ("no message", vec![], invalid, "FIELD_MISSING", "header"),
        ("an empty message", vec![nothing()], invalid, "FIELD_MISSING", "header"),
        ("a chunk first", vec![some(chunk(1))], invalid, "FIELD_MISSING", "header"),
        ("two headers", vec![some(header("ok")), some(header("ok"))], invalid, "OPTION_UNSUPPORTED", "header"),
        ("an empty chunk", vec![some(header("ok")), some(chunk(0))], invalid, "FIELD_MISSING", "chunk"),
        ("nothing after the header", vec![some(header("ok")), nothing()], invalid, "FIELD_MISSING", "chunk"),
        (
            "a large chunk",
            vec![some(header("ok")), some(chunk(limits::UPLOAD_CHUNK_BYTES + 1))],
            Code::ResourceExhausted,
            "LIMIT_EXCEEDED",
            "chunk",
        ),
    ] {
        let upload = Upload::begin(&running, None);
        for message in messages {
            upload.pieces.send(message).await.expect(case);
        }
        let status = upload.end().await.expect_err(case);
        assert_told(&status, code, reason);
        let details = status.get_error_details();
        let fields: Vec<&str> = details
            .bad_request()
            .expect(case)
            .field_violations
            .iter()
            .map(|violation| violation.field.as_str())
            .collect();
        assert_eq!(fields, [field], "{case}");
    }
    assert_all_permits_are_back(&running).await;
}

#[tokio::test]
async fn the_client_sends_files_and_has_models_loaded_and_dropped() {
    let running = Running::start(Fake::default()).await;
    let client = Client::connect(&running.address.to_string()).await.expect("a server");
    let chunks = || {
        let (sender, receiver) = mpsc::channel(2);
        sender.try_send(vec![1; 5]).expect("room");
        receiver
    };
    let header = ModelUploadHeader {
        name: "ok".to_owned(),
        manifest: "words".to_owned(),
        overwrite: true,
        ..ModelUploadHeader::default()
    };
    let answer = client.upload_model(header, chunks()).await.expect("an answer");
    let model = answer.model.expect("a model");
    assert_eq!((model.size_bytes, model.summary.as_str(), answer.replaced), (5, "words", true));
    let header = DatasetUploadHeader { name: "ok".to_owned(), ..DatasetUploadHeader::default() };
    let answer = client.upload_dataset(header, chunks()).await.expect("an answer");
    assert_eq!((answer.dataset.expect("a dataset").n_samples, answer.replaced), (8, false));
    assert_eq!(client.delete_dataset("ok").await.expect("an answer").freed_bytes, 5_188);

    for (dataset, expected) in [("digits", vec![1, 8, 8]), ("", vec![64])] {
        let request = LoadModelRequest { name: "ok".to_owned(), dataset: dataset.to_owned() };
        let answer = client.load_model(request).await.expect("an answer");
        assert_eq!((answer.sample_shape, answer.output_shape), (expected, vec![10]));
    }
    assert!(client.unload_model("ok").await.expect("an answer").was_loaded);
    for refused in [client.unload_model("../a").await.err(), client.delete_dataset("a/b").await.map(drop).err()] {
        assert!(refused.expect("a path is no name").to_string().contains("OPTION_OUT_OF_RANGE, name"));
    }
}
