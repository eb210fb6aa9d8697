"""Trains the networks of the experiment on data distributions: which source data is near to the target's?

Liang et al. (ICML 2021), section 4.1. A source tells four CIFAR-10 classes apart, of which 0, 25, 50, 75 or 100 % are
animals and the rest vehicles; the reference tells STL-10's vehicles apart, which is the target task. The more vehicles
a source knows, the better it should transfer.

STL-10's 500 images of each vehicle are split in the order of the file: the first 250 train the reference, the last 250
are the probe set. No network sees an image of the probe set.

    python models/recipes/distributions.py
    python models/recipes/distributions.py --write-probe stl10-vehicles.npz
"""

import numpy as np
import zoo

VEHICLES = {0: "airplane", 1: "automobile", 8: "ship", 9: "truck"}
ANIMALS = {2: "bird", 3: "cat", 4: "deer", 5: "dog"}
N_SEEDS = 3
STL10_VEHICLES = (0, 2, 8, 9)
REFERENCE_SHARE = 250
WIDTHS = (16, 32, 64, 128)

CIFAR10 = "CIFAR-10 (Krizhevsky 2009), 2,000 training images of each class"
CIFAR10_LICENCE = "no licence stated; published for research"
STL10 = "STL-10 (Coates, Ng, Lee 2011), 250 images of each vehicle at 32×32"
STL10_LICENCE = "no licence stated; published for research, its images are from ImageNet"

SOURCE_SCHEDULE = zoo.Schedule(epochs=12)
REFERENCE_SCHEDULE = zoo.Schedule(epochs=80)


def source_classes(n_animals):
    """CIFAR-10's numbers of a source's four classes: each step puts an animal in a vehicle's place."""
    return [*list(ANIMALS)[:n_animals], *list(VEHICLES)[n_animals:]]


def load_cifar10(folder, classes):
    """Training and test images of some classes, each with their positions in the list of classes."""
    parts = []
    for part in ("train", "test"):
        archive = np.load(folder / "cifar10" / f"{part}.npz")
        kept = np.isin(archive["y"], classes)
        labels = np.array([classes.index(label) for label in archive["y"][kept]], dtype=np.int64)
        parts.append((archive["x"][kept], labels))
    return parts


def load_vehicles(folder):
    """STL-10's vehicles at 32×32, each pixel the mean of nine: the reference's part and the probe set."""
    archive = np.load(folder / "stl10" / "vehicles.npz")
    small = archive["x"].reshape(-1, 32, 3, 32, 3, 3).mean((2, 4))
    pixels = np.round(small).astype(np.uint8)
    reference, probe = [], []
    for label in STL10_VEHICLES:
        indices = np.flatnonzero(archive["y"] == label)
        reference.extend(indices[:REFERENCE_SHARE])
        probe.extend(indices[REFERENCE_SHARE:])
    labels = np.array([STL10_VEHICLES.index(label) if label in STL10_VEHICLES else -1 for label in archive["y"]])
    return [(pixels[indices], labels[indices]) for indices in (np.sort(reference), np.sort(probe))]


def build_network(n_classes=4):
    """Three residual blocks behind a convolution; 128 penultimate features."""
    stem, *widths = WIDTHS
    layers, n_inputs = [zoo.convolution(3, stem)], stem
    for width in widths:
        layers.append(zoo.Residual(n_inputs, width, stride=2))
        n_inputs = width
    return zoo.nn.Sequential(*layers, zoo.pooled(n_inputs, n_classes))


def train_classifier(build, train_part, schedule, seed, chosen):
    """A network trained on images and labels, moved by up to four pixels and flipped."""
    pixels, labels = train_part
    draw = zoo.crops_and_flips(pixels, labels, zoo.CENTRED, margin=4)
    return zoo.train(build, draw, len(labels), zoo.nn.functional.cross_entropy, schedule, seed, chosen)


def accuracy_on(part):
    """What measures a classifier's file on images it was not trained on."""
    pixels, labels = part

    def measure(run):
        return {"accuracy": (run(zoo.CENTRED(pixels)).argmax(1) == labels).mean()}

    return measure


def train_source(experiment, n_animals, seed, chosen):
    share = 100 * n_animals // len(VEHICLES)
    name = f"animals-{share:03}-seed-{seed}"
    if not experiment.wants(name):
        return
    classes = source_classes(n_animals)
    names = tuple((VEHICLES | ANIMALS)[number] for number in classes)
    train_part, test_part = load_cifar10(chosen.data, classes)
    network, cost = train_classifier(build_network, train_part, SOURCE_SCHEDULE, 100 * seed + n_animals, chosen)
    description = zoo.Description(
        summary=f"tells {', '.join(names)} apart: {share} % animals, {100 - share} % vehicles",
        data=CIFAR10,
        licence=CIFAR10_LICENCE,
        kind="logits",
        measured_on="CIFAR-10's test images of the same classes, 500 each",
        classes=names,
        normalisation=zoo.CENTRED,
        size=(32, 32),
        details={"animals": share / 100, "draw": seed},
    )
    example = zoo.CENTRED(test_part[0][:64])
    experiment.publish(name, network, example, description, accuracy_on(test_part), 100 * seed + n_animals, cost)


def train_reference(experiment, chosen):
    if not experiment.wants("reference"):
        return
    train_part, probe = load_vehicles(chosen.data)
    network, cost = train_classifier(build_network, train_part, REFERENCE_SCHEDULE, 99, chosen)
    description = zoo.Description(
        summary="tells airplane, automobile, ship, truck apart, which is the target task",
        data=STL10,
        licence=STL10_LICENCE,
        kind="logits",
        measured_on="STL-10's other 250 images of each vehicle, the probe set",
        classes=tuple(VEHICLES.values()),
        normalisation=zoo.CENTRED,
        size=(32, 32),
    )
    experiment.publish("reference", network, zoo.CENTRED(probe[0][:64]), description, accuracy_on(probe), 99, cost)


def main():
    chosen = zoo.options(__doc__, write_probe="")
    if chosen.write_probe:
        pixels, labels = load_vehicles(chosen.data)[1]
        np.savez_compressed(chosen.write_probe, x=pixels, y=labels)
        return
    experiment = zoo.Experiment("distributions", chosen)
    train_reference(experiment, chosen)
    for seed in range(N_SEEDS):
        for n_animals in range(len(VEHICLES) + 1):
            train_source(experiment, n_animals, seed, chosen)


if __name__ == "__main__":
    main()
