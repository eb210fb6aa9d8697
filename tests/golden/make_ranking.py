"""Writes ranking.json: correlations, permutation tests, regret and Borda counts from SciPy and by enumeration.

Run from the repository's root:

    python tests/golden/make_ranking.py

Written with NumPy 2.4, SciPy 1.17.
"""

import itertools
import json
import pathlib

import numpy as np
import scipy.stats

COEFFICIENTS = dict(
    pearson=lambda x, y: scipy.stats.pearsonr(x, y)[0],
    spearman=lambda x, y: scipy.stats.spearmanr(x, y)[0],
    kendall=lambda x, y: scipy.stats.kendalltau(x, y)[0],
    weighted_kendall=lambda x, y: scipy.stats.weightedtau(x, y)[0],
)


def coefficients(x, y):
    return {name: float(of(x, y)) for name, of in COEFFICIENTS.items()}


def correlation(x, y):
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    return dict(x=x.tolist(), y=y.tolist(), **coefficients(x, y))


def resample(x, y, counts):
    """A resample as the pairs themselves, repeated."""
    return dict(x=x, y=y, counts=counts, **coefficients(np.repeat(x, counts), np.repeat(y, counts)))


def permutation_test(x, y):
    """Two-sided, over all orders of y."""
    found = coefficients(x, y)
    orders = [coefficients(x, np.asarray(y)[list(order)]) for order in itertools.permutations(range(len(y)))]
    p_values = {
        name: float(np.mean([abs(other[name]) >= abs(found[name]) - 1e-9 for other in orders])) for name in COEFFICIENTS
    }
    return dict(x=x, y=y, p_values=p_values)


def regret(scores, measured, top):
    """The mean over all orders of the sources in which ties may be broken."""
    scores, measured = np.asarray(scores), np.asarray(measured)
    losses = []
    for order in itertools.permutations(range(len(scores))):
        chosen = sorted(order, key=lambda source: -scores[source])[:top]
        losses.append(measured.max() - measured[chosen].max())
    return dict(scores=scores.tolist(), measured=measured.tolist(), top=top, regret=float(np.mean(losses)))


def borda(ballots, weights):
    shares = [(scipy.stats.rankdata(ballot) - 1) / (len(ballot) - 1) for ballot in ballots]
    return dict(ballots=ballots, weights=weights, shares=np.average(shares, axis=0, weights=weights).tolist())


def main():
    rng = np.random.default_rng(5)
    normal = rng.normal(size=(2, 60))
    steps = rng.integers(0, 6, size=(2, 200))
    steps[1] += steps[0]
    x, y = [3, 1, 4, 1, 5, 9, 2, 6], [2, 7, 1, 7, 2, 8, 1, 8]
    golden = dict(
        correlations=[
            correlation(*normal),
            correlation(normal[0], normal[0] + normal[1]),
            correlation(*steps),
            correlation(x, y),
            correlation([1, 2, 2, 3, 3, 3, 4, 5], [2, 1, 2, 2, 5, 4, 4, 5]),
            correlation([5, 3, 3, 1], [1, 2, 2, 7]),
            correlation([1, 1, 2], [0.0, -0.0, 5]),
            correlation([1, 2], [4, 3]),
        ],
        resamples=[
            resample(x, y, [0, 2, 1, 0, 3, 1, 0, 1]),
            resample(x, y, [1, 1, 1, 5, 0, 0, 0, 0]),
            resample(normal[0, :12].tolist(), normal[1, :12].tolist(), [0, 3, 1, 1, 0, 2, 1, 0, 0, 4, 0, 0]),
        ],
        permutation_tests=[
            permutation_test([1, 2, 3, 4, 5], [1, 3, 2, 4, 5]),
            permutation_test([1, 2, 2, 4, 5, 7], [9, 5, 6, 5, 1, 2]),
            permutation_test([0.3, 0.1, 0.4, 0.15, 0.9, 0.26], [0.2, 0.7, 0.1, 0.8, 0.28, 0.18]),
        ],
        regrets=[
            regret([0.1, 0.4, 0.3, 0.2], [0.7, 0.6, 0.9, 0.8], 1),
            regret([0.1, 0.4, 0.3, 0.2], [0.7, 0.6, 0.9, 0.8], 3),
            regret([1, 1, 1, 0, 2, 1], [0.5, 0.7, 0.6, 0.9, 0.1, 0.8], 1),
            regret([1, 1, 1, 0, 2, 1], [0.5, 0.7, 0.6, 0.9, 0.1, 0.8], 3),
            regret([1, 1, 1, 0, 2, 1], [0.5, 0.7, 0.6, 0.9, 0.65, 0.8], 3),
            regret([0, 0, 0], [0.5, 0.25, 1.0], 1),
            regret([2, 1], [0.5, 0.25], 3),
        ],
        borda=[
            borda([[0.1, 0.5, 0.3], [7, 7, 9]], [1.0, 1.0]),
            borda([[4, 3, 2, 1], [1, 2, 2, 2], [0, 1, 0, 1]], [0.5, 0.25, 1.0]),
        ],
    )
    pathlib.Path(__file__).with_name("ranking.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
