"""Compares fine-tuning with PyTorch's: accuracy on held-out samples of the bundled digits, and time.

Every bundled source is trained on the bundled probe set, once as a head on fixed features and once as a whole, with every
sample held out once in folds; both sides use the same optimisers, rates, schedule, batch size and number of epochs, and draw
their own folds, heads and orders from a few seeds. What counts is the mean accuracy over sources, folds and seeds.

    python fine_tune.py --transferscore ../../target/release/transferscore [--seeds 3]

needs requirements.txt.
"""

import argparse
import json
import math
import pathlib
import statistics
import subprocess
import time

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

MODELS = pathlib.Path(__file__).parent.parent.parent / "models"
SOURCES = ["digits-0", "digits-25", "digits-50", "digits-75", "digits-100"]
EPOCHS, BATCH, FOLDS = 20, 32, 5
# Mode, optimiser, learning rate, weight decay.
SETTINGS = [
    ("head", "sgd", 0.1, 0.0),
    ("head", "adamw", 0.01, 0.01),
    ("whole", "sgd", 0.03, 0.0),
    ("whole", "adamw", 0.003, 0.01),
]


def network(name, seed, n_classes):
    """The model of the ONNX file with a new last layer."""
    tensors = onnx.load(MODELS / name / "model.onnx").graph.initializer
    arrays = {item.name: torch.tensor(numpy_helper.to_array(item).copy()) for item in tensors if "." in item.name}
    layers = []
    for number, stride in [(1, 1), (2, 2), (3, 1)]:
        weight, bias = arrays[f"convolution{number}.weight"], arrays[f"convolution{number}.weight_bias"]
        layer = nn.Conv2d(weight.shape[1], weight.shape[0], 3, stride=stride, padding=1)
        layer.weight.data, layer.bias.data = weight, bias
        layers += [layer, nn.ReLU()]
    torch.manual_seed(seed)
    backbone = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return backbone, nn.Linear(48, n_classes)


def folds_of(labels, seed):
    """A fold for each sample, each with its share of every class."""
    generator, fold_of, dealt = np.random.default_rng(seed), np.empty(len(labels), int), 0
    for label in np.unique(labels):
        for sample in generator.permutation(np.flatnonzero(labels == label)):
            fold_of[sample] = dealt % FOLDS
            dealt += 1
    return fold_of


def by_torch(name, images, labels, setting, seed):
    """Accuracy over all folds, each sample judged by the model that was not trained on it."""
    mode, optimiser, rate, decay = setting
    fold_of, n_right = folds_of(labels.numpy(), seed), 0
    for fold in range(FOLDS):
        backbone, head = network(name, 1_000 * seed + fold, int(labels.max()) + 1)
        training, held_out = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
        inputs, model = images, nn.Sequential(backbone, head)
        if mode == "head":
            with torch.no_grad():
                inputs, model = backbone(images), head
        weights = list(model.parameters())
        if optimiser == "sgd":
            stepper = torch.optim.SGD(weights, lr=rate, momentum=0.9, weight_decay=decay)
        else:
            stepper = torch.optim.AdamW(weights, lr=rate, weight_decay=decay)
        steps = EPOCHS * math.ceil(len(training) / BATCH)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(stepper, steps)
        generator = np.random.default_rng([seed, fold])
        for _ in range(EPOCHS):
            order = generator.permutation(training)
            for start in range(0, len(order), BATCH):
                batch = torch.tensor(order[start : start + BATCH])
                stepper.zero_grad()
                nn.functional.cross_entropy(model(inputs[batch]), labels[batch]).backward()
                stepper.step()
                schedule.step()
        with torch.no_grad():
            n_right += int((model(inputs[held_out]).argmax(1) == labels[held_out]).sum())
    return n_right / len(labels)


def by_transferscore(binary, name, setting, seed):
    mode, optimiser, rate, decay = setting
    command = [binary, "finetune", name, "--dataset", "digits", "--json", "--seed", str(seed)]
    command += ["--models", str(MODELS), "--datasets", str(MODELS / "datasets"), "--mode", mode]
    command += ["--optimizer", optimiser, "--learning-rate", str(rate), "--weight-decay", str(decay)]
    command += ["--epochs", str(EPOCHS), "--batch", str(BATCH), "--held-out-folds", str(FOLDS)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(answer.stdout)["scores"]["accuracy"]["value"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--transferscore", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()

    torch.set_num_threads(1)
    data = np.load(MODELS / "datasets" / "digits.npz")
    images = torch.tensor(data["x"]).permute(0, 3, 1, 2).float() / 255
    labels = torch.tensor(data["y"])
    print(f"{len(labels)} samples, {FOLDS} folds, {EPOCHS} epochs, {options.seeds} seeds; mean accuracy, seconds a source")
    for setting in SETTINGS:
        ours, theirs, our_time, their_time = [], [], 0.0, 0.0
        for seed in range(options.seeds):
            for name in SOURCES:
                start = time.perf_counter()
                ours.append(by_transferscore(options.transferscore, name, setting, seed))
                middle = time.perf_counter()
                theirs.append(by_torch(name, images, labels, setting, seed))
                our_time += middle - start
                their_time += time.perf_counter() - middle
        n = len(ours)
        print(
            f"{setting[0]:5} {setting[1]:5}  transferscore {100 * statistics.mean(ours):.2f} %"
            f"  PyTorch {100 * statistics.mean(theirs):.2f} %"
            f"  difference {100 * (statistics.mean(ours) - statistics.mean(theirs)):+.2f} points"
            f"  {our_time / n:.2f} s, {their_time / n:.2f} s"
        )


if __name__ == "__main__":
    main()
