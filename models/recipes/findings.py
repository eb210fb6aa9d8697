"""Writes what the experiments found into docs/experiments.md: tables from their result.json, never typed.

    transferscore experiment NAME --output results && cp results/result.json models/experiments/NAME/
    python models/recipes/findings.py

Between the lines `<!-- findings NAME -->` and `<!-- end NAME -->` stands what an experiment found, between those of `all`
a table over all of them: how well each score orders the sources as measured transfer does.
"""

import json
import pathlib
import re
import statistics

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "experiments.md"
# More rankings than this are told together.
MOST_APART = 4
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
    "knowledge.h_score": "H-score",
    "knowledge.trans_rate": "TransRate",
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


def ranking_lines(call):
    transfer, rows = rows_of(call)
    order = ", ".join(f"`{name}`" for name in call["ranking"]["sources"])
    lines = [f"**{call['title']}.** {call['seconds']:.0f} s. Sources in order: {order}.", ""]
    if transfer is None:
        return [*lines, "No transfer was measured.", ""]
    lines += [f"Against {TRANSFERS[transfer]}:", ""]
    lines += ["| score | Spearman | p | weighted Kendall | regret | above chance |", "|---|---|---|---|---|---|"]
    for path, entry in rows.items():
        spearman, kendall = entry["spearman"], entry["weighted_kendall"]
        chance = "–" if spearman is None else f"{spearman['p_value']:.3f}"
        above = entry["n_above_chance"]
        above = "–" if above is None else f"{above} of {entry['n_sources']}"
        cells = [SCORES[path], coefficient(spearman), chance, coefficient(kendall), number(entry["regret_at_1"]), above]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def together_lines(calls):
    """Many rankings in one table: each score's mean agreement with the transfer measured in each."""
    rows = [rows_of(call)[1] for call in calls]
    seconds = sum(call["seconds"] for call in calls)
    transfers = sorted({TRANSFERS[transfer] for transfer, _ in map(rows_of, calls) if transfer})
    lines = [f"**{len(calls)} rankings, a reference each.** {seconds:.0f} s. Against {', '.join(transfers)}:", ""]
    head = ("score", "mean Spearman", "least", "largest", "mean weighted Kendall", "mean regret", "rankings")
    lines += [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for path, score in SCORES.items():
        found = [row[path] for row in rows if path in row and row[path]["spearman"] and row[path]["weighted_kendall"]]
        if found:
            spearman = [entry["spearman"]["value"] for entry in found]
            kendall = [entry["weighted_kendall"]["value"] for entry in found]
            regret = [entry["regret_at_1"] for entry in found if entry["regret_at_1"] is not None]
            means = [statistics.fmean(spearman), min(spearman), max(spearman), statistics.fmean(kendall)]
            cells = [score, *map(number, means), number(statistics.fmean(regret)) if regret else "–", str(len(found))]
            lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def comparison_lines(call):
    found = call["comparison"]
    lines = [f"**{call['title']}.** {len(found['models'])} models, {call['seconds']:.0f} s.", ""]
    lines += ["| agreement | value | by chance | p |", "|---|---|---|---|"]
    for key, name in (
        ("adjusted_rand_index", "adjusted Rand index of the cut with the known groups"),
        ("cophenetic_correlation_with_groups", "cophenetic correlation with the known groups"),
    ):
        if against := found[key]:
            value, chance, p_value = against["value"], against["chance_mean"], against["p_value"]
            lines.append(f"| {name} | {value:.2f} | {chance:.2f} | {p_value:.3f} |")
    lines.append("")
    members = {}
    for model, group in zip(found["models"], found["groups"]):
        members.setdefault(group, []).append(f"`{model}`")
    lines += [f"- cluster {group + 1}: {', '.join(models)}" for group, models in sorted(members.items())]
    return [*lines, "", *strongest_lines(found)]


def strongest_lines(found):
    """Of each model the attack that wins its tournament, and how often that is one of the model's own group."""
    models, group_of = found["models"], {}
    for group, members in found["known_groups"].items():
        group_of.update(dict.fromkeys(members, group))
    if set(group_of) != set(models):
        return []
    lines = ["The attack that moves each model further than the other attacks do:", ""]
    lines += ["| model | group | moved most by | its group | affinity |", "|---" * 5 + "|"]
    own, chance = 0, 0.0
    for column, model in enumerate(models):
        affinity, strongest = max((row[column], name) for row, name in zip(found["affinity"], models) if name != model)
        own += group_of[strongest] == group_of[model]
        chance += (list(group_of.values()).count(group_of[model]) - 1) / (len(models) - 1)
        lines.append(f"| `{model}` | {group_of[model]} | `{strongest}` | {group_of[strongest]} | {affinity:.2f} |")
    lines += ["", f"{own} of {len(models)} are moved most by one of their own group; by chance {chance:.1f} would be.", ""]
    return lines


def transfers_lines(found):
    """Of each reference the source that transfers best, and how far the worst is behind."""
    models = found["models"]
    lines = [f"**{found['title']}**, {found['score']}, for each reference:", ""]
    lines += ["| reference | best source | its value | second | worst source | its value |", "|---" * 6 + "|"]
    for column, reference in enumerate(models):
        ranked = sorted(((row[column], name) for row, name in zip(found["values"], models) if row[column] is not None))
        if len(ranked) > 2:
            (worst, least), (_, second), (best, most) = ranked[0], ranked[-2], ranked[-1]
            cells = [reference, most, f"{best:.3f}", second, least, f"{worst:.3f}"]
            lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def published_lines(found):
    lines = [f"**{found['title']}**: the paper's beside ours (`{found['score']}` of `{found['call']}`).", ""]
    lines += ["| of | paper | here |", "|---|---|---|"]
    for row in found["rows"]:
        ours = "–" if row["ours"] is None else f"{row['ours']:.3g}"
        lines.append(f"| {row['name']} | {row['paper']:.3g} | {ours} |")
    order = "" if found["spearman"] is None else f"Spearman of the two columns: {number(found['spearman'])}."
    return [*lines, "", order, ""]


def experiment_lines(result):
    peak = "" if result["peak_bytes"] is None else f", at most {result['peak_bytes'] / 2**20:.0f} MiB"
    lines = [f"{result['seconds']:.0f} s{peak}.", ""]
    rankings = [call for call in result["calls"] if "ranking" in call]
    for call in result["calls"]:
        if "comparison" in call:
            lines += comparison_lines(call)
        elif len(rankings) <= MOST_APART:
            lines += ranking_lines(call)
    if len(rankings) > MOST_APART:
        lines += together_lines(rankings)
    for found in result.get("transfers", []):
        lines += transfers_lines(found)
    for found in result.get("published", []):
        lines += published_lines(found)
    return lines


def over_all(results):
    """Mean weighted Kendall of each score with measured transfer, of an experiment's rankings, then of all."""
    names = list(results)
    lines = [f"| score | {' | '.join(names)} | mean |", "|---|" + "---|" * (len(names) + 1)]
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
    text = PAGE.read_text()
    for name, lines in {**{name: experiment_lines(result) for name, result in results.items()}, "all": over_all(results)}.items():
        start, end = f"<!-- findings {name} -->", f"<!-- end {name} -->"
        pattern = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
        if not pattern.search(text):
            raise SystemExit(f"{PAGE} has no place for {name}: add {start} and {end}")
        body = "\n".join([start, "", *lines, end])
        text = pattern.sub(lambda _, body=body: body, text)
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
