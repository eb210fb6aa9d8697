"""Makes the data of the synthetic experiment and trains its networks: does the theory hold where all is known?

Liang et al. (ICML 2021), section 4 of the first version. Inputs come from ten Gaussians in R⁵⁰, targets are weighted
sums of a hundred radial functions in R¹⁰; reference and sources have one hidden layer of sigmoids, 100 and 50 wide. A
source series starts with a trained network, whose weights then move away along one random direction, further at each
level.

The centres, widths and steps are those that fit the files the authors published; the networks here are trained anew.
The probe set is the bundled `models/experiments/synthetic/datasets/synthetic.npz`.

    python models/recipes/synthetic.py
"""

import copy

import numpy as np
import torch
import zoo
from torch import nn

N_INPUTS, N_OUTPUTS, N_GAUSSIANS, N_RADIAL = 50, 10, 10, 100
N_SAMPLES = 5_000
N_SERIES = 3
N_LEVELS = 10
# Largest change of a weight at the first noisy level; level k moves k(k+1)/2 times as far.
NOISE = 0.05
SCHEDULE = zoo.Schedule(epochs=150, batch=100, learning_rate=1e-2, weight_decay=0.0)


def draw_data(seed):
    """Training and probe part, each inputs (5000, 50) and targets (5000, 10), float32.

    Gaussians have means uniform in ±0.5 and the identity as covariance. Radial functions are exp(−‖x − μ‖²/50) with μ
    and weights uniform in ±0.5.
    """
    generator = np.random.default_rng(seed)
    means = generator.uniform(-0.5, 0.5, (N_GAUSSIANS, N_INPUTS))
    centres = generator.uniform(-0.5, 0.5, (N_RADIAL, N_INPUTS))
    weights = generator.uniform(-0.5, 0.5, (N_RADIAL, N_OUTPUTS))
    parts = []
    for _ in range(2):
        gaussian = generator.integers(N_GAUSSIANS, size=N_SAMPLES)
        inputs = means[gaussian] + generator.normal(size=(N_SAMPLES, N_INPUTS))
        squared = ((inputs**2).sum(1)[:, None] - 2 * inputs @ centres.T + (centres**2).sum(1)).clip(0)
        targets = np.exp(-squared / N_INPUTS) @ weights
        parts.append((inputs.astype(np.float32), targets.astype(np.float32)))
    return parts


def network(n_hidden):
    return nn.Sequential(nn.Linear(N_INPUTS, n_hidden), nn.Sigmoid(), nn.Linear(n_hidden, N_OUTPUTS))


def train(n_hidden, part, seed, chosen):
    inputs, targets = (torch.from_numpy(array) for array in part)

    def draw(indices, _):
        return inputs[indices], targets[indices]

    return zoo.train(lambda: network(n_hidden), draw, N_SAMPLES, nn.functional.mse_loss, SCHEDULE, seed, chosen)


def moved(trained, direction, level):
    """The network with all weights moved along the direction."""
    steps = level * (level + 1) // 2
    result = copy.deepcopy(trained)
    with torch.no_grad():
        for parameter, change in zip(result.parameters(), direction, strict=True):
            parameter += steps * change
    return result


def publish(experiment, name, trained, probe, seed, cost, details, what):
    inputs, targets = probe

    def measure(run):
        residual = run(inputs) - targets
        spread = targets - targets.mean(0)
        return {"rmse": np.sqrt((residual**2).mean()), "r2": 1 - (residual**2).sum() / (spread**2).sum()}

    description = zoo.Description(
        summary=f"approximates sums of radial functions on R^{N_INPUTS}, {what}",
        data="the recipe's own 5,000 samples of ten Gaussians",
        licence="CC0",
        kind="embedding",
        measured_on="the probe set, 5,000 further samples",
        input_name="x",
        output_name="y",
        details=details,
    )
    experiment.publish(name, trained, torch.from_numpy(inputs[:64]), description, measure, seed, cost, half=False)


def main():
    chosen = zoo.options(__doc__)
    experiment = zoo.Experiment("synthetic", chosen)
    train_part, probe = draw_data(seed=0)
    datasets = experiment.folder / "datasets"
    datasets.mkdir(exist_ok=True)
    np.savez_compressed(datasets / "synthetic.npz", x=probe[0], y=probe[1])
    if experiment.wants("reference"):
        trained, cost = train(100, train_part, 99, chosen)
        publish(experiment, "reference", trained, probe, 99, cost, {}, "100 hidden sigmoids: the reference")
    for series in range(N_SERIES):
        wanted = [k for k in range(N_LEVELS) if experiment.wants(f"series-{series}-level-{k}")]
        if not wanted:
            continue
        trained, cost = train(50, train_part, series, chosen)
        generator = torch.Generator().manual_seed(1000 + series)
        direction = [(torch.rand(p.shape, generator=generator) * 2 - 1) * NOISE for p in trained.parameters()]
        for level in wanted:
            what = f"50 hidden sigmoids, weights moved {level * (level + 1) // 2} steps from the trained ones"
            details = {"series": series, "level": level}
            name = f"series-{series}-level-{level}"
            publish(experiment, name, moved(trained, direction, level), probe, series, cost, details, what)


if __name__ == "__main__":
    main()
