//! The operators: for each one how its outputs' types follow and what its derivative is.
//!
//! A new operator is one entry in the table of the file that it belongs to. The tests take every entry that has a
//! derivative and fail for one without a case.

mod activation;
mod attention;
mod control;
mod conv;
mod conv_weight;
pub(crate) mod einsum;
mod elementwise;
mod grid;
mod local_response;
mod matmul;
mod movement;
mod movement_types;
mod normalization;
mod pool;
mod quantization;
mod recurrent;
mod recurrent_activations;
mod reduce;
mod resize;
mod scan;
mod scatter;
mod selection;
mod slice;
mod softmax;
mod subpixel;
mod trigonometry;
mod window;

use super::{
    builder::Builder,
    error::Result,
    graph::Node,
    linear::{Map, Site},
    shape::Infer,
};

pub(super) use self::movement::joined;

/// What the compiler knows about an operator.
pub(crate) struct Rule {
    pub(crate) operator: &'static str,
    pub(crate) infer: Infer,
    pub(crate) derivative: Derivative,
}

/// An operator's derivative, one block of its Jacobian at a time.
pub(crate) enum Derivative {
    /// Elementwise with numpy's broadcasting: the partial derivative, which broadcasts to the output's shape; `None` is 1.
    Factor(fn(&mut Builder, &Site) -> Result<Option<String>>),
    /// Any linear map.
    Linear(fn(&mut Builder, &Site) -> Result<Map>),
    /// A function of other operators: emits these and names the outputs in the node's order, with an empty name for one
    /// that is not there. They are differentiated in its place ([`super::expand`]).
    Composed(fn(&mut Builder, &Node) -> Result<Vec<String>>),
    /// Zero almost everywhere.
    Zero,
    /// None, for this reason.
    Refused(&'static str),
}

use Derivative as D;

const fn rule(operator: &'static str, infer: Infer, derivative: Derivative) -> Rule {
    Rule { operator, infer, derivative }
}

/// The tables, one for each family.
const FAMILIES: &[&[Rule]] = &[
    activation::RULES,
    attention::RULES,
    control::RULES,
    conv::RULES,
    einsum::RULES,
    elementwise::RULES,
    local_response::RULES,
    grid::RULES,
    matmul::RULES,
    movement::RULES,
    normalization::RULES,
    pool::RULES,
    quantization::RULES,
    recurrent::RULES,
    reduce::RULES,
    resize::RULES,
    scan::RULES,
    scatter::RULES,
    selection::RULES,
    softmax::RULES,
    trigonometry::RULES,
];

/// The rule of an operator of the standard domain.
pub(crate) fn find(operator: &str) -> Option<&'static Rule> {
    FAMILIES.iter().copied().flatten().find(|rule| rule.operator == operator)
}

/// Whether the types of an operator's outputs are those that the file declares, as its graphs tell no others.
pub(crate) fn has_declared_types(operator: &str) -> bool {
    control::RULES.iter().any(|rule| rule.operator == operator)
}

/// Why an operator without a rule cannot be differentiated, and what mends it.
pub(crate) fn missing(node: &Node) -> String {
    match node.qualified() {
        ("", _) => "the operator has no rule".to_owned(),
        (domain, _) if domain.starts_with("com.microsoft") || domain.starts_with("com.ms.") => {
            format!("it is of the domain `{domain}`{}", super::contrib::MEND)
        }
        (domain, _) => format!("it is of the domain `{domain}`; export the model with standard operators"),
    }
}

/// All rules.
pub(crate) fn all() -> impl Iterator<Item = &'static Rule> {
    FAMILIES.iter().copied().flatten()
}

/// The operators of the standard domain that have a derivative which is not zero everywhere.
pub fn differentiable() -> impl Iterator<Item = &'static str> {
    let rules = FAMILIES.iter().copied().flatten();
    rules
        .filter(|rule| matches!(rule.derivative, D::Factor(_) | D::Linear(_) | D::Composed(_)))
        .map(|rule| rule.operator)
}
