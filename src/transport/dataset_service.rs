//! `DatasetService`: convert, call the domain, convert back.

use tonic::{Request, Response, Status};

use crate::transport::{
    call::{Calls, Context},
    convert,
    proto::{GetDatasetRequest, GetDatasetResponse, ListDatasetsRequest, ListDatasetsResponse, dataset_service_server},
};

/// Tells about datasets.
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
        let name =
            convert::name("name", request.into_inner().name, "ListDatasets").map_err(|error| context.status(&error))?;
        self.calls
            .look_up(context, move |scoring| {
                Ok(GetDatasetResponse { dataset: Some(convert::dataset(scoring.dataset(&name)?)) })
            })
            .await
    }
}
