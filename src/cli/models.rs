//! `models`: what there is to score.

use super::{Failure, json, options::ClientArgs, session::Session, table};
use crate::transport::proto::{ListModelsResponse, Model, TensorInfo};

#[derive(Debug, clap::Args)]
pub struct ModelsArgs {
    #[command(flatten)]
    client: ClientArgs,
}

pub async fn run(args: ModelsArgs) -> Result<(), Failure> {
    let as_json = args.client.json;
    let session = Session::open(args.client).await?;
    let models = session.client.models().await?;
    session.close().await?;

    if as_json {
        return json::print("ListModelsResponse", &ListModelsResponse { models });
    }
    let mut rows = table::with_columns(["model", "input", "output", "parameters", "summary"]);
    for model in &models {
        rows.add_row([
            model.name.clone(),
            shapes(&model.inputs),
            shapes(&model.outputs),
            table::magnitude(model.n_parameters),
            remark(model),
        ]);
    }
    table::print(&rows)
}

fn shapes(tensors: &[TensorInfo]) -> String {
    tensors.iter().map(|tensor| tensor.shape.join("x")).collect::<Vec<_>>().join(", ")
}

fn remark(model: &Model) -> String {
    if model.problem.is_empty() { model.summary.clone() } else { format!("unusable: {}", model.problem) }
}
