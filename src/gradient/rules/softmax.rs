//! Softmax and its logarithm.

use super::{
    super::{
        builder::Builder,
        error::Result,
        linear::{Map, Pair, Site},
        shape::{Inference, Inferred},
    },
    Derivative as D, Rule, rule,
};

pub(super) const RULES: &[Rule] = &[
    rule("Softmax", type_along_axis, D::Linear(softmax)),
    rule("LogSoftmax", type_along_axis, D::Linear(log_softmax)),
    rule("Hardmax", type_along_axis, D::Zero),
];

/// The input's type, if it has the axis.
fn type_along_axis(inference: &Inference) -> Inferred {
    if let Ok(shape) = inference.shape(0) {
        inference.axis("axis", -1, shape.len())?;
    }
    Ok(vec![inference.value_type(0)?.clone()])
}

fn axis_of(site: &Site) -> i64 {
    site.node.int("axis").unwrap_or(-1)
}

/// `J t = y ⊙ (t − Σ y ⊙ t)`, which is its own adjoint.
fn softmax(_: &mut Builder, site: &Site) -> Result<Map> {
    let (y, axis) = (site.y().to_owned(), axis_of(site));
    let map = move |builder: &mut Builder, value: &str| {
        let product = builder.mul(&y, value)?;
        let sum = builder.reduce_sum(&product, &[axis], true)?;
        let centred = builder.sub(value, &sum)?;
        builder.mul(&y, &centred)
    };
    Ok(Pair::of(map.clone(), map))
}

/// With p = exp(y): `J t = t − Σ p ⊙ t` and `Jᵀ c = c − p ⊙ Σ c`.
fn log_softmax(builder: &mut Builder, site: &Site) -> Result<Map> {
    let axis = axis_of(site);
    let probabilities = builder.unary("Exp", site.y())?;
    let same = probabilities.clone();
    Ok(Pair::of(
        move |builder, tangent| {
            let product = builder.mul(&probabilities, tangent)?;
            let sum = builder.reduce_sum(&product, &[axis], true)?;
            builder.sub(tangent, &sum)
        },
        move |builder, cotangent| {
            let sum = builder.reduce_sum(cotangent, &[axis], true)?;
            let product = builder.mul(&same, &sum)?;
            builder.sub(cotangent, &product)
        },
    ))
}
