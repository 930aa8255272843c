"""What counterfactuals need to reach a class, and whether those of integrated gradients are
smoother than those of the plain gradient (Li et al.), with patients as units.

A table of rows is of one network: of every photograph that takes part one row as it is, and of each
method one at every step, at the smallest that reaches the class, and at a change of equal length.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from fundusray.metrics.any_statistic import interval, paired_interval
from fundusray.metrics.robustness import share_difference, share_interval

METHODS = ("integrated_gradients", "gradient")
ORIGINAL, SWEPT, SMALLEST, EQUAL = "original", "swept", "smallest", "equal"
"""Kinds of rows: the image as it is; at each step; at the smallest step that reaches the class; at
a change of one length for both methods."""
MATCHED = {SMALLEST: "at the smallest step that reaches the class", EQUAL: "at equal length"}
"""Kinds that the methods are compared by."""
MEASURES = {
    SMALLEST: ("tv_change", "tv_image", "l2", "linf"),
    EQUAL: ("tv_change", "tv_image", "linf", "probability"),
}
"""What the methods are compared in: at the smallest step the class is just reached by both, at
equal length L2 is the same."""
SMALL = 1.0
"""Levels of 255 up to which the class's output should rise with every step."""
ENDS = {"": "value", "_low": "low", "_high": "high"}
WORDS = {"better": "supported", "worse": "not supported", "undecided": "undecided"}


class ImageRows(NamedTuple):
    """One row of each of some photographs, by their ids."""

    ids: np.ndarray
    patients: np.ndarray
    columns: dict[str, np.ndarray]

    def at(self, ids: np.ndarray) -> "ImageRows":
        """Those of some of the photographs, which are there."""
        places = np.searchsorted(self.ids, ids)
        columns = {name: values[places] for name, values in self.columns.items()}
        return ImageRows(self.ids[places], self.patients[places], columns)


def image_rows(rows: pa.Table, method: str, kind: str, levels: float | None = None) -> ImageRows:
    """The rows of a method ("" of photographs as they are) and kind, at one step of several."""
    keep = (_texts(rows, "method") == method) & (_texts(rows, "kind") == kind)
    if levels is not None:
        keep &= rows["levels"].to_numpy() == levels
    some = rows.filter(pa.array(keep)).sort_by("image_id")
    numbers = [n for n in some.column_names if n not in ("image_id", "patient_id", "method")]
    columns = {name: np.array(some[name].to_pylist()) for name in numbers if name != "kind"}
    return ImageRows(_texts(some, "image_id"), _texts(some, "patient_id"), columns)


def counterfactual_figures(rows: pa.Table) -> list[dict[str, Any]]:
    """A row for each method, with method, n (photographs that take part), num_patients,
    num_unknown, gap (of integrated gradients: the median completeness gap), n_reached, and with
    _low and _high of each:

    clean_probability: of the class in the photographs as they are, the mean;
    reached_rate: those that some step takes to the class, of all;
    rising_rate: those whose class rises with every step up to SMALL levels, of all;
    levels, l2, linf, tv_change, tv_image: means of those reached, at their smallest step;
    equal_tv_change, equal_probability: means of all at a change of equal length.
    """
    whole = image_rows(rows, "", ORIGINAL)
    figures = []
    for method in METHODS:
        least, equal = (image_rows(rows, method, kind) for kind in MATCHED)
        row: dict[str, Any] = {"method": method} | _people(whole)
        row |= {"gap": float(np.median(whole.columns["gap"])) if len(whole.ids) else None}
        if method != METHODS[0]:
            row["gap"] = None
        row["n_reached"] = len(least.ids)
        every = np.ones(len(whole.ids), bool)
        shares = {
            "reached_rate": np.isin(whole.ids, least.ids),
            "rising_rate": _rising(rows, method, whole),
        }
        found = {name: share_interval(hits, every, whole.patients) for name, hits in shares.items()}
        found["clean_probability"] = _mean(whole, "probability")
        for name in ("levels", "l2", "linf", "tv_change", "tv_image"):
            found[name] = _mean(least, name)
        for name in ("tv_change", "probability"):
            found[f"equal_{name}"] = _mean(equal, name)
        for name, one in found.items():
            row |= {f"{name}{end}": one[key] for end, key in ENDS.items()}
        figures.append(row)
    return figures


def method_differences(rows: pa.Table) -> list[dict[str, Any]]:
    """Integrated gradients minus the gradient, photograph by photograph: compared (of MATCHED, or
    "all"), measure, n, num_patients, num_unknown, the mean of each method, difference, low, high,
    p, verdict on integrated gradients (less is better, of reached_rate and probability more) and
    why; of tv_change also ratio, ratio_low and ratio_high, the geometric mean of the one by the
    other. At the smallest step those are compared that both methods reach."""
    whole = image_rows(rows, "", ORIGINAL)
    hits = [np.isin(whole.ids, image_rows(rows, one, SMALLEST).ids) for one in METHODS]
    first = {"compared": "all", "measure": "reached_rate"} | _people(whole)
    first |= {name: _plain_mean(one) for name, one in zip(METHODS, hits, strict=True)}
    differences = [first | _share_difference(*hits, whole.patients) | NO_RATIO]
    for kind in MATCHED:
        ours, theirs = _both(*(image_rows(rows, method, kind) for method in METHODS))
        for measure in MEASURES[kind]:
            a, b = ours.columns[measure], theirs.columns[measure]
            row = {"compared": kind, "measure": measure} | _people(ours)
            row |= {METHODS[0]: _plain_mean(a), METHODS[1]: _plain_mean(b)}
            row |= _difference(a, b, ours.patients, higher=measure == "probability")
            ratio = _ratio(a, b, ours.patients) if measure == "tv_change" else NO_RATIO
            differences.append(row | ratio)
    return differences


def network_differences(tables: Mapping[str, pa.Table]) -> list[dict[str, Any]]:
    """Each network minus the first, by integrated gradients, on the photographs that take part with
    both and are led to one class: network, against, measure (reached_rate; l2 at the smallest step
    that reaches the class, of those both reach; equal_tv_change), n, num_patients, num_unknown,
    difference, low, high, p, verdict (shorter and smoother is better) and why."""
    (against, first), *others = tables.items()
    differences = []
    for network, rows in others:
        ours, theirs = _both(*(image_rows(one, "", ORIGINAL) for one in (rows, first)))
        same = ours.ids[ours.columns["goal"] == theirs.columns["goal"]]
        ours = ours.at(same)
        named = {"network": network, "against": against}
        least, equal = (
            [image_rows(one, METHODS[0], kind) for one in (rows, first)] for kind in MATCHED
        )
        hits = [np.isin(same, one.ids) for one in least]
        share = _share_difference(*hits, ours.patients)
        differences.append(named | {"measure": "reached_rate"} | _people(ours) | share)
        for measure, column, pair in (("l2", "l2", least), ("equal_tv_change", "tv_change", equal)):
            mine, other = _both(*pair)
            both = np.intersect1d(mine.ids, same)
            mine, other = mine.at(both), other.at(both)
            numbers = (one.columns[column] for one in (mine, other))
            row = named | {"measure": measure} | _people(mine)
            differences.append(row | _difference(*numbers, mine.patients, higher=False))
    return differences


def h9_verdict(differences: list[dict[str, Any]]) -> dict[str, Any]:
    """Whether counterfactuals of integrated gradients are smoother than those of the gradient:
    verdict (supported, not supported, undecided), by the total variation of the change at the
    smallest step that reaches the class, and equal_verdict, by the same at a change of equal
    length; n and why of each."""
    verdicts: dict[str, Any] = {}
    for kind, start in ((SMALLEST, ""), (EQUAL, "equal_")):
        (row,) = (
            one for one in differences if (one["compared"], one["measure"]) == (kind, "tv_change")
        )
        verdicts |= {f"{start}verdict": WORDS[row["verdict"]], f"{start}n": row["n"]}
        verdicts[f"{start}why"] = row["why"]
    return verdicts


def probability_curve(rows: pa.Table) -> list[dict[str, Any]]:
    """The mean probability of the class at each step, with method, levels (0: as they are),
    probability, _low, _high and n."""
    whole = image_rows(rows, "", ORIGINAL)
    points = []
    for method in METHODS:
        steps = np.unique(rows["levels"].to_numpy()[_texts(rows, "kind") == SWEPT])
        for levels in (0.0, *steps.tolist()):
            there = image_rows(rows, method, SWEPT, levels) if levels else whole
            found = _mean(there, "probability")
            point = {"method": method, "levels": levels, "n": len(there.ids)}
            points.append(point | {f"probability{e}": found[key] for e, key in ENDS.items()})
    return points


def _texts(rows: pa.Table, name: str) -> np.ndarray:
    return np.array(rows[name].to_pylist(), dtype=object)


def _people(rows: ImageRows) -> dict[str, int]:
    known = rows.patients[rows.patients != ""]
    unknown = len(rows.patients) - len(known)
    return {"n": len(rows.ids), "num_patients": len(set(known)), "num_unknown": unknown}


def _both(a: ImageRows, b: ImageRows) -> tuple[ImageRows, ImageRows]:
    ids = np.array(sorted(set(a.ids) & set(b.ids)), dtype=object)
    return a.at(ids), b.at(ids)


def _rising(rows: pa.Table, method: str, whole: ImageRows) -> np.ndarray:
    """Whose class's logit rises with every step up to SMALL levels, bool [N]."""
    levels = rows["levels"].to_numpy()
    small = np.unique(levels[(levels > 0) & (levels <= SMALL) & (_texts(rows, "kind") == SWEPT)])
    rising, before = np.ones(len(whole.ids), bool), whole.columns.get("logit")
    for step in small:
        now = image_rows(rows, method, SWEPT, step).columns["logit"]
        rising &= now > before
        before = now
    return rising


def _plain_mean(values: np.ndarray) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _mean(rows: ImageRows, name: str) -> dict[str, Any]:
    if not len(rows.ids):
        return {"value": None, "low": None, "high": None, "why": "no such image"}
    span = (0.0, 1.0) if name == "probability" else None
    return interval(np.mean, rows.columns[name].astype(np.float64), rows.patients, span=span)


NO_RATIO = dict.fromkeys(("ratio", "ratio_low", "ratio_high"))
NONE = {"difference": None, "low": None, "high": None, "p": None, "verdict": "undecided"}
NONE |= {"why": "no photograph to compare"}


def _difference(a: np.ndarray, b: np.ndarray, patients: np.ndarray, higher: bool) -> dict[str, Any]:
    if not len(a):
        return dict(NONE)
    return paired_interval(np.mean, a, b, patients, higher=higher)


def _share_difference(a: np.ndarray, b: np.ndarray, patients: np.ndarray) -> dict[str, Any]:
    return share_difference(a, b, patients) if len(a) else dict(NONE)


def _ratio(a: np.ndarray, b: np.ndarray, patients: np.ndarray) -> dict[str, Any]:
    keep = (a > 0) & (b > 0)
    if not keep.any():
        return dict(NO_RATIO)
    found = interval(np.mean, np.log(a[keep] / b[keep]), patients[keep])
    return {
        f"ratio{end}": None if found[key] is None else math.exp(found[key])
        for end, key in ENDS.items()
    }
