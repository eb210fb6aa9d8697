//! ONNX graph in, gradient graph out. Pure: no session, no file.

/// The ONNX wire format.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod onnx {
    include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
}
