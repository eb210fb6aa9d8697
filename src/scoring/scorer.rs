//! The service's functions, synchronous: what the transport calls on a blocking thread.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    cancel::Cancel,
    dataset::{self, Dataset, DatasetStore},
    error::{Error, Reason, Result},
    limits,
    registry::{Registry, Snapshot, VersionCache},
    runtime::Runtime,
    scoring::{
        Scoring,
        attack_plan::AttackPlan,
        describe, knowledge,
        network::Network,
        pair::{self, Call},
        passes::{self, Setting},
        ranking,
        types::*,
    },
    stats::Resamples,
};

/// What a scorer may use.
#[derive(Clone, Debug)]
pub struct ScorerConfig {
    pub models: Vec<PathBuf>,
    pub datasets: Vec<PathBuf>,
    /// Samples in flight at once; never changes results.
    pub batch_size: usize,
    /// Most samples of a probe set that one request uses.
    pub sample_limit: usize,
    /// Memory for what one request keeps of a probe set, in bytes.
    pub request_bytes: u64,
}

/// What tells one compiled network from another: the model's digest, its manifest and the sample's shape.
type NetworkMark = (String, String, Vec<usize>);

/// The rows of a ranking in the order of the request, and the sources that it left out.
type Rows = (Vec<(String, PairScores)>, Vec<SkippedSource>);

/// Counts finished samples for whoever watches.
struct Meter<'a> {
    done: u64,
    total: u64,
    on_event: &'a mut (dyn FnMut(RankingEvent) + Send),
}

impl Meter<'_> {
    fn advance(&mut self, stage: &str, n_rows: usize) {
        self.done += n_rows as u64;
        let progress = Progress { done: self.done, total: self.total, stage: stage.to_owned() };
        (self.on_event)(RankingEvent::Progress(progress));
    }
}

/// Models, datasets and the runtime, ready to score. Shared by all calls.
pub struct Scorer {
    config: ScorerConfig,
    runtime: Arc<Runtime>,
    registry: Registry,
    datasets: DatasetStore,
    networks: VersionCache<NetworkMark, Network>,
}

impl Scorer {
    /// Opens the folders.
    ///
    /// # Errors
    /// A folder that cannot be read, or a name that two files have.
    pub fn open(config: ScorerConfig, runtime: Arc<Runtime>) -> Result<Self> {
        let registry = Registry::open(&config.models)?;
        let datasets = DatasetStore::open(&config.datasets)?;
        Ok(Scorer { config, runtime, registry, datasets, networks: VersionCache::new(limits::NETWORK_CACHE_BYTES) })
    }

    /// The work of a pair or a ranking: one reference pass, then each source in turn.
    fn rows(
        &self,
        request: &RankingRequest,
        source_field: &str,
        cancel: &Cancel,
        on_event: &mut (dyn FnMut(RankingEvent) + Send),
    ) -> Result<Rows> {
        let options = &request.options;
        let plan = AttackPlan::new(&options.attack)?;
        let (probe, dropped) = self.probe(&request.probe, options)?;
        knowledge::check(&options.knowledge, &probe)?;
        let reference = self.network(&request.reference_model, probe.shape()).map_err(|e| e.at("reference_model"))?;
        let (sources, skipped) = self.sources(request, source_field, probe.shape())?;
        self.check_memory(&probe, &reference, &sources)?;
        let resamples = Resamples::new(probe.n_samples(), options.confidence, options.seed)
            .map_err(|cause| Error::new(Reason::OptionOutOfRange, cause.to_string()).at("confidence"))?;

        let meter = Mutex::new(Meter {
            done: 0,
            // A source passes twice over the probe set: itself, then through the reference under its attack.
            total: probe.n_samples() as u64 * (1 + 2 * sources.len() as u64),
            on_event,
        });
        let advance =
            |stage: &str, n_rows: usize| meter.lock().unwrap_or_else(PoisonError::into_inner).advance(stage, n_rows);
        let setting = Setting {
            workers: self.runtime.workers(),
            batch_size: self.config.batch_size,
            probe: &probe,
            plan: &plan,
            seed: options.seed,
            cancel,
            advance: &advance,
        };
        let reference_pass = passes::reference_pass(&setting, &reference)?;
        let call = Call {
            setting: &setting,
            options,
            reference: &reference,
            reference_pass: &reference_pass,
            resamples: &resamples,
            probe_digest: probe.digest().to_string(),
            dropped,
            provider: self.runtime.provider(),
        };
        let mut rows = Vec::with_capacity(sources.len());
        for source in sources {
            let scores = pair::score(&call, &source)?;
            let event = RankingEvent::Row { source_model: source.name().to_owned(), scores: Box::new(scores.clone()) };
            (meter.lock().unwrap_or_else(PoisonError::into_inner).on_event)(event);
            rows.push((source.name().to_owned(), scores));
        }
        Ok((rows, skipped))
    }

    /// The samples of a request, and how many were left out and why.
    fn probe(&self, probe: &Probe, options: &ScoreOptions) -> Result<(Dataset, Vec<DroppedSamples>)> {
        let whole = match probe {
            Probe::Dataset(name) => {
                Dataset::clone(&*self.datasets.get(name).map_err(|e| Error::from(e).at("dataset"))?)
            }
            Probe::Inline(inline) => dataset::inline(&inline.shape, inline.samples.clone(), &inline.labels)?,
        };
        let asked = if options.max_samples == 0 { whole.n_samples() } else { options.max_samples };
        let kept = asked.min(self.config.sample_limit).min(whole.n_samples());
        if kept < limits::MIN_SAMPLES {
            let message = format!("{kept} samples are too few for an interval; give {} or more", limits::MIN_SAMPLES);
            return Err(Error::new(Reason::ProbeMismatch, message).at("max_samples"));
        }
        let count = whole.n_samples() - kept;
        let reason = if asked > self.config.sample_limit { "over the server's limit" } else { "over max_samples" };
        let dropped = (count > 0).then(|| DroppedSamples { reason: reason.to_owned(), count });
        Ok((whole.subset(kept, options.seed), dropped.into_iter().collect()))
    }

    /// The sources of a request. Models that the request does not name and that do not fit are skipped.
    fn sources(
        &self,
        request: &RankingRequest,
        field: &str,
        shape: &[usize],
    ) -> Result<(Vec<Arc<Network>>, Vec<SkippedSource>)> {
        let mut networks = Vec::new();
        let mut skipped = Vec::new();
        if !request.source_models.is_empty() {
            limited(request.source_models.len(), field)?;
            for name in &request.source_models {
                networks.push(self.network(name, shape).map_err(|error| error.at(field))?);
            }
            return Ok((networks, skipped));
        }
        for name in self.registry.names().into_iter().filter(|name| *name != request.reference_model) {
            match self.network(&name, shape) {
                Ok(network) => networks.push(network),
                Err(error) => skipped.push(SkippedSource { source_model: name, reason: error.message }),
            }
        }
        if networks.is_empty() {
            let message = "no model of the server fits the probe set; name source_models to see why each does not";
            return Err(Error::new(Reason::ProbeMismatch, message).at(field));
        }
        limited(networks.len(), field)?;
        Ok((networks, skipped))
    }

    /// Refuses what would not fit in memory before any work is done.
    fn check_memory(&self, probe: &Dataset, reference: &Network, sources: &[Arc<Network>]) -> Result<()> {
        let widest = sources.iter().map(|source| source.n_outputs()).max().unwrap_or(0) as u64;
        let (n, d) = (reference.n_inputs() as u64, reference.n_outputs() as u64);
        let per_sample = 4 * n * (d + 4) + 8 * (d * widest + widest * widest + 8 * (d + widest));
        let needed = per_sample.saturating_mul(probe.n_samples() as u64);
        if needed > self.config.request_bytes {
            let message = format!(
                "{} samples need {} MiB, the server allows {}; set max_samples to {} or fewer",
                probe.n_samples(),
                needed >> 20,
                self.config.request_bytes >> 20,
                self.config.request_bytes / per_sample
            );
            return Err(Error::new(Reason::LimitExceeded, message).at("max_samples"));
        }
        Ok(())
    }

    /// A compiled network, from the cache where the model and the shape are unchanged.
    fn network(&self, name: &str, shape: &[usize]) -> Result<Arc<Network>> {
        let snapshot = self.registry.get(name)?;
        let mark = (snapshot.digest().to_string(), format!("{:?}", snapshot.manifest()), shape.to_vec());
        if let Some(network) = self.networks.get(name, &mark) {
            return Ok(network);
        }
        let network = Arc::new(Network::build(&self.runtime, &snapshot, shape)?);
        self.networks.put(name, mark, &network, snapshot.size_bytes());
        Ok(network)
    }

    fn snapshot(&self, name: &str) -> Result<Arc<Snapshot>> {
        self.registry.get(name).map_err(|cause| Error::from(cause).at("name"))
    }
}

/// Refuses more sources than fit one call.
fn limited(n_sources: usize, field: &str) -> Result<()> {
    if n_sources > limits::SOURCES {
        let message = format!("{n_sources} sources; at most {} fit one call", limits::SOURCES);
        return Err(Error::new(Reason::LimitExceeded, message).at(field));
    }
    Ok(())
}

impl Scoring for Scorer {
    fn score(&self, request: &PairRequest, cancel: &Cancel) -> Result<PairScores> {
        let ranking = RankingRequest {
            source_models: vec![request.source_model.clone()],
            reference_model: request.reference_model.clone(),
            probe: request.probe.clone(),
            options: request.options.clone(),
            rank_by: RankingMetric::CombinedReferenceToSource,
        };
        let (rows, _) = self.rows(&ranking, "source_model", cancel, &mut |_| ())?;
        rows.into_iter()
            .next()
            .map(|(_, scores)| scores)
            .ok_or_else(|| Error::new(Reason::Internal, "a pair gave no row"))
    }

    fn rank(
        &self,
        request: &RankingRequest,
        on_event: &mut (dyn FnMut(RankingEvent) + Send),
        cancel: &Cancel,
    ) -> Result<Ranking> {
        let (rows, skipped) = self.rows(request, "source_models", cancel, on_event)?;
        let sources = ranking::ranked(&rows, request.rank_by)?;
        Ok(Ranking { rank_by: request.rank_by, sources, correlations: ranking::correlations(&rows), skipped })
    }

    fn models(&self) -> Vec<ModelDescription> {
        self.registry
            .names()
            .iter()
            .map(|name| match self.registry.get(name) {
                Ok(snapshot) => describe::model(&snapshot),
                Err(cause) => describe::unusable(name, cause.to_string()),
            })
            .collect()
    }

    fn model(&self, name: &str) -> Result<ModelDescription> {
        Ok(describe::model(&*self.snapshot(name)?))
    }

    fn check(&self, name: &str) -> Result<ModelCheck> {
        describe::check(&*self.snapshot(name)?)
    }

    fn gradient(&self, request: &GradientRequest) -> Result<Vec<u8>> {
        describe::gradient_graph(&*self.snapshot(&request.name)?, request)
    }

    fn datasets(&self) -> Vec<DatasetDescription> {
        self.datasets
            .names()
            .into_iter()
            .map(|name| match self.datasets.get(&name) {
                Ok(dataset) => describe::dataset(&dataset),
                Err(cause) => describe::unusable_dataset(name, cause.to_string()),
            })
            .collect()
    }

    fn dataset(&self, name: &str) -> Result<DatasetDescription> {
        let dataset = self.datasets.get(name).map_err(|cause| Error::from(cause).at("name"))?;
        Ok(describe::dataset(&dataset))
    }
}
