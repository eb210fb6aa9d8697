"""Writes estimators.json: values of transferability estimators from independent implementations.

    python tests/golden/make_estimators.py FOLDER

FOLDER holds features.csv, labels.csv, reg_targets.csv, source_probs.csv and metrics.json: values of the authors' and of
TLlib's own functions on these arrays, as their names tell. Everything else is computed here with NumPy 2.4, SciPy 1.17 and
scikit-learn 1.9, from definitions, on arrays that are multiples of 1/1024.
"""

import json
import pathlib
import sys

import numpy as np
import scipy.spatial.distance
import scipy.stats
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier


def exact(array):
    return np.round(np.asarray(array) * 1024) / 1024


def published(folder):
    def read(name):
        return np.loadtxt(folder / name, delimiter=",")

    return dict(
        features=read("features.csv").tolist(),
        labels=read("labels.csv").astype(int).tolist(),
        targets=read("reg_targets.csv").tolist(),
        source_probabilities=read("source_probs.csv").tolist(),
        values=json.loads((folder / "metrics.json").read_text()),
    )


def one_hot(y):
    return (y[:, None] == np.unique(y)[None, :]).astype(float)


def h_score(x, y):
    g = np.vstack([x[y == label].mean(0) for label in y])
    return np.trace(np.linalg.pinv(np.cov(x.T), rcond=1e-10) @ np.cov(g.T))


def regularized_h_score(x, y):
    shrunk = LedoitWolf().fit(x)
    g = np.vstack([x[y == label].mean(0) for label in y])
    return np.trace(np.linalg.pinv(shrunk.covariance_) @ ((1 - shrunk.shrinkage_) * np.cov(g.T)))


def coding_rate(x, distortion=1e-4):
    return 0.5 * np.linalg.slogdet(np.eye(x.shape[1]) + x.T @ x / (len(x) * distortion))[1]


def trans_rate(x, y):
    x = x - x.mean(0)
    return coding_rate(x) - np.mean([coding_rate(x[y == label]) for label in np.unique(y)])


def log_me(x, targets):
    """The evidence maximised directly, epsilon included, by iterating the authors' updates until nothing moves."""
    n, d = x.shape
    evidences = []
    for y in targets.T:
        alpha = beta = 1.0
        for _ in range(20_000):
            inverse = np.linalg.inv(alpha * np.eye(d) + beta * x.T @ x)
            m = beta * inverse @ x.T @ y
            gamma = d - alpha * np.trace(inverse)
            residual, length = ((y - x @ m) ** 2).sum(), (m**2).sum()
            before = alpha / beta
            alpha, beta = gamma / (length + 1e-5), (n - gamma) / (residual + 1e-5)
            if abs(alpha / beta - before) <= 1e-12 * before:
                break
        a = alpha * np.eye(d) + beta * x.T @ x
        m = beta * np.linalg.solve(a, x.T @ y)
        residual, length = ((y - x @ m) ** 2).sum(), (m**2).sum()
        evidences.append(
            (
                d / 2 * np.log(alpha)
                + n / 2 * np.log(beta)
                - 0.5 * np.linalg.slogdet(a)[1]
                - beta / 2 * residual
                - alpha / 2 * length
                - n / 2 * np.log(2 * np.pi)
            )
            / n
        )
    return np.mean(evidences)


def gbc(x, y):
    groups = [x[y == label] for label in np.unique(y)]
    total = 0.0
    for i, a in enumerate(groups):
        for b in groups[i + 1 :]:
            va, vb = a.var(0), b.var(0)
            v = (va + vb) / 2
            distance = ((a.mean(0) - b.mean(0)) ** 2 / v).sum() / 8 + 0.5 * np.log(v / np.sqrt(va * vb)).sum()
            total += np.exp(-distance)
    return -total


def softmax(x):
    x = np.exp(x - x.max(1, keepdims=True))
    return x / x.sum(1, keepdims=True)


def sfda(x, y):
    x, c, n, d = x.copy(), len(np.unique(y)), len(y), x.shape[1]
    priors = np.bincount(y) / n

    def within(x):
        return sum(priors[k] * np.cov(x[y == k].T, bias=True) for k in range(c))

    def probabilities(x, shrinkage):
        w = within(x)
        shrunk = (1 - shrinkage) * w + shrinkage * np.trace(w) / d * np.eye(d)
        means = np.vstack([x[y == k].mean(0) for k in range(c)])
        coefficients = means @ np.linalg.inv(shrunk)
        return softmax(x @ coefficients.T - 0.5 * (means * coefficients).sum(1) + np.log(priors))

    w = within(x)
    u = w.sum(1)
    for _ in range(3):
        v = w @ u / np.linalg.norm(w @ u)
        u = w @ v / np.linalg.norm(w @ v)
    shrinkage = max(np.exp(-5 * (u @ w @ v)), 1e-10)
    confidence = softmax(probabilities(x, shrinkage))[np.arange(n), y][:, None]
    means = np.vstack([x[y == k].mean(0) for k in range(c)])
    others = (means.sum(0) - means) / (c - 1)
    x = confidence * x + (1 - confidence) * others[y]
    return probabilities(x, shrinkage)[np.arange(n), y].mean()


def parc(x, y):
    deviation = x.std(0)
    z = (x - x.mean(0)) / np.where(deviation > 0, deviation, 1)
    features = scipy.spatial.distance.pdist(z, "correlation")
    labels = scipy.spatial.distance.pdist(one_hot(y), "correlation")
    return scipy.stats.spearmanr(features, np.round(labels, 9)).statistic


def knn(x, y, k):
    classifier = KNeighborsClassifier(k, metric="cosine", algorithm="brute")
    return float((cross_val_predict(classifier, x, y, cv=LeaveOneOut()) == y).mean())


def leep(theta, y):
    joint = one_hot(y).T @ theta
    conditional = joint / joint.sum(0)
    return np.log((theta @ conditional.T)[np.arange(len(y)), np.searchsorted(np.unique(y), y)]).mean()


def nce(theta, y):
    z, h = theta.argmax(1), 0.0
    for source in np.unique(z):
        h += (z == source).mean() * scipy.stats.entropy(np.unique(y[z == source], return_counts=True)[1])
    return -h


def features_case(seed, n, d, c, scale):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, c, n)
    y[:c] = np.arange(c)
    # Of a spread at which the shrinkage of SFDA is neither none nor all.
    mix = rng.normal(size=(d, d)) / np.sqrt(d)
    x = scale * (rng.normal(size=(n, d)) @ mix + 0.7 * rng.normal(size=(c, d))[y]) + 0.5
    return exact(x), y


def geometry(seed, n, d, c, scale):
    x, y = features_case(seed, n, d, c, scale)
    targets = exact(x[:, :2] @ np.array([[1.0, -0.5], [0.25, 2.0]]) + np.random.default_rng(seed + 1).normal(size=(n, 2)))
    theta = softmax(np.random.default_rng(seed + 2).normal(size=(n, 5)) * 2)
    return dict(
        features=x.tolist(),
        labels=y.tolist(),
        targets=targets.tolist(),
        source_probabilities=theta.tolist(),
        leep=leep(theta, y),
        nce=nce(theta, y),
        log_me=log_me(x, one_hot(y)),
        log_me_regression=log_me(x, targets),
        h_score=h_score(x, y),
        regularized_h_score=regularized_h_score(x, y),
        trans_rate=trans_rate(x, y),
        gbc=gbc(x, y) if min(np.bincount(y)) > 1 else None,
        sfda=sfda(x, y),
        parc=parc(x, y),
        knn_1=knn(x, y, 1),
    )


def mixture(seed):
    """Expectation maximisation from a given start, after 1, 7 and as many steps as it takes."""
    rng = np.random.default_rng(seed)
    x = exact(np.vstack([rng.normal(size=(40, 3)) * s + m for s, m in ((1, 0), (0.6, 2), (1.5, -2))]))
    k = 4
    start = dict(weights=[0.1, 0.2, 0.3, 0.4], means=exact(rng.normal(size=(k, 3)) * 2).tolist(), variances=exact(rng.uniform(0.5, 2, (k, 3))).tolist())
    runs = []
    for steps in (1, 7, 100):
        model = GaussianMixture(
            k,
            covariance_type="diag",
            tol=0 if steps < 100 else 1e-3,
            reg_covar=1e-6,
            max_iter=steps,
            weights_init=start["weights"],
            means_init=start["means"],
            precisions_init=1 / np.array(start["variances"]),
        ).fit(x)
        runs.append(
            dict(
                steps=steps,
                tolerance=0.0 if steps < 100 else 1e-3,
                weights=model.weights_.tolist(),
                means=model.means_.tolist(),
                log_likelihood=float(model.score(x)),
                posterior=model.predict_proba(x).tolist(),
            )
        )
    y = rng.integers(0, 3, len(x))
    return dict(points=x.tolist(), start=start, runs=runs, labels=y.tolist(), leep=leep(np.array(runs[-1]["posterior"]), y))


def verification(seed):
    """All pairs of few samples, so that nothing is drawn: as many mismatched as matched ones."""
    rng = np.random.default_rng(seed)
    # Two identities of n give n(n - 1) matched and n² mismatched pairs; the fewest kind is taken whole.
    y = np.array([0] * 30 + [1] * 12)
    x = exact(rng.normal(size=(42, 5)) + 1.5 * rng.normal(size=(2, 5))[y])
    i, j = np.triu_indices(len(y), 1)
    z = x / np.linalg.norm(x, axis=1, keepdims=True)
    return dict(
        embeddings=x.tolist(),
        labels=y.tolist(),
        n_matched=int((y[i] == y[j]).sum()),
        n_mismatched=int((y[i] != y[j]).sum()),
        similarities=(z[i] * z[j]).sum(1).tolist(),
        roc_auc_of_all=float(roc_auc_score(y[i] == y[j], (z[i] * z[j]).sum(1))),
        true_accept_rate_of_all=float(
            max(t for f, t in zip(*roc_curve(y[i] == y[j], (z[i] * z[j]).sum(1), drop_intermediate=False)[:2]) if f <= 1e-2)
        ),
    )


def ridge_by_folds(seed):
    rng = np.random.default_rng(seed)
    x, fold_of = exact(rng.normal(size=(30, 6))), np.arange(30) % 4
    y = exact(x[:, :2] + rng.normal(size=(30, 2)))
    unit = ((x - x.mean(0)) ** 2).sum() / x.shape[1]
    held_out = []
    for strength in (0.0, 0.01, 0.3):
        squares = 0.0
        for fold in range(4):
            a, b = x[fold_of != fold], y[fold_of != fold]
            centred = a - a.mean(0)
            w = np.linalg.solve(centred.T @ centred + strength * unit * np.eye(6), centred.T @ (b - b.mean(0)))
            squares += ((y[fold_of == fold] - b.mean(0) - (x[fold_of == fold] - a.mean(0)) @ w) ** 2).sum()
        held_out.append(dict(strength=strength, distance=float(np.sqrt(squares / len(x)))))
    return dict(features=x.tolist(), targets=y.tolist(), fold_of=fold_of.tolist(), held_out=held_out)


if __name__ == "__main__":
    golden = dict(
        published=published(pathlib.Path(sys.argv[1])),
        tall=geometry(1, 60, 6, 3, 0.3),
        wide=geometry(2, 24, 40, 3, 0.1),
        mixture=mixture(3),
        verification=verification(4),
        ridge_by_folds=ridge_by_folds(5),
    )
    path = pathlib.Path(__file__).with_name("estimators.json")
    path.write_text(json.dumps(golden, default=float) + "\n")
