//! Compiles the protocol buffers without protoc.

use std::{env, error::Error, path::PathBuf};

use prost::Message;

/// The services' files; they import the others.
const API: [&str; 4] = [
    "transferscore/v1/transfer_score.proto",
    "transferscore/v1/model.proto",
    "transferscore/v1/dataset.proto",
    "transferscore/v1/job.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let api = protox::compile(API, ["proto"])?;
    std::fs::write(out.join("transferscore.bin"), api.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(api)?;

    // Tensor contents stay slices of the file's buffer instead of being copied.
    let onnx = protox::compile(["onnx/onnx.proto"], ["proto"])?;
    prost_build::Config::new().bytes([".onnx.TensorProto.raw_data"]).compile_fds(onnx)?;
    Ok(())
}
