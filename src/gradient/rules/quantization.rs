//! Quantisation. Rounding has a derivative of zero almost everywhere, which says nothing about the network; what is
//! quantised on the way is refused, while weights that are stored so are constants like others.

use super::{
    super::{
        graph::{ElementType, ValueType},
        shape::{Cause, Inference, Inferred},
    },
    Derivative as D, Rule, rule,
};

const ROUNDED: D =
    D::Refused("it computes with rounded numbers, whose derivative is zero almost everywhere; use the float model");

pub(super) const RULES: &[Rule] = &[
    rule("QuantizeLinear", quantized_type, ROUNDED),
    rule("DequantizeLinear", dequantized_type, ROUNDED),
    rule("DynamicQuantizeLinear", dynamic_type, ROUNDED),
    rule("QLinearConv", unknown, ROUNDED),
    rule("QLinearMatMul", unknown, ROUNDED),
    rule("ConvInteger", unknown, ROUNDED),
    rule("MatMulInteger", unknown, ROUNDED),
];

/// What the file declares is used.
fn unknown(_: &Inference) -> Inferred {
    Err(Cause::Unknown)
}

fn quantized_type(inference: &Inference) -> Inferred {
    let code = inference.node.int("output_dtype").filter(|code| *code != 0);
    let element = match (inference.node.input(2), code) {
        (Some(_), _) => inference.element(2)?,
        (None, Some(code)) => i32::try_from(code).ok().and_then(ElementType::from_code).ok_or(Cause::Unknown)?,
        (None, None) => ElementType::Uint8,
    };
    Ok(vec![ValueType { element, shape: inference.value_type(0)?.shape.clone() }])
}

fn dequantized_type(inference: &Inference) -> Inferred {
    let element = inference.element(1)?;
    Ok(vec![ValueType { element, shape: inference.value_type(0)?.shape.clone() }])
}

fn dynamic_type(inference: &Inference) -> Inferred {
    let quantized = ValueType { element: ElementType::Uint8, shape: inference.value_type(0)?.shape.clone() };
    let scalar = |element| ValueType::new(element, vec![]);
    Ok(vec![quantized, scalar(ElementType::Float32), scalar(ElementType::Uint8)])
}
