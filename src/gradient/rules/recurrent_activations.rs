//! The activations that recurrent layers name in their attributes.

use super::super::{
    builder::Builder,
    error::{GradientError, Result},
    graph::{Attribute, Node},
};

/// An activation with its parameters; those that it does not use are 0.
pub(super) struct Activation {
    kind: Kind,
    alpha: f32,
    beta: f32,
}

/// Name in lower case, operator of the same function, whether alpha and beta are read, and their defaults.
struct Kind {
    name: &'static str,
    operator: &'static str,
    alpha: Option<f32>,
    beta: Option<f32>,
}

const fn kind(name: &'static str, operator: &'static str, alpha: Option<f32>, beta: Option<f32>) -> Kind {
    Kind { name, operator, alpha, beta }
}

const KINDS: [Kind; 11] = [
    kind("sigmoid", "Sigmoid", None, None),
    kind("tanh", "Tanh", None, None),
    kind("relu", "Relu", None, None),
    kind("softsign", "Softsign", None, None),
    kind("softplus", "Softplus", None, None),
    kind("leakyrelu", "LeakyRelu", Some(0.01), None),
    kind("elu", "Elu", Some(1.0), None),
    kind("hardsigmoid", "HardSigmoid", Some(0.2), Some(0.5)),
    kind("thresholdedrelu", "", Some(1.0), None),
    kind("affine", "", Some(1.0), Some(0.0)),
    kind("scaledtanh", "", Some(1.0), Some(1.0)),
];

/// The activations of one direction, in the order of the operator's functions f, g, h.
pub(super) fn activations(node: &Node, direction: usize) -> Result<Vec<Activation>> {
    let defaults: &[&str] = match node.op.as_str() {
        "LSTM" => &["Sigmoid", "Tanh", "Tanh"],
        "GRU" => &["Sigmoid", "Tanh"],
        _ => &["Tanh"],
    };
    let named = match node.attributes.get("activations") {
        Some(Attribute::Texts(names)) if !names.is_empty() => names.iter().map(String::as_str).collect(),
        _ => [defaults, defaults].concat(),
    };
    let floats = |name: &str| match node.attributes.get(name) {
        Some(Attribute::Floats(values)) => values.clone(),
        _ => vec![],
    };
    // Parameters are listed for those activations that have them, over all directions.
    let (mut alphas, mut betas) = (floats("activation_alpha").into_iter(), floats("activation_beta").into_iter());
    let mut all = Vec::new();
    for name in named {
        let lower = name.to_lowercase();
        let Some(kind) = KINDS.into_iter().find(|kind| kind.name == lower) else {
            return Err(GradientError::Unsupported(format!("the activation `{name}` has no derivative")));
        };
        let alpha = kind.alpha.map_or(0.0, |default| alphas.next().unwrap_or(default));
        let beta = kind.beta.map_or(0.0, |default| betas.next().unwrap_or(default));
        all.push(Activation { kind, alpha, beta });
    }
    Ok(all.into_iter().skip(direction * defaults.len()).take(defaults.len()).collect())
}

impl Activation {
    pub(super) fn emit(&self, builder: &mut Builder, value: &str) -> Result<String> {
        match self.kind.name {
            "thresholdedrelu" => {
                let passes = builder.above(value, self.alpha.into())?;
                builder.mul(value, &passes)
            }
            "affine" => {
                let scaled = builder.scaled(value, self.alpha.into())?;
                builder.shifted(&scaled, self.beta.into())
            }
            "scaledtanh" => {
                let scaled = builder.scaled(value, self.beta.into())?;
                let tanh = builder.unary("Tanh", &scaled)?;
                builder.scaled(&tanh, self.alpha.into())
            }
            _ => {
                let mut attributes = Vec::new();
                if self.kind.alpha.is_some() {
                    attributes.push(("alpha", Attribute::Float(self.alpha)));
                }
                if self.kind.beta.is_some() {
                    attributes.push(("beta", Attribute::Float(self.beta)));
                }
                builder.emit(self.kind.operator, &[value], &attributes)
            }
        }
    }
}
