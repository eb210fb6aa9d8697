"""Times transferscore's estimators against TLlib's and LogME's own Python functions, on the same arrays, in turn.

LEEP, NCE, LogME, H-score, TransRate on N = 10,000 samples of D = 2,048 features and C = 100 classes; GBC, which neither
package has, is in transferscore's time alone. Features are ReLU of Gaussian clouds of unequal spread in all directions. Two
threads each; a round runs every contender once, and what counts is the median of the ratios within a round. Values are
compared too.

    git clone https://github.com/thuml/Transfer-Learning-Library PEERS/Transfer-Learning-Library
    git clone https://github.com/thuml/LogME PEERS/LogME
    python estimators.py --peers PEERS [--rounds 3]

needs requirements.txt, and cargo: transferscore's side is `cargo bench --bench estimators`.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "2")
os.environ.setdefault("NUMBA_NUM_THREADS", "2")

import numpy as np  # noqa: E402

SIX = ["leep", "nce", "log_me", "h_score", "trans_rate", "gbc"]
ROOT = pathlib.Path(__file__).resolve().parents[2]


def arrays(n, d, n_classes, n_source_classes):
    rng = np.random.default_rng(1)
    labels = rng.permutation(np.arange(n) % n_classes)
    spread = 1 / np.sqrt(1 + np.arange(d) / 20)
    hidden = rng.normal(size=(n, d)) * spread + 0.5 * rng.normal(size=(n_classes, d))[labels] * spread
    features = np.maximum(hidden @ np.linalg.qr(rng.normal(size=(d, d)))[0] + 0.05, 0)
    outputs = features @ rng.normal(size=(d, n_source_classes)) * 0.3
    probabilities = np.exp(outputs - outputs.max(1, keepdims=True))
    return features, labels, probabilities / probabilities.sum(1, keepdims=True)


def module(path):
    spec = importlib.util.spec_from_file_location(path.stem.lower(), path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def peers(folder, features, labels, probabilities):
    """What each peer computes, by the name of the estimator."""
    ranking = folder / "Transfer-Learning-Library" / "tllib" / "ranking"
    leep, nce, h_score, transrate, logme = (
        module(ranking / f"{name}.py") for name in ("leep", "nce", "hscore", "transrate", "logme")
    )
    authors = module(folder / "LogME" / "LogME.py")
    shared = {
        "leep": lambda: leep.log_expected_empirical_prediction(probabilities, labels),
        "nce": lambda: nce.negative_conditional_entropy(probabilities.argmax(1), labels),
        "h_score": lambda: h_score.h_score(features, labels),
        "trans_rate": lambda: transrate.transrate(features, labels),
    }
    return {
        "TLlib": {**shared, "log_me": lambda: logme.log_maximum_evidence(features, labels)},
        "TLlib, LogME by its authors": {**shared, "log_me": lambda: authors.LogME().fit(features, labels)},
    }


def ours(folder, names):
    command = ["cargo", "bench", "--quiet", "--bench", "estimators", "--", str(folder), *names]
    environment = {**os.environ, "RAYON_NUM_THREADS": "2"}
    output = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, env=environment).stdout
    return json.loads(output)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=pathlib.Path, required=True, help="folder with the two clones")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shape", type=int, nargs=4, default=[10_000, 2_048, 100, 1_000], metavar=("N", "D", "C", "S"))
    parser.add_argument("--transferscore", help="not needed; taken for `make bench`")
    arguments = parser.parse_args()
    features, labels, probabilities = arrays(*arguments.shape)
    contenders = peers(arguments.peers, features, labels, probabilities)
    # Compiles what is compiled on first use.
    small = arrays(200, 16, 4, 5)
    for contender in peers(arguments.peers, *small).values():
        contender["log_me"]()
    seconds = {name: {} for name in ["six", "all", *contenders]}
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        n, d, _, s = arguments.shape
        (folder / "shape").write_text(f"{n} {d} {s}")
        features.tofile(folder / "features")
        probabilities.tofile(folder / "source_probabilities")
        labels.astype("<u4").tofile(folder / "labels")
        for _ in range(arguments.rounds):
            found = {"six": ours(folder, SIX), "all": ours(folder, [])}
            for name, answer in found.items():
                seconds[name].setdefault("together", []).append(answer["seconds"])
                for estimator, figures in answer["estimators"].items():
                    seconds[name].setdefault(estimator, []).append(figures["seconds"])
            for name, functions in contenders.items():
                total = 0.0
                for estimator, function in functions.items():
                    start = time.perf_counter()
                    value = function()
                    taken = time.perf_counter() - start
                    total += taken
                    seconds[name].setdefault(estimator, []).append(taken)
                    expected = found["six"]["estimators"][estimator]["value"]
                    print(f"{name}, {estimator}: {taken:.2f} s, {value:.9g}; ours {expected:.9g}", file=sys.stderr)
                seconds[name].setdefault("together", []).append(total)
    rows = ["leep", "nce", "log_me", "h_score", "trans_rate", "gbc", "together"]
    print("| estimator | ours, s | " + " | ".join(f"{name}, s | ratio" for name in contenders) + " |")
    print("|---" * (2 + 2 * len(contenders)) + "|")
    for row in rows:
        cells = [row, f"{statistics.median(seconds['six'][row]):.2f}"]
        for name in contenders:
            theirs = seconds[name].get(row)
            ratios = [a / b for a, b in zip(theirs, seconds["six"][row])] if theirs else []
            cells += [f"{statistics.median(theirs):.2f}", f"{statistics.median(ratios):.0f}"] if theirs else ["-", "-"]
        print("| " + " | ".join(cells) + " |")
    parts = {name: statistics.median(times) for name, times in seconds["all"].items()}
    print("\nAll estimators: " + ", ".join(f"{name} {taken:.2f} s" for name, taken in parts.items()))


if __name__ == "__main__":
    main()
