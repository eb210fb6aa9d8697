"""What the recipes of the experiments share: training, export to ONNX, measuring, cards, results and tables.

A recipe names its networks, trains each with `train` and hands it to `Experiment.publish`, which writes
`models/experiments/<experiment>/<network>/` with `model.onnx`, `model.toml` and a card, and one record into the
experiment's `results.json`. A network that has a record is not trained again, so a killed run goes on where it was.

Invariant: what is told of a network was measured on the file itself, by ONNX Runtime.

    python models/recipes/zoo.py      # writes the tables of models/recipes/README.md anew from the results
"""

import argparse
import collections
import dataclasses
import datetime
import fcntl
import hashlib
import json
import math
import os
import pathlib
import re
import time

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
OPSET = 18
# Half precision is worth a node where a tensor is large.
SMALLEST_HALF = 256
# A file that differs more from the network it was made of is not written.
MOST_DIFFERENCE = 1e-4


# Options ------------------------------------------------------------------------------------------------------------


def options(description, **more):
    """The command line that all recipes have; `more` are further options with their defaults."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, default=REPOSITORY.parent / "shared" / "data")
    parser.add_argument("--output", type=pathlib.Path, default=REPOSITORY / "models" / "experiments")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="train these networks alone")
    parser.add_argument("--again", action="store_true", help="train networks anew that have a record")
    parser.add_argument("--threads", type=int, default=min(8, os.cpu_count() or 1))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action="store_true", help="compile the training step; needs a C++ compiler")
    parser.add_argument("--effort", type=float, default=1.0, help="multiplies the number of epochs; for trials")
    for name, default in more.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    return chosen


# Layers -------------------------------------------------------------------------------------------------------------


def convolution(n_inputs, n_outputs, stride=1, size=3):
    """Convolution, batch normalisation, ReLU. `stride` 1 keeps the size."""
    return nn.Sequential(
        nn.Conv2d(n_inputs, n_outputs, size, stride, size // 2, bias=False),
        nn.BatchNorm2d(n_outputs),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):
    """Two 3×3 convolutions beside a shortcut, which is a 1×1 convolution where the shape changes."""

    def __init__(self, n_inputs, n_outputs, stride=1):
        super().__init__()
        self.first = convolution(n_inputs, n_outputs, stride)
        self.second = nn.Sequential(nn.Conv2d(n_outputs, n_outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(n_outputs))
        self.shortcut = nn.Identity()
        if stride != 1 or n_inputs != n_outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(n_inputs, n_outputs, 1, stride, bias=False), nn.BatchNorm2d(n_outputs)
            )

    def forward(self, x):
        return torch.relu(self.second(self.first(x)) + self.shortcut(x))


def pooled(n_features, n_outputs):
    """Mean over places, then one linear layer; its input is the penultimate features."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n_features, n_outputs))


# Data ---------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Normalisation:
    """From pixels 0..1 to what a network is fed: (pixel − mean) / std, for each channel."""

    mean: tuple
    std: tuple

    def __call__(self, pixels):
        """uint8 NHWC (array or tensor) to float32 NCHW."""
        pixels = torch.as_tensor(pixels).permute(0, 3, 1, 2).float() / 255
        shape = (1, -1, 1, 1)
        return (pixels - torch.tensor(self.mean).view(shape)) / torch.tensor(self.std).view(shape)


CENTRED = Normalisation((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def crops_and_flips(pixels, labels, normalisation, margin, colour=0.0):
    """Draws training batches: each image moved by up to `margin` pixels (its border mirrored), and flipped at random.

    `colour` is the largest relative change of brightness and of contrast. `pixels` are uint8 NHWC.
    """
    height, width = pixels.shape[1:3]
    around = ((0, 0), (margin, margin), (margin, margin), (0, 0))
    padded = torch.from_numpy(np.pad(pixels, around, mode="reflect"))
    windows = padded.unfold(1, height, 1).unfold(2, width, 1)
    labels = torch.as_tensor(labels)

    def draw(indices, generator):
        n = len(indices)
        down, right = (torch.randint(2 * margin + 1, (n,), generator=generator) for _ in range(2))
        images = windows[indices, down, right].permute(0, 2, 3, 1)
        flipped = torch.rand(n, generator=generator) < 0.5
        images = torch.where(flipped.view(-1, 1, 1, 1), images.flip(2), images)
        images = normalisation(images)
        if colour:
            contrast, brightness = ((torch.rand(2, n, 1, 1, 1, generator=generator) * 2 - 1) * colour).unbind()
            images = images * (1 + contrast) + 2 * brightness
        return images, labels[indices]

    return draw


# Training -----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Schedule:
    """AdamW with a rate that rises over the first part of the steps and falls to nothing along a cosine."""

    epochs: int
    batch: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    rising: float = 0.2


def train(build, draw, n_samples, loss, schedule, seed, chosen):
    """A network made by `build` and trained on the batches of `draw`, in evaluation mode on the CPU; and its cost.

    `draw(indices, generator)` gives inputs and targets; `loss(outputs, targets)` a scalar. All that is random comes
    from the seed.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    device = torch.device(chosen.device)
    network = build().to(device, memory_format=torch.channels_last).train()
    forward = torch.compile(network) if chosen.compile else network
    epochs = max(1, round(schedule.epochs * chosen.effort))
    steps = epochs * (n_samples // schedule.batch)
    decayed = [p for p in network.parameters() if p.ndim > 1]
    plain = [p for p in network.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": schedule.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=schedule.learning_rate,
    )
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, schedule.learning_rate, steps, pct_start=schedule.rising, cycle_momentum=False
    )
    wall, cpu = time.monotonic(), time.process_time()
    for epoch in range(epochs):
        total = 0.0
        # An incomplete last batch is left out: its statistics would be those of a few samples.
        batches = torch.randperm(n_samples, generator=generator).split(schedule.batch)[: steps // epochs]
        for indices in batches:
            inputs, targets = (x.to(device) for x in draw(indices, generator))
            if inputs.ndim == 4:
                inputs = inputs.contiguous(memory_format=torch.channels_last)
            optimizer.zero_grad()
            value = loss(forward(inputs), targets)
            value.backward()
            optimizer.step()
            rate.step()
            total += float(value.detach())
        if not math.isfinite(total):
            raise RuntimeError(f"the loss became {total} in epoch {epoch}; lower the learning rate")
        seconds = time.monotonic() - wall
        print(f"    epoch {epoch + 1}/{epochs}  loss {total / len(batches):.4f}  {seconds:.0f} s", flush=True)
    cost = {"epochs": epochs, "cpu_seconds": round(time.process_time() - cpu), "threads": chosen.threads}
    return network.to("cpu", memory_format=torch.contiguous_format).eval(), cost


# Export -------------------------------------------------------------------------------------------------------------


def export(network, example, path, input_name, output_name, with_features=False):
    """The network as ONNX with a symbolic batch. `with_features`: it returns (output, features); the tensor named
    `features` stays inside the file, the output alone comes out.

    The exporter writes down where numbers lie in memory, so all are laid out plainly first.
    """
    names = [output_name, "features"] if with_features else [output_name]
    for parameter in network.parameters():
        parameter.data = plain(parameter.data)
    torch.onnx.export(
        network,
        (plain(example),),
        path,
        input_names=[input_name],
        output_names=names,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    model = onnx.load(path)
    del model.graph.output[1:]
    strip(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def plain(tensor):
    """A copy whose last axis is the one that changes fastest, whatever the tensor's memory format."""
    return torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor)


def strip(model):
    """Takes the exporter's notes about the machine out of the model."""
    model.doc_string = ""
    del model.metadata_props[:]
    graph = model.graph
    graph.doc_string = ""
    del graph.metadata_props[:]
    for item in [*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer]:
        item.doc_string = ""
        del item.metadata_props[:]


def store_in_half(path):
    """Stores large weights as float16, each followed by a Cast: the file halves, all arithmetic stays in float32."""
    model = onnx.load(path)
    casts, kept = [], []
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < SMALLEST_HALF or np.abs(values).max() > 65_000:
            kept.append(tensor)
            continue
        stored = f"{tensor.name}/half"
        kept.append(onnx.numpy_helper.from_array(values.astype(np.float16), stored))
        casts.append(onnx.helper.make_node("Cast", [stored], [tensor.name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(kept)
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def runner(path, batch=250):
    """A function from inputs (N, …) to outputs (N, …) that runs the file."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(inputs):
        inputs = np.asarray(inputs, dtype=np.float32)
        parts = [session.run(None, {name: inputs[i : i + batch]})[0] for i in range(0, len(inputs), batch)]
        return np.concatenate(parts)

    return run


def largest_difference(network, run, example):
    """Largest absolute difference between the network's outputs and the file's, over the largest output or 1."""
    with torch.no_grad():
        outputs = network(example)
    outputs = (outputs[0] if isinstance(outputs, tuple) else outputs).numpy()
    return float(np.abs(outputs - run(example)).max() / max(1.0, np.abs(outputs).max()))


# Results ------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Description:
    """What a network's manifest and card say."""

    summary: str
    data: str
    licence: str
    kind: str
    measured_on: str
    classes: tuple = ()
    normalisation: Normalisation | None = None
    size: tuple | None = None
    input_name: str = "image"
    output_name: str = "logits"
    features: str | None = None
    details: dict = dataclasses.field(default_factory=dict)


class Experiment:
    """The networks of one experiment on disk, and their records."""

    def __init__(self, name, chosen):
        self.name, self.chosen = name, chosen
        self.folder = chosen.output / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file = self.folder / "results.json"
        self.records = self.read()

    def read(self):
        """The records on disk."""
        return json.loads(self.file.read_text())["networks"] if self.file.exists() else {}

    def wants(self, name):
        """Whether a network is still to be trained."""
        if self.chosen.only and name not in self.chosen.only:
            return False
        done = name in self.records and (self.folder / name / "model.onnx").exists()
        if self.chosen.again or not done:
            print(f"{self.name}/{name}", datetime.datetime.now().strftime("%H:%M:%S"), flush=True)
            return True
        return False

    def publish(self, name, network, example, description, measure, seed, cost, half=True):
        """Writes a trained network, unless the file does not compute what the network does.

        `example` is a batch of its inputs; `measure(run)` gives the measures, by name, of the file that `run` runs.
        """
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        path = folder / "model.onnx"
        names = description.input_name, description.output_name
        export(network, example[:2], path, *names, with_features=description.features is not None)
        agreement = {"float32": largest_difference(network, runner(path), example)}
        if agreement["float32"] > MOST_DIFFERENCE:
            raise RuntimeError(f"{path} differs from the network by {agreement['float32']:.1e}")
        if half:
            store_in_half(path)
            agreement["stored"] = largest_difference(network, runner(path), example)
        training = {"seed": seed, **cost, "difference_to_pytorch": {k: float(f"{v:.1e}") for k, v in agreement.items()}}
        self.describe(name, description, measure, training, "float16" if half else "float32")

    def describe(self, name, description, measure, training, weights):
        """Measures the file of a network that is in its place, and writes manifest, card and record.

        `training` is what the record tells of how it was made; empty for a network that was made elsewhere.
        """
        folder = self.folder / name
        path = folder / "model.onnx"
        contents = path.read_bytes()
        record = {
            "summary": description.summary,
            "measures": {key: round(float(value), 4) for key, value in measure(runner(path)).items()},
            "measured_on": description.measured_on,
            **description.details,
            **training,
            "parameters": count_parameters(path),
            "bytes": len(contents),
            "weights": weights,
            "sha256": hashlib.sha256(contents).hexdigest(),
        }
        (folder / "model.toml").write_text(manifest(description, record))
        (folder / "README.md").write_text(card(self.name, name, description, record))
        self.keep(name, record)
        print(f"  {name}: {record['measures']}, {len(contents)} bytes, {training}", flush=True)

    def keep(self, name, record):
        """Writes a record beside those that are there, also while another process trains other networks."""
        folder = os.open(self.folder, os.O_RDONLY)
        fcntl.flock(folder, fcntl.LOCK_EX)
        try:
            self.records = {**self.read(), name: record}
            text = json.dumps({"experiment": self.name, "networks": dict(sorted(self.records.items()))}, indent=1)
            partial = self.file.with_suffix(".partial")
            partial.write_text(text + "\n")
            partial.replace(self.file)
        finally:
            os.close(folder)


def count_parameters(path):
    """Weights and biases in the file."""
    tensors = onnx.load(path).graph.initializer
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    return sum(math.prod(tensor.dims) for tensor in tensors if tensor.data_type in floats)


def told(measures):
    """Measures in a line."""
    return ", ".join(f"{key.replace('_', ' ')} {value:.4g}" for key, value in measures.items())


def manifest(description, record):
    """`model.toml`."""
    text = f"{description.summary}; {told(record['measures'])}; trained on {description.data} ({description.licence})"
    lines = [f"summary = {json.dumps(text, ensure_ascii=False)}"]
    if description.normalisation or description.size:
        lines += ["", "[input]"]
        if description.size:
            lines.append(f"size = {list(description.size)}")
        if description.normalisation:
            lines.append(f"mean = {list(description.normalisation.mean)}")
            lines.append(f"std = {list(description.normalisation.std)}")
    lines += ["", "[output]", f'kind = "{description.kind}"']
    if description.classes:
        lines.append(f"classes = {json.dumps(list(description.classes))}")
    if description.features:
        lines.append(f'features = "{description.features}"')
    if description.kind == "logits" and "accuracy" in record["measures"]:
        lines.append(f"accuracy = {record['measures']['accuracy']}")
    return "\n".join(lines) + "\n"


def card(experiment, name, description, record):
    """`README.md` beside the network."""
    rows = collections.OrderedDict()
    rows["training data"] = description.data
    rows["licence of the data"] = description.licence
    rows["measured on"] = description.measured_on
    for key, value in record["measures"].items():
        rows[key.replace("_", " ")] = f"{value:.4g}"
    rows["parameters"] = f"{record['parameters']:,}, stored as {record['weights']}, {record['bytes']:,} bytes"
    if "epochs" in record:
        rows["training"] = f"{record['epochs']} epochs, seed {record['seed']}, {record['cpu_seconds']} s of CPU time"
        difference = record["difference_to_pytorch"]
        differences = ", ".join(f"{value:.0e} ({key})" for key, value in difference.items())
        rows["largest relative difference to PyTorch"] = differences
        rows["recipe"] = f"`models/recipes/{experiment}.py --only {name} --again`"
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    return f"# {name}\n\n{description.summary[0].upper()}{description.summary[1:]}.\n\n| | |\n|---|---|\n{table}\n"


# Tables -------------------------------------------------------------------------------------------------------------


def table(results):
    """The networks of an experiment as a Markdown table."""
    networks = results["networks"]
    columns = list(dict.fromkeys(key for record in networks.values() for key in record["measures"]))
    heads = [*(column.replace("_", " ") for column in columns), "parameters", "kB", "epochs", "CPU s"]
    lines = [f"| network | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for name, record in networks.items():
        cells = [f"{record['measures'][c]:.3f}" if c in record["measures"] else "" for c in columns]
        cells += [f"{record['parameters']:,}", f"{record['bytes'] / 1e3:.0f}"]
        cells += [str(record.get(key, "–")) for key in ("epochs", "cpu_seconds")]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    size = sum(record["bytes"] for record in networks.values()) / 1e6
    return "\n".join([*lines, "", f"{len(networks)} networks, {size:.1f} MB."])


def write_tables(readme, folder):
    """Puts each experiment's table between its two markers in the text."""
    text = readme.read_text()
    for file in sorted(folder.glob("*/results.json")):
        results = json.loads(file.read_text())
        start, end = (f"<!-- {word} {results['experiment']} -->" for word in ("table", "end"))
        pattern = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
        if not pattern.search(text):
            raise SystemExit(f"{readme} has no place for {results['experiment']}: add {start} and {end}")
        text = pattern.sub(lambda _: f"{start}\n{table(results)}\n{end}", text)
    readme.write_text(text)


if __name__ == "__main__":
    write_tables(pathlib.Path(__file__).parent / "README.md", REPOSITORY / "models" / "experiments")
