//! ONNX graph in, gradient graph out. Pure: no session, no file.
//!
//! In reading order: [`Graph`] is the compiler's view of a model, which `import` makes from bytes and `export` writes.
//! `shape` infers types, `linear` says what a derivative is, `rules` has one for each operator, `builder` emits nodes.
//! [`vjp`] and [`jvp`] put these together, [`check`] lists what prevents them, and [`compose`] adds preprocessing and
//! losses. A new operator is a rule in a file of `rules` and a test.

mod builder;
mod check;
pub mod compose;
mod convert;
pub mod differentiate;
mod error;
mod export;
mod fold;
mod graph;
mod import;
mod integers;
mod linear;
mod prune;
mod rules;
mod shape;
mod tensor;
mod wire;

use std::collections::BTreeMap;

use bytes::Bytes;

pub use self::{
    check::{Obstacle, check},
    compose::{Layout, Loss, Preprocessing},
    differentiate::{jvp, vjp},
    error::{GradientError, Result},
    graph::{Dim, ElementType, Graph, NEWEST_OPSET, OLDEST_OPSET, Port, ValueType},
    rules::differentiable as differentiable_operators,
    tensor::Tensor,
};

/// The ONNX wire format.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod onnx {
    include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
}

impl Graph {
    /// Reads a model of opset 7 to 26 from the bytes of its file. Weights stay slices of `bytes`.
    ///
    /// # Errors
    /// Where the bytes are no model, break ONNX's rules, pass a bound of [`crate::limits`], or use a part of ONNX that
    /// is not read.
    pub fn parse(bytes: Bytes) -> Result<Graph> {
        import::import(bytes)
    }

    /// The bytes of a model file that plain ONNX Runtime runs. The same graph gives the same bytes.
    pub fn to_onnx(&self) -> Vec<u8> {
        export::export(self)
    }

    /// The model's inputs; initialisers are none, even where the file lists them.
    pub fn inputs(&self) -> Vec<Port> {
        self.inputs.iter().map(|name| self.port(name)).collect()
    }

    /// The model's outputs.
    pub fn outputs(&self) -> Vec<Port> {
        self.outputs.iter().map(|name| self.port(name)).collect()
    }

    /// The number of elements of all float constants.
    pub fn n_parameters(&self) -> u64 {
        let floats = self.initializers.values().filter(|tensor| tensor.element().is_float());
        floats.map(|tensor| tensor.len() as u64).sum()
    }

    /// The tensor that [`compose::features`] finds.
    pub fn features(&self) -> Option<String> {
        compose::features(self)
    }

    /// The opset of the file.
    pub fn opset(&self) -> i64 {
        self.declared_opset
    }

    /// How often each operator is used, most frequent first, then by name.
    pub fn operator_counts(&self) -> Vec<(String, usize)> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for node in &self.nodes {
            *counts.entry(&node.op).or_default() += 1;
        }
        let mut counts: Vec<(String, usize)> = counts.into_iter().map(|(op, n)| (op.to_owned(), n)).collect();
        counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        counts
    }
}
