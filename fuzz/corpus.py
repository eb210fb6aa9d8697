"""Writes the files that fuzzing begins with, corpus/TARGET/, from what is in the repository and from nothing else. Those
named valid… are taken by their parser, the others are refused; a test holds them to it.

    make clients && .venv/bin/python fuzz/corpus.py
"""

import io
import pathlib
import struct
import sys
import tarfile
import tempfile
import zipfile

from grpc_tools import protoc

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent
GOLDEN = ROOT / "tests/golden/datasets"
FLOAT, INT64, FLOAT16 = 1, 7, 10


def stubs():
    """The messages of the repository's own .proto files."""
    folder = tempfile.mkdtemp()
    sources = [str(path) for path in (ROOT / "proto").rglob("*.proto")]
    status = protoc.main(["protoc", f"-I{ROOT}/proto", f"-I{protoc_include()}", f"--python_out={folder}", *sources])
    assert status == 0, "protoc failed"
    sys.path.insert(0, folder)


def protoc_include():
    import grpc_tools

    return pathlib.Path(grpc_tools.__file__).parent / "_proto"


def put(target, name, data):
    file = HERE / "corpus" / target / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


# Models.


def tensor(name, dims, values, kind=FLOAT):
    from onnx import onnx_pb2

    form = {FLOAT: "f", INT64: "q", FLOAT16: "e"}[kind]
    raw = struct.pack(f"<{len(values)}{form}", *values)
    return onnx_pb2.TensorProto(name=name, dims=dims, data_type=kind, raw_data=raw)


def weight(name, *dims):
    count = 1
    for length in dims:
        count *= length
    return tensor(name, dims, [((7 * index) % 11 - 5) / 8 for index in range(count)])


def value(name, dims=None, kind=FLOAT):
    from onnx import onnx_pb2

    info = onnx_pb2.ValueInfoProto(name=name)
    info.type.tensor_type.elem_type = kind
    for length in dims or []:
        dimension = info.type.tensor_type.shape.dim.add()
        if isinstance(length, str):
            dimension.dim_param = length
        else:
            dimension.dim_value = length
    return info


def node(op, inputs, outputs, **attributes):
    from onnx import onnx_pb2

    made = onnx_pb2.NodeProto(op_type=op, input=inputs.split(), output=outputs.split())
    for name, given in attributes.items():
        attribute = made.attribute.add(name=name)
        if isinstance(given, int):
            attribute.i, attribute.type = given, 2
        elif isinstance(given, float):
            attribute.f, attribute.type = given, 1
        elif isinstance(given, list):
            attribute.ints.extend(given)
            attribute.type = 7
        elif isinstance(given, onnx_pb2.GraphProto):
            attribute.g.CopyFrom(given)
            attribute.type = 5
        else:
            attribute.t.CopyFrom(given)
            attribute.type = 4
    return made


def graph(nodes, inputs, outputs, constants=()):
    from onnx import onnx_pb2

    return onnx_pb2.GraphProto(name="g", node=nodes, input=inputs, output=outputs, initializer=constants)


def model(made, opset=17, **more):
    from onnx import onnx_pb2

    imports = [onnx_pb2.OperatorSetIdProto(version=opset)]
    return onnx_pb2.ModelProto(ir_version=8, opset_import=imports, graph=made, **more)


def dense(opset=17):
    nodes = [node("Gemm", "x w b", "a", transB=1), node("Relu", "a", "c"), node("MatMul", "c v", "y")]
    constants = [weight("w", 3, 4), weight("b", 3), weight("v", 3, 2)]
    return model(graph(nodes, [value("x", ["n", 4])], [value("y", ["n", 2])], constants), opset)


def convolutions():
    nodes = [
        node("Conv", "x w", "a", strides=[2, 2], pads=[1, 1, 1, 1]),
        node("BatchNormalization", "a s b m v", "c", epsilon=0.001),
        node("MaxPool", "c", "d", kernel_shape=[2, 2], pads=[0, 0, 1, 1]),
        node("GlobalAveragePool", "d", "e"),
        node("Reshape", "e shape", "f"),
        node("Softmax", "f", "y", axis=1),
    ]
    constants = [weight("w", 3, 2, 3, 3), weight("s", 3), weight("b", 3), weight("m", 3)]
    constants += [tensor("v", [3], [0.5, 1, 2]), tensor("shape", [2], [0, -1], INT64)]
    return model(graph(nodes, [value("x", ["n", 2, 8, 8])], [value("y")], constants), 13)


def recurrent():
    nodes = [node("LSTM", "x w r", "a h", hidden_size=2), node("Squeeze", "h axes", "y")]
    constants = [weight("w", 1, 8, 3), weight("r", 1, 8, 2), tensor("axes", [1], [0], INT64)]
    return model(graph(nodes, [value("x", [4, "n", 3])], [value("y")], constants))


def attention():
    nodes = [
        node("MatMul", "x w", "q"),
        node("Transpose", "x", "k", perm=[0, 2, 1]),
        node("MatMul", "q k", "s"),
        node("Softmax", "s", "p", axis=-1),
        node("MatMul", "p x", "o"),
        node("LayerNormalization", "o g", "z", axis=-1),
        node("ReduceMean", "z", "y", axes=[1], keepdims=0),
    ]
    return model(graph(nodes, [value("x", ["n", 3, 4])], [value("y")], [weight("w", 4, 4), weight("g", 4)]))


def branches():
    then = graph([node("Relu", "x", "t")], [], [value("t", ["n", 4])])
    other = graph([node("Neg", "x", "f")], [], [value("f", ["n", 4])])
    nodes = [node("Less", "one two", "c"), node("If", "c", "y", then_branch=then, else_branch=other)]
    constants = [tensor("one", [], [1.0]), tensor("two", [], [2.0])]
    return model(graph(nodes, [value("x", ["n", 4])], [value("y", ["n", 4])], constants))


def function():
    from onnx import onnx_pb2

    imports = [onnx_pb2.OperatorSetIdProto(version=17)]
    nodes = [node("Sigmoid", "a", "s"), node("Mul", "a s", "b")]
    swish = onnx_pb2.FunctionProto(name="Swish", domain="own", input=["a"], output=["b"], node=nodes, opset_import=imports)
    call = node("Swish", "x", "y")
    call.domain = "own"
    made = model(graph([call], [value("x", ["n", 4])], [value("y", ["n", 4])]), functions=[swish])
    made.opset_import.add(domain="own", version=1)
    return made


def sparse():
    made = dense()
    made.graph.initializer.pop(2)
    held = made.graph.sparse_initializer.add(dims=[3, 2])
    held.values.CopyFrom(tensor("v", [2], [0.5, -1]))
    held.indices.CopyFrom(tensor("at", [2], [0, 5], INT64))
    return made


def half():
    nodes = [node("Cast", "x", "a", to=FLOAT16), node("MatMul", "a w", "b"), node("Cast", "b", "y", to=FLOAT)]
    constants = [tensor("w", [4, 2], [0.5, -0.25, 1, 2, -1, 0, 0.125, 3], FLOAT16)]
    return model(graph(nodes, [value("x", ["n", 4])], [value("y", ["n", 2])], constants))


def models():
    made = {"dense": dense(), "dense-opset-7": dense(7), "convolutions": convolutions(), "recurrent": recurrent()}
    made |= {"attention": attention(), "branches": branches(), "function": function(), "sparse": sparse(), "half": half()}
    for name, proto in made.items():
        put("model", f"valid-{name}", proto.SerializeToString(deterministic=True))

    def changed(name, change):
        proto = dense()
        change(proto.graph)
        put("model", f"refused-{name}", proto.SerializeToString(deterministic=True))

    def external(made):
        held = made.initializer[0]
        held.data_location, held.raw_data = 1, b""
        held.external_data.add(key="location", value="../weights.bin")

    changed("cycle", lambda made: made.node[0].input.__setitem__(0, "y"))
    changed("external", external)
    changed("huge", lambda made: made.initializer[0].dims.__setitem__(0, 1 << 40))
    changed("unknown-operator", lambda made: setattr(made.node[1], "domain", "com.example"))
    put("model", "refused-cut", convolutions().SerializeToString(deterministic=True)[:300])


# Manifests.


def manifests():
    put("model_manifest", "valid-bundled", (ROOT / "models/digits-50/model.toml").read_bytes())
    everything = """summary = "a network, \\"quoted\\""
[input]
size = [32, 48]
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
layout = "nhwc"
[output]
kind = "embedding"
classes = ["cat", 'owl']
features = "pooled"
accuracy = 0.75
"""
    put("model_manifest", "valid-everything", everything.encode())
    put("model_manifest", "valid-empty", b"")
    put("model_manifest", "refused-unknown-key", b"colour = 1\n")
    put("model_manifest", "refused-range", b"[input]\nstd = [0.0]\n")
    put("model_manifest", "refused-bytes", b"summary = \"\xff\"\n")

    everything = """format = "images"
part = "train"
label = "fine"
classes = ["owl", 3]
per_class = [0, 500]
size = [32, 32]
channels = 3
summary = "birds"
licence = "CC0"
"""
    put("dataset_manifest", "valid-everything", everything.encode())
    put("dataset_manifest", "valid-empty", b"")
    put("dataset_manifest", "refused-path", b"path = '/etc'\n")
    put("dataset_manifest", "refused-positions", b"per_class = [3, 1]\n")
    put("dataset_manifest", "refused-syntax", b"classes = [1,\n")


# Datasets.


def npy(kind, shape, data):
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + data


def archive(files, packed=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", packed) as made:
        for name, data in files.items():
            made.writestr(zipfile.ZipInfo(name), data, packed)
    return out.getvalue()


def datasets():
    with zipfile.ZipFile(ROOT / "models/datasets/digits.npz") as digits:
        pixels = digits.read("x.npy")[-16 * 64 :]
    images = npy("|u1", (16, 8, 8), bytes(pixel % 256 for pixel in pixels))
    labels = npy("<i8", (16,), struct.pack("<16q", *[index % 4 for index in range(16)]))
    vectors = npy("<f4", (8, 3), struct.pack("<24f", *[index / 24 for index in range(24)]))
    targets = npy(">f8", (8, 2), struct.pack(">16d", *[index / 8 for index in range(16)]))
    put("npz", "valid-images", archive({"x.npy": images, "y.npy": labels}))
    put("npz", "valid-vectors", archive({"x.npy": vectors, "y.npy": targets}, zipfile.ZIP_STORED))
    put("npz", "refused-no-samples", archive({"y.npy": labels}))
    put("npz", "refused-objects", archive({"x.npy": npy("|O", (2,), b"\x80\x04.")}))
    put("npz", "refused-cut", archive({"x.npy": images})[:-40])

    for name in ("parquet/data/test-00000-of-00001.parquet", "binary_column.parquet"):
        put("parquet", f"valid-{pathlib.Path(name).stem}", (GOLDEN / name).read_bytes())
    put("parquet", "refused-cut", b"PAR1" + (GOLDEN / "binary_column.parquet").read_bytes()[-400:-8])
    # The first page's description has an unknown field, a list of 2^31 - 1 truth values; then it lies in a known field that is
    # told to be a number.
    rows = (GOLDEN / "parquet/data/test-00000-of-00001.parquet").read_bytes()
    endless = b"\xf9\xf1\xff\xff\xff\xff\x07"
    put("parquet", "refused-endless-list", rows[:4] + endless + rows[4 + len(endless) :])
    put("parquet", "refused-endless-list-in-a-number", rows[:4] + b"\x76" + endless + rows[5 + len(endless) :])

    names = ["alpha.png", "colour.bmp", "colour.png", "depth_16.png", "flat.jpg", "grey.png", "palette.png"]
    for name in names:
        put("image", f"valid-{name}", (GOLDEN / name).read_bytes())
    put("image", "valid-text.ppm", b"P3\n2 2\n255\n0 1 2 3 4 5 6 7 8 9 10 11\n")
    put("image", "valid-binary.pgm", b"P5\n3 2\n255\n\x00\x10\x20\x30\x40\x50")
    put("image", "refused-cut.png", (GOLDEN / "colour.png").read_bytes()[:50])
    put("image", "refused-huge.bmp", (GOLDEN / "colour.bmp").read_bytes().replace(struct.pack("<i", 3), b"\xff\xff\xff\x7f", 1))

    picture = (GOLDEN / "colour.png").read_bytes()
    put("zip", "valid-folders", archive({"cat/1.png": picture, "owl/2.png": picture}))
    put("zip", "valid-npz", archive({"x.npy": vectors}))
    put("zip", "valid-parquet", (GOLDEN / "binary_column.parquet").read_bytes())
    put("zip", "refused-way-out", archive({"../1.png": picture}))
    put("zip", "refused-manifest", archive({"cat/1.png": picture, "dataset.toml": b"path = '/etc'"}))
    put("zip", "refused-text", b"x,y\n1,2\n")

    batch = (GOLDEN / "batch_protocol_4.pickle").read_bytes()
    put("pickle", "valid-protocol-4", batch)
    put("pickle", "valid-protocol-3", (GOLDEN / "batch_protocol_3.pickle").read_bytes())
    put("pickle", "refused-call", b"cos\nsystem\n(S'true'\ntR.")
    put("pickle", "refused-cut", batch[:200])

    def tar(files):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as made:
            for name, data in files.items():
                header = tarfile.TarInfo(name)
                header.size = len(data)
                made.addfile(header, io.BytesIO(data))
        return out.getvalue()

    # A batch of the binary version: a label and the pixels.
    one = bytes([6]) + bytes(7 * index % 251 for index in range(3072))
    put("tar", "valid-binary", tar({"cifar-10-batches-bin/test_batch.bin": one})[:4608])
    put("tar", "refused-missing", tar({"cifar-10-batches-bin/readme.html": b"text"})[:2048])
    put("tar", "refused-checksum", tar({"cifar-10-batches-bin/test_batch.bin": one}).replace(b"ustar", b"uster", 1)[:1024])


# Requests; the first byte is the message's place in the table of src/transport/requests.rs.


def requests():
    from transferscore.v1 import adversarial_pb2, compare_pb2, fine_tune_pb2, job_pb2, model_pb2, ranking_pb2, scores_pb2

    inline = dict(shape=[1, 2, 2], samples=[index / 32 for index in range(32)], labels=[0, 1, 2, 3] * 2)
    attack = dict(method=4, norm=1, epsilons=[0.5, 1], momentum=dict(decay=0.5), target=dict(given=1))
    knowledge = dict(measures=[1, 3, 16], ridge=0.1, folds=3, fine_tune=dict(epochs=3, learning_rate=0.1))
    score = scores_pb2.TransferScoreRequest(
        source_model="a", reference_model="b", inline_dataset=inline, attack=attack, knowledge=knowledge, seed=7
    )
    rank = ranking_pb2.RankSourcesRequest(source_models=["a", "b"], reference_model="c", dataset="d", rank_by=7)
    groups = [dict(name="x", models=["a"]), dict(name="y", models=["b"])]
    compare = compare_pb2.CompareTasksRequest(models=["a", "b"], dataset="d", known_groups=groups)
    listing = job_pb2.ListJobsRequest(states=[1, 2], created_after=dict(seconds=1, nanos=2))
    header = model_pb2.UploadModelRequest(header=dict(name="m", sha256="00", size_bytes=3, manifest="[input]"))
    valid = {
        "score": (0, score),
        "rank": (1, rank),
        "compare": (2, compare),
        "attack": (3, adversarial_pb2.AttackRequest(models=["a"], dataset="d", attack=dict(method=3, steps=5))),
        "fine-tune": (4, fine_tune_pb2.FineTuneRequest(model="a", dataset="d", options=dict(mode=2, epochs=3))),
        "model": (5, model_pb2.GetModelRequest(name="digits-50")),
        "gradient": (6, model_pb2.ExportGradientGraphRequest(name="a", mode=2, inputs=["x"], outputs=["y"])),
        "upload": (7, header),
        "job": (10, job_pb2.CreateJobRequest(request_id="r-1", rank=rank)),
        "listing": (12, listing),
    }
    for name, (chosen, message) in valid.items():
        put("request", f"valid-{name}", bytes([chosen]) + message.SerializeToString(deterministic=True))
    put("request", "refused-nothing", b"")
    put("request", "refused-empty-score", b"\x00")
    put("request", "refused-path", bytes([8]) + model_pb2.GetModelRequest(name="../a").SerializeToString())
    put("request", "refused-endless-length", b"\x01\x0a\xff\xff\xff\xff\x0f")
    put("request", "refused-token", bytes([12]) + job_pb2.ListJobsRequest(page_token="f" * 32).SerializeToString())


stubs()
models()
manifests()
datasets()
requests()
