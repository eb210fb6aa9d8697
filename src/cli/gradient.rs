//! `gradient`: a model's gradient graph in a file.

use std::path::PathBuf;

use super::{
    Failure, local,
    options::{ClientArgs, GradientMode},
    session::Session,
};
use crate::transport::proto::{self, ExportGradientGraphRequest};

#[derive(Debug, clap::Args)]
pub struct GradientArgs {
    /// Name of a model, or path of an .onnx file, which is then read without a server
    model: String,
    /// File for the gradient graph
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Vector-Jacobian or Jacobian-vector product
    #[arg(long, value_name = "MODE", value_enum, default_value = "vjp")]
    mode: GradientMode,
    /// Input to differentiate with respect to; repeat for several [default: every float input]
    #[arg(long = "input", value_name = "NAME")]
    inputs: Vec<String>,
    /// Output to differentiate; repeat for several [default: every float output]
    #[arg(long = "of", value_name = "OUTPUT")]
    outputs: Vec<String>,
    #[command(flatten)]
    client: ClientArgs,
}

pub async fn run(args: GradientArgs) -> Result<(), Failure> {
    let graph = match local::path(&args.model) {
        Some(path) => local::gradient(path, args.mode, &args.inputs, &args.outputs)?,
        None => {
            let request = ExportGradientGraphRequest {
                name: args.model,
                mode: proto::GradientMode::from(args.mode).into(),
                inputs: args.inputs,
                outputs: args.outputs,
            };
            let session = Session::open(args.client).await?;
            let graph = session.client.gradient(request).await?;
            session.close().await?;
            graph
        }
    };
    std::fs::write(&args.output, &graph)
        .map_err(|error| Failure::Work(format!("cannot write {}: {error}", args.output.display())))?;
    println!("wrote {} bytes to {}", graph.len(), args.output.display());
    Ok(())
}
