"""Intervals and paired differences of any statistic of rows; how is said in `by_patient`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fundusray.metrics.by_patient import Span, Statistic, spread
from fundusray.metrics.comparison import figure_difference
from fundusray.metrics.confusion import float_or_none
from fundusray.metrics.spread import LEVEL


def interval(
    statistic: Statistic,
    rows: Any,
    patients: Sequence[str] | np.ndarray,
    *,
    span: Span = None,
    smooth: bool = True,
) -> dict[str, Any]:
    """value, low, high (95 %) and why of a statistic; both ends None where `why` says why.

    Args:
        statistic: of rows as they are given, fewer of them, some of them twice where it is not
            smooth.
        rows: an array [N, ...], a table of N rows, or several arrays by name or in a named tuple.
        patients: of each row [N]; "" where not known, which counts as a patient of its own.
        span: the least and the largest value it can have, e.g. (0, 1).
        smooth: False where a small change of the rows can change it in a jump.

    Raises:
        InputError: no rows, or not as many patients as rows.
    """
    found = spread(statistic, rows, patients, span=span, smooth=smooth)
    low, high = found.ends(LEVEL) if found.ends else (None, None)
    return {"value": float_or_none(found.value), "low": low, "high": high, "why": found.why}


def paired_interval(
    statistic: Statistic,
    a: Any,
    b: Any,
    patients: Sequence[str] | np.ndarray,
    *,
    span: Span = None,
    smooth: bool = True,
    higher: bool = True,
) -> dict[str, Any]:
    """difference (a - b), low, high, p, verdict on a, and why, of the same rows seen twice.

    Args:
        a, b: rows as `interval` takes them, row by row of the same images.
        higher: whether more is better.

    Raises:
        InputError: no rows, or not as many of them as patients.
    """
    first, second = (spread(statistic, rows, patients, span=span, smooth=smooth) for rows in (a, b))
    return figure_difference(first, second, higher)
