"""Writes training.json: what PyTorch's optimisers make of a small network's weights in five steps.

Needs PyTorch and NumPy. The network has a convolution, a batch normalisation with fixed statistics, a strided convolution in
groups, and a linear layer; all of it is computed in float32, as the service does.
"""

import json
import pathlib

import numpy as np
import torch

HERE = pathlib.Path(__file__).parent
STEPS, BATCH = 5, 4
SHAPES = {
    "conv1.weight": (4, 1, 3, 3),
    "conv1.bias": (4,),
    "norm.scale": (4,),
    "norm.shift": (4,),
    "conv2.weight": (6, 2, 3, 3),
    "head.weight": (3, 6),
    "head.bias": (3,),
}
RATES = [0.02, 0.04, 0.03, 0.02, 0.01]
OPTIMISERS = {
    "sgd": lambda weights: torch.optim.SGD(weights, lr=1, momentum=0.9, weight_decay=0.05),
    "nesterov": lambda weights: torch.optim.SGD(weights, lr=1, momentum=0.8, nesterov=True),
    "adamw": lambda weights: torch.optim.AdamW(weights, lr=1, weight_decay=0.1),
}


def rounded(array):
    return [float(np.float32(value)) for value in np.asarray(array).ravel()]


def main():
    torch.set_num_threads(1)
    generator = np.random.default_rng(7)
    start = {name: generator.normal(0, 0.5, shape).astype(np.float32) for name, shape in SHAPES.items()}
    start["norm.scale"] = np.abs(start["norm.scale"]) + np.float32(0.5)
    mean, variance = np.float32([0.1, -0.2, 0.0, 0.3]), np.float32([0.5, 1.5, 1.0, 0.8])
    images = generator.random((STEPS, BATCH, 1, 6, 6), dtype=np.float32)
    labels = generator.integers(0, 3, (STEPS, BATCH))

    def forward(weights, batch):
        values = torch.conv2d(batch, weights["conv1.weight"], weights["conv1.bias"], padding=1)
        values = torch.nn.functional.batch_norm(
            values, torch.tensor(mean), torch.tensor(variance), weights["norm.scale"], weights["norm.shift"], False
        )
        values = torch.conv2d(torch.relu(values), weights["conv2.weight"], stride=2, padding=1, groups=2)
        return torch.relu(values).mean((2, 3)) @ weights["head.weight"].T + weights["head.bias"]

    results = {}
    for name, make in OPTIMISERS.items():
        weights = {key: torch.tensor(value, requires_grad=True) for key, value in start.items()}
        optimiser = make(list(weights.values()))
        losses = []
        for rate, batch, classes in zip(RATES, images, labels):
            optimiser.param_groups[0]["lr"] = rate
            optimiser.zero_grad()
            loss = torch.nn.functional.cross_entropy(forward(weights, torch.tensor(batch)), torch.tensor(classes))
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
        weights = {key: rounded(value.detach().numpy()) for key, value in weights.items()}
        results[name] = {"losses": losses, "weights": weights}

    golden = {
        "shapes": SHAPES,
        "start": {name: rounded(array) for name, array in start.items()},
        "mean": rounded(mean),
        "variance": rounded(variance),
        "rates": RATES,
        "images": rounded(images),
        "labels": labels.ravel().tolist(),
        "results": results,
    }
    (HERE / "training.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
