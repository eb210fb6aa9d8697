//! gRPC: bytes to domain and back. Nothing above or below knows tonic.
//!
//! In reading order: [`server`] has the stack of layers, `call` the life of a call, `upload` that of a client stream, the
//! services convert, call the domain and convert back, `convert` validates, `status` tells errors. [`client`] is the other
//! side.

mod admission;
mod call;
pub mod client;
mod convert;
mod dataset_service;
mod deadline;
mod job_service;
mod job_work;
mod layers;
mod measure;
mod methods;
mod model_service;
mod pages;
mod requests;
mod score_service;
pub mod security;
pub mod server;
mod status;
mod upload;

pub use requests::{REQUESTS, ReadRequest};
pub use status::ERROR_DOMAIN;

/// The generated messages and services.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod proto {
    tonic::include_proto!("transferscore.v1");

    /// The encoded descriptor set, for reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/transferscore.bin"));
}
