"""Writes attacks.json: perturbations of the bundled reference model by Foolbox 3.3.4 and torchattacks 3.5.1.

Needs PyTorch, onnx, NumPy, foolbox and torchattacks. Everything is computed in float64, from the same weights and without
chance: where torchattacks draws a start it is given the one that is written along. Two things are put right first:
Foolbox's projection of FMN in L2, and torchattacks' smoothing of gradients, which is written for three channels.
"""

import json
import pathlib

import foolbox
import numpy as np
import onnx
import torch
import torchattacks
from foolbox.attacks import fast_minimum_norm
from onnx import numpy_helper

HERE = pathlib.Path(__file__).parent
MODELS = HERE.parent.parent / "models"
N_SAMPLES = 6
EPSILON = {"linf": 0.1, "l2": 0.8}
STEPS = 10


class Network(torch.nn.Module):
    """The model of the ONNX file."""

    def __init__(self, name):
        super().__init__()
        tensors = onnx.load(MODELS / name / "model.onnx").graph.initializer
        arrays = {item.name: numpy_helper.to_array(item) for item in tensors}
        self.weights = {name: torch.tensor(array.copy()).double() for name, array in arrays.items() if "." in name}
        self.anchor = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, values):
        for number, stride in [(1, 1), (2, 2), (3, 1)]:
            weight = self.weights[f"convolution{number}.weight"]
            bias = self.weights[f"convolution{number}.weight_bias"]
            values = torch.relu(torch.conv2d(values, weight, bias, stride=stride, padding=1))
        head = self.weights["head.weight"]
        return values.mean((2, 3)) @ head.T + self.weights["head.bias"]


def by_foolbox(attack, model, images, criterion, epsilon):
    _, clipped, _ = attack(foolbox.PyTorchModel(model, bounds=(0, 1)), images, criterion, epsilons=epsilon)
    return clipped - images


def by_apgd(model, images, classes, norm, loss, steps, noise):
    """torchattacks' APGD, whose start is the given noise, scaled to the ball; and that start."""
    name = {"linf": "Linf", "l2": "L2"}[norm]
    # Within a smaller ball: where the logits ratio comes to 1 its gradient is nothing but rounding.
    epsilon = EPSILON[norm] * (1 if loss == "ce" else 0.2)
    attack = torchattacks.APGD(model, norm=name, eps=epsilon, steps=steps, loss=loss)
    random, normal = torch.rand, torch.randn
    torch.rand, torch.randn = lambda *_, **__: (noise + 1) / 2, lambda *_, **__: noise
    try:
        best, _, _, reaching = attack.attack_single_run(images, classes)
    finally:
        torch.rand, torch.randn = random, normal
    length = noise.abs().flatten(1).max(1)[0] if norm == "linf" else noise.flatten(1).norm(dim=1)
    start = (images + epsilon * noise / length.reshape(-1, 1, 1, 1)).clamp(0, 1)
    is_kept = (model(best).argmax(1) != classes) | (model(reaching).argmax(1) == classes)
    assert loss == "ce" or attack.dlr_loss(model(best), classes).max() < 0.99
    return torch.where(is_kept.reshape(-1, 1, 1, 1), best, reaching) - images, start


class L2FMN(foolbox.attacks.L2FMNAttack):
    """With the projection of the authors' own code; Foolbox divides norms by themselves, so that nothing is projected."""

    def project(self, x, x0, epsilon):
        delta = x.raw - x0.raw
        factor = (epsilon.raw / delta.flatten(1).norm(dim=1).clamp(min=1e-12)).clamp(max=1)
        return x0 + delta * factor.reshape(-1, 1, 1, 1)


def smoothed_conv2d(values, kernel, stride, padding, groups):
    """The digits have one channel."""
    return torch.conv2d(values, kernel[:1].double(), stride=stride, padding=padding)


def main():
    torch.manual_seed(0)
    model = Network("digits-reference").eval()
    probe = np.load(MODELS / "datasets" / "digits.npz")
    images = torch.tensor(probe["x"]).permute(0, 3, 1, 2).double() / 255
    labels = torch.tensor(probe["y"].astype(np.int64))
    right = (model(images).argmax(1) == labels).nonzero().flatten()[:N_SAMPLES]
    images, labels = images[right], labels[right]
    targets = (labels + 1) % 4
    untargeted = foolbox.criteria.Misclassification(labels)
    targeted = foolbox.criteria.TargetedMisclassification(targets)
    found = {}
    for norm, prefix in [("linf", "Linf"), ("l2", "L2")]:
        epsilon = EPSILON[norm]
        of = lambda kind: getattr(foolbox.attacks, prefix + kind)  # noqa: B023
        step = dict(rel_stepsize=0.25, steps=STEPS)
        found[f"fgsm {norm}"] = by_foolbox(of("FastGradientAttack")(), model, images, untargeted, epsilon)
        pgd = of("ProjectedGradientDescentAttack")(random_start=False, **step)
        found[f"pgd {norm}"] = by_foolbox(pgd, model, images, untargeted, epsilon)
        found[f"targeted pgd {norm}"] = by_foolbox(pgd, model, images, targeted, epsilon)
        momentum = of("MomentumIterativeFastGradientMethod")(momentum=0.8, **step)
        found[f"momentum of directions {norm}"] = by_foolbox(momentum, model, images, untargeted, epsilon)
        found[f"deepfool {norm}"] = by_foolbox(of("DeepFoolAttack")(), model, images, untargeted, None)
    common = dict(eps=EPSILON["linf"], alpha=0.25 * EPSILON["linf"], steps=STEPS)
    momentum = torchattacks.MIFGSM(model, decay=0.8, **common)
    found["momentum of gradients linf"] = momentum(images, labels) - images
    smoothed = torchattacks.TIFGSM(model, decay=0.0, len_kernel=5, nsig=3, diversity_prob=0.0, **common)
    kept = torch.nn.functional.conv2d
    torch.nn.functional.conv2d = smoothed_conv2d
    found["translation linf"] = smoothed(images, labels) - images
    torch.nn.functional.conv2d = kept
    # Without decay there is neither momentum nor Nesterov's step ahead.
    found["scales linf"] = torchattacks.SINIFGSM(model, decay=0.0, m=3, **common)(images, labels) - images
    found["ddn l2"] = by_foolbox(foolbox.attacks.DDNAttack(steps=40), model, images, untargeted, None)
    found["targeted ddn l2"] = by_foolbox(foolbox.attacks.DDNAttack(steps=40), model, images, targeted, None)
    found["fmn linf"] = by_foolbox(foolbox.attacks.LInfFMNAttack(steps=40), model, images, untargeted, None)
    found["fmn l2"] = by_foolbox(L2FMN(steps=40), model, images, untargeted, None)
    noise = torch.tensor(np.random.default_rng(0).uniform(-1, 1, images.shape)).double()
    for norm in ["linf", "l2"]:
        for loss in ["ce", "dlr"]:
            found[f"apgd {loss} {norm}"], start = by_apgd(model, images, labels, norm, loss, 40, noise)
            found[f"start {loss} {norm}"] = start - images
    small = torch.nn.functional.interpolate(images[:1], size=[6, 6], mode="bilinear", align_corners=False)
    rounded = lambda array: [round(float(value), 7) for value in array.detach().flatten()]
    golden = {
        "samples": right.tolist(),
        "labels": labels.tolist(),
        "targets": targets.tolist(),
        "resized": rounded(small),
        "perturbations": {name: rounded(perturbation) for name, perturbation in found.items()},
    }
    (HERE / "attacks.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
