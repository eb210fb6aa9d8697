//! The service's functions, synchronous: what the transport calls on a blocking thread.

use std::{path::PathBuf, sync::Arc};

use crate::{
    cancel::Cancel,
    config::UploadConfig,
    dataset::{Dataset, DatasetStore},
    error::{Error, Reason, Result},
    limits,
    registry::{NextChunk, Registry, Snapshot, VersionCache},
    runtime::Runtime,
    scoring::{
        NotKept, Scoring, Units,
        adversarial::Undertaking,
        attack_plan::AttackPlan,
        compare::{Clustering, Comparison, Matrices},
        describe,
        fine_tune::Refinement,
        fine_tune_plan::FineTunePlan,
        knowledge,
        memory::Memory,
        network::Network,
        probe::{self, Bounds},
        ranking,
        survey::{self, Known, Survey},
        theory,
        trial::Trial,
        types::*,
        uploads::{self, Intakes},
    },
    stats::Resamples,
    telemetry::{Stage, timed},
};

/// What a scorer may use.
#[derive(Clone, Debug)]
pub struct ScorerConfig {
    pub models: Vec<PathBuf>,
    pub datasets: Vec<PathBuf>,
    /// `None`: uploads are refused.
    pub uploads: Option<UploadConfig>,
    /// Samples in flight at once; never changes results.
    pub batch_size: usize,
    /// Most samples of a probe set that one request uses.
    pub sample_limit: usize,
    /// Memory for what one request keeps of a probe set, in bytes.
    pub request_bytes: u64,
    /// What all requests share.
    pub memory: Arc<Memory>,
    /// Memory for compiled models between requests, in bytes; least recently used first out.
    pub session_bytes: u64,
    /// Memory for the Jacobians and perturbations of the samples that are worked on together, in bytes. Attacks are
    /// mispaired among these, so it changes the shuffled nulls of alpha1 and tau1, and no value.
    pub group_bytes: usize,
}

/// What tells one compiled network from another: the model's digest, its manifest with the tensor that is read as features,
/// and the sample's shape.
type NetworkMark = (String, String, Vec<usize>);

/// Models, datasets and the runtime, ready to score. Shared by all calls.
pub struct Scorer {
    config: ScorerConfig,
    runtime: Arc<Runtime>,
    registry: Registry,
    datasets: DatasetStore,
    intakes: Option<Intakes>,
    networks: VersionCache<NetworkMark, Network>,
    /// By what they were computed from.
    answers: VersionCache<(), PairScores>,
}

impl Scorer {
    /// Opens the folders.
    ///
    /// # Errors
    /// A folder that cannot be read, or written where it takes uploads; a name that two files have.
    pub fn open(config: ScorerConfig, runtime: Arc<Runtime>) -> Result<Self> {
        let registry = Registry::open(&config.models)?;
        let datasets = DatasetStore::open(&config.datasets)?;
        let intakes =
            config.uploads.as_ref().map(|uploads| Intakes::open(uploads, &registry, &datasets)).transpose()?;
        let networks = VersionCache::new("networks", config.session_bytes);
        let answers = VersionCache::new("answers", limits::ANSWER_CACHE_BYTES);
        Ok(Scorer { config, runtime, registry, datasets, intakes, networks, answers })
    }

    /// A model and an attack on the samples of a dataset, ready to be timed.
    ///
    /// # Errors
    /// Those of a score that lie in the model, the dataset or the attack; [`Reason::OptionUnsupported`] for the virtual attack.
    pub fn trial(&self, model: &str, dataset: &str, attack: &AttackOptions) -> Result<Trial> {
        let AttackPlan::Empirical(attack) = AttackPlan::new(attack)? else {
            let message = "the virtual attack gives directions, not examples; choose another attack, such as PGD";
            return Err(Error::new(Reason::OptionUnsupported, message).at("attack.method"));
        };
        let (probe, _) = self.probe(&Probe::Dataset(dataset.to_owned()), 0, 1, 0)?;
        let network = self.network(model, probe.shape())?;
        let (runtime, batch_size) = (Arc::clone(&self.runtime), self.config.batch_size);
        Ok(Trial { runtime, network, probe, attack, batch_size })
    }

    /// Everything that a pair or a ranking needs, found and checked before any model runs.
    fn survey(&self, request: &RankingRequest, source_field: &str, cancel: &Cancel) -> Result<Survey> {
        let options = &request.options;
        let plan = AttackPlan::new(&options.attack)?;
        let n_probes = survey::n_probes(&options.matching)?;
        theory::check(options.theory.as_ref())?;
        let (probe, dropped) = self.probe(&request.probe, options.max_samples, limits::MIN_SAMPLES, options.seed)?;
        knowledge::check(&options.knowledge, &probe)?;
        let reference = self.network(&request.reference_model, probe.shape()).map_err(|e| e.at("reference_model"))?;
        let (sources, skipped) = self.sources(request, source_field, probe.shape(), cancel)?;
        if let AttackPlan::Virtual(plan) = &plan {
            sources.iter().chain([&reference]).try_for_each(|network| plan.solver(network).map(drop))?;
        }
        let resamples = Resamples::new(probe.n_samples(), options.confidence, options.seed)
            .map_err(|cause| Error::new(Reason::OptionOutOfRange, cause.to_string()).at("confidence"))?;
        let fine_tune = knowledge::fine_tune_plan(&options.knowledge, &probe, options.seed)?;
        if let Some(plan) = &fine_tune {
            sources.iter().try_for_each(|source| plan.check_memory(source, self.config.request_bytes))?;
        }
        let survey = Survey {
            options: options.clone(),
            plan,
            n_probes,
            probe_digest: probe.digest().to_string(),
            probe,
            dropped,
            reference,
            sources,
            skipped,
            leaves_out: request.source_models.is_empty(),
            resamples,
            fine_tune,
            batch_size: self.config.batch_size,
            group_bytes: self.config.group_bytes,
        };
        survey.check_memory(self.config.request_bytes)?;
        Ok(survey)
    }

    /// The samples of a request, at least the `fewest`, and how many were left out and why.
    fn probe(
        &self,
        probe: &Probe,
        max_samples: usize,
        fewest: usize,
        seed: u64,
    ) -> Result<(Dataset, Vec<DroppedSamples>)> {
        let bounds = Bounds { max_samples, limit: self.config.sample_limit, fewest };
        timed(Stage::Samples, || probe::drawn(&self.datasets, probe, bounds, seed))
    }

    /// The sources of a request. Models that the request does not name and that do not fit are skipped.
    fn sources(
        &self,
        request: &RankingRequest,
        field: &str,
        shape: &[usize],
        cancel: &Cancel,
    ) -> Result<(Vec<Arc<Network>>, Vec<SkippedSource>)> {
        let tensor = request.options.knowledge.feature_tensor.as_deref();
        let mut networks = Vec::new();
        let mut skipped = Vec::new();
        if !request.source_models.is_empty() {
            limited(request.source_models.len(), field)?;
            for name in &request.source_models {
                cancel.check()?;
                let found = self.network_with(name, shape, tensor);
                networks.push(found.map_err(|error| if error.field.is_some() { error } else { error.at(field) })?);
            }
            return Ok((networks, skipped));
        }
        for name in self.registry.names().into_iter().filter(|name| *name != request.reference_model) {
            cancel.check()?;
            match self.network_with(&name, shape, tensor) {
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

    /// A compiled network, from the cache where the model and the shape are unchanged.
    fn network(&self, name: &str, shape: &[usize]) -> Result<Arc<Network>> {
        self.network_with(name, shape, None)
    }

    /// The same with a tensor that is read as its features.
    fn network_with(&self, name: &str, shape: &[usize], feature_tensor: Option<&str>) -> Result<Arc<Network>> {
        self.network_of(&*self.registry.get(name)?, shape, feature_tensor)
    }

    /// The same of a version that the call has already.
    fn network_of(&self, snapshot: &Snapshot, shape: &[usize], feature_tensor: Option<&str>) -> Result<Arc<Network>> {
        let name = snapshot.name();
        let manifest = format!("{:?} {feature_tensor:?}", snapshot.manifest());
        let mark = (snapshot.digest().to_string(), manifest, shape.to_vec());
        if let Some(network) = self.networks.get(name, &mark) {
            return Ok(network);
        }
        let build = || Network::build(&self.runtime, snapshot, shape, feature_tensor);
        let network = Arc::new(timed(Stage::Compile, build)?);
        self.networks.put(name, mark, &network, network.size_bytes());
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
    fn can_run(&self) -> bool {
        !self.runtime.is_lost()
    }

    fn score(&self, request: &PairRequest, cancel: &Cancel) -> Result<PairScores> {
        let ranking = RankingRequest {
            source_models: vec![request.source_model.clone()],
            reference_model: request.reference_model.clone(),
            probe: request.probe.clone(),
            options: request.options.clone(),
            rank_by: RankingMetric::CombinedReferenceToSource,
            recommend_from: Vec::new(),
        };
        let survey = self.survey(&ranking, "source_model", cancel)?;
        let _memory = self.config.memory.reserve(survey.needed_bytes(&self.runtime), cancel)?;
        let known = Known { answers: &self.answers, units: &NotKept };
        let (rows, _) = survey.run(&self.runtime, known, cancel, &mut |_| ())?;
        rows.into_iter()
            .next()
            .map(|(_, scores)| scores)
            .ok_or_else(|| Error::new(Reason::Internal, "a pair gave no row"))
    }

    fn rank_in_units(
        &self,
        request: &RankingRequest,
        units: &dyn Units,
        on_event: &mut (dyn FnMut(RankingEvent) + Send),
        cancel: &Cancel,
    ) -> Result<Ranking> {
        ranking::check(request)?;
        let survey = self.survey(request, "source_models", cancel)?;
        let _memory = self.config.memory.reserve(survey.needed_bytes(&self.runtime), cancel)?;
        let known = Known { answers: &self.answers, units };
        let (rows, left_out) = survey.run(&self.runtime, known, cancel, on_event)?;
        ranking::ranking(&rows, request, [survey.skipped, left_out].concat(), cancel)
    }

    fn compare_in_units(
        &self,
        request: &ComparisonRequest,
        units: &dyn Units,
        on_progress: &mut (dyn FnMut(Progress) + Send),
        cancel: &Cancel,
    ) -> Result<TaskComparison> {
        let plan = AttackPlan::new(&request.attack)?;
        let (probe, dropped) = self.probe(&request.probe, request.max_samples, limits::MIN_SAMPLES, request.seed)?;
        let network = |(index, name): (usize, &String)| {
            cancel.check()?;
            self.network(name, probe.shape()).map_err(|error| error.at(format!("models[{index}]")))
        };
        let networks = request.models.iter().enumerate().map(network).collect::<Result<Vec<_>>>()?;
        let resamples = Resamples::new(probe.n_samples(), request.confidence, request.seed)
            .map_err(|cause| Error::new(Reason::OptionOutOfRange, cause.to_string()).at("confidence"))?;
        let work = Comparison {
            attack: request.attack.clone(),
            plan,
            probe,
            networks,
            resamples,
            seed: request.seed,
            batch_size: self.config.batch_size,
            group_bytes: self.config.group_bytes,
        };
        work.check(self.config.request_bytes)?;
        let _memory = self.config.memory.reserve(work.needed_bytes(&self.runtime), cancel)?;
        let matrices = work.run(&self.runtime, units, on_progress, cancel)?;
        let Clustering { merges, groups, cophenetic_correlation, group_agreement } = matrices.clustering(request);
        let Matrices { alpha1, alpha2, combined, affinity } = matrices;
        Ok(TaskComparison {
            models: work.networks.iter().map(|network| network.reference().clone()).collect(),
            alpha1,
            alpha2,
            combined,
            affinity,
            merges,
            groups,
            cluster_by: request.cluster_by,
            cophenetic_correlation,
            known_groups: request.known_groups.clone(),
            group_agreement,
            dataset: work.probe.name().to_owned(),
            probe_digest: work.probe.digest().to_string(),
            n_samples: work.probe.n_samples(),
            dropped,
            seed: request.seed,
            attack: work.plan.resolved(&request.attack),
            confidence: request.confidence,
            provider: self.runtime.provider().to_owned(),
        })
    }

    fn attack(
        &self,
        request: &AdversarialRequest,
        on_event: &mut (dyn FnMut(AdversarialEvent) + Send),
        cancel: &Cancel,
    ) -> Result<AdversarialSummary> {
        let (plan, empirical) = request.plan()?;
        let (probe, dropped) = self.probe(&request.probe, request.max_samples, 1, request.seed)?;
        let networks = |names: &[String], field: &str| {
            let network = |(index, name): (usize, &String)| {
                cancel.check()?;
                self.network(name, probe.shape()).map_err(|error| error.at(format!("{field}[{index}]")))
            };
            names.iter().enumerate().map(network).collect::<Result<Vec<_>>>()
        };
        let (sources, evaluated) =
            (networks(&request.models, "models")?, networks(&request.evaluated_models, "evaluated_models")?);
        let (pooling, seed, batch_size) = (request.pooling, request.seed, self.config.batch_size);
        let with_clean_samples = request.with_clean_samples;
        let work =
            Undertaking { plan: empirical, pooling, probe, sources, evaluated, seed, batch_size, with_clean_samples };
        work.check()?;
        let _memory = self.config.memory.reserve(work.needed_bytes(), cancel)?;
        let radii = timed(Stage::Attack, || work.run(&self.runtime, on_event, cancel))?;
        let references = |networks: &[Arc<Network>]| networks.iter().map(|n| n.reference().clone()).collect();
        Ok(AdversarialSummary {
            radii,
            models: references(&work.sources),
            evaluated_models: references(&work.evaluated),
            dataset: work.probe.name().to_owned(),
            probe_digest: work.probe.digest().to_string(),
            n_samples: work.probe.n_samples(),
            dropped,
            seed,
            attack: plan.resolved(&request.attack),
            pooling,
            provider: self.runtime.provider().to_owned(),
        })
    }

    fn fine_tune(
        &self,
        request: &FineTuneRequest,
        on_progress: &mut (dyn FnMut(Progress) + Send),
        cancel: &Cancel,
    ) -> Result<FineTuned> {
        let (probe, dropped) = self.probe(&request.probe, request.max_samples, limits::MIN_SAMPLES, request.seed)?;
        let plan = FineTunePlan::new(&request.options, &probe, request.seed, "options")?;
        let snapshot = self.registry.get(&request.model).map_err(|cause| Error::from(cause).at("model"))?;
        let network = self.network_of(&snapshot, probe.shape(), None).map_err(|error| error.at("model"))?;
        plan.check_memory(&network, self.config.request_bytes)?;
        let resamples = Resamples::new(probe.n_samples(), request.confidence, request.seed)
            .map_err(|cause| Error::new(Reason::OptionOutOfRange, cause.to_string()).at("confidence"))?;
        let needed = plan.needed_bytes(&network, self.runtime.workers().n_threads()) + probe.size_bytes();
        let _memory = self.config.memory.reserve(needed, cancel)?;
        let work = Refinement { plan: &plan, probe: &probe, network: &network, resamples: &resamples };
        let tuned = timed(Stage::FineTune, || work.run(&self.runtime, &snapshot, on_progress, cancel));
        let (scores, onnx, manifest) = tuned?;
        Ok(FineTuned {
            scores,
            onnx,
            manifest,
            model: network.reference().clone(),
            dataset: probe.name().to_owned(),
            probe_digest: probe.digest().to_string(),
            n_samples: probe.n_samples(),
            dropped,
            seed: request.seed,
            confidence: request.confidence,
            provider: self.runtime.provider().to_owned(),
        })
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

    fn gradient(&self, request: &GradientRequest, cancel: &Cancel) -> Result<Vec<u8>> {
        describe::gradient_graph(&*self.snapshot(&request.name)?, request, cancel)
    }

    fn load_model(&self, name: &str, dataset: Option<&str>, cancel: &Cancel) -> Result<LoadedModel> {
        let snapshot = self.snapshot(name)?;
        cancel.check()?;
        let sample_shape = match dataset {
            Some(dataset) => {
                self.datasets.find(dataset).map_err(|cause| Error::from(cause).at("dataset"))?.shape().to_vec()
            }
            None => describe::declared_shape(&snapshot)?,
        };
        cancel.check()?;
        let network = self.network_of(&snapshot, &sample_shape, None)?;
        if network.size_bytes() > self.config.session_bytes {
            let message = format!(
                "model `{name}` takes {} MiB ready to run, the server keeps {} MiB of such; each call loads it by itself, \
                 unless the operator raises --session-memory",
                network.size_bytes() >> 20,
                self.config.session_bytes >> 20
            );
            return Err(Error::new(Reason::LimitExceeded, message).at("name"));
        }
        let output_shape = network.output_shape().to_vec();
        Ok(LoadedModel { description: describe::model(&snapshot), sample_shape, output_shape })
    }

    fn unload_model(&self, name: &str) -> Result<UnloadedModel> {
        let network = self.networks.take(name);
        let was_read = self.registry.unload(name).map_err(|cause| Error::from(cause).at("name"))?;
        let in_use = network.as_ref().is_some_and(|network| Arc::strong_count(network) > 1);
        Ok(UnloadedModel { was_loaded: was_read || network.is_some(), in_use })
    }

    fn upload_model(
        &self,
        upload: &Upload,
        next: &mut NextChunk<'_>,
        cancel: &Cancel,
    ) -> Result<Uploaded<ModelDescription>> {
        let uploaded = uploads::model(&uploads::allowed(self.intakes.as_ref())?.models, upload, next, cancel)?;
        // The next call compiles the new version; the old one's memory goes with the last call that has it.
        self.networks.forget(&upload.name);
        Ok(uploaded)
    }

    fn datasets(&self) -> Vec<DatasetDescription> {
        self.datasets
            .names()
            .into_iter()
            .map(|name| match self.datasets.find(&name) {
                Ok(dataset) => describe::dataset(&dataset),
                Err(cause) => describe::unusable_dataset(name, cause.to_string()),
            })
            .collect()
    }

    fn dataset(&self, name: &str) -> Result<DatasetDescription> {
        let dataset = self.datasets.find(name).map_err(|cause| Error::from(cause).at("name"))?;
        Ok(describe::dataset(&dataset))
    }

    fn upload_dataset(
        &self,
        upload: &Upload,
        next: &mut NextChunk<'_>,
        cancel: &Cancel,
    ) -> Result<Uploaded<DatasetDescription>> {
        let uploaded = uploads::dataset(&uploads::allowed(self.intakes.as_ref())?.datasets, upload, next, cancel)?;
        self.datasets.forget(&upload.name);
        Ok(uploaded)
    }

    fn delete_dataset(&self, name: &str, cancel: &Cancel) -> Result<u64> {
        let freed = uploads::allowed(self.intakes.as_ref())?.datasets.remove(name, cancel)?;
        self.datasets.forget(name);
        tracing::info!(dataset = name, bytes = freed, "deleted");
        Ok(freed)
    }
}
