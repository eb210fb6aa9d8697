//! What can be wrong with a model, or with a derivation.

/// An error of the gradient compiler. Messages name the node and the operator where there is one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GradientError {
    /// The bytes are not an ONNX model.
    #[error("not an ONNX model: {0}")]
    Malformed(String),
    /// The model breaks a rule of the ONNX specification.
    #[error("invalid model: {0}")]
    Invalid(String),
    /// The model is larger than a bound of [`crate::limits`].
    #[error("the model exceeds a limit: {0}")]
    Limit(String),
    /// The model uses a part of ONNX that is not read.
    #[error("unsupported model: {0}")]
    Unsupported(String),
    /// A type that a derivative needs is neither declared nor inferred.
    #[error("the {what} of `{value}` is not known; export the model with it, or run shape inference on it")]
    UnknownType { what: &'static str, value: String },
    /// A node contradicts its operator's definition.
    #[error("node `{node}` ({operator}): {reason}")]
    Node { node: String, operator: String, reason: String },
    /// An operator on the way from input to output has no derivative here.
    #[error("node `{node}` ({operator}) cannot be differentiated: {reason}")]
    NotDifferentiable { node: String, operator: String, reason: String },
    /// The caller asked for a tensor that the model does not have, or for one of the wrong kind.
    #[error("{0}")]
    Request(String),
}

/// Results of this module.
pub type Result<T, E = GradientError> = std::result::Result<T, E>;
