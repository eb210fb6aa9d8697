"""Prints the digits experiment for several seeds: does transferability rise with the share of common classes?

Each seed draws other classes, other splits and other initial weights. The metrics are those of Liang et al. (ICML 2021)
with exact first-order attacks made on the reference and read on the source, in float64.
"""

import argparse

import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score

import digits as recipe


def jacobians(network, pixels):
    """Jacobian of the logits by the pixels for each image, (N, outputs, pixels)."""
    images = recipe.to_input(pixels).double().requires_grad_(True)
    logits = network.double()(images)
    rows = [torch.autograd.grad(column.sum(), images, retain_graph=True)[0].flatten(1) for column in logits.T]
    return torch.stack(rows, 1).numpy()


def features(network, pixels):
    with torch.no_grad():
        return network.double()[:-1](recipe.to_input(pixels).double()).numpy()


def adversarial(white, black):
    """alpha1, alpha2 and combined of the attack on `white`, read on `black`."""
    attack = np.linalg.svd(white, full_matrices=False)[2][:, 0]
    own = np.linalg.norm(black, ord=2, axis=(1, 2))
    white_moves = np.einsum("ndi,ni->nd", white, attack)
    black_moves = np.einsum("ndi,ni->nd", black, attack)
    ratio = np.linalg.norm(black_moves, axis=1) / own
    white_unit = white_moves / np.linalg.norm(white_moves, axis=1, keepdims=True)
    black_unit = black_moves / np.linalg.norm(black_moves, axis=1, keepdims=True)
    alpha2 = np.linalg.norm(white_unit.T @ black_unit / len(ratio))
    combined = np.linalg.norm((ratio[:, None] * white_unit).T @ black_unit / len(ratio))
    return ratio.mean(), alpha2, combined


def probe_accuracy(inputs, labels):
    """Accuracy of a logistic regression on held-out fifths."""
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return cross_val_score(LogisticRegression(C=1.0, max_iter=5000), inputs, labels, cv=folds).mean()


def measure(seed):
    models, (pixels, labels) = recipe.train_all(seed)
    reference = jacobians(models.pop("digits-reference")[0], pixels)
    rows = []
    for network, _, _ in models.values():
        alpha1, alpha2, combined = adversarial(reference, jacobians(network, pixels))
        rows.append((combined, alpha1, alpha2, probe_accuracy(features(network, pixels), labels)))
    return np.array(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("seeds", type=int, nargs="*", default=list(range(6)))
    seeds = parser.parse_args().seeds
    print("| seed | target | measure | 0 % | 25 % | 50 % | 75 % | 100 % | Spearman with share |")
    print("|---|---|---|---|---|---|---|---|---|")
    tables = []
    for seed in seeds:
        target = " ".join(map(str, recipe.draw_classes(seed)[0]))
        tables.append(measure(seed))
        print_rows(str(seed), target, tables[-1])
    print_rows("mean", "", np.mean(tables, axis=0))


def print_rows(seed, target, table):
    for name, column in zip(["combined", "alpha1", "alpha2", "linear probe"], table.T):
        values = " | ".join(f"{value:.3f}" for value in column)
        trend = spearmanr(range(len(column)), column).statistic
        print(f"| {seed} | {target} | {name} | {values} | {trend:.2f} |", flush=True)


if __name__ == "__main__":
    main()
