"""Figures of a method from several trainings of it, with intervals that hold patients and seeds.

One network's interval says what other patients would have done to that network's figure. What
another seed of training would have done is not in it: two trainings of one method differ by more
than such intervals allow. With trainings r = 1 ... R, alike but for their seed and judged on the
same patients, a figure (or a difference of two methods, trained in pairs) is

    theta_r = mu + patients + seed_r + (seed_r with these patients)

and its value here is the mean over r. The parts of that mean's variance:

- what all trainings share: the variance by patients of the mean, from how each patient moves each
  training's figure, less what of it is each training's own;
- all the rest, of the seed and of the seed with these patients: s^2 / R, s the standard deviation
  over the trainings (`seed_sd`), with R - 1 degrees of freedom.

Half the interval is sqrt(patients^2 + (t s / sqrt(R))^2), t of Student's distribution with R - 1
degrees of freedom, and on each side by itself (MOVER: Zou and Donner 2008), so that an interval of
one network which is not symmetric gives one of the mean that is not; nor is it ever shorter than
what patients alone give for the mean of these very networks. It errs to the wide side where both
parts are of a size; the usual t with Satterthwaite's degrees of freedom errs to the narrow one with
two or three trainings, whose s can be small by chance.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fundusray.errors import InputError
from fundusray.metrics.comparison import NOT_MEANT, paired_differences, same_rows, verdict
from fundusray.metrics.intervals import figure_spreads
from fundusray.metrics.jackknife import PatientFigures
from fundusray.metrics.predictions import NO_ORDER, patients_of
from fundusray.metrics.registered import higher_is_better, span_of, withheld_figures
from fundusray.metrics.spread import LEVEL, z_quantile
from fundusray.metrics.summary import figure_summary

STEPS = 80
"""Halvings of a search for a quantile: to the last bits of a float."""


def repeated_summary(tables: Sequence[pa.Table], *, elsewhere: bool = False) -> dict[str, Any]:
    """`figure_summary` of several trainings of one method, each figure the mean over them.

    Args:
        elsewhere: each training was judged on rows of its own, under another split, which may
            share patients; n, num_patients and num_unknown are then those of the first.

    Besides its keys: repeats, and `<m>_seed_sd`, the standard deviation of `<m>` over the
    trainings; None of a single one, whose intervals are those of `figure_summary`.

    Raises:
        InputError: the tables do not hold the same images, targets and patients, or no rows.
    """
    each = [figure_summary(table) for table in tables]
    names = [name for name in each[0] if f"{name}_low" in each[0]]
    result = each[0] | {"repeats": len(tables)}
    if len(tables) == 1:
        return result | {f"{name}_seed_sd": None for name in names}
    moved = _influences(tables, elsewhere)
    for name in names:
        values, lows, highs = ([one[name + end] for one in each] for end in ("", "_low", "_high"))
        found = combine_repeats(values, lows, highs, np.stack([one[name] for one in moved]))
        least, most = span_of(name)
        low, high = found["low"], found["high"]
        result[name], result[f"{name}_seed_sd"] = found["value"], found["seed_sd"]
        result[f"{name}_low"] = None if low is None else max(low, least)
        result[f"{name}_high"] = None if high is None else min(high, most)
        result[f"{name}_why"] = next(filter(None, (one[f"{name}_why"] for one in each)), "")
    for name in {name for table in tables for name in withheld_figures(table)}:
        result |= {name + end: None for end in ("", "_low", "_high", "_seed_sd")}
        result[f"{name}_why"] = NO_ORDER
    return result


def repeated_differences(
    a: Sequence[pa.Table], b: Sequence[pa.Table], *, elsewhere: bool = False
) -> dict[str, dict[str, Any]]:
    """`paired_differences` of two methods that were trained as often, the trainings of one place
    compared.

    Args:
        elsewhere: each pair was judged on rows of its own, under another split.

    Besides its keys: repeats and seed_sd (of the difference over the trainings). As there, p is
    the level at which the interval would just touch 0. Of one training each `paired_differences`,
    with seed_sd None.

    Raises:
        InputError: not as many of both, or tables that do not hold the same rows.
    """
    if len(a) != len(b) or not a:
        raise InputError(f"trainings are compared one by one, got {len(a)} and {len(b)} of them")
    each = [paired_differences(x, y) for x, y in zip(a, b, strict=True)]
    if len(a) == 1:
        return {name: row | {"repeats": 1, "seed_sd": None} for name, row in each[0].items()}
    ours, theirs = (_influences(tables, elsewhere) for tables in (a, b))
    result = {}
    for name in each[0]:
        values, lows, highs = (
            [one[name][key] for one in each] for key in ("difference", "low", "high")
        )
        moved = np.stack([x[name] - y[name] for x, y in zip(ours, theirs, strict=True)])
        found = combine_repeats(values, lows, highs, moved)
        low, high = found["low"], found["high"]
        said = "undecided" if low is None else verdict(low, high, higher_is_better(name))
        result[name] = each[0][name] | {
            "difference": found["value"],
            "low": low,
            "high": high,
            "verdict": said,
            "p": found["p"],
            "why": next(filter(None, (one[name]["why"] for one in each)), ""),
            "repeats": len(a),
            "seed_sd": found["seed_sd"],
        }
    hidden = {name for table in (*a, *b) for name in withheld_figures(table)}
    nothing = NOT_MEANT | {"repeats": len(a), "seed_sd": None}
    return result | {name: dict(nothing) for name in hidden}


def _influences(tables: Sequence[pa.Table], elsewhere: bool) -> list[dict[str, np.ndarray]]:
    """How much each patient of any of the tables moves each training's figures, [P]; 0 of patients
    whom a training is not judged on."""
    for table in () if elsewhere else tables[1:]:
        same_rows(tables[0], table)
    named = [patients_of(table) for table in tables]
    everyone = pc.unique(pa.concat_arrays(named))
    found = []
    for table, names in zip(tables, named, strict=True):
        places, own = pc.index_in(names, everyone).to_numpy(), {}
        for name, spread in figure_spreads(PatientFigures.of(table)).items():
            own[name] = np.zeros(len(everyone))
            own[name][places] = spread.influence
        found.append(own)
    return found


def combine_repeats(
    values: Sequence[float | None],
    lows: Sequence[float | None],
    highs: Sequence[float | None],
    moved: np.ndarray,
) -> dict[str, float | None]:
    """One figure of a method from those of its R > 1 trainings.

    Args:
        values, lows, highs: each training's figure and the 95 % interval that patients alone give.
        moved: how much each patient moves the figure of each training [R, P], or each training's
            figure under the same resamples of patients; NaN where undefined. How the trainings go
            together is all that is asked of it.

    Returns:
        value, low, high (95 %), seed_sd, and p of the hypothesis that the figure is 0; None where
        undefined: all of a figure that one training lacks, and intervals and p without patients.
    """
    undefined = dict.fromkeys(("value", "low", "high", "seed_sd", "p"))
    if any(value is None for value in values):
        return undefined
    number, points = len(values), np.array(values, np.float64)
    value, deviation = float(points.mean()), float(points.std(ddof=1))
    result = undefined | {"value": value, "seed_sd": deviation}
    moved = moved[:, np.isfinite(moved).all(axis=0)]
    if None in lows or None in highs or moved.shape[1] < 2:
        return result
    shared, given = _shares_of_patients(moved)
    seeds = deviation / math.sqrt(number)
    below, above = (
        max(0.0, float(np.mean(far))) for far in (points - np.array(lows), np.array(highs) - points)
    )
    student = t_exceeded(LEVEL, number - 1) * seeds
    result["low"] = value - max(given * below, math.hypot(shared * below, student))
    result["high"] = value + max(given * above, math.hypot(shared * above, student))
    facing = (below if value > 0 else above) / z_quantile(LEVEL)
    result["p"] = _p(abs(value), shared * facing, given * facing, seeds, number - 1)
    return result


def _shares_of_patients(moved: np.ndarray) -> tuple[float, float]:
    """How wide the interval of the mean over trainings is that patients alone give, as a share of
    one training's: what all trainings have in common, and all of it."""
    number = len(moved)
    alone = float(moved.std(axis=1).mean())
    if alone == 0:
        return 1.0, 1.0
    centred = moved - moved.mean(axis=1, keepdims=True)
    whole = float(centred.mean(axis=0).var())
    own = float(centred.var(axis=0, ddof=1).mean())
    return math.sqrt(max(whole - own / number, 0.0)) / alone, math.sqrt(whole) / alone


def _p(distance: float, shared: float, given: float, seeds: float, freedom: int) -> float:
    """The level at which an interval reaches a distance from its value.

    Args:
        shared, given: standard errors by patients, see `_shares_of_patients`.
        seeds: the standard error by seeds, with `freedom` degrees.
    """
    if distance == 0:
        return 1.0
    alone = math.erfc(distance / given / math.sqrt(2)) if given else 0.0

    def reach(student: float) -> float:
        level = max(two_sided(student, freedom), 1e-15)
        return math.hypot(z_quantile(level) * shared, student * seeds)

    student = _where(lambda t: reach(t) >= distance)
    return max(alone, two_sided(student, freedom))


def two_sided(student: float, freedom: int) -> float:
    """The probability that |t| of Student's distribution exceeds `student` >= 0.

    Finite sums for whole degrees of freedom (Abramowitz and Stegun 26.7.3 and 26.7.4).
    """
    angle = math.atan2(student, math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term, total = (cosine, cosine) if odd else (1.0, 1.0)
    if freedom == 1:
        total = 0.0
    for k in range(3 if odd else 2, freedom - 1, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    within = 2 / math.pi * (angle + sine * total) if odd else sine * total
    return max(0.0, 1.0 - within)


@functools.cache
def t_exceeded(level: float, freedom: int) -> float:
    """What |t| of Student's distribution exceeds with probability `level`."""
    return _where(lambda student: two_sided(student, freedom) <= level)


def _where(reached: Callable[[float], bool]) -> float:
    """The least number >= 0 at which a condition that stays true becomes so; at most 1e12."""
    low, high = 0.0, 1.0
    while not reached(high) and high < 1e12:
        low, high = high, 2 * high
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high
