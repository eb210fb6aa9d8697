//! Matrix products.

use super::{
    super::{
        builder::Builder,
        error::Result,
        graph::{Attribute, Dim, ValueType, display_shape},
        linear::{Chain, Elementwise, Map, Pair, Site},
        shape::{Inference, Inferred, broadcast, wrong},
    },
    Derivative as D, Rule, rule,
};

pub(super) const RULES: &[Rule] = &[
    rule("MatMul", matmul_type, D::Linear(matmul)),
    rule("Gemm", gemm_type, D::Linear(gemm)),
    rule("Det", det_type, D::Refused("its derivative needs the inverse of a matrix, for which ONNX has no operator")),
];

fn det_type(inference: &Inference) -> Inferred {
    let shape = inference.shape(0)?;
    match shape.split_last_chunk::<2>() {
        Some((batch, [rows, columns])) if !differ(rows, columns) => {
            Ok(vec![ValueType::new(inference.element(0)?, batch.to_vec())])
        }
        _ => wrong(format!("the shape {} is not one of square matrices", display_shape(shape))),
    }
}

fn differ(a: &Dim, b: &Dim) -> bool {
    matches!((a.known(), b.known()), (Some(a), Some(b)) if a != b)
}

fn matmul_type(inference: &Inference) -> Inferred {
    let (a, b) = (inference.shape(0)?, inference.shape(1)?);
    let mismatch = || format!("the shapes {} and {} do not multiply", display_shape(a), display_shape(b));
    let (Some((columns, a_rest)), Some((b_last, b_rest))) = (a.split_last(), b.split_last()) else {
        return wrong(mismatch());
    };
    // A vector on the left is a row, on the right a column; their axis of length 1 is dropped again.
    let (rows, a_batch) = a_rest.split_last().map_or((None, a_rest), |(rows, batch)| (Some(rows), batch));
    let (inner, result, b_batch) = match b_rest.split_last() {
        Some((inner, batch)) => (inner, Some(b_last), batch),
        None => (b_last, None, b_rest),
    };
    if differ(columns, inner) {
        return wrong(mismatch());
    }
    let mut shape = broadcast(a_batch, b_batch)?;
    shape.extend(rows.into_iter().chain(result).cloned());
    Ok(vec![ValueType::new(inference.element(0)?, shape)])
}

/// Y = A·B: tangents multiply on the same side; cotangents of A by Bᵀ on the right, of B by Aᵀ on the left, summed over
/// the batch axes that were broadcast.
fn matmul(builder: &mut Builder, site: &Site) -> Result<Map> {
    let (a, b) = (site.operand(0)?.to_owned(), site.operand(1)?.to_owned());
    let (a_is_vector, b_is_vector) = (builder.rank(&a)? == 1, builder.rank(&b)? == 1);
    let on_left = site.input == 0;
    let other = if on_left { b.clone() } else { a.clone() };
    let apply = move |builder: &mut Builder, tangent: &str| {
        let operands = if on_left { [tangent, other.as_str()] } else { [other.as_str(), tangent] };
        builder.emit("MatMul", &operands, &[])
    };
    let transpose = move |builder: &mut Builder, cotangent: &str| {
        let mut cotangent = cotangent.to_owned();
        if b_is_vector {
            cotangent = builder.unsqueezed(&cotangent, &[-1])?;
        }
        if a_is_vector {
            cotangent = builder.unsqueezed(&cotangent, &[-2])?;
        }
        if on_left {
            let matrix = if b_is_vector { builder.unsqueezed(&b, &[1])? } else { b.clone() };
            let matrix = builder.matrix_transposed(&matrix)?;
            let product = builder.emit("MatMul", &[&cotangent, &matrix], &[])?;
            return builder.summed_to(&product, &a);
        }
        let matrix = if a_is_vector { builder.unsqueezed(&a, &[0])? } else { a.clone() };
        let matrix = builder.matrix_transposed(&matrix)?;
        let mut product = builder.emit("MatMul", &[&matrix, &cotangent], &[])?;
        if b_is_vector {
            let last = builder.integers(&[-1])?;
            product = builder.emit("Squeeze", &[&product, &last], &[])?;
        }
        builder.summed_to(&product, &b)
    };
    Ok(Pair::of(apply, transpose))
}

fn gemm_type(inference: &Inference) -> Inferred {
    let (a, b) = (inference.shape(0)?, inference.shape(1)?);
    let ([a0, a1], [b0, b1]) = (a, b) else {
        return wrong(format!("the shapes {} and {} are not matrices", display_shape(a), display_shape(b)));
    };
    let flag = |name| inference.node.int(name).unwrap_or(0) != 0;
    let (rows, inner) = if flag("transA") { (a1, a0) } else { (a0, a1) };
    let (other, columns) = if flag("transB") { (b1, b0) } else { (b0, b1) };
    if differ(inner, other) {
        return wrong(format!("the shapes {} and {} do not multiply", display_shape(a), display_shape(b)));
    }
    Ok(vec![ValueType::new(inference.element(0)?, vec![rows.clone(), columns.clone()])])
}

/// Y = α·A′·B′ + β·C, where ′ transposes if the attribute says so.
fn gemm(builder: &mut Builder, site: &Site) -> Result<Map> {
    let node = site.node;
    let (trans_a, trans_b) = (node.int("transA").unwrap_or(0) != 0, node.int("transB").unwrap_or(0) != 0);
    let alpha = node.float("alpha").unwrap_or(1.0);
    if site.input == 2 {
        let beta = f64::from(node.float("beta").unwrap_or(1.0));
        let factor = builder.scalar(beta, site.y())?;
        return Ok(Box::new(Chain(vec![Elementwise::at(site, Some(factor))])));
    }
    let product = move |builder: &mut Builder, left: &str, trans_left: bool, right: &str, trans_right: bool| {
        let attributes = [
            ("alpha", Attribute::Float(alpha)),
            ("transA", Attribute::Int(trans_left.into())),
            ("transB", Attribute::Int(trans_right.into())),
        ];
        builder.emit("Gemm", &[left, right], &attributes)
    };
    let (a, b) = (site.operand(0)?.to_owned(), site.operand(1)?.to_owned());
    if site.input == 0 {
        let fixed = b.clone();
        return Ok(Pair::of(
            move |builder, t| product(builder, t, trans_a, &b, trans_b),
            move |builder, c| {
                if trans_a {
                    product(builder, &fixed, trans_b, c, true)
                } else {
                    product(builder, c, false, &fixed, !trans_b)
                }
            },
        ));
    }
    let fixed = a.clone();
    Ok(Pair::of(
        move |builder, t| product(builder, &a, trans_a, t, trans_b),
        move |builder, c| {
            if trans_b {
                product(builder, c, true, &fixed, trans_a)
            } else {
                product(builder, &fixed, !trans_a, c, false)
            }
        },
    ))
}
