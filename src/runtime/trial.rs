//! A small model that tries a device out, written down byte by byte: this layer knows no graphs.

/// The input of [`model`]: 1 x 1 x 2 x 2.
pub(super) const INPUT: &str = "x";
/// The output of [`model`]: as its input.
pub(super) const OUTPUT: &str = "y";

/// `y = Relu(c c)` with `c` the convolution of `x` by a kernel of one element, 1: a kernel of cuDNN, one of cuBLAS and one
/// of ONNX Runtime's own. The fields are those of onnx.proto.
pub(super) fn model() -> Vec<u8> {
    const OPSET: u64 = 13;
    let nodes = [node("Conv", &[INPUT, "w"], "c"), node("MatMul", &["c", "c"], "p"), node("Relu", &["p"], OUTPUT)];
    let weight =
        [packed(1, &[1, 1, 1, 1]), varint(2, FLOAT), bytes(8, b"w"), bytes(9, &1.0_f32.to_le_bytes())].concat();
    let graph = [
        nodes.iter().flat_map(|node| bytes(1, node)).collect(),
        bytes(2, b"trial"),
        bytes(5, &weight),
        bytes(11, &port(INPUT)),
        bytes(12, &port(OUTPUT)),
    ]
    .concat();
    [varint(1, 8), bytes(7, &graph), bytes(8, &varint(2, OPSET))].concat()
}

/// float32 as onnx.proto numbers it.
const FLOAT: u64 = 1;

fn node(operator: &str, inputs: &[&str], output: &str) -> Vec<u8> {
    let inputs: Vec<u8> = inputs.iter().flat_map(|input| bytes(1, input.as_bytes())).collect();
    [inputs, bytes(2, output.as_bytes()), bytes(4, operator.as_bytes())].concat()
}

fn port(name: &str) -> Vec<u8> {
    let dims: Vec<u8> = [1, 1, 2, 2].iter().flat_map(|&size| bytes(1, &varint(1, size))).collect();
    let tensor = [varint(1, FLOAT), bytes(2, &dims)].concat();
    [bytes(1, name.as_bytes()), bytes(2, &bytes(1, &tensor))].concat()
}

/// A field of a whole number below 128.
fn varint(field: u8, number: u64) -> Vec<u8> {
    vec![field << 3, number as u8]
}

/// A field of fewer than 16,384 bytes.
fn bytes(field: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let length = if length < 128 { vec![length as u8] } else { vec![length as u8 | 0x80, (length >> 7) as u8] };
    [vec![field << 3 | 2], length, content.to_vec()].concat()
}

fn packed(field: u8, numbers: &[u8]) -> Vec<u8> {
    bytes(field, numbers)
}
