//! Which operators ONNX Runtime's CUDA execution provider has kernels for, and that gradient graphs for it keep to them: one
//! without would run on the CPU, with copies there and back.
//!
//! The lists are ONNX Runtime's `docs/OperatorKernels.md`, section CUDAExecutionProvider, at opset 21, to which older models
//! are written. A node's type is that of its first input that is a number.

use std::{collections::BTreeSet, path::Path};

use transferscore::gradient::{ElementType, Graph, Target, jvp, onnx, vjp, vjp_parts};

use super::{ModelProto, network, preprocessed, step_of_attack, step_of_training};
use crate::gradient::operators::FAMILIES;

/// For all float types; some for others too.
const OF_FLOATS: &[&str] = &[
    "AveragePool",
    "BatchNormalization",
    "Ceil",
    "Clip",
    "Conv",
    "ConvTranspose",
    "Cos",
    "DepthToSpace",
    "Dropout",
    "Einsum",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "GRU",
    "Gelu",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "HardSigmoid",
    "HardSwish",
    "InstanceNormalization",
    "IsInf",
    "IsNaN",
    "LRN",
    "LSTM",
    "LayerNormalization",
    "LeakyRelu",
    "Log",
    "LogSoftmax",
    "MatMul",
    "MaxPool",
    "PRelu",
    "Pad",
    "RNN",
    "Reciprocal",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSumSquare",
    "Relu",
    "Resize",
    "Round",
    "Selu",
    "Sigmoid",
    "Sin",
    "Softmax",
    "Softplus",
    "Softsign",
    "SpaceToDepth",
    "Sqrt",
    "Sum",
    "Tanh",
    "ThresholdedRelu",
];

/// For float32, float64, float16, int32 and int64.
const OF_NUMBERS: &[&str] = &[
    "Abs",
    "Add",
    "CumSum",
    "Div",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Min",
    "Mod",
    "Mul",
    "Neg",
    "Pow",
    "ReduceSum",
    "Shrink",
    "Sign",
    "Sub",
    "Tile",
    "TopK",
    "Where",
];

/// For all types.
const OF_ANYTHING: &[&str] = &[
    "Cast",
    "Compress",
    "Concat",
    "ConstantOfShape",
    "Expand",
    "Flatten",
    "Gather",
    "GatherElements",
    "Identity",
    "Reshape",
    "ReverseSequence",
    "ScatterElements",
    "ScatterND",
    "Shape",
    "Size",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Trilu",
    "Unsqueeze",
];

/// For all float types, from opset 23 on.
const OF_NEW_OPSETS: &[&str] = &["RMSNormalization", "RotaryEmbedding"];

/// For some types.
const OF_SOME: &[(&str, &[ElementType])] = &[
    ("And", &[ElementType::Bool]),
    ("EyeLike", &[ElementType::Float32, ElementType::Float64, ElementType::Int32, ElementType::Int64]),
    (
        "GatherND",
        &[ElementType::Bool, ElementType::Float32, ElementType::Float64, ElementType::Float16, ElementType::Int64],
    ),
    (
        "NonZero",
        &[ElementType::Bool, ElementType::Float32, ElementType::Float16, ElementType::Int32, ElementType::Int64],
    ),
    ("Not", &[ElementType::Bool]),
    ("OneHot", &[ElementType::Int32, ElementType::Int64]),
    ("Or", &[ElementType::Bool]),
    ("Range", &[ElementType::Float32, ElementType::Float64, ElementType::Int32, ElementType::Int64]),
    ("Xor", &[ElementType::Bool]),
];

/// Without a kernel, and in gradient graphs of models that have them: there is the model's own node, and where it is linear
/// the same again. The derivative of `Sinh` is `Cosh`, and the other way round.
const OF_THE_MODEL: &[&str] = &[
    "Acos",
    "Acosh",
    "AffineGrid",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Celu",
    "CenterCropPad",
    "Col2Im",
    "MaxUnpool",
    "Mean",
    "Mish",
    "Tan",
];

fn has_kernel(operator: &str, element: Option<ElementType>) -> bool {
    let is_one_of = |types: &[ElementType]| element.is_none_or(|element| types.contains(&element));
    let floats = [ElementType::Float32, ElementType::Float64, ElementType::Float16];
    OF_ANYTHING.contains(&operator)
        || (OF_FLOATS.iter().chain(OF_NEW_OPSETS).any(|other| *other == operator) && is_one_of(&floats))
        || (OF_NUMBERS.contains(&operator)
            && is_one_of(&[&floats[..], &[ElementType::Int32, ElementType::Int64]].concat()))
        || OF_SOME.iter().any(|(other, types)| *other == operator && is_one_of(types))
}

/// What runs on the CPU in graphs for CUDA: operators, with the element types that they have no kernel for.
fn without_kernel(graphs: &[Graph], model: &Graph) -> BTreeSet<String> {
    let own: Vec<String> = model.operator_counts().into_iter().map(|(operator, _)| operator).collect();
    let own = |operator: &str| own.iter().any(|other| other == operator);
    let mut found = BTreeSet::new();
    for graph in graphs {
        let proto: ModelProto = prost::Message::decode(graph.to_onnx().as_slice()).unwrap();
        let proto = proto.graph.unwrap();
        for node in &proto.node {
            let condition = usize::from(node.op_type == "Where");
            let element = node.input.get(condition).and_then(|name| element_of(&proto, name));
            let excused = match node.op_type.as_str() {
                "Sinh" | "Cosh" => own("Sinh") || own("Cosh"),
                operator => OF_THE_MODEL.contains(&operator) && own(operator),
            };
            if !has_kernel(&node.op_type, element) && !excused {
                found.insert(format!("{} of {element:?}", node.op_type));
            }
        }
    }
    found
}

fn element_of(graph: &onnx::GraphProto, name: &str) -> Option<ElementType> {
    let values = graph.input.iter().chain(&graph.output).chain(&graph.value_info);
    let declared =
        values.filter(|value| value.name == name).find_map(|value| match value.r#type.as_ref()?.value.as_ref()? {
            onnx::type_proto::Value::TensorType(tensor) => Some(tensor.elem_type),
            _ => None,
        });
    let constants = graph.initializer.iter().filter(|tensor| tensor.name == name).map(|tensor| tensor.data_type);
    declared.into_iter().chain(constants).find_map(ElementType::from_code)
}

#[test]
fn gradients_of_every_operator_keep_to_kernels() {
    let mut failures = Vec::new();
    for (operator, case) in FAMILIES.iter().flat_map(|family| family()) {
        let graph = super::on_cuda(&case.model);
        let graphs = [vjp(&graph, &[], &[]).unwrap(), jvp(&graph, &[], &[]).unwrap()];
        let found = without_kernel(&graphs, &graph);
        if !found.is_empty() {
            failures.push(format!("{operator}: {found:?}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn gradients_and_steps_of_networks_keep_to_kernels() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let files = ["digits-reference", "digits-50"].map(str::to_owned).into_iter();
    let architectures = ["alexnet", "fully-connected", "lenet", "mobilenet-v2", "resnet-18", "resnet-50", "vit"];
    let files = files.chain(architectures.map(|name| format!("experiments/architectures/{name}-seed-0")));
    for file in files {
        let bytes = std::fs::read(folder.join(&file).join("model.onnx")).unwrap();
        let graph = Graph::parse(bytes.into()).unwrap().for_target(Target::Cuda);
        let parts = vjp_parts(&graph, &[], &[]).unwrap();
        let graphs = [jvp(&graph, &[], &[]).unwrap(), parts.forward, parts.backward];
        assert_eq!(without_kernel(&graphs, &graph), BTreeSet::new(), "{file}");
    }
    let graph = preprocessed(&super::on_cuda(&network()));
    assert_eq!(without_kernel(&[step_of_attack(&graph), step_of_training(&graph)], &graph), BTreeSet::new());
}
