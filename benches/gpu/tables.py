"""From what was measured to tables in Markdown."""

import math
import statistics


def table(heads, rows):
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def ratios(theirs, ours):
    """Of the seconds of two contenders, round by round."""
    return [their / our for their, our in zip(theirs, ours)]


def spread(values, decimals=2):
    """"1.25 [1.20, 1.31]": the median, the smallest and the largest."""
    if not values:
        return "-"
    shown = [f"{value:.{decimals}f}" for value in (statistics.median(values), min(values), max(values))]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]"


def error(value):
    return "without bound" if math.isinf(value) else f"{value:.1e}"


def readings_error(readings, others):
    """The largest relative difference of two lists of readings; infinite where one lacks some."""
    if not readings or len(readings) != len(others):
        return math.inf
    differences = (abs(one - other) / max(abs(one), abs(other), 1e-12) for one, other in zip(readings, others))
    # A comparison with NaN is false, so `max` alone would hide one.
    return max((value if math.isfinite(value) else math.inf for value in differences))


def agreement(calls):
    """A row for each call and setting: `calls` are dictionaries of call, setting, measure, error and, where the setting is
    held to it, a tolerance."""
    rows = []
    for each in calls:
        verdict = "-" if each["tolerance"] is None else "yes" if each["error"] <= each["tolerance"] else "**no**"
        rows.append([each["call"], each["setting"], error(each["error"]), f"`{each['measure']}`", verdict])
    return table(["call", "setting", "largest relative difference", "of", "within the tolerance"], rows)


def speeds(results):
    """A row for each network, work, precision and number of pictures: `results` are dictionaries of these and of `seconds`,
    lists by contender, a median for each round."""
    heads = ["network", "work", "precision", "pictures", "rows a tile", "ours, pictures/s", "eager / ours", "compile / ours"]
    rows = []
    for each in results:
        seconds = each["seconds"]
        ours = seconds.get("transferscore", [])
        rate = f"{each['samples'] / statistics.median(ours):.1f}" if ours else "-"
        cells = [each["network"], each["work"], each["precision"], str(each["samples"]), str(each["tile"] or "-"), rate]
        cells += [spread(ratios(seconds.get(peer, []), ours)) for peer in ("eager", "compile")]
        rows.append(cells)
    return table(heads, rows)


def loads(results):
    """A row for each measurement and contender: how busy card and processor were."""
    heads = ["network", "work", "precision", "pictures", "contender", "ms a step", "card busy", "card idle, ms a step",
             "processor, ms a step", "difference of gradient", "of losses"]
    rows = []
    for each in results:
        for contender, seconds in each["seconds"].items():
            step = 1e3 * statistics.median(seconds) / each["steps"]
            load, busy = each["load"].get(contender), each["processor"].get(contender)
            cells = [each["network"], each["work"], each["precision"], str(each["samples"]), contender, f"{step:.2f}"]
            cells.append("-" if load is None else f"{100 * load:.0f} %")
            cells.append("-" if load is None else f"{(1 - load) * step:.2f}")
            cells.append("-" if busy is None else f"{1e3 * busy / each['steps']:.2f}")
            errors = each["errors"].get(contender, {})
            cells += [error(errors[work]) if work in errors else "-" for work in ("gradient", "attack")]
            rows.append(cells)
    return table(heads, rows)
