"""How sure any statistic of rows is, when rows of one patient go together.

    interval(lambda rows: rows["hit"].sum() / rows["all"].sum(), rows, patients, span=(0, 1))

For a mean of per-image scores, a ratio of sums over a set, a map's score or the success of an
attack, by the rules of `intervals`:

- A smooth statistic: each patient left out once (jackknife: Efron and Stein 1981), the standard
  error taken on the logit scale of its span, Student's t with the degrees of freedom that the
  kurtosis of the patients' influences leaves (Satterthwaite 1946). Of more than MOST patients,
  GROUPS groups are left out in their stead.
- One that is not smooth (a quantile, a maximum, a count above a fitted threshold), where leaving
  one patient out says nothing (Efron 1979, remark): DRAWS resamples of patients, percentiles of
  them; always the same draws, so that equal rows give equal ends.
- The share of rows that are hits (`share`): Wilson's interval with a design effect, as accuracy.

A value at the end of its span has no spread to measure: Wilson's interval of all of those patients
who can move it. It is too few to say where fewer than FEW patients move it, or where it is not
defined without one of them; of a drawn one, fewer than FEW_TO_DRAW.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from fundusray.errors import InputError
from fundusray.metrics.spread import (
    FEW,
    Ends,
    Spread,
    drawn_ends,
    jackknife,
    share_spread,
    student,
    sum_of_squares,
    t_quantile,
    too_few,
    wilson_interval,
    z_quantile,
)

Statistic = Callable[[Any], float]
"""(some of the rows) -> a number; NaN where they do not define it."""
Span = tuple[float, float] | None
"""The least and the largest value a statistic can have; None: any."""

MOST = 2000
"""Patients up to which each is left out by itself."""
GROUPS = 200
DRAWS = 999
FEW_TO_DRAW = 20
"""Patients below which nothing is said of a statistic that is not smooth."""


def share(hits: np.ndarray) -> float:
    """The share of rows that are hits, of a truth value per row [N]."""
    return float(np.mean(hits))


def spread(
    statistic: Statistic,
    rows: Any,
    patients: Sequence[str] | np.ndarray,
    *,
    span: Span = None,
    smooth: bool = True,
) -> Spread:
    """The statistic with its chance, as `interval` and `difference` take it.

    Raises:
        InputError: no rows, or not as many patients as rows.
    """
    owner = patient_numbers(patients)
    if _length(rows) != len(owner) or not len(owner):
        raise InputError(f"{len(owner)} patients for {_length(rows)} rows: one is needed for each")
    num = int(owner.max()) + 1
    if statistic is share:
        hits = np.asarray(rows, np.float64)
        return share_spread(np.bincount(owner, hits), np.bincount(owner).astype(np.float64), "")
    value = float(statistic(rows))
    if not math.isfinite(value):
        return Spread(value, np.zeros(num), None, "not defined here")
    if not smooth:
        return _drawn(statistic, rows, owner, value)
    return _left_out(statistic, rows, owner, value, span)


def _left_out(
    statistic: Statistic, rows: Any, owner: np.ndarray, value: float, span: Span
) -> Spread:
    num = int(owner.max()) + 1
    if num < FEW:
        return Spread(value, np.zeros(num), None, too_few(num, "", FEW))
    group = left_out_groups(owner)
    order = np.argsort(group, kind="stable")
    edges = np.concatenate([[0], np.cumsum(np.bincount(group))])
    without = [
        float(statistic(_taken(rows, np.sort(np.delete(order, slice(first, last))))))
        for first, last in itertools.pairwise(edges)
    ]
    return left_out_spread(value, np.array(without), owner, span)


def left_out_groups(owner: np.ndarray) -> np.ndarray:
    """Of each row [N] which ones are left out with it: its patient's, or its group's of patients.

    Args:
        owner: `patient_numbers`.
    """
    return owner if int(owner.max()) < MOST else owner % GROUPS


def left_out_spread(value: float, left_out: np.ndarray, owner: np.ndarray, span: Span) -> Spread:
    """A smooth statistic with its chance, from it without each of `left_out_groups` [G]; of FEW
    patients or more."""
    num = int(owner.max()) + 1
    group = left_out_groups(owner)
    members = np.bincount(np.unique(np.stack([group, owner]), axis=1)[0])
    influence, error = jackknife(left_out)
    # Each of a group's patients moves it by an equal part.
    each = (influence / members)[group[np.unique(owner, return_index=True)[1]]]
    if not np.isfinite(left_out).all():
        return Spread(value, np.nan_to_num(each), None, "not defined without one of the patients")
    moving = int(members[np.abs(left_out - value) > 1e-12 * max(abs(value), 1.0)].sum())
    if span and value in span:
        return Spread(value, each, ends_at_an_end(value, span, num))
    if not moving:
        return Spread(value, each, None, "no patient changes it")
    if moving < FEW:
        return Spread(value, each, None, too_few(moving, " who change it", FEW))
    kurtosis = len(influence) * sum_of_squares(influence**2) / sum_of_squares(influence) ** 2
    freedom = min(2 * len(influence) / max(kurtosis - 1, 1e-9), len(influence) - 1)
    if span:
        return Spread(value, each, student(value, error, freedom, span))

    def ends(level: float) -> tuple[float, float]:
        reach = t_quantile(level, freedom) * error
        return value - reach, value + reach

    return Spread(value, each, ends)


def ends_at_an_end(value: float, span: tuple[float, float], num: int) -> Ends:
    """The interval of a value at an end of its span: Wilson's of num patients in num, or of
    none."""
    low, high = span

    def ends(level: float) -> tuple[float, float]:
        near, far = wilson_interval(1.0, num, z_quantile(level))[0], high - low
        return (high - far * (1 - near), high) if value == high else (low, low + far * (1 - near))

    return ends


def _drawn(statistic: Statistic, rows: Any, owner: np.ndarray, value: float) -> Spread:
    num = int(owner.max()) + 1
    if num < FEW_TO_DRAW:
        return Spread(value, np.zeros(num), None, too_few(num, "", FEW_TO_DRAW))
    order = np.argsort(owner, kind="stable")
    sizes = np.bincount(owner)
    starts = np.cumsum(sizes) - sizes
    random = np.random.Generator(np.random.Philox(key=num))
    values, together, times = np.empty(DRAWS), np.zeros(num), np.zeros(num)
    for draw in range(DRAWS):
        chosen = random.integers(num, size=num)
        length = sizes[chosen]
        offset = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
        values[draw] = statistic(_taken(rows, order[np.repeat(starts[chosen], length) + offset]))
        held = np.bincount(chosen, minlength=num)
        together += held * (values[draw] - value)
        times += held
    if not np.isfinite(values).all():
        return Spread(value, np.zeros(num), None, "not defined on some resamples of the patients")
    # How often a patient is drawn goes with the value as much as the patient moves it (Efron 2014).
    influence = together / DRAWS - times / DRAWS * (values.mean() - value)
    if values.min() == values.max():
        return Spread(value, influence, None, "no patient changes it")
    return Spread(value, influence, lambda level: drawn_ends(values, level), draws=values)


def patient_numbers(patients: Sequence[str] | np.ndarray) -> np.ndarray:
    """0 to P - 1 for each row [N], in the order of the patients' names; a row whose patient is ""
    is one of its own, behind them."""
    names = np.asarray(patients)
    known = names != "" if names.dtype.kind in "UO" else np.ones(len(names), bool)
    owner = np.empty(len(names), np.int64)
    owner[known] = np.unique(names[known], return_inverse=True)[1]
    owner[~known] = owner[known].max(initial=-1) + 1 + np.arange((~known).sum())
    return owner


def _length(rows: Any) -> int:
    if isinstance(rows, Mapping):
        return len(next(iter(rows.values()), ()))
    named = isinstance(rows, tuple) and hasattr(rows, "_fields")
    return len(rows[0]) if named else len(rows)


def _taken(rows: Any, index: np.ndarray) -> Any:
    """Some of the rows, in what they came in."""
    if isinstance(rows, pa.Table):
        return rows.take(pa.array(index))
    if isinstance(rows, Mapping):
        return {name: np.asarray(values)[index] for name, values in rows.items()}
    if isinstance(rows, tuple) and hasattr(rows, "_fields"):
        return type(rows)(*(np.asarray(values)[index] for values in rows))
    return np.asarray(rows)[index]
