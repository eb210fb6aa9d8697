"""Trains the bundled models and writes the bundled probe set: the paper's first experiment in miniature.

Liang et al. (ICML 2021), section 4.1, on scikit-learn's handwritten digits instead of CIFAR-10 and STL-10: the target
task is to tell four digits apart; five source models know four digits each, of which 0, 25, 50, 75 and 100 % are the
target's; a reference model is trained on the target task. The sources that share more with the target should transfer
better, and attacks on the reference should move them more.

Nothing here is random but by the seed, and the images of sources, reference and probe set are disjoint.
"""

import argparse
import collections
import json
import pathlib

import numpy as np
import torch
import zoo
from sklearn.datasets import load_digits
from torch import nn

SEED = 0
N_TARGET_CLASSES = 4
EPOCHS = 40
BATCH = 32

LICENCE = "UCI Optical Recognition of Handwritten Digits (Alpaydin, Kaynak; CC BY 4.0)"


def load_pixels():
    """All images as uint8 NHWC (1797, 8, 8, 1) with 255 as full ink, and their digits (1797,)."""
    digits = load_digits()
    return np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None], digits.target


def draw_classes(seed):
    """The target's four digits, and four others, in the order in which sources take them up."""
    order = [int(digit) for digit in np.random.default_rng(seed).permutation(10)]
    return order[:N_TARGET_CLASSES], order[N_TARGET_CLASSES : 2 * N_TARGET_CLASSES]


def split_images(digits, seed):
    """Disjoint index sets, stratified by digit: half for the sources, a quarter each for reference and probe set."""
    generator = np.random.default_rng([seed, 1])
    source, reference, probe = [], [], []
    for digit in range(10):
        indices = generator.permutation(np.flatnonzero(digits == digit))
        half, three_quarters = len(indices) // 2, 3 * len(indices) // 4
        source.extend(indices[:half])
        reference.extend(indices[half:three_quarters])
        probe.extend(indices[three_quarters:])
    return np.sort(source), np.sort(reference), np.sort(probe)


def select(pixels, digits, indices, classes):
    """The images of the given classes, and their position in the list of classes."""
    indices = indices[np.isin(digits[indices], classes)]
    return pixels[indices], np.array([classes.index(digit) for digit in digits[indices]], dtype=np.int64)


def to_input(pixels):
    """What the server feeds a network: float NCHW, 0..1."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def build_network():
    """A plain convolutional network: 29,404 weights once normalisation is folded in, 48 penultimate features."""

    layers = collections.OrderedDict()
    for number, (n_inputs, n_outputs, stride) in enumerate([(1, 32, 1), (32, 40, 2), (40, 48, 1)], start=1):
        layers[f"convolution{number}"] = nn.Conv2d(n_inputs, n_outputs, 3, stride=stride, padding=1, bias=False)
        layers[f"normalisation{number}"] = nn.BatchNorm2d(n_outputs)
        layers[f"relu{number}"] = nn.ReLU()
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["features"] = nn.Flatten()
    layers["head"] = nn.Linear(48, N_TARGET_CLASSES)
    return nn.Sequential(layers)


def train(pixels, labels, seed):
    """A network trained on the images, in evaluation mode."""
    torch.manual_seed(seed)
    network, images, labels = build_network(), to_input(pixels), torch.from_numpy(labels)
    steps = EPOCHS * -(-len(images) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    network.train()
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[batch]), labels[batch]).backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def accuracy(network, pixels, labels):
    with torch.no_grad():
        return float((network(to_input(pixels)).argmax(1).numpy() == labels).mean())


def train_all(seed):
    """The experiment's networks by name, each with its classes and accuracy, and the probe set."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    pixels, digits = load_pixels()
    target, others = draw_classes(seed)
    source_images, reference_images, probe_images = split_images(digits, seed)
    # Accuracy is told on the probe's quarter: no network saw it, whatever its classes.
    models = {}
    for n_shared in range(N_TARGET_CLASSES + 1):
        classes = target[:n_shared] + others[: N_TARGET_CLASSES - n_shared]
        network = train(*select(pixels, digits, source_images, classes), seed=100 * seed + n_shared)
        name = f"digits-{100 * n_shared // N_TARGET_CLASSES}"
        models[name] = network, classes, accuracy(network, *select(pixels, digits, probe_images, classes))
    network = train(*select(pixels, digits, reference_images, target), seed=100 * seed + 99)
    probe = select(pixels, digits, probe_images, target)
    models["digits-reference"] = network, target, accuracy(network, *probe)
    return models, probe


def write_model(folder, network, classes, told_accuracy, target):
    """`model.onnx` and `model.toml` in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    zoo.export(network, torch.zeros(2, 1, 8, 8), path, "image", "logits")
    summary = f"{describe(folder.name, classes, target)}, accuracy {100 * told_accuracy:.1f} %; trained on {LICENCE}"
    folder.joinpath("model.toml").write_text(
        f'summary = "{summary}"\n\n[output]\nkind = "logits"\nclasses = {json.dumps([str(c) for c in classes])}\n'
        f"accuracy = {told_accuracy:.3f}\n"
    )


def describe(name, classes, target):
    listed = f"tells the digits {', '.join(map(str, classes))} apart"
    if name.endswith("reference"):
        return f"{listed}, which is the target task"
    return f"{listed}, {len(set(classes) & set(target))} of 4 in common with the target task"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path(__file__).parent.parent)
    options = parser.parse_args()

    models, (pixels, labels) = train_all(options.seed)
    target = models["digits-reference"][1]
    for name, (network, classes, told_accuracy) in models.items():
        write_model(options.output / name, network, classes, told_accuracy, target)
        print(f"{name:16}  digits {classes}  accuracy {told_accuracy:.3f}")
    datasets = options.output / "datasets"
    datasets.mkdir(exist_ok=True)
    np.savez_compressed(datasets / "digits.npz", x=pixels, y=labels)
    print(f"digits.npz        {len(labels)} images of {target}")


if __name__ == "__main__":
    main()
