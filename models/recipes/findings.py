"""Writes what the experiments found into docs/experiments.md: tables from their result.json, never typed.

    transferscore experiment NAME --output results && cp results/result.json models/experiments/NAME/
    python models/recipes/findings.py

Between a line `<!-- findings -->` and a line `<!-- end findings -->` stands a section for each experiment that has a
`result.json`, and a table over all of them: how well each score orders the sources as measured transfer does.
"""

import json
import pathlib
import statistics

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "experiments.md"
START, END = "<!-- findings -->", "<!-- end findings -->"
# Scores that are shown, by their fields' paths, and what they are called.
SCORES = {
    "reference_to_source.combined": "combined, reference to source",
    "reference_to_source.alpha1": "alpha1, reference to source",
    "reference_to_source.alpha2": "alpha2, reference to source",
    "source_to_reference.combined": "combined, source to reference",
    "symmetric.tau1": "tau1",
    "gradient_matching.explained": "explained",
    "knowledge.function_matching.held_out_r2": "function matching, held-out R²",
    "knowledge.leep": "LEEP",
    "knowledge.log_me": "LogME",
    "knowledge.knn": "k-NN",
    "knowledge.n_parameters": "number of parameters",
    "recommendation": "the recommendation",
}
# Measured transfers, the most believed first: a ranking is told by the first that it has.
TRANSFERS = {
    "knowledge.fine_tune.accuracy": "accuracy after fine-tuning",
    "knowledge.linear_probe.accuracy": "accuracy of the linear probe",
    "knowledge.verification.accuracy": "accuracy of pair verification",
    "knowledge.affine_transfer.held_out_r2": "affine transfer's held-out R²",
}


def number(value):
    return "–" if value is None else f"{value:.2f}"


def coefficient(found):
    if found is None:
        return "–"
    interval = "" if found["lower"] is None else f" [{found['lower']:.2f}, {found['upper']:.2f}]"
    return f"{found['value']:.2f}{interval}"


def measured_transfer(agreement):
    """The most believed of the transfers that the scores were held against."""
    there = {entry["measured_transfer"] for entry in agreement}
    return next((path for path in TRANSFERS if path in there), None)


def rows_of(call):
    """The shown scores of a ranking against its measured transfer, by path."""
    agreement = call["ranking"]["agreement"]
    transfer = measured_transfer(agreement)
    found = {entry["score"]: entry for entry in agreement if entry["measured_transfer"] == transfer}
    return transfer, {path: found[path] for path in SCORES if path in found}


def told_ranking(call):
    transfer, rows = rows_of(call)
    order = ", ".join(f"`{name}`" for name in call["ranking"]["sources"])
    lines = [f"**{call['title']}.** Sources in order: {order}.", ""]
    if transfer is None:
        return [*lines, "No transfer was measured.", ""]
    lines += [f"Against {TRANSFERS[transfer]}:", ""]
    lines += ["| score | Spearman | p | weighted Kendall | regret |", "|---|---|---|---|---|"]
    for path, entry in rows.items():
        spearman, kendall = entry["spearman"], entry["weighted_kendall"]
        chance = "–" if spearman is None else f"{spearman['p_value']:.3f}"
        cells = [SCORES[path], coefficient(spearman), chance, coefficient(kendall), number(entry["regret_at_1"])]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def told_comparison(call):
    found = call["comparison"]
    lines = [f"**{call['title']}.** {len(found['models'])} models.", ""]
    lines += ["| agreement | value | by chance | p |", "|---|---|---|---|"]
    for key, name in (
        ("adjusted_rand_index", "adjusted Rand index of the cut with the known groups"),
        ("cophenetic_correlation_with_groups", "cophenetic correlation with the known groups"),
    ):
        if against := found[key]:
            value, chance, p_value = against["value"], against["chance_mean"], against["p_value"]
            lines.append(f"| {name} | {value:.2f} | {chance:.2f} | {p_value:.3f} |")
    return [*lines, ""]


def told(name, result):
    peak = "" if result["peak_bytes"] is None else f", at most {result['peak_bytes'] / 2**20:.0f} MiB"
    lines = [f"### {result['title']}", "", f"`{name}`: {result['question']} {result['seconds']:.0f} s{peak}.", ""]
    for call in result["calls"]:
        lines += told_ranking(call) if "ranking" in call else told_comparison(call)
    return lines


def over_all(results):
    """Mean weighted Kendall of each score with measured transfer, of an experiment's rankings, then of all."""
    names = list(results)
    lines = ["### Over all experiments", "", "Mean weighted Kendall with measured transfer.", ""]
    lines += [f"| score | {' | '.join(names)} | mean |", "|---|" + "---|" * (len(names) + 1)]
    for path, score in SCORES.items():
        means = []
        for result in results.values():
            rankings = [rows_of(call)[1].get(path) for call in result["calls"] if "ranking" in call]
            values = [entry["weighted_kendall"]["value"] for entry in rankings if entry and entry["weighted_kendall"]]
            means.append(statistics.fmean(values) if values else None)
        known = [mean for mean in means if mean is not None]
        if known:
            lines.append(f"| {score} | {' | '.join(map(number, means))} | {number(statistics.fmean(known))} |")
    return [*lines, ""]


def main():
    files = sorted((ROOT / "models" / "experiments").glob("*/result.json"))
    results = {file.parent.name: json.loads(file.read_text()) for file in files}
    lines = [line for name, result in results.items() for line in told(name, result)] + over_all(results)
    text = PAGE.read_text()
    before, rest = text.split(START, 1)
    after = rest.split(END, 1)[1]
    PAGE.write_text("\n".join([before + START, "", *lines, END]) + after)


if __name__ == "__main__":
    main()
