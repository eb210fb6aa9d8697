"""Trains forty classifiers of face attributes, and a network that recognises faces, the reference.

Liang et al. (ICML 2021), section 4.2, on the first 10,000 faces of CelebA: which attribute's network has learned most
of what tells faces apart? All attributes have the same architecture. Identities whose number is a multiple of five are
held out: no network sees their faces, which are what attributes and verification are measured on.

    python models/recipes/attributes.py
    python models/recipes/attributes.py --write-probe celeba-held-out.npz
"""

import io
import tarfile

import numpy as np
import torch
import zoo
from PIL import Image
from sklearn.metrics import roc_auc_score, roc_curve
from torch import nn
from torch.nn import functional

SIZE = 64
HELD_OUT = 5
EMBEDDING = 64
DATA = "CelebA (Liu, Luo, Wang, Tang 2015): of its first 10,000 aligned faces those whose identity is no multiple of 5"
LICENCE = "non-commercial research only"
MEASURED_ON = "the faces of the other identities"
ATTRIBUTE_SCHEDULE = zoo.Schedule(epochs=8)
RECOGNISER_SCHEDULE = zoo.Schedule(epochs=40, batch=128, weight_decay=0.1)
# Of the softmax over identities: inverse temperature, and how much nearer than the others its own identity must be.
SCALE, MARGIN = 24.0, 0.2
# Pairs of two persons for each pair of one.
PAIRS_SEED = 0


def load_faces(folder):
    """All faces as uint8 (N, 64, 64, 3), the whole picture squeezed into a square; attributes (N, 40) as 0 and 1, the
    attributes' names, and identities (N,)."""
    labels = np.load(folder / "celeba" / "labels.npz")
    faces = []
    with tarfile.open(folder / "celeba" / "images.tar.gz") as archive:
        for member in archive:
            if member.isfile():
                image = Image.open(io.BytesIO(archive.extractfile(member).read())).convert("RGB")
                number = int(member.name.rsplit("/", 1)[-1].split(".")[0])
                faces.append((number, np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR))))
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


def verification_measures(faces, identities):
    pairs, together = verification_pairs(identities)

    def measure(run):
        embeddings = run(zoo.CENTRED(faces))
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
        measured_on=f"{MEASURED_ON}: all pairs of one person, as many of two; the accuracy is at the best threshold",
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


def main():
    chosen = zoo.options(__doc__, write_probe="")
    faces, attributes, names, identities = load_faces(chosen.data)
    held_out = identities % HELD_OUT == 0
    if chosen.write_probe:
        np.savez_compressed(chosen.write_probe, x=faces[held_out], y=identities[held_out].astype(np.int64))
        return
    experiment = zoo.Experiment("attributes", chosen)
    train_recogniser(experiment, faces, identities, held_out, chosen)
    for number, attribute in enumerate(names):
        train_attribute(experiment, number, attribute, faces, attributes, held_out, chosen)


if __name__ == "__main__":
    main()
