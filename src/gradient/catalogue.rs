//! What is supported, operator by operator, for the documentation.

use std::collections::BTreeMap;

use super::{
    convert,
    graph::{NEWEST_OPSET, OLDEST_OPSET},
    rules::{self, Derivative},
};

/// Operators that are younger than the oldest opset that is read, with the opset they came with.
#[rustfmt::skip]
const INTRODUCED: &[(&str, i64)] = &[
    ("Acosh", 9), ("AffineGrid", 20), ("Asinh", 9), ("Atanh", 9), ("Attention", 23), ("Bernoulli", 15),
    ("BitCast", 26), ("BitShift", 11), ("BitwiseAnd", 18), ("BitwiseNot", 18), ("BitwiseOr", 18), ("BitwiseXor", 18),
    ("BlackmanWindow", 17), ("CastLike", 15), ("Celu", 12), ("CenterCropPad", 18), ("Col2Im", 18), ("Compress", 9),
    ("ConcatFromSequence", 11), ("ConstantOfShape", 9), ("ConvInteger", 10), ("Cosh", 9), ("CumProd", 26),
    ("CumSum", 11), ("DFT", 17), ("DeformConv", 19), ("DequantizeLinear", 10), ("Det", 11),
    ("DynamicQuantizeLinear", 11), ("Einsum", 12), ("Erf", 9), ("Expand", 8), ("EyeLike", 9), ("GatherElements", 11),
    ("GatherND", 11), ("Gelu", 20), ("GreaterOrEqual", 12), ("GridSample", 16), ("GroupNormalization", 18),
    ("HammingWindow", 17), ("HannWindow", 17), ("HardSwish", 14), ("ImageDecoder", 20), ("IsInf", 10), ("IsNaN", 9),
    ("LayerNormalization", 17), ("LessOrEqual", 12), ("MatMulInteger", 10), ("MaxUnpool", 9),
    ("MeanVarianceNormalization", 9), ("MelWeightMatrix", 17), ("Mish", 18), ("Mod", 10),
    ("NegativeLogLikelihoodLoss", 12), ("NonMaxSuppression", 10), ("NonZero", 9), ("OneHot", 9), ("Optional", 15),
    ("OptionalGetElement", 15), ("OptionalHasElement", 15), ("QLinearConv", 10), ("QLinearMatMul", 10),
    ("QuantizeLinear", 10), ("RMSNormalization", 23), ("Range", 11), ("RegexFullMatch", 20), ("Resize", 10),
    ("ReverseSequence", 10), ("RoiAlign", 10), ("RotaryEmbedding", 23), ("Round", 11), ("STFT", 17), ("Scan", 8),
    ("Scatter", 9), ("ScatterElements", 11), ("ScatterND", 11), ("SequenceAt", 11), ("SequenceConstruct", 11),
    ("SequenceEmpty", 11), ("SequenceErase", 11), ("SequenceInsert", 11), ("SequenceLength", 11), ("SequenceMap", 17),
    ("Shrink", 9), ("Sign", 9), ("Sinh", 9), ("SoftmaxCrossEntropyLoss", 12), ("SplitToSequence", 11),
    ("StringConcat", 20), ("StringNormalizer", 10), ("StringSplit", 20), ("Swish", 24), ("TensorScatter", 24),
    ("TfIdfVectorizer", 9), ("ThresholdedRelu", 10), ("Trilu", 14), ("Unique", 11), ("Where", 9),
];

/// Operators that later opsets do not have any more, with the last one that has them.
const LAST: &[(&str, i64)] = &[("Scatter", 10), ("Upsample", 9)];

/// What is known of an operator's derivative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// Differentiated in both modes.
    Derivative,
    /// Zero wherever it is defined.
    Zero,
    /// Not differentiated, for this reason.
    Refused(&'static str),
    /// Becomes other operators on reading.
    Converted,
}

/// An operator that the compiler knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// With its domain before it, unless that is the standard one.
    pub name: &'static str,
    pub support: Support,
    /// The first and the last opset of files that it is read from; `None` outside the standard domain.
    pub opsets: Option<(i64, i64)>,
}

/// All operators that the compiler knows, in order of name.
pub fn operators() -> Vec<Operator> {
    let mut known: BTreeMap<&'static str, Support> =
        convert::operators().map(|operator| (operator, Support::Converted)).collect();
    for rule in rules::all() {
        let support = match rule.derivative {
            Derivative::Zero => Support::Zero,
            Derivative::Refused(reason) => Support::Refused(reason),
            _ => Support::Derivative,
        };
        known.insert(rule.operator, support);
    }
    known.into_iter().map(|(name, support)| Operator { name, support, opsets: opsets(name) }).collect()
}

fn opsets(name: &str) -> Option<(i64, i64)> {
    if name.contains("::") {
        return None;
    }
    let of = |table: &[(&str, i64)]| table.iter().find(|(operator, _)| *operator == name).map(|(_, opset)| *opset);
    Some((of(INTRODUCED).unwrap_or(OLDEST_OPSET), of(LAST).unwrap_or(NEWEST_OPSET)))
}
