//! The operators: for each one how its outputs' types follow and what its derivative is.
//!
//! A new operator is one entry in the table of the file that it belongs to. The tests take every entry that has a
//! derivative and fail for one without a case.

mod activation;
mod conv;
mod elementwise;
mod matmul;
mod movement;
mod movement_types;
mod normalization;
mod pool;
mod reduce;
mod softmax;
mod window;

use super::{
    builder::Builder,
    error::Result,
    linear::{Map, Site},
    shape::Infer,
};

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
    conv::RULES,
    elementwise::RULES,
    matmul::RULES,
    movement::RULES,
    normalization::RULES,
    pool::RULES,
    reduce::RULES,
    softmax::RULES,
];

/// The rule of an operator of the standard domain.
pub(crate) fn find(operator: &str) -> Option<&'static Rule> {
    FAMILIES.iter().copied().flatten().find(|rule| rule.operator == operator)
}

/// The operators of the standard domain that have a derivative which is not zero everywhere.
pub fn differentiable() -> impl Iterator<Item = &'static str> {
    let rules = FAMILIES.iter().copied().flatten();
    rules.filter(|rule| matches!(rule.derivative, D::Factor(_) | D::Linear(_))).map(|rule| rule.operator)
}
