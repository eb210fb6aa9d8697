//! Arithmetic, comparisons and elementary functions, with numpy's broadcasting.

use super::{
    super::{
        builder::Builder,
        error::Result,
        graph::{ElementType, ValueType},
        linear::Site,
        shape::{Cause, Inference, Inferred, broadcast},
    },
    Derivative as D, Rule, rule,
};

pub(super) const RULES: &[Rule] = &[
    rule("Add", broadcasting, D::Factor(|_, _| Ok(None))),
    rule("Sub", broadcasting, D::Factor(|b, s| if s.input == 0 { Ok(None) } else { b.scalar(-1.0, s.y()).map(Some) })),
    rule(
        "Mul",
        broadcasting,
        D::Factor(|_, s| s.operand(usize::from(s.input == 0)).map(|other| Some(other.to_owned()))),
    ),
    rule("Div", broadcasting, D::Factor(div)),
    rule("Pow", power_type, D::Factor(pow)),
    rule("Mod", broadcasting, D::Factor(modulo)),
    rule("Sum", broadcasting, D::Factor(|_, _| Ok(None))),
    rule("Mean", broadcasting, D::Factor(|b, s| b.scalar(1.0 / s.node.inputs.len() as f64, s.y()).map(Some))),
    rule("Max", broadcasting, D::Factor(extremum)),
    rule("Min", broadcasting, D::Factor(extremum)),
    rule("Where", where_type, D::Factor(select)),
    rule("Identity", unary, D::Factor(|_, _| Ok(None))),
    rule("Neg", unary, D::Factor(|b, s| b.scalar(-1.0, s.y()).map(Some))),
    rule("Abs", unary, D::Factor(|b, s| b.unary("Sign", s.x()).map(Some))),
    rule(
        "Reciprocal",
        unary,
        D::Factor(|b, s| {
            some(b, |b| {
                let square = b.mul(s.y(), s.y())?;
                b.unary("Neg", &square)
            })
        }),
    ),
    rule("Exp", unary, D::Factor(|_, s| Ok(Some(s.y().to_owned())))),
    rule("Log", unary, D::Factor(|b, s| b.unary("Reciprocal", s.x()).map(Some))),
    rule(
        "Sqrt",
        unary,
        D::Factor(|b, s| {
            some(b, |b| {
                let half = b.scalar(0.5, s.y())?;
                b.div(&half, s.y())
            })
        }),
    ),
    rule("Erf", unary, D::Factor(|b, s| some(b, |b| gaussian(b, s.x(), 1.0, std::f64::consts::FRAC_2_SQRT_PI)))),
    rule("Sin", unary, D::Factor(|b, s| b.unary("Cos", s.x()).map(Some))),
    rule(
        "Cos",
        unary,
        D::Factor(|b, s| {
            some(b, |b| {
                let sine = b.unary("Sin", s.x())?;
                b.unary("Neg", &sine)
            })
        }),
    ),
    rule("Cast", cast_type, D::Linear(cast)),
    rule("Floor", unary, D::Zero),
    rule("Ceil", unary, D::Zero),
    rule("Round", unary, D::Zero),
    rule("Sign", unary, D::Zero),
    rule("Equal", predicate, D::Zero),
    rule("Greater", predicate, D::Zero),
    rule("GreaterOrEqual", predicate, D::Zero),
    rule("Less", predicate, D::Zero),
    rule("LessOrEqual", predicate, D::Zero),
    rule("And", predicate, D::Zero),
    rule("Or", predicate, D::Zero),
    rule("Xor", predicate, D::Zero),
    rule("Not", predicate, D::Zero),
    rule("IsNaN", predicate, D::Zero),
    rule("IsInf", predicate, D::Zero),
];

/// Runs a derivation and marks its value as a factor.
pub(super) fn some(builder: &mut Builder, emit: impl FnOnce(&mut Builder) -> Result<String>) -> Result<Option<String>> {
    emit(builder).map(Some)
}

/// The output has the type of the only input.
pub(super) fn unary(inference: &Inference) -> Inferred {
    Ok(vec![inference.value_type(0)?.clone()])
}

/// The output has the element type of the first input and the shape that all inputs broadcast to.
pub(super) fn broadcasting(inference: &Inference) -> Inferred {
    let element = inference.element(0)?;
    Ok(vec![broadcast_all(inference, element, 0)?])
}

fn predicate(inference: &Inference) -> Inferred {
    Ok(vec![broadcast_all(inference, ElementType::Bool, 0)?])
}

fn power_type(inference: &Inference) -> Inferred {
    broadcasting(inference)
}

fn where_type(inference: &Inference) -> Inferred {
    Ok(vec![broadcast_all(inference, inference.element(1)?, 0)?])
}

fn broadcast_all(inference: &Inference, element: ElementType, first: usize) -> Inferred<ValueType> {
    let mut shape = Vec::new();
    for index in first..inference.node.inputs.len() {
        match inference.shape(index) {
            Ok(other) => shape = broadcast(&shape, other)?,
            Err(Cause::Unknown) => return Ok(ValueType { element, shape: None }),
            Err(contradiction) => return Err(contradiction),
        }
    }
    Ok(ValueType::new(element, shape))
}

fn cast_type(inference: &Inference) -> Inferred {
    let code = inference.node.int("to").ok_or_else(|| Cause::Wrong("the attribute `to` is missing".to_owned()))?;
    let element = i32::try_from(code).ok().and_then(ElementType::from_code).ok_or(Cause::Unknown)?;
    let shape = inference.graph.types.get(inference.node.input(0).unwrap_or("")).and_then(|t| t.shape.clone());
    Ok(vec![ValueType { element, shape }])
}

/// A cast between float types; the tangent is cast along, the cotangent back.
fn cast(builder: &mut Builder, site: &Site) -> Result<super::super::linear::Map> {
    let (from, to) = (builder.element(site.x())?, builder.element(site.y())?);
    Ok(super::super::linear::Pair::of(move |b, t| b.cast(t, to), move |b, c| b.cast(c, from)))
}

/// ∂(a/b)/∂a = 1/b, ∂(a/b)/∂b = −y/b.
fn div(builder: &mut Builder, site: &Site) -> Result<Option<String>> {
    let divisor = site.operand(1)?;
    some(builder, |b| {
        if site.input == 0 {
            return b.unary("Reciprocal", divisor);
        }
        let quotient = b.div(site.y(), divisor)?;
        b.unary("Neg", &quotient)
    })
}

/// ∂(xᵖ)/∂x = p·xᵖ⁻¹ and ∂(xᵖ)/∂p = xᵖ·ln x, which is taken as 0 where x ≤ 0 and there is no derivative.
fn pow(builder: &mut Builder, site: &Site) -> Result<Option<String>> {
    let (x, exponent) = (site.operand(0)?, site.operand(1)?);
    if site.input == 1 {
        return some(builder, |b| exponent_slope(b, x, site.y()));
    }
    let constant = builder.graph().initializers.get(exponent).and_then(|tensor| {
        tensor.scalar().or_else(|| match tensor.integers()?.as_slice() {
            [value] => Some(*value as f64),
            _ => None,
        })
    });
    some(builder, |b| match constant {
        Some(value @ (0.0 | 1.0)) => b.scalar(value, x),
        Some(2.0) => b.scaled(x, 2.0),
        Some(0.5) => {
            let half = b.scalar(0.5, site.y())?;
            b.div(&half, site.y())
        }
        Some(value) => {
            let lower = b.scalar(value - 1.0, x)?;
            let power = b.emit("Pow", &[x, &lower], &[])?;
            b.scaled(&power, value)
        }
        None => {
            let element = b.element(x)?;
            let exponent = b.cast(exponent, element)?;
            let lower = b.shifted(&exponent, -1.0)?;
            let power = b.emit("Pow", &[x, &lower], &[])?;
            let slope = b.mul(&power, &exponent)?;
            // 0·0⁻¹ is no number, but the derivative of x⁰ is 0.
            let zero = b.scalar(0.0, x)?;
            let flat = b.emit("Equal", &[&exponent, &zero], &[])?;
            b.emit("Where", &[&flat, &zero, &slope], &[])
        }
    })
}

fn exponent_slope(builder: &mut Builder, x: &str, y: &str) -> Result<String> {
    let (zero, one) = (builder.scalar(0.0, x)?, builder.scalar(1.0, x)?);
    let positive = builder.emit("Greater", &[x, &zero], &[])?;
    let base = builder.emit("Where", &[&positive, x, &one], &[])?;
    let log = builder.unary("Log", &base)?;
    let slope = builder.mul(y, &log)?;
    builder.emit("Where", &[&positive, &slope, &zero], &[])
}

/// y = x − z·q with an integer q: 1 and −q.
fn modulo(builder: &mut Builder, site: &Site) -> Result<Option<String>> {
    if site.input == 0 {
        return Ok(None);
    }
    let (x, divisor) = (site.operand(0)?, site.operand(1)?);
    some(builder, |b| {
        let rest = b.sub(site.y(), x)?;
        let quotient = b.div(&rest, divisor)?;
        b.unary("Round", &quotient)
    })
}

/// 1 for the inputs that give the extremum, shared evenly among equals.
fn extremum(builder: &mut Builder, site: &Site) -> Result<Option<String>> {
    some(builder, |b| {
        let mut masks = Vec::new();
        for index in 0..site.node.inputs.len() {
            let equal = b.emit("Equal", &[site.operand(index)?, site.y()], &[])?;
            masks.push(b.mask(&equal, site.y())?);
        }
        let own = masks.get(site.input).cloned().ok_or_else(|| site.refuse("an input is missing"))?;
        let masks: Vec<&str> = masks.iter().map(String::as_str).collect();
        let count = b.emit("Sum", &masks, &[])?;
        b.div(&own, &count)
    })
}

/// The condition for the first value, its opposite for the second.
fn select(builder: &mut Builder, site: &Site) -> Result<Option<String>> {
    let condition = site.operand(0)?;
    some(builder, |b| {
        if site.input == 1 {
            return b.mask(condition, site.y());
        }
        let opposite = b.unary("Not", condition)?;
        b.mask(&opposite, site.y())
    })
}

/// `scale · exp(−sharpness·x²)`.
pub(super) fn gaussian(builder: &mut Builder, x: &str, sharpness: f64, scale: f64) -> Result<String> {
    let square = builder.mul(x, x)?;
    let exponent = builder.scaled(&square, -sharpness)?;
    let density = builder.unary("Exp", &exponent)?;
    builder.scaled(&density, scale)
}
