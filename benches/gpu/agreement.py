"""Compares the answers that the same call gives on two devices, number by number.

An answer is the lines of JSON that `transferscore score` or `rank` prints. A difference is relative to the larger of two
numbers, or to 0.001 where both are smaller. What one answer lacks, or has as NaN or infinity, differs without bound; so do
texts that are not the same. What says where an answer was computed may differ.
"""

import json
import math

TOLERANCE = 1e-4
SMALLEST_SCALE = 1e-3
PLACES = {"provider", "providers", "device", "devices", "precision"}


def leaves(value, path=()):
    """Every number, text and truth value with its path; positions of a list are numbers."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in PLACES:
                yield from leaves(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from leaves(inner, (*path, index))
    else:
        yield path, value


def number(value):
    """As a float, where it is one: 64-bit integers, NaN and infinity are texts in the JSON of protocol buffers."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(value)
    except ValueError:
        return None


def difference(first, second):
    """Relative; infinity where the two cannot be compared."""
    one, other = number(first), number(second)
    if one is None or other is None:
        return 0.0 if first == second and type(first) is type(second) else math.inf
    if not (math.isfinite(one) and math.isfinite(other)):
        return math.inf
    return abs(one - other) / max(abs(one), abs(other), SMALLEST_SCALE)


def differences(first, second):
    """The largest difference of each measure, whichever source it is of: a measure's name is its path without positions."""
    lines = [[json.loads(line) for line in answer.splitlines() if line.strip()] for answer in (first, second)]
    ours, theirs = (dict(leaves(each)) for each in lines)
    found = {} if ours or theirs else {"the answer": math.inf}
    for path in [*ours, *(path for path in theirs if path not in ours)]:
        both = path in ours and path in theirs
        measure = ".".join(part for part in path if isinstance(part, str))
        new = difference(ours[path], theirs[path]) if both else math.inf
        found[measure] = max(found.get(measure, 0.0), new)
    return found


def worst(found):
    """The measure that differs most, and by how much."""
    measure = max(found, key=found.get)
    return measure, found[measure]
