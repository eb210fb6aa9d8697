//! ONNX graph in, gradient graph out. Pure: no session, no file.
//!
//! In reading order:
//!
//! - What a model is: [`Graph`] in `graph`, constants in `tensor`; `shape` infers types and `integers` the sizes in them.
//! - A file in and out: `wire` bounds it, `import` reads it, `convert` and `contrib` bring old and foreign forms to the
//!   ones that are known here, `evaluate` computes constants, `export` writes.
//! - What a derivative is: `linear`; `rules` has one for each operator, `builder` and `sizes` emit nodes.
//! - [`vjp`] and [`jvp`] in `differentiate`: `fold` and `fuse` simplify the model before, `expand` takes composed
//!   operators apart, and `prune`, `scale` and `layout` make the result fast; `target` says on which device. `pullback`
//!   has the gradient graphs that models bring.
//! - [`vjp_parts`] in `parts` makes two graphs of one, with the minimum cut of `flow`. [`cut_at`] in `cut` makes inputs of
//!   inner tensors, and [`compose`] adds preprocessing, heads, losses, and steps of attacks and of training, whose weights
//!   `trainable` tells from other constants.
//! - Other float types: `precision` changes them, `lowering` writes what ONNX Runtime lacks in double.
//! - What is told: [`check`] lists what prevents derivatives, `catalogue` what is supported, `error` what went wrong.
//!
//! A new operator is a rule in a file of `rules` and a test; `CONTRIBUTING.md` says where other additions go.

mod builder;
mod catalogue;
mod check;
pub mod compose;
mod contrib;
mod convert;
mod cut;
pub mod differentiate;
mod error;
mod evaluate;
mod expand;
mod export;
mod flow;
mod fold;
mod fuse;
mod graph;
mod import;
mod integers;
mod layout;
mod linear;
mod lowering;
mod pads;
mod parts;
mod precision;
mod prune;
mod pullback;
mod rules;
mod scale;
mod shape;
mod sizes;
mod target;
mod tensor;
mod trainable;
mod weights;
mod wire;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

pub use self::{
    catalogue::{Operator, Support, operators},
    check::{Obstacle, check},
    compose::{Interpolation, Layout, Loss, Preprocessing},
    cut::cut_at,
    differentiate::{jvp, vjp},
    error::{GradientError, Result},
    graph::{Dim, ElementType, Graph, NEWEST_OPSET, OLDEST_OPSET, Port, ValueType},
    import::External,
    lowering::in_double,
    parts::{Parts, vjp_parts},
    precision::{in_single, narrowed, widened},
    rules::differentiable as differentiable_operators,
    target::Target,
    tensor::Tensor,
    weights::with_random_weights,
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
        Graph::parse_with(bytes, &|location| Err(format!("`{location}`; save the model as a single file")))
    }

    /// As [`Graph::parse`], for a model whose tensors lie in files beside it. `external` gives a file's contents by its
    /// path relative to the model's folder; that the path stays inside is checked before, links are the caller's to
    /// check.
    ///
    /// # Errors
    /// As [`Graph::parse`], and where `external` does not give a file.
    pub fn parse_with(bytes: Bytes, external: External) -> Result<Graph> {
        import::import(bytes, external)
    }

    /// The files that [`Graph::parse_with`] will ask for, as paths that stay in the model's folder. What is no model has
    /// none.
    pub fn external_files(bytes: &Bytes) -> BTreeSet<String> {
        import::external_files(bytes.clone())
    }

    /// The bytes of a model file that plain ONNX Runtime runs. The same graph gives the same bytes.
    pub fn to_onnx(&self) -> Vec<u8> {
        export::export(self)
    }

    /// Writes [`Graph::to_onnx`]'s bytes without holding the weights a second time.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_onnx(&self, out: &mut dyn std::io::Write) -> std::io::Result<()> {
        export::write(self, out)
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

    /// A constant by name.
    pub fn constant(&self, name: &str) -> Option<&Tensor> {
        self.initializers.get(name)
    }

    /// The names of the float32 constants that training may change: weights, biases, scales and tables, in the order in
    /// which the model uses them.
    pub fn trainable(&self) -> Vec<String> {
        trainable::trainable(self)
    }

    /// The graph with other values in the place of some of its constants, and so without a gradient graph of its own.
    ///
    /// # Errors
    /// Where it has no constant of a name, or that is of another type or shape.
    pub fn with_constants(mut self, constants: impl IntoIterator<Item = (String, Tensor)>) -> Result<Graph> {
        self.pullback = None;
        for (name, tensor) in constants {
            let former = self.initializers.get(&name).map(Tensor::value_type);
            if former != Some(tensor.value_type()) {
                return Err(GradientError::Request(format!("the model has no such constant as the new `{name}`")));
            }
            self.initializers.insert(name, tensor);
        }
        Ok(self)
    }

    /// What the values between inputs and outputs take for a batch of that size, in bytes; sizes that are not known count
    /// as 1.
    pub fn value_bytes(&self, batch: u64) -> u64 {
        let bytes_of = |name: &String| -> u64 {
            let Some(ValueType { element, shape: Some(shape) }) = self.types.get(name) else { return 0 };
            let size = |(axis, dim): (usize, &Dim)| dim.known().unwrap_or(if axis == 0 { batch } else { 1 });
            let count = shape.iter().enumerate().map(size).fold(1_u64, u64::saturating_mul);
            count.saturating_mul(element.size() as u64)
        };
        let outputs = self.nodes.iter().flat_map(|node| &node.outputs);
        outputs.map(bytes_of).fold(0, u64::saturating_add)
    }

    /// The names of the tensors that the model computes from its inputs, in order.
    pub fn tensors(&self) -> Vec<String> {
        compose::tensors(self)
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
