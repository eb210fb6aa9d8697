//! `models`: what there is to score; with a subcommand, what a server does with it.

use super::{
    Failure, json,
    options::{ClientArgs, ServerArgs},
    session::Session,
    table,
    upload::{self, FileArgs},
};
use crate::transport::proto::{ListModelsResponse, LoadModelRequest, Model, ModelUploadHeader, TensorInfo};

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ModelsArgs {
    #[command(subcommand)]
    command: Option<ModelsCommand>,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Subcommand)]
enum ModelsCommand {
    /// Send a model to a server that takes uploads
    Upload(FileArgs),
    /// Have a server compile a model now rather than at its first score
    Load {
        /// Name of a model
        model: String,
        /// Dataset whose samples it is made ready for [default: what the model declares]
        #[arg(long, value_name = "NAME")]
        dataset: Option<String>,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Have a server drop a model from its memory; the file stays
    Unload {
        /// Name of a model
        model: String,
        #[command(flatten)]
        server: ServerArgs,
    },
}

pub async fn run(args: ModelsArgs) -> Result<(), Failure> {
    match args.command {
        None => list(args.client).await,
        Some(ModelsCommand::Upload(args)) => send(args).await,
        Some(ModelsCommand::Load { model, dataset, server }) => load(model, dataset, server).await,
        Some(ModelsCommand::Unload { model, server }) => unload(model, server).await,
    }
}

async fn list(client: ClientArgs) -> Result<(), Failure> {
    let as_json = client.json;
    let session = Session::open(client).await?;
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

async fn send(args: FileArgs) -> Result<(), Failure> {
    let upload::Header { name, sha256, size_bytes, manifest, overwrite } = upload::header(&args).await?;
    let client = args.server.connect().await?;
    let header = ModelUploadHeader { name, sha256, size_bytes: Some(size_bytes), manifest, overwrite };
    let (chunks, sending) = upload::chunks(&args, size_bytes);
    let answer = client.upload_model(header, chunks).await;
    let answer = sending.end(answer, &args).await?;
    if args.server.json {
        return json::print("UploadModelResponse", &answer);
    }
    let model = answer.model.unwrap_or_default();
    let replaced = if answer.replaced { ", in place of an earlier one" } else { "" };
    println!("uploaded {}, SHA-256 {}{replaced}", model.name, model.digest);
    Ok(())
}

async fn load(name: String, dataset: Option<String>, server: ServerArgs) -> Result<(), Failure> {
    let request = LoadModelRequest { name: name.clone(), dataset: dataset.unwrap_or_default() };
    let answer = server.connect().await?.load_model(request).await?;
    if server.json {
        return json::print("LoadModelResponse", &answer);
    }
    println!(
        "{name} is ready for samples of {}, its outputs are {}",
        table::shape(&answer.sample_shape),
        table::shape(&answer.output_shape)
    );
    Ok(())
}

async fn unload(name: String, server: ServerArgs) -> Result<(), Failure> {
    let answer = server.connect().await?.unload_model(&name).await?;
    if server.json {
        return json::print("UnloadModelResponse", &answer);
    }
    println!(
        "{name} {}",
        match (answer.was_loaded, answer.in_use) {
            (false, _) => "was not in memory",
            (true, false) => "is no longer in memory",
            (true, true) => "stays in memory for the calls that use it, and no longer",
        }
    );
    Ok(())
}

fn shapes(tensors: &[TensorInfo]) -> String {
    tensors.iter().map(|tensor| tensor.shape.join("x")).collect::<Vec<_>>().join(", ")
}

fn remark(model: &Model) -> String {
    if model.problem.is_empty() { model.summary.clone() } else { format!("unusable: {}", model.problem) }
}
