//! `ModelService`: convert, call the domain, convert back.

use tonic::{Request, Response, Status, Streaming};

use crate::{
    error::Result as DomainResult,
    limits,
    scoring::types::{GradientRequest, UnloadedModel, Uploaded},
    transport::{
        call::{Calls, Context, EventStream},
        convert,
        proto::{
            CheckModelRequest, CheckModelResponse, ExportGradientGraphRequest, ExportGradientGraphResponse,
            GetModelRequest, GetModelResponse, ListModelsRequest, ListModelsResponse, LoadModelRequest,
            LoadModelResponse, UnloadModelRequest, UnloadModelResponse, UploadModelRequest, UploadModelResponse,
            model_service_server,
        },
    },
};

/// Tells about models, takes them, keeps them ready and derives their gradient graphs.
pub struct ModelService {
    pub calls: Calls,
}

#[tonic::async_trait]
impl model_service_server::ModelService for ModelService {
    async fn list_models(&self, request: Request<ListModelsRequest>) -> Result<Response<ListModelsResponse>, Status> {
        self.calls
            .look_up(Context::of(&request), |scoring| {
                Ok(ListModelsResponse { models: scoring.models().into_iter().map(convert::model).collect() })
            })
            .await
    }

    async fn get_model(&self, request: Request<GetModelRequest>) -> Result<Response<GetModelResponse>, Status> {
        let context = Context::of(&request);
        let name = model_name(request.into_inner().name).map_err(|error| context.status(&error))?;
        self.calls
            .look_up(context, move |scoring| {
                Ok(GetModelResponse { model: Some(convert::model(scoring.model(&name)?)) })
            })
            .await
    }

    async fn check_model(&self, request: Request<CheckModelRequest>) -> Result<Response<CheckModelResponse>, Status> {
        let context = Context::of(&request);
        let name = model_name(request.into_inner().name).map_err(|error| context.status(&error))?;
        self.calls.look_up(context, move |scoring| Ok(convert::check(scoring.check(&name)?))).await
    }

    type ExportGradientGraphStream = EventStream<ExportGradientGraphResponse>;

    async fn export_gradient_graph(
        &self,
        request: Request<ExportGradientGraphRequest>,
    ) -> Result<Response<Self::ExportGradientGraphStream>, Status> {
        let context = Context::of(&request);
        let request = gradient_request(request.into_inner()).map_err(|error| context.status(&error))?;
        Ok(self.calls.stream(context, move |scoring, outlet, cancel| {
            let graph = scoring.gradient(&request, cancel)?;
            for chunk in graph.chunks(limits::CHUNK_BYTES) {
                cancel.check()?;
                outlet.send(ExportGradientGraphResponse { chunk: chunk.to_vec() })?;
            }
            Ok(())
        }))
    }

    async fn load_model(&self, request: Request<LoadModelRequest>) -> Result<Response<LoadModelResponse>, Status> {
        let context = Context::of(&request);
        let LoadModelRequest { name, dataset } = request.into_inner();
        let names = || {
            let is_named = !dataset.is_empty();
            let dataset = is_named.then(|| convert::name("dataset", dataset, "ListDatasets")).transpose()?;
            Ok((model_name(name)?, dataset))
        };
        let (name, dataset) = names().map_err(|error| context.status(&error))?;
        self.calls
            .compute(context, move |scoring, cancel| {
                Ok(convert::loaded(scoring.load_model(&name, dataset.as_deref(), cancel)?))
            })
            .await
    }

    async fn unload_model(
        &self,
        request: Request<UnloadModelRequest>,
    ) -> Result<Response<UnloadModelResponse>, Status> {
        let context = Context::of(&request);
        let name = model_name(request.into_inner().name).map_err(|error| context.status(&error))?;
        self.calls
            .look_up(context, move |scoring| {
                let UnloadedModel { was_loaded, in_use } = scoring.unload_model(&name)?;
                Ok(UnloadModelResponse { was_loaded, in_use })
            })
            .await
    }

    async fn upload_model(
        &self,
        request: Request<Streaming<UploadModelRequest>>,
    ) -> Result<Response<UploadModelResponse>, Status> {
        self.calls
            .receive(request, convert::model_piece, convert::model_upload, |scoring, upload, inlet, cancel| {
                let Uploaded { description, replaced } = scoring.upload_model(upload, &mut || inlet.next(), cancel)?;
                Ok(UploadModelResponse { model: Some(convert::model(description)), replaced })
            })
            .await
    }
}

pub(super) fn model_name(name: String) -> DomainResult<String> {
    convert::name("name", name, "ListModels")
}

pub(super) fn gradient_request(request: ExportGradientGraphRequest) -> DomainResult<GradientRequest> {
    Ok(GradientRequest {
        name: model_name(request.name)?,
        mode: convert::gradient_mode(request.mode)?,
        inputs: request.inputs,
        outputs: request.outputs,
        float32: request.float32,
    })
}
