//! `DatasetService`: convert, call the domain, convert back.

use tonic::{Request, Response, Status, Streaming};

use crate::{
    cancel::Cancel,
    error::Result as DomainResult,
    scoring::{Scoring, types::Uploaded},
    transport::{
        call::{Calls, Context},
        convert,
        proto::{
            DeleteDatasetRequest, DeleteDatasetResponse, GetDatasetRequest, GetDatasetResponse, ListDatasetsRequest,
            ListDatasetsResponse, UploadDatasetRequest, UploadDatasetResponse, dataset_service_server,
        },
    },
};

/// Tells about datasets and takes them.
pub struct DatasetService {
    pub calls: Calls,
}

#[tonic::async_trait]
impl dataset_service_server::DatasetService for DatasetService {
    async fn list_datasets(
        &self,
        request: Request<ListDatasetsRequest>,
    ) -> Result<Response<ListDatasetsResponse>, Status> {
        self.calls
            .look_up(Context::of(&request), |scoring| {
                Ok(ListDatasetsResponse { datasets: scoring.datasets().into_iter().map(convert::dataset).collect() })
            })
            .await
    }

    async fn get_dataset(&self, request: Request<GetDatasetRequest>) -> Result<Response<GetDatasetResponse>, Status> {
        let context = Context::of(&request);
        let name = dataset_name(request.into_inner().name).map_err(|error| context.status(&error))?;
        self.calls
            .look_up(context, move |scoring| {
                Ok(GetDatasetResponse { dataset: Some(convert::dataset(scoring.dataset(&name)?)) })
            })
            .await
    }

    async fn upload_dataset(
        &self,
        request: Request<Streaming<UploadDatasetRequest>>,
    ) -> Result<Response<UploadDatasetResponse>, Status> {
        self.calls
            .receive(request, convert::dataset_piece, convert::dataset_upload, |scoring, upload, inlet, cancel| {
                let Uploaded { description, replaced } =
                    scoring.upload_dataset(upload, &mut || inlet.next(), cancel)?;
                Ok(UploadDatasetResponse { dataset: Some(convert::dataset(description)), replaced })
            })
            .await
    }

    async fn delete_dataset(
        &self,
        request: Request<DeleteDatasetRequest>,
    ) -> Result<Response<DeleteDatasetResponse>, Status> {
        let context = Context::of(&request);
        let name = dataset_name(request.into_inner().name).map_err(|error| context.status(&error))?;
        // Not a look-up: it waits for calls that read the dataset.
        self.calls
            .upload(context, async |working| {
                let delete = move |scoring: &dyn Scoring, cancel: &Cancel| {
                    Ok(DeleteDatasetResponse { freed_bytes: scoring.delete_dataset(&name, cancel)? })
                };
                working.start(delete).await
            })
            .await
    }
}

pub(super) fn dataset_name(name: String) -> DomainResult<String> {
    convert::name("name", name, "ListDatasets")
}
