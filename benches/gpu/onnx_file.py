"""Writes ONNX files and .npz archives with nothing but Python's standard library, as a machine with a graphics card may
have no more than PyTorch.

The bytes are those of protocol buffers: a key for each field, which holds its number and its kind, then the value. Field
numbers are those of onnx.proto. Tensors are float32 and int64.
"""

import struct
import zipfile

FLOAT, INT64 = 1, 7
IR_VERSION, OPSET = 10, 20
VARINT, BYTES, FIXED32 = 0, 2, 5


def varint(number):
    """Seven bits a byte, the lowest first; a negative number as its two's complement in 64 bits."""
    number &= (1 << 64) - 1
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(encoded + bytes([number]))


def field(number, value):
    """A field of a message: an integer, a float, a text, or bytes, which may be a message of their own."""
    if isinstance(value, int):
        return varint(number << 3 | VARINT) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | FIXED32) + struct.pack("<f", value)
    encoded = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | BYTES) + varint(len(encoded)) + encoded


def fields(number, values):
    return b"".join(field(number, value) for value in values)


def attribute(name, value):
    """Of a node: an integer, a float, a text or a list of integers."""
    if isinstance(value, int):
        content = field(3, value) + field(20, 2)
    elif isinstance(value, float):
        content = field(2, value) + field(20, 1)
    elif isinstance(value, str):
        content = field(4, value) + field(20, 3)
    else:
        content = fields(8, value) + field(20, 7)
    return field(1, name) + content


def port(name, shape):
    """An input or output of a graph; a text in its shape names a dimension that varies."""
    sizes = [field(1, size) if isinstance(size, int) else field(2, size) for size in shape]
    tensor = field(1, FLOAT) + field(2, b"".join(field(1, size) for size in sizes))
    return field(1, name) + field(2, field(1, tensor))


class Graph:
    """A graph as it is put together: every operator gives the name of its one output."""

    def __init__(self):
        self.nodes, self.tensors, self.n_values = [], [], 0

    def name(self):
        self.n_values += 1
        return f"value{self.n_values}"

    def apply(self, operator, *inputs, output=None, **attributes):
        output = output or self.name()
        node = fields(1, inputs) + field(2, output) + field(3, output) + field(4, operator)
        self.nodes.append(node + fields(5, (attribute(*item) for item in sorted(attributes.items()))))
        return output

    def constant(self, shape, content, kind=FLOAT):
        """A tensor from its bytes, little-endian."""
        name = f"constant{len(self.tensors)}"
        self.tensors.append(fields(1, shape) + field(2, kind) + field(8, name) + field(9, content))
        return name

    def integers(self, *values):
        return self.constant([len(values)], struct.pack(f"<{len(values)}q", *values), INT64)

    def write(self, path, inputs, outputs):
        """`inputs` and `outputs` are pairs of a name and a shape."""
        graph = fields(1, self.nodes) + field(2, "network") + fields(5, self.tensors)
        graph += fields(11, (port(*item) for item in inputs)) + fields(12, (port(*item) for item in outputs))
        model = field(1, IR_VERSION) + field(2, "transferscore") + field(7, graph) + field(8, field(1, "") + field(2, OPSET))
        with open(path, "wb") as file:
            file.write(model)


def write_npz(path, name, shape, content):
    """An archive of one float32 array from its bytes, in C order and little-endian."""
    description = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {tuple(shape)!r}, }}"
    # Magic, version and length take ten bytes; the array begins at a multiple of 64.
    header = description.ljust((len(description) + 11 + 63) // 64 * 64 - 11) + "\n"
    with zipfile.ZipFile(path, "w") as archive:
        array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode("latin-1") + content
        archive.writestr(f"{name}.npy", array)
