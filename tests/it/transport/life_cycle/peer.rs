//! A client with threads of its own, which can go as a client's process goes: connections and all.

use std::net::SocketAddr;

use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{
    runtime::{Builder, Runtime},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, client::Grpc, metadata::MetadataValue};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::methods::Method;
use crate::{raw_call::Raw, transport::fake::RawClient};

pub struct Peer {
    // Taken when it goes.
    runtime: Option<Runtime>,
    client: RawClient,
    origin: http::Uri,
}

/// A call on its way.
pub struct Call {
    /// Where more messages go; dropped, the client's stream has ended.
    pub pieces: Option<mpsc::Sender<Vec<u8>>>,
    /// Comes with the first answer.
    first: Option<oneshot::Receiver<()>>,
    /// Has the client read on after the first answer, where it was not to.
    read_on: Option<oneshot::Sender<()>>,
    /// How many answers came.
    answer: JoinHandle<Result<usize, Status>>,
}

/// How a client makes a call.
#[derive(Clone, Copy, Default)]
pub struct Manner {
    /// `grpc-timeout`.
    pub timeout: Option<&'static str>,
    /// Whether to wait after the first answer until told to read on.
    pub pauses: bool,
    /// Whether to leave the client's stream open.
    pub stays_open: bool,
}

impl Peer {
    pub fn new(address: SocketAddr) -> Peer {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
        let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
        Peer {
            runtime: Some(runtime),
            client,
            origin: format!("http://{address}").parse().expect("an address is a URI"),
        }
    }

    /// Begins a call.
    pub fn call(&self, method: &Method, messages: Vec<Vec<u8>>, manner: Manner) -> Call {
        let (sender, receiver) = mpsc::channel(8);
        for message in messages {
            sender.try_send(message).expect("room");
        }
        let (told_first, first) = oneshot::channel();
        let (read_on, told_to_read_on) = oneshot::channel();
        let mut grpc = Grpc::with_origin(self.client.clone(), self.origin.clone());
        let path = format!("/transferscore.v1.{}", method.name).parse().expect("a path");
        let answer = self.runtime().spawn(async move {
            grpc.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
            let mut request = Request::new(ReceiverStream::new(receiver));
            if let Some(timeout) = manner.timeout {
                request.metadata_mut().insert("grpc-timeout", MetadataValue::from_static(timeout));
            }
            let mut answers = grpc.streaming(request, path, Raw).await?.into_inner();
            let (mut n_answers, mut told_first, mut pause) = (0, Some(told_first), Some(told_to_read_on));
            while answers.message().await?.is_some() {
                n_answers += 1;
                if let Some(told_first) = told_first.take() {
                    let _nobody_waits = told_first.send(());
                }
                if let Some(pause) = pause.take().filter(|_| manner.pauses) {
                    let _told = pause.await;
                }
            }
            Ok(n_answers)
        });
        let pieces = manner.stays_open.then_some(sender);
        Call { pieces, first: Some(first), read_on: Some(read_on), answer }
    }

    /// Whether the server answers on the same connection.
    pub async fn is_answered(&self) -> bool {
        let mut health = HealthClient::with_origin(self.client.clone(), self.origin.clone());
        let check = async move { health.check(HealthCheckRequest::default()).await.is_ok() };
        self.runtime().spawn(check).await.expect("no panic")
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("it is there until it goes")
    }

    /// Goes without a word: sockets close, calls end nowhere.
    pub fn vanish(self) {}
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Also in the middle of a failed test, where its end cannot be waited for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Call {
    /// Waits for the first answer.
    pub async fn first(&mut self) {
        // An answer that never comes shows in what comes instead.
        let _came = self.first.take().expect("waited for once").await;
    }

    pub fn read_on(&mut self) {
        let _has_ended = self.read_on.take().expect("told once").send(());
    }

    /// Sends one more message.
    pub async fn send(&self, message: Vec<u8>) {
        self.pieces.as_ref().expect("the stream is open").send(message).await.expect("the call goes on");
    }

    /// What came, once the call is over.
    pub async fn end(mut self) -> Result<usize, Status> {
        drop(self.pieces.take());
        self.answered().await
    }

    /// The same while the client's stream stays open.
    pub async fn answered(&mut self) -> Result<usize, Status> {
        (&mut self.answer).await.expect("no panic")
    }

    pub fn is_over(&self) -> bool {
        self.answer.is_finished()
    }

    /// Takes the call back; the connection stays.
    pub fn cancel(self) {
        self.answer.abort();
    }
}
