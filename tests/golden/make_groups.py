"""Writes groups.json: how clusterings agree with known groups, from scikit-learn and SciPy.

Run from the repository's root:

    python tests/golden/make_groups.py

Written with NumPy 2.4, SciPy 1.17, scikit-learn 1.9.
"""

import itertools
import json
import pathlib

import numpy as np
import scipy.cluster.hierarchy as hierarchy
import scipy.spatial.distance as distance
from sklearn.metrics import adjusted_rand_score


def partitions(seed):
    rng = np.random.default_rng(seed)
    cases = [([0], [5]), ([0, 0, 0], [1, 1, 1]), ([0, 1, 2], [2, 1, 0]), ([0, 0, 0], [0, 1, 2]), ([0, 0, 1, 1], [0, 1, 0, 1])]
    for n, k, m in [(6, 2, 3), (15, 3, 3), (40, 5, 2), (64, 8, 9)]:
        cases.append((rng.integers(0, k, n).tolist(), rng.integers(0, m, n).tolist()))
    truth = rng.integers(0, 3, 15)
    cases.append((truth.tolist(), ((truth + 1) % 3).tolist()))
    return [dict(a=a, b=b, index=float(adjusted_rand_score(a, b))) for a, b in cases]


def clustering(seed, sizes, spread):
    """A Ward clustering of rows around a centre for each group, and all permutations of the groups where they are few."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    rows = np.round((rng.normal(size=(len(sizes), 4))[groups] + spread * rng.normal(size=(len(groups), 4))) * 64) / 64
    linkage = hierarchy.ward(rows)
    correlation, heights = hierarchy.cophenet(linkage, distance.pdist(rows))
    cut = hierarchy.fcluster(linkage, len(sizes), "maxclust")
    low, high = np.triu_indices(len(groups), 1)

    def agreement(groups):
        different = (groups[low] != groups[high]).astype(float)
        return adjusted_rand_score(cut, groups), np.corrcoef(heights, different)[0, 1]

    own = agreement(groups)
    case = dict(
        rows=rows.tolist(),
        groups=groups.tolist(),
        cophenetic_distances=heights.tolist(),
        cophenetic_correlation=float(correlation),
        adjusted_rand_index=dict(value=own[0]),
        group_correlation=dict(value=own[1]),
    )
    if len(groups) <= 7:
        shuffled = [agreement(groups[list(order)]) for order in itertools.permutations(range(len(groups)))]
        for name, value, others in zip(["adjusted_rand_index", "group_correlation"], own, np.transpose(shuffled)):
            case[name] |= dict(
                mean=others.mean(), upper=np.quantile(others, 0.95), p_value=np.mean(others >= value - 1e-9)
            )
    return case


def main():
    golden = dict(
        partitions=partitions(1),
        clusterings=[clustering(2, [3, 2, 2], 0.3), clustering(3, [3, 3], 1.5), clustering(4, [5, 4, 6], 0.8)],
    )
    text = json.dumps(golden, separators=(",", ":"), default=float)
    pathlib.Path(__file__).with_name("groups.json").write_text(text + "\n")
    for case in golden["clusterings"]:
        print({name: case[name] for name in ("cophenetic_correlation", "adjusted_rand_index", "group_correlation")})


if __name__ == "__main__":
    main()
