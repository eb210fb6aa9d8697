//! Every request message, read as its call reads it: what a fuzzer calls in a client's place.

use prost::Message;

use super::{convert, dataset_service, model_service, proto};
use crate::error::{Error, Reason, Result};

/// Decodes and checks the bytes of a message.
pub type ReadRequest = fn(&[u8]) -> Result<()>;

/// Each message's name, and what reads it. Uploads' headers are the domain's to check. A new one goes to the end, as the files
/// that fuzzing begins with know a message by its place.
pub const REQUESTS: &[(&str, ReadRequest)] = &[
    ("TransferScoreRequest", |bytes| read(bytes, convert::pair)),
    ("RankSourcesRequest", |bytes| read(bytes, convert::ranking_request)),
    ("CompareTasksRequest", |bytes| read(bytes, convert::comparison_request)),
    ("AttackRequest", |bytes| read(bytes, convert::adversarial_request)),
    ("FineTuneRequest", |bytes| read(bytes, convert::fine_tune_request)),
    ("GetModelRequest", |bytes| read(bytes, |request: proto::GetModelRequest| model_service::model_name(request.name))),
    ("ExportGradientGraphRequest", |bytes| read(bytes, model_service::gradient_request)),
    ("UploadModelRequest", |bytes| read(bytes, |request| Ok(convert::model_piece(request)))),
    ("GetDatasetRequest", |bytes| {
        read(bytes, |request: proto::GetDatasetRequest| dataset_service::dataset_name(request.name))
    }),
    ("UploadDatasetRequest", |bytes| read(bytes, |request| Ok(convert::dataset_piece(request)))),
    ("CreateJobRequest", |bytes| read(bytes, convert::new_job)),
    ("GetJobRequest", |bytes| read(bytes, |request: proto::GetJobRequest| convert::job_number(&request.name))),
    ("ListJobsRequest", |bytes| {
        read(bytes, |request: proto::ListJobsRequest| {
            let (filter, _) = convert::job_filter(&request)?;
            convert::page_token(&request.page_token, &filter)
        })
    }),
    ("WatchJobRequest", |bytes| read(bytes, |request: proto::WatchJobRequest| convert::job_number(&request.name))),
    ("CancelJobRequest", |bytes| read(bytes, |request: proto::CancelJobRequest| convert::job_number(&request.name))),
    ("CheckModelRequest", |bytes| {
        read(bytes, |request: proto::CheckModelRequest| model_service::model_name(request.name))
    }),
    ("LoadModelRequest", |bytes| {
        read(bytes, |request: proto::LoadModelRequest| model_service::model_name(request.name))
    }),
    ("UnloadModelRequest", |bytes| {
        read(bytes, |request: proto::UnloadModelRequest| model_service::model_name(request.name))
    }),
    ("DeleteDatasetRequest", |bytes| {
        read(bytes, |request: proto::DeleteDatasetRequest| dataset_service::dataset_name(request.name))
    }),
    ("ListModelsRequest", |bytes| read(bytes, |proto::ListModelsRequest {}| Ok(()))),
    ("ListDatasetsRequest", |bytes| read(bytes, |proto::ListDatasetsRequest {}| Ok(()))),
];

fn read<M: Message + Default, T>(bytes: &[u8], convert: impl FnOnce(M) -> Result<T>) -> Result<()> {
    let message = M::decode(bytes).map_err(|cause| Error::new(Reason::RequestMalformed, cause.to_string()))?;
    convert(message).map(drop)
}
