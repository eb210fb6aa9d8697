//! `datasets`: what there is to measure on; with a subcommand, what a server does with it.

use super::{
    Failure, json,
    options::{ClientArgs, ServerArgs},
    session::Session,
    table,
    upload::{self, FileArgs},
};
use crate::transport::proto::{DatasetUploadHeader, ListDatasetsResponse};

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct DatasetsArgs {
    #[command(subcommand)]
    command: Option<DatasetsCommand>,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Subcommand)]
enum DatasetsCommand {
    /// Send a dataset to a server that takes uploads: an .npz, a .parquet, or a .zip of a folder's contents
    Upload(FileArgs),
    /// Have a server delete a dataset that was uploaded
    Delete {
        /// Name of a dataset
        dataset: String,
        #[command(flatten)]
        server: ServerArgs,
    },
}

pub async fn run(args: DatasetsArgs) -> Result<(), Failure> {
    match args.command {
        None => list(args.client).await,
        Some(DatasetsCommand::Upload(args)) => send(args).await,
        Some(DatasetsCommand::Delete { dataset, server }) => delete(dataset, server).await,
    }
}

async fn list(client: ClientArgs) -> Result<(), Failure> {
    let as_json = client.json;
    let session = Session::open(client).await?;
    let datasets = session.client.datasets().await?;
    session.close().await?;

    if as_json {
        return json::print("ListDatasetsResponse", &ListDatasetsResponse { datasets });
    }
    let mut rows = table::with_columns(["dataset", "format", "samples", "shape", "classes", "target", "remark"]);
    for dataset in datasets {
        let remark =
            if dataset.problem.is_empty() { dataset.summary } else { format!("unusable: {}", dataset.problem) };
        rows.add_row([
            dataset.name,
            dataset.format,
            dataset.n_samples.to_string(),
            table::shape(&dataset.shape),
            dataset.n_classes.to_string(),
            dataset.target_size.to_string(),
            remark,
        ]);
    }
    table::print(&rows)
}

async fn send(args: FileArgs) -> Result<(), Failure> {
    let upload::Header { name, sha256, size_bytes, manifest, overwrite } = upload::header(&args).await?;
    let client = args.server.connect().await?;
    let header = DatasetUploadHeader { name, sha256, size_bytes: Some(size_bytes), manifest, overwrite };
    let (chunks, sending) = upload::chunks(&args, size_bytes);
    let answer = client.upload_dataset(header, chunks).await;
    let answer = sending.end(answer, &args).await?;
    if args.server.json {
        return json::print("UploadDatasetResponse", &answer);
    }
    let dataset = answer.dataset.unwrap_or_default();
    let replaced = if answer.replaced { ", in place of an earlier one" } else { "" };
    println!(
        "uploaded {}: {} samples of {}, {} classes ({}){replaced}",
        dataset.name,
        dataset.n_samples,
        table::shape(&dataset.shape),
        dataset.n_classes,
        dataset.format
    );
    Ok(())
}

async fn delete(name: String, server: ServerArgs) -> Result<(), Failure> {
    let answer = server.connect().await?.delete_dataset(&name).await?;
    if server.json {
        return json::print("DeleteDatasetResponse", &answer);
    }
    println!("deleted {name}, {} bytes", answer.freed_bytes);
    Ok(())
}
