"""Scores of attribution maps over many images: means with intervals, and paired differences.

The rows are long: a table with image_id, patient_id, method, network, lesion, score and value, a
row for each score of an image's map. Means are over images; patients are the units of intervals
(see `by_patient`). A score `<score>_by_chance` is what a map that says nothing has of it; it stands
beside the score and not in a line of its own.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from fundusray.errors import InputError
from fundusray.metrics.any_statistic import interval, paired_interval
from fundusray.metrics.attribution_scores import BY_CHANCE, LANDMARKS
from fundusray.metrics.by_patient import Span

COLUMNS = ("image_id", "patient_id", "method", "network", "lesion", "score", "value")
ENDLESS = ("infidelity", "max_sensitivity")
"""Scores that have no largest value."""
LOWER = ("deletion", "infidelity", "max_sensitivity")
"""Scores of which less is better, as is what lies on a landmark."""
RANDOMISED = "randomised_"
"""Before a correlation with the map of a network whose weights or labels are random: less is
better."""
BETWEEN = ("network", "method")

Key = tuple[str, str, str, str]
"""(network, method, lesion, score)."""


@dataclass(frozen=True)
class _Scores:
    """One score of N images."""

    image: list[str]
    patient: np.ndarray
    """[N] names."""
    value: np.ndarray
    """float64 [N]."""

    def of(self, images: Sequence[str]) -> "_Scores":
        """Those of some images, in their order."""
        place = {name: k for k, name in enumerate(self.image)}
        chosen = [place[name] for name in images]
        return _Scores(list(images), self.patient[chosen], self.value[chosen])


def score_table(rows: pa.Table) -> list[dict[str, Any]]:
    """A row for each network, method, lesion and score that there is, in that order.

    Each has network, method, lesion, score, n, num_patients, value (the mean over images), low,
    high and why (see `interval`), by_chance (the mean of what chance has of it on the same images;
    None of scores without) and against_chance ("better", "worse" or "undecided", paired; None).

    Raises:
        InputError: no such columns, no rows, a value that is not finite, or an image twice.
    """
    scores = _by_key(rows)
    found = []
    for key, own in _without_chance(scores):
        network, method, lesion, score = key
        chance = scores.get((network, method, lesion, score + BY_CHANCE))
        spread = interval(np.mean, own.value, own.patient, span=score_span(score))
        row = {
            "network": network, "method": method, "lesion": lesion, "score": score,
            "n": len(own.image), "num_patients": _patients(own), **spread,
            "by_chance": None, "against_chance": None,
        }  # fmt: skip
        if chance is not None:
            row |= _against_chance(key, own, chance)
        found.append(row)
    return found


def score_differences(
    rows: pa.Table, first: str, second: str, between: str = "network"
) -> list[dict[str, Any]]:
    """`first` minus `second` on the same images, for each score that both have of some.

    A row has between, first, second, network or method (the one that both share), lesion, score, n,
    num_patients, first_value, second_value (means over these n images), difference, low, high, p,
    verdict on the first and why, see `paired_interval`. Where one side has images that the other
    has not, they are left out of both.

    Args:
        first, second: names of two networks, or of two methods.
        between: "network" or "method".

    Raises:
        InputError: as `score_table`, a name that no row has, or no image in common.
    """
    if between not in BETWEEN:
        raise InputError(f"scores are compared between {' or '.join(BETWEEN)}, got {between}")
    scores = _by_key(rows)
    at, other = BETWEEN.index(between), 1 - BETWEEN.index(between)
    names = sorted({key[at] for key in scores})
    for name in (first, second):
        if name not in names:
            raise InputError(f"no {between} named {name}; the rows have: {', '.join(names)}")
    found = []
    for key, own in _without_chance(scores):
        fellow = scores.get(_renamed(key, at, second))
        if key[at] != first or fellow is None:
            continue
        images = [name for name in own.image if name in set(fellow.image)]
        if not images:
            continue
        a, b = own.of(images), fellow.of(images)
        found.append(
            {
                "between": between, "first": first, "second": second, BETWEEN[other]: key[other],
                "lesion": key[2], "score": key[3], "n": len(images), "num_patients": _patients(a),
                "first_value": float(a.value.mean()), "second_value": float(b.value.mean()),
            }
            | _paired(key, a, b)
        )  # fmt: skip
    if not found:
        raise InputError(
            f"{between}s {first} and {second} have no score of the same image in common; explain "
            "the same photographs with both"
        )
    return found


def score_span(score: str) -> Span:
    """The least and the largest value of a score; None: it has no such."""
    if score in ENDLESS:
        return None
    return (-1.0, 1.0) if "correlation" in score else (0.0, 1.0)


def higher_is_better(lesion: str, score: str) -> bool:
    """Whether more of a score is better; see LOWER and RANDOMISED."""
    return not (score in LOWER or score.startswith(RANDOMISED) or lesion in LANDMARKS)


def _by_key(rows: pa.Table) -> dict[Key, _Scores]:
    missing = [name for name in COLUMNS if name not in rows.column_names]
    if missing or not rows.num_rows:
        raise InputError(
            f"a table of scores has rows and the columns {', '.join(COLUMNS)}; this one has "
            f"{rows.num_rows} rows and lacks {', '.join(missing) or 'no column'}"
        )
    lists = {name: rows[name].to_pylist() for name in COLUMNS}
    keys = zip(*(lists[name] for name in ("network", "method", "lesion", "score")), strict=True)
    places: dict[Key, list[int]] = defaultdict(list)
    for k, key in enumerate(keys):
        places[key].append(k)
    values = np.array(lists["value"], np.float64)
    found = {}
    for key, chosen in places.items():
        images = [lists["image_id"][k] for k in chosen]
        if len(set(images)) < len(images) or not np.isfinite(values[chosen]).all():
            raise InputError(
                f"{' / '.join(key)}: each image has one finite value; an image stands there twice, "
                "or a value is not finite"
            )
        patients = [lists["patient_id"][k] or "" for k in chosen]
        found[key] = _Scores(images, np.array(patients), values[chosen])
    return found


def _without_chance(scores: dict[Key, _Scores]) -> Iterator[tuple[Key, _Scores]]:
    for key in sorted(scores):
        if not key[3].endswith(BY_CHANCE):
            yield key, scores[key]


def _against_chance(key: Key, own: _Scores, chance: _Scores) -> dict[str, Any]:
    if set(own.image) != set(chance.image):
        raise InputError(
            f"{' / '.join(key)}: not the same images as {key[3]}{BY_CHANCE}; keep all rows of "
            "attribution_scores together"
        )
    chance = chance.of(own.image)
    verdict = _paired(key, own, chance)["verdict"]
    return {"by_chance": float(chance.value.mean()), "against_chance": verdict}


def _paired(key: Key, a: _Scores, b: _Scores) -> dict[str, Any]:
    return paired_interval(
        np.mean, a.value, b.value, a.patient, span=score_span(key[3]),
        higher=higher_is_better(key[2], key[3]),
    )  # fmt: skip


def _patients(scores: _Scores) -> int:
    return len({name or k for k, name in enumerate(scores.patient.tolist())})


def _renamed(key: Key, at: int, name: str) -> Key:
    parts = list(key)
    parts[at] = name
    return (parts[0], parts[1], parts[2], parts[3])
