//! The life of a client stream: a header, then chunks, on their way to work on a blocking thread.
//!
//! Invariants: a few chunks are in memory, however slow the disk; an upload that stands still ends; a stream that breaks
//! off is told from one that ends.

use std::{pin::pin, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::{
    cancel::Cancel,
    error::{Error, Reason, Result},
    limits,
    scoring::Scoring,
    transport::call::{Calls, Context},
};

/// A message of an upload.
pub enum Piece<H> {
    Header(H),
    Chunk(Vec<u8>),
    /// Neither.
    Empty,
}

/// Where the work takes its chunks from; `None` is the file's end. Used on a blocking thread.
pub struct Inlet(mpsc::Receiver<Result<Option<Bytes>>>);

impl Inlet {
    /// The next chunk; `None` at the file's end.
    ///
    /// # Errors
    /// A stream that broke off, stood still or has what does not belong there.
    pub fn next(&mut self) -> Result<Option<Bytes>> {
        self.0.blocking_recv().unwrap_or_else(|| Err(broken_off()))
    }
}

impl Calls {
    /// One answer from work on an upload. `open` tells what a message is, `read` what a header says.
    pub async fn receive<M, H, U, T>(
        &self,
        request: Request<Streaming<M>>,
        open: fn(M) -> Piece<H>,
        read: fn(H) -> U,
        work: impl FnOnce(&dyn Scoring, &U, &mut Inlet, &Cancel) -> Result<T> + Send + 'static,
    ) -> Result<Response<T>, Status>
    where
        M: Send + 'static,
        H: Send,
        U: Send + 'static,
        T: Send + 'static,
    {
        let context = Context::of(&request);
        let mut source = Source {
            stream: request.into_inner(),
            open,
            stall: self.upload_stall,
            end: Instant::now() + Duration::from_secs(limits::UPLOAD_SECONDS),
        };
        self.upload(context, async |working| {
            let upload = read(source.header().await?);
            let (sender, receiver) = mpsc::channel(limits::UPLOAD_CHUNKS);
            let mut inlet = Inlet(receiver);
            let mut work = pin!(working.start(move |scoring, cancel| work(scoring, &upload, &mut inlet, cancel)));
            tokio::select! {
                biased;
                // Work that refuses the upload does not wait for the rest of it.
                outcome = &mut work => return outcome,
                () = source.pump(sender) => {}
            }
            work.await
        })
        .await
    }
}

/// The messages of an upload as they come.
struct Source<M, H> {
    stream: Streaming<M>,
    open: fn(M) -> Piece<H>,
    stall: Duration,
    end: Instant,
}

impl<M, H> Source<M, H> {
    async fn header(&mut self) -> Result<H> {
        match self.next().await? {
            Some(Piece::Header(header)) => Ok(header),
            _ => {
                Err(Error::new(Reason::FieldMissing, "an upload begins with its header; send that first").at("header"))
            }
        }
    }

    /// Sends chunks on until the stream ends, well or not, or nobody takes them.
    async fn pump(&mut self, sender: mpsc::Sender<Result<Option<Bytes>>>) {
        loop {
            let chunk = self.chunk().await;
            let is_last = !matches!(chunk, Ok(Some(_)));
            if sender.send(chunk).await.is_err() || is_last {
                return;
            }
        }
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>> {
        let wrong = |reason, message: String| Err(Error::new(reason, message).at("chunk"));
        match self.next().await? {
            None => Ok(None),
            Some(Piece::Chunk(chunk)) if chunk.len() > limits::UPLOAD_CHUNK_BYTES => wrong(
                Reason::LimitExceeded,
                format!("a chunk has {} bytes; send at most {} in each", chunk.len(), limits::UPLOAD_CHUNK_BYTES),
            ),
            Some(Piece::Chunk(chunk)) if !chunk.is_empty() => Ok(Some(chunk.into())),
            Some(Piece::Chunk(_) | Piece::Empty) => {
                wrong(Reason::FieldMissing, "a chunk is empty; send bytes, or end the stream".to_owned())
            }
            Some(Piece::Header(_)) => {
                Err(Error::new(Reason::OptionUnsupported, "a second header came; begin a new call for another file")
                    .at("header"))
            }
        }
    }

    async fn next(&mut self) -> Result<Option<Piece<H>>> {
        let late = |message: String| Error::new(Reason::DeadlineExceeded, message);
        let message = timeout(self.stall, timeout_at(self.end, self.stream.message())).await;
        let message =
            message
                .map_err(|_| late(format!("nothing came for {:?}; send the upload again", self.stall)))?
                .map_err(|_| late(format!("the upload took more than {} s; send less", limits::UPLOAD_SECONDS)))?;
        Ok(message.map_err(|status| foreign(&status))?.map(self.open))
    }
}

/// What ended a stream of messages before its end.
fn foreign(status: &Status) -> Error {
    match status.code() {
        Code::OutOfRange => Error::new(
            Reason::LimitExceeded,
            format!("a message is too large; send at most {} bytes in each chunk", limits::UPLOAD_CHUNK_BYTES),
        ),
        Code::Internal => Error::new(
            Reason::RequestMalformed,
            format!("a message cannot be decoded ({}); encode it with the server's .proto files", status.message()),
        ),
        _ => broken_off(),
    }
}

fn broken_off() -> Error {
    Error::new(Reason::Cancelled, "the upload broke off before its end")
}
