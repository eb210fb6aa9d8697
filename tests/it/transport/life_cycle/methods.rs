//! Every method of the four services, for the product of what may happen to a call. A new method is a line of [`METHODS`].

use std::{collections::BTreeSet, fs};

use prost::Message;
use prost_types::FileDescriptorSet;
use transferscore::{
    registry::Digest,
    transport::proto::{
        AttackRequest, CancelJobRequest, CheckModelRequest, CompareTasksRequest, CreateJobRequest, DatasetUploadHeader,
        DeleteDatasetRequest, ExportGradientGraphRequest, FILE_DESCRIPTOR_SET, FineTuneOptions, FineTuneRequest,
        GetDatasetRequest, GetJobRequest, GetModelRequest, ListDatasetsRequest, ListJobsRequest, ListModelsRequest,
        LoadModelRequest, ModelUploadHeader, RankSourcesRequest, TransferScoreRequest, UnloadModelRequest,
        UploadDatasetRequest, UploadModelRequest, WatchJobRequest, attack_request, compare_tasks_request,
        create_job_request::Work as JobOf, fine_tune_request, rank_sources_request, transfer_score_request,
        upload_dataset_request, upload_model_request,
    },
};

use crate::server_process::repository;

/// What a call needs to be let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    Compute,
    LookUp,
    /// Nobody waits for it: who finds it full is sent away.
    Upload,
}

/// What becomes of the work when nobody waits for its answer any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// It is told to stop.
    Told,
    /// It goes on to its end, which is near.
    GoesOn,
    /// It is over before anything can happen to it.
    Instant,
}

/// What comes by and by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streams {
    Nothing,
    /// Events, the last of which is the result.
    Events,
    /// The pieces of a result that is finished.
    Pieces,
    /// What happens to a job.
    Watch,
    /// Messages of the client's.
    Upload,
}

#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// `Service/Method`.
    pub name: &'static str,
    pub gate: Gate,
    pub work: Work,
    pub streams: Streams,
    /// The client's messages, encoded, by the name of what they are about and a seed.
    pub messages: fn(&str, u64) -> Vec<Vec<u8>>,
}

const fn method(
    name: &'static str,
    gate: Gate,
    work: Work,
    streams: Streams,
    messages: fn(&str, u64) -> Vec<Vec<u8>>,
) -> Method {
    Method { name, gate, work, streams, messages }
}

pub const METHODS: &[Method] = &[
    method("TransferScoreService/TransferScore", Gate::Compute, Work::Told, Streams::Nothing, score),
    method("TransferScoreService/RankSources", Gate::Compute, Work::Told, Streams::Events, rank),
    method("TransferScoreService/CompareTasks", Gate::Compute, Work::Told, Streams::Events, compare),
    method("TransferScoreService/Attack", Gate::Compute, Work::Told, Streams::Events, attack),
    method("TransferScoreService/FineTune", Gate::Compute, Work::Told, Streams::Events, fine_tune),
    method("ModelService/ListModels", Gate::LookUp, Work::GoesOn, Streams::Nothing, |_, _| one(&ListModelsRequest {})),
    method("ModelService/GetModel", Gate::LookUp, Work::GoesOn, Streams::Nothing, |name, _| {
        one(&GetModelRequest { name: name.to_owned() })
    }),
    method("ModelService/CheckModel", Gate::LookUp, Work::GoesOn, Streams::Nothing, |name, _| {
        one(&CheckModelRequest { name: name.to_owned() })
    }),
    method("ModelService/ExportGradientGraph", Gate::Compute, Work::Told, Streams::Pieces, |name, _| {
        one(&ExportGradientGraphRequest { name: name.to_owned(), ..ExportGradientGraphRequest::default() })
    }),
    method("ModelService/LoadModel", Gate::Compute, Work::Told, Streams::Nothing, |name, _| {
        one(&LoadModelRequest { name: name.to_owned(), dataset: String::new() })
    }),
    method("ModelService/UnloadModel", Gate::LookUp, Work::GoesOn, Streams::Nothing, |name, _| {
        one(&UnloadModelRequest { name: name.to_owned() })
    }),
    method("ModelService/UploadModel", Gate::Upload, Work::Told, Streams::Upload, upload_model),
    method("DatasetService/ListDatasets", Gate::LookUp, Work::GoesOn, Streams::Nothing, |_, _| {
        one(&ListDatasetsRequest {})
    }),
    method("DatasetService/GetDataset", Gate::LookUp, Work::GoesOn, Streams::Nothing, |name, _| {
        one(&GetDatasetRequest { name: name.to_owned() })
    }),
    method("DatasetService/UploadDataset", Gate::Upload, Work::Told, Streams::Upload, upload_dataset),
    method("DatasetService/DeleteDataset", Gate::Upload, Work::Told, Streams::Nothing, |name, _| {
        one(&DeleteDatasetRequest { name: name.to_owned() })
    }),
    method("JobService/CreateJob", Gate::LookUp, Work::Instant, Streams::Nothing, create_job),
    method("JobService/GetJob", Gate::LookUp, Work::Instant, Streams::Nothing, |name, _| {
        one(&GetJobRequest { name: job(name) })
    }),
    method("JobService/ListJobs", Gate::LookUp, Work::Instant, Streams::Nothing, list_jobs),
    method("JobService/WatchJob", Gate::LookUp, Work::Instant, Streams::Watch, |name, _| {
        one(&WatchJobRequest { name: job(name), after_sequence: 0 })
    }),
    method("JobService/CancelJob", Gate::LookUp, Work::Instant, Streams::Nothing, |name, _| {
        one(&CancelJobRequest { name: job(name) })
    }),
];

/// Samples of a call: few, as nothing here is about what they come to.
const MAX_SAMPLES: u32 = 64;

const DATASET: &str = "digits";

fn one(message: &impl Message) -> Vec<Vec<u8>> {
    vec![message.encode_to_vec()]
}

/// Whether a name stands for what is not there.
fn is_nowhere(name: &str) -> bool {
    name.ends_with("nowhere")
}

/// The first job, or one that nobody made.
fn job(name: &str) -> String {
    if is_nowhere(name) { "job-1000000".to_owned() } else { "job-1".to_owned() }
}

fn score(name: &str, seed: u64) -> Vec<Vec<u8>> {
    one(&TransferScoreRequest {
        source_model: "source".to_owned(),
        reference_model: name.to_owned(),
        probe: Some(transfer_score_request::Probe::Dataset(DATASET.to_owned())),
        max_samples: MAX_SAMPLES,
        seed,
        ..TransferScoreRequest::default()
    })
}

pub fn ranking(reference: &str, seed: u64) -> RankSourcesRequest {
    RankSourcesRequest {
        source_models: ["source", "other"].map(str::to_owned).into(),
        reference_model: reference.to_owned(),
        probe: Some(rank_sources_request::Probe::Dataset(DATASET.to_owned())),
        max_samples: MAX_SAMPLES,
        seed,
        ..RankSourcesRequest::default()
    }
}

fn rank(name: &str, seed: u64) -> Vec<Vec<u8>> {
    one(&ranking(name, seed))
}

fn compare(name: &str, seed: u64) -> Vec<Vec<u8>> {
    one(&CompareTasksRequest {
        models: vec![name.to_owned(), "other".to_owned()],
        probe: Some(compare_tasks_request::Probe::Dataset(DATASET.to_owned())),
        max_samples: MAX_SAMPLES,
        seed,
        ..CompareTasksRequest::default()
    })
}

fn attack(name: &str, seed: u64) -> Vec<Vec<u8>> {
    one(&AttackRequest {
        models: vec![name.to_owned()],
        probe: Some(attack_request::Probe::Dataset(DATASET.to_owned())),
        max_samples: MAX_SAMPLES,
        seed,
        ..AttackRequest::default()
    })
}

fn fine_tune(name: &str, seed: u64) -> Vec<Vec<u8>> {
    one(&FineTuneRequest {
        model: name.to_owned(),
        probe: Some(fine_tune_request::Probe::Dataset(DATASET.to_owned())),
        max_samples: MAX_SAMPLES,
        options: Some(FineTuneOptions { epochs: 1, ..FineTuneOptions::default() }),
        seed,
        ..FineTuneRequest::default()
    })
}

fn create_job(name: &str, seed: u64) -> Vec<Vec<u8>> {
    let work = (!is_nowhere(name)).then(|| JobOf::Rank(ranking("ok", seed)));
    one(&CreateJobRequest { request_id: String::new(), work })
}

fn list_jobs(name: &str, _: u64) -> Vec<Vec<u8>> {
    let page_token = if is_nowhere(name) { "nonsense".to_owned() } else { String::new() };
    one(&ListJobsRequest { page_token, ..ListJobsRequest::default() })
}

fn upload_model(name: &str, _: u64) -> Vec<Vec<u8>> {
    let bytes = fs::read(repository("models/digits-75/model.onnx")).expect("a bundled model");
    let header = ModelUploadHeader {
        name: name.to_owned(),
        sha256: Digest::of(&bytes).to_string(),
        overwrite: true,
        ..ModelUploadHeader::default()
    };
    [upload_model_request::Piece::Header(header), upload_model_request::Piece::Chunk(bytes)]
        .map(|piece| UploadModelRequest { piece: Some(piece) }.encode_to_vec())
        .into()
}

fn upload_dataset(name: &str, _: u64) -> Vec<Vec<u8>> {
    let bytes = fs::read(repository("models/datasets/digits.npz")).expect("the bundled dataset");
    let header = DatasetUploadHeader {
        name: name.to_owned(),
        sha256: Digest::of(&bytes).to_string(),
        overwrite: true,
        ..DatasetUploadHeader::default()
    };
    [upload_dataset_request::Piece::Header(header), upload_dataset_request::Piece::Chunk(bytes)]
        .map(|piece| UploadDatasetRequest { piece: Some(piece) }.encode_to_vec())
        .into()
}

#[test]
fn every_method_of_the_interface_is_in_the_table_as_what_it_is() {
    let mut served = BTreeSet::new();
    for file in FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("a description").file {
        if file.package() != "transferscore.v1" {
            continue;
        }
        for service in &file.service {
            for method in &service.method {
                let name = format!("{}/{}", service.name(), method.name());
                served.insert((name, method.client_streaming(), method.server_streaming()));
            }
        }
    }
    let listed = METHODS.iter().map(|method| {
        let is_server_stream = matches!(method.streams, Streams::Events | Streams::Pieces | Streams::Watch);
        (method.name.to_owned(), method.streams == Streams::Upload, is_server_stream)
    });
    assert_eq!(listed.collect::<BTreeSet<_>>(), served);
}
