//! Trigonometric and hyperbolic functions and their inverses, beyond sine, cosine and tanh.

use super::{
    super::{builder::Builder, error::Result, linear::Site},
    Derivative as D, Rule,
    elementwise::{some, unary},
    rule,
};

pub(super) const RULES: &[Rule] = &[
    rule("Tan", unary, D::Factor(tangent)),
    rule("Asin", unary, D::Factor(|b, s| inverse_root(b, s, -1.0, 1.0, 1.0))),
    rule("Acos", unary, D::Factor(|b, s| inverse_root(b, s, -1.0, 1.0, -1.0))),
    rule("Asinh", unary, D::Factor(|b, s| inverse_root(b, s, 1.0, 1.0, 1.0))),
    rule("Acosh", unary, D::Factor(|b, s| inverse_root(b, s, 1.0, -1.0, 1.0))),
    rule("Atan", unary, D::Factor(|b, s| inverse_polynomial(b, s, 1.0))),
    rule("Atanh", unary, D::Factor(|b, s| inverse_polynomial(b, s, -1.0))),
    rule("Sinh", unary, D::Factor(|b, s| b.unary("Cosh", s.x()).map(Some))),
    rule("Cosh", unary, D::Factor(|b, s| b.unary("Sinh", s.x()).map(Some))),
];

/// 1 + y².
fn tangent(builder: &mut Builder, site: &Site) -> Result<Option<String>> {
    some(builder, |b| {
        let square = b.mul(site.y(), site.y())?;
        b.shifted(&square, 1.0)
    })
}

/// `quadratic·x² + constant`.
fn polynomial(builder: &mut Builder, x: &str, quadratic: f64, constant: f64) -> Result<String> {
    let square = builder.mul(x, x)?;
    let scaled = if quadratic < 0.0 { builder.unary("Neg", &square)? } else { square };
    builder.shifted(&scaled, constant)
}

/// `sign/√(quadratic·x² + constant)`.
fn inverse_root(
    builder: &mut Builder,
    site: &Site,
    quadratic: f64,
    constant: f64,
    sign: f64,
) -> Result<Option<String>> {
    some(builder, |b| {
        let base = polynomial(b, site.x(), quadratic, constant)?;
        let root = b.unary("Sqrt", &base)?;
        let sign = b.scalar(sign, site.x())?;
        b.div(&sign, &root)
    })
}

/// `1/(quadratic·x² + 1)`.
fn inverse_polynomial(builder: &mut Builder, site: &Site, quadratic: f64) -> Result<Option<String>> {
    some(builder, |b| {
        let base = polynomial(b, site.x(), quadratic, 1.0)?;
        b.unary("Reciprocal", &base)
    })
}
