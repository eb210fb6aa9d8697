//! `gradient`: a model's gradient graph in a file.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::PathBuf,
};

use super::{
    Failure, local,
    options::{ClientArgs, GradientMode},
    session::Session,
};
use crate::{
    gradient::{ElementType, Graph},
    scoring::types::GradientRequest,
    transport::proto::{self, ExportGradientGraphRequest},
};

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
    /// Input to differentiate with respect to, or an inner tensor, which then becomes an input, such as the embedding
    /// of token ids; repeat for several [default: every float input]
    #[arg(long = "input", value_name = "NAME")]
    inputs: Vec<String>,
    /// Output to differentiate; repeat for several [default: every float output]
    #[arg(long = "of", value_name = "OUTPUT")]
    outputs: Vec<String>,
    /// Compute in float32, inputs and outputs too, whatever float types the model has
    #[arg(long)]
    float32: bool,
    #[command(flatten)]
    client: ClientArgs,
}

pub async fn run(args: GradientArgs) -> Result<(), Failure> {
    let cannot_write = |error: io::Error| Failure::Work(format!("cannot write {}: {error}", args.output.display()));
    if let Some(path) = local::path(&args.model) {
        let request = GradientRequest {
            name: args.model.clone(),
            mode: args.mode.into(),
            inputs: args.inputs,
            outputs: args.outputs,
            float32: args.float32,
        };
        let graph = local::gradient(path, &request)?;
        warn_of_types(&graph);
        let mut file = BufWriter::new(File::create(&args.output).map_err(cannot_write)?);
        graph.write_onnx(&mut file).and_then(|()| file.flush()).map_err(cannot_write)?;
    } else {
        let request = ExportGradientGraphRequest {
            name: args.model,
            mode: proto::GradientMode::from(args.mode).into(),
            inputs: args.inputs,
            outputs: args.outputs,
            float32: args.float32,
        };
        let session = Session::open(args.client).await?;
        let graph = session.client.gradient(request).await?;
        session.close().await?;
        std::fs::write(&args.output, graph).map_err(cannot_write)?;
    }
    let bytes = std::fs::metadata(&args.output).map_err(cannot_write)?.len();
    println!("wrote {bytes} bytes to {}", args.output.display());
    Ok(())
}

/// Tells of float types that ONNX Runtime's CPU lacks kernels for.
fn warn_of_types(graph: &Graph) {
    let ports = graph.inputs().into_iter().chain(graph.outputs());
    let mut elements = ports.filter_map(|port| port.element());
    if let Some(element) = elements.find(|element| element.is_float() && *element != ElementType::Float32) {
        eprintln!(
            "the graph is in {element}, for which ONNX Runtime's CPU lacks kernels; where it refuses to run the graph, \
             export it with --float32"
        );
    }
}
