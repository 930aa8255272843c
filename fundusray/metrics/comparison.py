"""Two networks on the same rows: differences of figures, with intervals and a verdict.

Ends l, u of each side's own interval and the correlation r of the patients' influences give the
interval of a - b (MOVER: Zou and Donner 2008; for two shares this is Newcombe 1998, method 10):

    low = a - b - sqrt((a - l_a)^2 + (u_b - b)^2 - 2 r (a - l_a) (u_b - b)), and high likewise.

Where few patients differ, r is near 1 by chance and the interval too short. So r is taken as though
two more differed, one each way, as Bonett and Price (2012) do with two shares.
"""

import math
from typing import Any

import numpy as np
import pyarrow as pa

from fundusray.errors import InputError
from fundusray.metrics.confusion import float_or_none
from fundusray.metrics.intervals import figure_spreads
from fundusray.metrics.jackknife import PatientFigures
from fundusray.metrics.predictions import NO_ORDER
from fundusray.metrics.registered import higher_is_better, withheld_figures
from fundusray.metrics.spread import LEVEL, Spread, drawn_ends, sum_of_squares

MORE = 2
"""Patients who are taken to differ beside those who do."""
LEAST = 1e-12
"""No p is smaller."""
HALVINGS = 30
NOT_MEANT = dict.fromkeys(("difference", "low", "high", "p"))
NOT_MEANT |= {"verdict": "undecided", "why": NO_ORDER}
"""The difference of a figure that needs an order of the classes where none is known."""


def paired_differences(a: pa.Table, b: pa.Table) -> dict[str, dict[str, Any]]:
    """Of each metric and recall_<k>: difference (a - b), low, high, p, verdict, why.

    The verdict on a is "better" or "worse" where the 95 % interval leaves 0 out, else "undecided".
    p is the level at which the interval would just touch 0. Where there are too few patients, or
    where both networks answer alike, low, high and p are None and `why` says so.

    Raises:
        InputError: the tables do not hold the same images with the same targets and patients.
    """
    a, b = same_rows(a, b)
    first, second = figure_spreads(PatientFigures.of(a)), figure_spreads(PatientFigures.of(b))
    found = {
        name: figure_difference(first[name], second[name], higher_is_better(name)) for name in first
    }
    return found | {name: dict(NOT_MEANT) for name in {*withheld_figures(a), *withheld_figures(b)}}


def same_rows(a: pa.Table, b: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Both tables sorted by image.

    Raises:
        InputError: they do not hold the same images with the same targets and patients.
    """
    names = [[n for n in table.column_names if n.startswith("logit_")] for table in (a, b)]
    if names[0] != names[1]:
        raise InputError(f"cannot compare {names[0]} with {names[1]}: other classes")
    a, b = a.sort_by("image_id"), b.sort_by("image_id")
    for column in ("image_id", "target", "patient_id"):
        if not a[column].equals(b[column]):
            raise InputError(
                f"a paired comparison needs the same rows, but {column} differs "
                f"({a.num_rows} and {b.num_rows} rows); evaluate both on the same split"
            )
    return a, b


def figure_difference(a: Spread, b: Spread, higher: bool = True) -> dict[str, Any]:
    """difference, low, high, p, verdict and why of one figure; `higher`: whether more is better."""
    found: dict[str, Any] = {
        "difference": float_or_none(a.value - b.value),
        "low": None,
        "high": None,
    }
    found |= {"p": None, "verdict": "undecided", "why": not_said(a, b)}
    if found["why"]:
        return found
    if a.draws is not None and b.draws is not None:
        low, high, p = _of_draws(a.draws - b.draws)
    else:
        together = patient_correlation(a, b)
        low, high = difference_ends(a, b, together, LEVEL)
        p = _p_value(a, b, together)
    return found | {"low": low, "high": high, "p": p, "verdict": verdict(low, high, higher)}


def _of_draws(differences: np.ndarray) -> tuple[float, float, float]:
    """low, high and p of a difference, from it on each resample of the patients."""
    low, high = drawn_ends(differences, LEVEL)
    beyond = min((differences <= 0).sum(), (differences >= 0).sum())
    return low, high, min(1.0, 2 * float(beyond + 1) / (len(differences) + 1))


def verdict(low: float, high: float, higher: bool = True) -> str:
    """What the interval of a difference says: better, worse or undecided."""
    if low <= 0 <= high:
        return "undecided"
    return "better" if (low > 0) == higher else "worse"


def not_said(a: Spread, b: Spread) -> str:
    """Why a difference has no interval; empty where it has one."""
    if a.why or b.why:
        return a.why or b.why
    alike = a.value == b.value and np.array_equal(a.influence, b.influence)
    return "both answer alike here" if alike else ""


def patient_correlation(a: Spread, b: Spread) -> float:
    """How much the same patients move both sides; 0 where one side has no spread.

    As though MORE patients beyond those who differ did so, half of them each way: the variance of
    the difference is raised by that share of the effective number of patients who carry it.
    """
    x, y = a.influence, b.influence
    mine, theirs, apart = sum_of_squares(x), sum_of_squares(y), sum_of_squares(x - y)
    if not mine * theirs:
        return 0.0
    if apart:
        carriers = apart**2 / sum_of_squares((x - y) ** 2)
        apart *= 1 + MORE / carriers
    share = (mine + theirs - apart) / (2 * math.sqrt(mine * theirs))
    return min(max(share, -1.0), 1.0)


def difference_ends(a: Spread, b: Spread, together: float, level: float) -> tuple[float, float]:
    """The interval of a - b that misses with probability `level`; both sides have ends.

    Args:
        together: their correlation.
    """
    assert a.ends and b.ends
    (a_low, a_high), (b_low, b_high) = a.ends(level), b.ends(level)

    def reach(x: float, y: float) -> float:
        return math.sqrt(max(x * x + y * y - 2 * together * x * y, 0.0))

    middle = a.value - b.value
    down, up = reach(a.value - a_low, b_high - b.value), reach(a_high - a.value, b.value - b_low)
    return middle - down, middle + up


def _p_value(a: Spread, b: Spread, together: float) -> float:
    """The level at which the interval of a - b just touches 0, by halving its logarithm."""
    low, high = math.log(LEAST), 0.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        ends = difference_ends(a, b, together, math.exp(middle))
        # A smaller level means a wider interval.
        if ends[0] > 0 or ends[1] < 0:
            high = middle
        else:
            low = middle
    return math.exp(high)
