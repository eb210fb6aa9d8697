//! Nodes that choose or repeat whole graphs, and values that nothing computes with. They run where no gradient passes.

use super::{
    super::shape::{Cause, Inference, Inferred},
    Derivative as D, Rule, rule,
};

pub(super) const RULES: &[Rule] = &[
    rule(
        "If",
        declared,
        D::Refused(
            "its condition is computed at run time; export the model for one branch, or with input sizes that decide it",
        ),
    ),
    rule("Loop", declared, D::Refused("it repeats a graph; export the model with the loop unrolled")),
    rule("Scan", declared, D::Refused("it repeats a graph; export the model with the loop unrolled")),
    rule("Constant", declared, D::Zero),
];

/// The types that the file declares are all that is known.
fn declared(_: &Inference) -> Inferred {
    Err(Cause::Unknown)
}
