//! A domain that does as it is told by the names in a request, and a server around it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{
    sync::{Semaphore, oneshot},
    task::JoinHandle,
};
use tonic::body::Body;
use transferscore::{
    cancel::Cancel,
    error::{Error, Reason, Result},
    jobs::Jobs,
    registry::NextChunk,
    scoring::{Scoring, Units, types::*},
    transport::{
        security::Security,
        server::{Gauges, Server, ServerError, ServerSettings},
    },
};

use super::{
    fake_answers::{adversarial_summary, comparison, dataset, examples, model, not_found, pair_scores},
    fake_ranking,
    tuned::fine_tuned,
};

/// Begins a name that counts only once something was told.
const LATE: &str = "late-";

/// Changes the scores that the fake gives.
pub type Spoil = fn(&mut PairScores);

/// The behaviours, by the name of the model or dataset that a call is about: `ok` answers; `wait` goes on until cancelled or
/// released and keeps its turn, and `wait-` with a name does as that name then; `share` waits so and lets others have their
/// turn; `panic` panics; anything else is not found. With `late-` before it, a name counts only once something was told.
#[derive(Default)]
pub struct Fake {
    pub spoil: Option<Spoil>,
    pub spoil_ranking: Option<fn(&mut Ranking)>,
    pub spoil_comparison: Option<fn(&mut TaskComparison)>,
    pub spoil_examples: Option<fn(&mut AdversarialExamples)>,
    pub spoil_fine_tuned: Option<fn(&mut FineTuned)>,
    /// Sources of rankings that were not among the units, in the order in which they were computed.
    pub computed: Mutex<Vec<String>>,
    /// How listings behave, which name nothing; empty is as `ok`.
    pub listings: String,
    pub released: AtomicBool,
    pub marks: Marks,
}

pub struct Marks {
    started: Semaphore,
    cancelled: Semaphore,
    chunks: Semaphore,
}

impl Default for Marks {
    fn default() -> Self {
        Marks { started: Semaphore::new(0), cancelled: Semaphore::new(0), chunks: Semaphore::new(0) }
    }
}

impl Fake {
    /// Waits until a `wait` has begun.
    pub async fn started(&self) {
        self.marks.started.acquire().await.expect("never closed").forget();
    }

    /// Waits until a chunk of an upload has come.
    pub async fn chunk(&self) {
        self.marks.chunks.acquire().await.expect("never closed").forget();
    }

    /// Waits until a `wait` was told to stop, or an upload broke off.
    pub async fn cancelled(&self) {
        self.marks.cancelled.acquire().await.expect("never closed").forget();
    }

    /// Ends every `wait` well.
    pub fn release(&self) {
        self.released.store(true, Ordering::Relaxed);
    }

    fn behave(&self, name: &str, cancel: &Cancel) -> Result<()> {
        match name {
            "ok" => Ok(()),
            "wait" | "share" => {
                self.marks.started.add_permits(1);
                while !self.released.load(Ordering::Relaxed) {
                    if cancel.is_cancelled() {
                        self.marks.cancelled.add_permits(1);
                        return cancel.check();
                    }
                    if name == "share" {
                        // Its end is looked for above, so that it is marked.
                        let _is_cancelled = cancel.check();
                    }
                    // Many may wait at once, and others have work to do.
                    std::thread::park_timeout(Duration::from_millis(1));
                }
                Ok(())
            }
            name if name.starts_with(LATE) => Ok(()),
            name if name.starts_with("wait-") => {
                self.behave("wait", cancel)?;
                self.behave(&name["wait-".len()..], cancel)
            }
            "panic" => panic!("a secret of the server"),
            name => Err(not_found(name)),
        }
    }

    /// What a name brings about once something was told.
    fn behave_late(&self, name: &str, cancel: &Cancel) -> Result<()> {
        name.strip_prefix(LATE).map_or(Ok(()), |name| self.behave(name, cancel))
    }

    fn list(&self) {
        if !self.listings.is_empty() {
            let _not_found = self.behave(&self.listings, &Cancel::default());
        }
    }

    /// A source may misbehave too, once it is finished; most do not.
    fn behave_at(&self, source: &str, cancel: &Cancel) -> Result<()> {
        match source {
            "wait" | "panic" => self.behave(source, cancel),
            _ => Ok(()),
        }
    }

    /// Takes an upload to its end, and marks each chunk and a break.
    fn take(&self, next: &mut NextChunk<'_>) -> Result<u64> {
        let mut size_bytes = 0;
        loop {
            match next() {
                Ok(Some(chunk)) => {
                    size_bytes += chunk.len() as u64;
                    self.marks.chunks.add_permits(1);
                }
                Ok(None) => return Ok(size_bytes),
                Err(error) => {
                    self.marks.cancelled.add_permits(1);
                    return Err(error);
                }
            }
        }
    }

    fn scores(&self) -> PairScores {
        let mut scores = pair_scores();
        if let Some(spoil) = self.spoil {
            spoil(&mut scores);
        }
        scores
    }
}

impl Scoring for Fake {
    fn score(&self, request: &PairRequest, cancel: &Cancel) -> Result<PairScores> {
        self.behave(&request.reference_model, cancel)?;
        Ok(self.scores())
    }

    fn rank_in_units(
        &self,
        request: &RankingRequest,
        units: &dyn Units,
        on_event: &mut (dyn FnMut(RankingEvent) + Send),
        cancel: &Cancel,
    ) -> Result<Ranking> {
        self.behave(&request.reference_model, cancel)?;
        for source_model in &request.source_models {
            on_event(RankingEvent::Progress(Progress { done: 1, total: 2, stage: source_model.clone() }));
            // A unit is as good as its name; what was kept is not computed again.
            if units.kept(source_model).is_none() {
                self.computed.lock().expect("no panic").push(source_model.clone());
                units.keep(source_model, source_model, source_model.as_bytes())?;
            }
            on_event(RankingEvent::Row { source_model: source_model.clone(), scores: Box::new(self.scores()) });
            self.behave_at(source_model, cancel)?;
            self.behave_late(&request.reference_model, cancel)?;
            cancel.check()?;
        }
        let mut ranking = fake_ranking::ranking(request);
        if let Some(spoil) = self.spoil_ranking {
            spoil(&mut ranking);
        }
        Ok(ranking)
    }

    fn fine_tune(
        &self,
        request: &FineTuneRequest,
        on_progress: &mut (dyn FnMut(Progress) + Send),
        cancel: &Cancel,
    ) -> Result<FineTuned> {
        self.behave(&request.model, cancel)?;
        on_progress(Progress { done: 1, total: 2, stage: request.model.clone() });
        self.behave_late(&request.model, cancel)?;
        let mut tuned = fine_tuned(request);
        if let Some(spoil) = self.spoil_fine_tuned {
            spoil(&mut tuned);
        }
        Ok(tuned)
    }

    fn attack(
        &self,
        request: &AdversarialRequest,
        on_event: &mut (dyn FnMut(AdversarialEvent) + Send),
        cancel: &Cancel,
    ) -> Result<AdversarialSummary> {
        self.behave(&request.models[0], cancel)?;
        on_event(AdversarialEvent::Progress(Progress { done: 1, total: 2, stage: request.models[0].clone() }));
        for radius in [0.1, 0.2] {
            let mut examples = examples(radius);
            examples.clean_samples.take_if(|_| !request.with_clean_samples);
            if let Some(spoil) = self.spoil_examples {
                spoil(&mut examples);
            }
            on_event(AdversarialEvent::Examples(Box::new(examples)));
            self.behave_late(&request.models[0], cancel)?;
            cancel.check()?;
        }
        Ok(adversarial_summary(request))
    }

    fn compare_in_units(
        &self,
        request: &ComparisonRequest,
        _units: &dyn Units,
        on_progress: &mut (dyn FnMut(Progress) + Send),
        cancel: &Cancel,
    ) -> Result<TaskComparison> {
        let name = request.models.first().map_or("ok", String::as_str);
        self.behave(name, cancel)?;
        on_progress(Progress { done: 1, total: 2, stage: "ok".to_owned() });
        self.behave_late(name, cancel)?;
        let mut comparison = comparison(request);
        if let Some(spoil) = self.spoil_comparison {
            spoil(&mut comparison);
        }
        Ok(comparison)
    }

    fn models(&self) -> Vec<ModelDescription> {
        self.list();
        vec![model("ok")]
    }

    fn model(&self, name: &str) -> Result<ModelDescription> {
        self.behave(name, &Cancel::default())?;
        Ok(model(name))
    }

    fn check(&self, name: &str) -> Result<ModelCheck> {
        let obstacles = Vec::new();
        let operators = vec![("Gemm".to_owned(), 2)];
        Ok(ModelCheck { model: self.model(name)?, opset: 18, obstacles, operators })
    }

    fn gradient(&self, request: &GradientRequest, cancel: &Cancel) -> Result<Vec<u8>> {
        self.behave(&request.name, cancel)?;
        if request.name.starts_with(LATE) {
            // More than there is room for on its way.
            return Ok(vec![0; 80 << 20]);
        }
        // Longer than a chunk, so that its pieces have to be put together.
        Ok((0..3_000_000_u32).map(|index| index as u8).collect())
    }

    fn load_model(&self, name: &str, dataset: Option<&str>, cancel: &Cancel) -> Result<LoadedModel> {
        self.behave(name, cancel)?;
        let sample_shape = if dataset.is_some() { vec![1, 8, 8] } else { vec![64] };
        Ok(LoadedModel { description: model(name), sample_shape, output_shape: vec![10] })
    }

    fn unload_model(&self, name: &str) -> Result<UnloadedModel> {
        self.behave(name, &Cancel::default())?;
        Ok(UnloadedModel { was_loaded: true, in_use: false })
    }

    fn upload_model(
        &self,
        upload: &Upload,
        next: &mut NextChunk<'_>,
        cancel: &Cancel,
    ) -> Result<Uploaded<ModelDescription>> {
        let size_bytes = self.take(next)?;
        self.behave(&upload.name, cancel)?;
        let description = ModelDescription { size_bytes, summary: upload.manifest.clone(), ..model(&upload.name) };
        Ok(Uploaded { description, replaced: upload.overwrite })
    }

    fn datasets(&self) -> Vec<DatasetDescription> {
        self.list();
        vec![dataset("digits")]
    }

    fn upload_dataset(
        &self,
        upload: &Upload,
        next: &mut NextChunk<'_>,
        cancel: &Cancel,
    ) -> Result<Uploaded<DatasetDescription>> {
        self.take(next)?;
        self.behave(&upload.name, cancel)?;
        Ok(Uploaded { description: dataset(&upload.name), replaced: upload.overwrite })
    }

    fn delete_dataset(&self, name: &str, cancel: &Cancel) -> Result<u64> {
        self.behave(name, cancel)?;
        Ok(5_188)
    }

    fn dataset(&self, name: &str) -> Result<DatasetDescription> {
        if name == "digits" || self.behave(name, &Cancel::default()).is_ok() {
            return Ok(dataset(name));
        }
        Err(Error::new(Reason::DatasetNotFound, format!("there is no dataset {name}; ListDatasets lists them"))
            .at("name"))
    }
}

/// A client without a timer of its own: what it reports came from the server.
pub type RawClient = Client<HttpConnector, Body>;

/// A free port, two at work, no patience at the end.
pub fn settings() -> ServerSettings {
    ServerSettings {
        listen: ([127, 0, 0, 1], 0).into(),
        concurrent_requests: 2,
        queued_requests: 4,
        upload_stall: Duration::from_secs(60),
        drain: Duration::ZERO,
    }
}

/// A server in front of a fake.
pub struct Running {
    pub fake: Arc<Fake>,
    pub address: std::net::SocketAddr,
    pub gauges: Gauges,
    shutdown: oneshot::Sender<()>,
    served: JoinHandle<std::result::Result<(), ServerError>>,
}

impl Running {
    pub async fn start(fake: Fake) -> Self {
        Running::with_settings(fake, 2, 4, Duration::ZERO).await
    }

    pub async fn with_settings(fake: Fake, concurrent: usize, queued: usize, drain: Duration) -> Self {
        let settings = ServerSettings { concurrent_requests: concurrent, queued_requests: queued, drain, ..settings() };
        Running::of(fake, settings).await
    }

    pub async fn of(fake: Fake, settings: ServerSettings) -> Self {
        Running::serving(Arc::new(fake), settings, None).await
    }

    /// A server that keeps jobs, and lets calls finish for an hour.
    pub async fn with_jobs(fake: Fake, jobs: Jobs) -> Self {
        Running::with_jobs_at(fake, jobs, 2).await
    }

    /// The same with so many at work.
    pub async fn with_jobs_at(fake: Fake, jobs: Jobs, concurrent_requests: usize) -> Self {
        let hour = Duration::from_secs(3600);
        let settings = ServerSettings { concurrent_requests, queued_requests: 4, drain: hour, ..settings() };
        Running::serving(Arc::new(fake), settings, Some(Arc::new(jobs))).await
    }

    /// A server that lets in whom these certificates, tokens and origins let in.
    pub async fn secured(fake: Fake, security: Arc<Security>) -> Self {
        let fake = Arc::new(fake);
        let server = Server::bind(settings(), Arc::clone(&fake) as Arc<dyn Scoring>).await.expect("a free port");
        Running::around(fake, server.with_security(security))
    }

    pub async fn serving(fake: Arc<Fake>, settings: ServerSettings, jobs: Option<Arc<Jobs>>) -> Self {
        let server = Server::bind(settings, Arc::clone(&fake) as Arc<dyn Scoring>).await.expect("a free port");
        Running::around(fake, server.with_jobs(jobs))
    }

    fn around(fake: Arc<Fake>, server: Server) -> Self {
        let (address, gauges) = (server.address(), server.gauges());
        let (shutdown, wanted) = oneshot::channel();
        let served = tokio::spawn(server.serve(async {
            let _sender_gone = wanted.await;
        }));
        Running { fake, address, gauges, shutdown, served }
    }

    pub fn origin(&self) -> http::Uri {
        format!("http://{}", self.address).parse().expect("an address is a URI")
    }

    pub fn raw_client(&self) -> RawClient {
        Client::builder(TokioExecutor::new()).http2_only(true).build_http()
    }

    /// Asks the server to stop and returns what tells of its end.
    pub fn stop(self) -> JoinHandle<std::result::Result<(), ServerError>> {
        self.shutdown.send(()).expect("the server runs");
        self.served
    }
}
