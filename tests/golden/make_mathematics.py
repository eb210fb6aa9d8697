"""Writes mathematics.json: small inputs with values from NumPy, SciPy, scikit-learn and the reference oracle.

Run from the repository's root, with the folder that holds transferability.py as the argument:

    python tests/golden/make_mathematics.py ../shared/oracle

Inputs are multiples of 1/64, exact in float32. Written with NumPy 2.4, SciPy 1.17, scikit-learn 1.9.
"""

import json
import pathlib
import sys

import numpy as np
import scipy.stats
from sklearn.linear_model import LogisticRegression

sys.path.insert(0, sys.argv[1])
import transferability as oracle  # noqa: E402


def exact(array):
    return np.round(np.asarray(array) * 64) / 64


def proj_is_active(jac_1, jac_2):
    v1 = oracle.top_directions(jac_1)
    d1, d2 = oracle.deviations(jac_1, v1), oracle.deviations(jac_2, v1)
    a = (d2.T @ d1) @ np.linalg.pinv(d1.T @ d1)
    return bool(np.linalg.norm(a, 2) > np.sqrt((d2**2).sum() / (d1**2).sum()))


def pair(seed, n_samples, d1, d2, n_pixels, relation):
    rng = np.random.default_rng(seed)
    jac_1 = rng.normal(size=(n_samples, d1, n_pixels))
    jac_2 = relation * np.einsum("ab,nbi->nai", rng.normal(size=(d2, d1)), jac_1)
    jac_1, jac_2 = exact(jac_1), exact(jac_2 + rng.normal(size=(n_samples, d2, n_pixels)))
    directions = {}
    for name, first, second in (("1_to_2", jac_1, jac_2), ("2_to_1", jac_2, jac_1)):
        directions[name] = dict(
            oracle.first_order(first, second),
            tau2=oracle.tau2(first, second),
            proj_is_active=proj_is_active(first, second),
        )
    return dict(
        jacobians_1=jac_1.tolist(),
        jacobians_2=jac_2.tolist(),
        level_1=oracle.first_order(jac_1, jac_2, 1) if min(d1, d2) > 1 else None,
        tau1=oracle.tau1(jac_1, jac_2),
        gradient_matching=oracle.gradient_matching(jac_1, jac_2),
        **directions,
    )


def ridge_residuals(x, y, strength, at):
    """Residuals at `at` of the ridge with intercept fitted to x, y; the penalty is given, not relative."""
    mean_x, mean_y = x.mean(0), y.mean(0)
    xc = x - mean_x
    w = np.linalg.pinv(xc.T @ xc + strength * np.eye(x.shape[1]), rcond=1e-12) @ xc.T @ (y - mean_y)
    return at[1] - mean_y - (at[0] - mean_x) @ w


def affine(x, y, strengths):
    xc = x - x.mean(0)
    unit = (xc**2).sum() / x.shape[1]
    ridges = []
    for strength in strengths:
        fitted = ridge_residuals(x, y, strength * unit, (x, y))
        held_out = [
            ridge_residuals(np.delete(x, i, 0), np.delete(y, i, 0), strength * unit, (x[i], y[i])) for i in range(len(x))
        ]
        total = ((y - y.mean(0)) ** 2).sum()
        ridges.append(
            dict(
                strength=strength,
                distance=float(np.sqrt((fitted**2).sum(1).mean())),
                held_out_distance=float(np.sqrt((np.array(held_out) ** 2).sum(1).mean())),
                held_out_r2=float(1 - (np.array(held_out) ** 2).sum() / total),
            )
        )
    return dict(features=x.tolist(), targets=y.tolist(), least_squares=oracle.affine_fit(x, y), ridges=ridges)


def logistic(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, 60)
    features = exact(rng.normal(size=(60, 4)) + 0.8 * rng.normal(size=(3, 4))[labels])
    fits = []
    for l2 in (1.0, 0.01, 1e-4):
        model = LogisticRegression(C=1 / (l2 * len(labels)), tol=1e-12, max_iter=100_000).fit(features, labels)
        log_p = model.predict_log_proba(features)[np.arange(len(labels)), labels]
        fits.append(dict(l2=l2, objective=float(-log_p.mean() + 0.5 * l2 * (model.coef_**2).sum())))
    return dict(features=features.tolist(), labels=labels.tolist(), fits=fits)


def correlations(x, y):
    return dict(
        x=x,
        y=y,
        pearson=float(scipy.stats.pearsonr(x, y)[0]),
        spearman=float(scipy.stats.spearmanr(x, y)[0]),
        kendall=float(scipy.stats.kendalltau(x, y)[0]),
    )


def main():
    rng = np.random.default_rng(7)
    x, mix = exact(rng.normal(size=(30, 4))), rng.normal(size=(4, 2))
    y = exact(x @ mix + 0.5 * rng.normal(size=(30, 2)) + [3, -1])
    wide = exact(rng.normal(size=(10, 14)))
    # The last feature is zero but for one sample, which therefore has leverage 1.
    lonely = np.hstack([x[:12], np.eye(12)[:, :1]])
    values = exact(rng.normal(size=9)).tolist()
    golden = dict(
        pairs=[
            pair(1, 14, 3, 4, 6, 0.6),
            pair(2, 12, 4, 2, 5, 1.5),
            pair(4, 10, 1, 1, 4, 1.0),
            pair(5, 20, 2, 3, 9, 0.0),
            pair(6, 4, 5, 4, 7, 0.5),
        ],
        affine=dict(
            tall=affine(x, y, [0.0, 0.01, 0.5]),
            collinear=affine(np.hstack([x[:, :2], x[:, :1] - x[:, 1:2]]), y, [0.0, 0.1]),
            lonely=affine(lonely, y[:12], [0.0, 0.1]),
            wide=affine(wide, y[:10], [0.0, 0.1]),
        ),
        logistic=logistic(3),
        correlations=[
            correlations(values, exact(np.array(values) + rng.normal(size=9)).tolist()),
            correlations([1, 2, 2, 3, 3, 3, 4, 5], [2, 1, 2, 2, 5, 4, 4, 5]),
            correlations([5, 3, 3, 1], [1, 2, 2, 7]),
        ],
        quantiles=dict(
            values=sorted(values),
            shares=[0.0, 0.025, 0.3, 0.5, 0.975, 1.0],
            expected=np.quantile(values, [0.0, 0.025, 0.3, 0.5, 0.975, 1.0]).tolist(),
        ),
    )
    pathlib.Path(__file__).with_name("mathematics.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    for case in golden["pairs"]:
        print(case["1_to_2"], case["2_to_1"], case["gradient_matching"])


main()
