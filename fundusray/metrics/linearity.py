"""How linear a network's answer is in the units of a layer: what grows where an image is moved
along a gradient, a unit's difference to the baseline or the gradient (Li et al.)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from fundusray.metrics.any_statistic import interval, paired_interval

LINEAR = 0.9
"""R^2 from which a unit's attribution counts as linear in its difference; ours, Li et al. give no
number."""
UNCHANGED = 0.1
"""Relative change up to which the mean gradient counts as "almost unchanged"; ours, too."""
CONSTANT = 0.05
"""A unit whose attribution changes by less than this share of the image's largest change remains
constant."""
BUILT = 1e-4
"""Relative change of the gradient below which it is the same by the network's build."""
ROUNDING = 1e-5
"""Relative change of float32 numbers that is none: its correlations would be of rounding."""
SUPPORTED, NOT_SUPPORTED, UNDECIDED = "supported", "not supported", "undecided"
SPANS = {
    "r_squared_difference": (0.0, 1.0),
    "r_squared_gradient": (0.0, 1.0),
    "r_squared_c": (0.0, 1.0),
    "linear_share": (0.0, 1.0),
    "rising_share": (0.0, 1.0),
    "falling_share": (0.0, 1.0),
    "constant_share": (0.0, 1.0),
    "gradient_change": None,
    "difference_change": None,
}
"""Figures of an image -> the least and the largest they can be."""


def r_squared(values: np.ndarray, by: np.ndarray) -> np.ndarray:
    """The share of the variance of values [N, J] that a line in `by` [N, J] explains, [N]; NaN
    where either does not change."""
    flat = _steady(values) | _steady(by)
    a, b = (rows - rows.mean(axis=1, keepdims=True) for rows in (values, by))
    # Of numbers of one size: squares of very small ones would vanish.
    a, b = (rows / np.where(flat, 1, np.abs(rows).max(axis=1))[:, None] for rows in (a, b))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (a * b).sum(axis=1) ** 2 / ((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return np.where(flat, np.nan, np.minimum(found, 1))


def _steady(values: np.ndarray) -> np.ndarray:
    return np.ptp(values, axis=1) <= ROUNDING * np.abs(values).max(axis=1)


def unit_fits(rows: pa.Table) -> dict[str, np.ndarray]:
    """Of each row, an image's unit, [N] each:

    r_squared_difference, r_squared_gradient, r_squared_c: of its attribution over the steps by its
        difference to the baseline, its mean gradient, and c. c doubles, so the last steps weigh
        most;
    gradient_change, difference_change: the mean over steps of how far it is from what it is at the
        photograph itself, as a share of that;
    change: its attribution at the last step less that at the photograph.

    Args:
        rows: lists [J] of c, attribution, difference and gradient, the photograph itself first.
    """
    c, attribution, difference, gradient = (
        stacked(rows, name) for name in ("c", "attribution", "difference", "gradient")
    )
    return {
        "r_squared_difference": r_squared(attribution, difference),
        "r_squared_gradient": r_squared(attribution, gradient),
        "r_squared_c": r_squared(attribution, c),
        "gradient_change": _change(gradient),
        "difference_change": _change(difference),
        "change": attribution[:, -1] - attribution[:, 0],
    }


def stacked(rows: pa.Table, name: str) -> np.ndarray:
    """A column of lists of one length as numbers [N, J]."""
    return np.array(rows[name].to_pylist(), np.float64).reshape(rows.num_rows, -1)


def _change(values: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.abs(values[:, 1:] - values[:, :1]).mean(axis=1) / np.abs(values[:, 0])


def image_figures(rows: pa.Table) -> dict[str, np.ndarray]:
    """Figures of each image over its units, in the order in which the images first come, [I] each,
    with patient_id.

    The R^2 are means over units, linear_share the share of units with one of at least LINEAR by the
    difference. gradient_change and difference_change are sums over units, changes and what they are
    a share of alike, so that no unit counts by a small number beneath the line. rising_share,
    falling_share, constant_share: units whose attribution changed up, down, or less than CONSTANT.
    """
    fits, ids = unit_fits(rows), np.array(rows["image_id"].to_pylist(), dtype=object)
    gradient, difference = (stacked(rows, name) for name in ("gradient", "difference"))
    patients = rows["patient_id"].to_pylist()
    found: dict[str, list[Any]] = {name: [] for name in ("patient_id", *SPANS)}
    for name in dict.fromkeys(ids.tolist()):
        own = np.flatnonzero(ids == name)
        change = fits["change"][own]
        steady = np.abs(change) < CONSTANT * np.abs(change).max()
        steady |= change == 0
        figures = {
            "patient_id": patients[own[0]],
            "linear_share": _mean(fits["r_squared_difference"][own] >= LINEAR),
            "rising_share": _mean(~steady & (change > 0)),
            "falling_share": _mean(~steady & (change < 0)),
            "constant_share": _mean(steady),
            "gradient_change": _whole_change(gradient[own]),
            "difference_change": _whole_change(difference[own]),
        }
        for by in ("difference", "gradient", "c"):
            figures[f"r_squared_{by}"] = _mean(fits[f"r_squared_{by}"][own])
        for key, value in figures.items():
            found[key].append(value)
    kinds = {"patient_id": object}
    return {name: np.array(v, kinds.get(name, np.float64)) for name, v in found.items()}


def _mean(values: np.ndarray) -> float:
    """Over the units that have a value; 0 where none has: nothing is explained."""
    kept = values[np.isfinite(values)]
    return float(kept.mean()) if kept.size else 0.0


def _whole_change(values: np.ndarray) -> float:
    whole = float(np.abs(values[:, 0]).sum())
    changed = float(np.abs(values[:, 1:] - values[:, :1]).mean(axis=1).sum())
    return changed / whole if whole else 0.0


def linearity_figures(rows: pa.Table) -> dict[str, Any]:
    """Means over images, with intervals by patient, and what they say of the claim that the answer
    is linear in the units.

    n, units (rows), num_patients; each name of SPANS with _low and _high; more_than_gradient: how
    much more of attributions the difference explains than the gradient does, as `paired_interval`
    gives it; built: the gradient is the same everywhere, so that the answer is linear in these
    units by the network's build and nothing is found; verdict: "supported" where R^2 by the
    difference is at least LINEAR and the gradient changes by at most UNCHANGED, with their whole
    intervals; "not supported" where an interval lies on the other side; otherwise, and where
    it is by the network's build, "undecided".
    """
    images = image_figures(rows)
    patients = images.pop("patient_id")
    figures: dict[str, Any] = {
        "n": len(patients),
        "units": rows.num_rows,
        "num_patients": len({name or place for place, name in enumerate(patients)}),
    }
    for name, span in SPANS.items():
        mean = interval(np.mean, images[name], patients, span=span)
        figures |= {name: mean["value"], f"{name}_low": mean["low"], f"{name}_high": mean["high"]}
    figures["more_than_gradient"] = paired_interval(
        np.mean, images["r_squared_difference"], images["r_squared_gradient"], patients,
        span=(0, 1),
    )  # fmt: skip
    figures["built"] = bool(images["gradient_change"].max() < BUILT)
    return figures | {"verdict": _verdict(figures)}


def _verdict(figures: dict[str, Any]) -> str:
    low, high = (figures[f"r_squared_difference{end}"] for end in ("_low", "_high"))
    least, most = (figures[f"gradient_change{end}"] for end in ("_low", "_high"))
    if (high is not None and high < LINEAR) or (least is not None and least > UNCHANGED):
        return NOT_SUPPORTED
    if figures["built"] or low is None or most is None:
        return UNDECIDED
    return SUPPORTED if low >= LINEAR and most <= UNCHANGED else UNDECIDED


def step_figures(rows: pa.Table) -> list[dict[str, float]]:
    """A row for each step, the photograph itself first: means over images of step (0 is as it is),
    moved (mean change of a number of the image), output, attribution (sum of its size over units),
    gradient_change and difference_change to the photograph."""
    ids = np.array(rows["image_id"].to_pylist(), dtype=object)
    columns = {
        name: stacked(rows, name)
        for name in ("moved", "output", "attribution", "difference", "gradient")
    }
    parts: list[list[dict[str, float]]] = []
    for name in dict.fromkeys(ids.tolist()):
        own = {key: values[ids == name] for key, values in columns.items()}
        parts.append([_step(own, step) for step in range(own["moved"].shape[1])])
    return [_means(steps) for steps in zip(*parts, strict=True)]


def _step(own: dict[str, np.ndarray], step: int) -> dict[str, float]:
    figures = {name: float(own[name][0, step]) for name in ("moved", "output")}
    figures["attribution"] = float(np.abs(own["attribution"][:, step]).sum())
    for name in ("gradient", "difference"):
        pair = own[name][:, [0, step]]
        figures[f"{name}_change"] = _whole_change(pair)
    return {"step": float(step)} | figures


def _means(steps: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([step[name] for step in steps])) for name in steps[0]}
