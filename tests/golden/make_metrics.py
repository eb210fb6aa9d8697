"""Writes metrics.json: losses and fooling rates, probes, theorems, tournaments and clusters from NumPy and SciPy.

Run from the repository's root:

    python tests/golden/make_metrics.py

Inputs are multiples of 1/64, exact in float32. Written with NumPy 2.4, SciPy 1.17.
"""

import json
import pathlib

import numpy as np
import scipy.cluster.hierarchy as hierarchy
import scipy.special


def exact(array):
    return np.round(np.asarray(array) * 64) / 64


def judged(seed):
    """Two classifiers of the same four classes under each other's attacks."""
    rng = np.random.default_rng(seed)
    n, d = 40, 4
    labels = rng.integers(0, d, n)
    clean, own, black = [], [], []
    for _ in range(2):
        clean.append(exact(rng.normal(size=(n, d)) + 1.5 * np.eye(d)[labels]))
        own.append(exact(2.5 * rng.normal(size=(n, d))))
        black.append(exact(1.2 * rng.normal(size=(n, d))))

    def entropy(outputs):
        return -scipy.special.log_softmax(outputs, axis=1)[np.arange(n), labels]

    # The attack is made on model 0 and read on model 1.
    attacked, white = entropy(clean[1] + black[1]), entropy(clean[1] + own[1])
    right = [clean[m].argmax(1) == labels for m in range(2)]
    fooled = [(clean[m] + black[m]).argmax(1) != labels for m in range(2)]
    succeeded = clean[0].argmax(1) != (clean[0] + own[0]).argmax(1)
    both = right[0] & right[1]
    targets = exact(rng.normal(size=(n, d)))
    return dict(
        labels=labels.tolist(),
        clean=[c.tolist() for c in clean],
        own=[o.tolist() for o in own],
        black=[b.tolist() for b in black],
        targets=targets.tolist(),
        attack_loss=attacked.mean(),
        clean_loss=entropy(clean[1]).mean(),
        white_box_loss=white.mean(),
        loss_ratio=attacked.mean() / white.mean(),
        fooling_rate=fooled[1][right[1]].mean(),
        conditional_fooling_rate=fooled[1][right[1] & succeeded].mean(),
        similarity=np.log(max(0.01, 100 * 0.5 * (fooled[0][both].mean() + fooled[1][both].mean()))),
        squared_error=((clean[1] + black[1] - targets) ** 2).sum(1).mean(),
    )


def probed(seed):
    """Gradient matching by all sign vectors as output probes, which gives exactly the whole, and by some."""
    rng = np.random.default_rng(seed)
    n, d_t, d_s, pixels = 10, 3, 2, 5
    jac_s = exact(rng.normal(size=(n, d_s, pixels)))
    jac_t = exact(np.einsum("ab,nbi->nai", rng.normal(size=(d_t, d_s)), jac_s) + rng.normal(size=(n, d_t, pixels)))
    q_inv = np.linalg.pinv(np.einsum("nai,nbi->ab", jac_s, jac_s) / n)

    def by(signs):
        rows = np.einsum("ka,nai->nki", signs, jac_t)
        p = np.einsum("nki,nbi->kb", rows, jac_s) / n
        energy = (rows**2).sum((0, 2)) / n
        matched = np.einsum("kb,bc,kc->k", p, q_inv, p)
        r = len(signs)
        whole = dict(explained=matched.sum() / energy.sum(), distance=np.sqrt((energy - matched).mean()))
        left_out = {"explained": [], "distance": []}
        for k in range(r):
            e, m = np.delete(energy, k), np.delete(matched, k)
            left_out["explained"].append(m.sum() / e.sum())
            left_out["distance"].append(np.sqrt((e - m).mean()))
        for name, values in left_out.items():
            values = np.array(values)
            whole[name + "_error"] = np.sqrt((r - 1) / r * ((values - values.mean()) ** 2).sum())
        return dict(signs=signs.tolist(), **whole)

    every = np.array([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)], dtype=float)
    some = rng.choice([-1.0, 1.0], size=(5, d_t))
    return dict(source=jac_s.tolist(), target=jac_t.tolist(), every=by(every), some=by(some))


def theorems(seed, d_t, d_s):
    """Both sides of the theorems, from singular value decompositions."""
    rng = np.random.default_rng(seed)
    n, pixels = 12, 6
    jac_s = exact(rng.normal(size=(n, d_s, pixels)))
    jac_t = exact(0.7 * np.einsum("ab,nbi->nai", rng.normal(size=(d_t, d_s)), jac_s) + rng.normal(size=(n, d_t, pixels)))

    def top(jacobians):
        return np.linalg.svd(jacobians, full_matrices=False)

    (_, s_s, v_s), (_, s_t, v_t) = top(jac_s), top(jac_t)
    tau_1 = np.einsum("ni,ni->n", v_s[:, 0], v_t[:, 0]) ** 2
    d_ss = np.einsum("nai,ni->na", jac_s, v_s[:, 0])
    d_st = np.einsum("nai,ni->na", jac_t, v_s[:, 0])
    a = (d_st.T @ d_ss) @ np.linalg.pinv(d_ss.T @ d_ss)
    bound = np.sqrt((d_st**2).sum() / (d_ss**2).sum())
    a = a * min(1.0, bound / np.linalg.norm(a, 2))
    fit = d_ss @ a.T
    tau_2 = ((2 * d_st - fit) * fit).sum() / (d_st**2).sum()
    p, q = np.einsum("nai,nbi->ab", jac_t, jac_s) / n, np.einsum("nai,nbi->ab", jac_s, jac_s) / n
    w = p @ np.linalg.pinv(q)
    residual = jac_t - np.einsum("ab,nbi->nai", w, jac_s)

    def ratio(singular):
        return (singular[:, 1] / singular[:, 0]).max() if singular.shape[1] > 1 else 0.0

    lambda_t, lambda_s, largest = ratio(s_t), ratio(s_s), s_t[:, 0].max()
    mean_tau_1 = tau_1.mean()
    second = (
        (1 - mean_tau_1 * tau_2) + (1 - mean_tau_1) * (1 - tau_2) * lambda_t**2 + (lambda_t + lambda_s) ** 2
    ) * 5 * largest**2
    outputs_s, outputs_t = exact(rng.normal(size=(n, d_s))), exact(rng.normal(size=(n, d_t)))
    targets = exact(outputs_t + 0.3 * rng.normal(size=(n, d_t)))
    beta, radius = 0.25, 1.5
    x = np.hstack([outputs_s, np.ones((n, 1))])
    left = ((targets - x @ np.linalg.lstsq(x, targets, rcond=None)[0]) ** 2).sum(1).mean()
    error = np.sqrt(((outputs_t - targets) ** 2).sum(1).mean())
    distance = np.sqrt((residual**2).sum((1, 2)).mean())
    stretch = 1 + np.sqrt((s_t[:, 0] ** 2).mean() / (s_s[:, 0] ** 2).mean())
    return dict(
        source=jac_s.tolist(),
        target=jac_t.tolist(),
        outputs_source=outputs_s.tolist(),
        outputs_target=outputs_t.tolist(),
        targets=targets.tolist(),
        smoothness=beta,
        radius=radius,
        first=[((1 - tau_1 * tau_2) * (jac_t**2).sum((1, 2))).mean(), distance**2],
        second=[(np.linalg.norm(residual, 2, axis=(1, 2)) ** 2).mean(), second],
        third=[left, (error + radius * distance + radius**2 * stretch * beta) ** 2],
    )


def tournament(seed, k, n):
    rng = np.random.default_rng(seed)
    hurt = exact(rng.normal(size=(k, n)) ** 2 * (1 + np.arange(k))[:, None])
    hurt[1, :3] = hurt[0, :3]  # ties
    hurt[-1] = 100  # always above
    wins = np.array([[((a > b) + 0.5 * (a == b)).mean() for b in hurt] for a in hurt])
    shares = np.clip(wins, 0.001, 0.999)
    values, vectors = np.linalg.eig(shares / shares.T)
    vector = np.abs(vectors[:, values.real.argmax()].real)
    return dict(hurt=hurt.tolist(), shares=shares.tolist(), weights=(vector / vector.sum()).tolist())


def clusters(seed):
    rng = np.random.default_rng(seed)
    centres = 4 * rng.normal(size=(3, 5))
    rows = exact(np.repeat(centres, [3, 4, 2], axis=0) + 0.5 * rng.normal(size=(9, 5)))
    linkage = hierarchy.ward(rows)
    return dict(
        rows=rows.tolist(),
        merges=linkage.tolist(),
        groups={str(k): hierarchy.fcluster(linkage, k, "maxclust").tolist() for k in (1, 2, 3, 4, 9)},
    )


def main():
    golden = dict(
        judged=judged(1),
        probed=probed(2),
        theorems=[theorems(3, 1, 1), theorems(4, 3, 2), theorems(5, 2, 4)],
        tournament=tournament(6, 5, 30),
        clusters=clusters(7),
    )
    text = json.dumps(golden, separators=(",", ":"), default=float)
    pathlib.Path(__file__).with_name("metrics.json").write_text(text + "\n")
    for case in golden["theorems"]:
        print(case["first"], case["second"], case["third"])
    print({name: value for name, value in golden["judged"].items() if np.ndim(value) == 0})
    print(golden["probed"]["every"], golden["probed"]["some"])


main()
