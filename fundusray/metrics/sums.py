"""How sure many statistics of sums of rows are, all at once: counts of pixels, histograms.

What `by_patient.spread` says of a smooth statistic, for those that need no more of the rows than
their sums. Leaving a patient out is then a subtraction, so that hundreds of images with histograms
of 8-bit scores take a second and not minutes.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fundusray.errors import InputError
from fundusray.metrics.by_patient import Span, left_out_groups, left_out_spread, patient_numbers
from fundusray.metrics.spread import FEW, Spread, too_few

Columns = Mapping[str, np.ndarray]
"""Arrays [N, ...] by name, a row for each image."""
Figures = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]
"""(sums over rows by name, [R, ...] of R choices of rows) -> of each figure its values [R]; NaN
where the sums do not define it."""

AT_ONCE = 128
"""Patients whose sums are in memory at a time."""
NOT_DEFINED = "not defined here"


def spreads_of_sums(
    figures: Figures,
    columns: Columns,
    patients: Sequence[str] | np.ndarray,
    spans: Mapping[str, Span],
) -> dict[str, Spread]:
    """Each figure with its chance.

    Args:
        columns: what is summed over rows.
        patients: of each row [N]; "" where not known, which counts as a patient of its own.
        spans: the least and the largest value of each figure; any where it is left out.

    Raises:
        InputError: no rows, or not as many patients as rows.
    """
    owner = patient_numbers(patients)
    lengths = {len(values) for values in columns.values()}
    if lengths != {len(owner)} or not len(owner):
        raise InputError(f"{len(owner)} patients for {sorted(lengths)} rows: each row needs one")
    total = {name: values.sum(axis=0) for name, values in columns.items()}
    values = {
        name: float(value[0])
        for name, value in figures({name: one[None] for name, one in total.items()}).items()
    }
    num = int(owner.max()) + 1
    if num < FEW:
        why = too_few(num, "", FEW)
        return {
            name: Spread(value, np.zeros(num), None, why if np.isfinite(value) else NOT_DEFINED)
            for name, value in values.items()
        }
    left_out = _left_out(figures, columns, total, left_out_groups(owner))
    found = {}
    for name, value in values.items():
        if np.isfinite(value):
            found[name] = left_out_spread(value, left_out[name], owner, spans.get(name))
        else:
            found[name] = Spread(value, np.zeros(num), None, NOT_DEFINED)
    return found


def _left_out(
    figures: Figures, columns: Columns, total: Columns, group: np.ndarray
) -> dict[str, np.ndarray]:
    """The figures without each group of rows, [G] each."""
    order = np.argsort(group, kind="stable")
    edges = np.concatenate([[0], np.cumsum(np.bincount(group))])
    found: dict[str, list[np.ndarray]] = {}
    for first in range(0, len(edges) - 1, AT_ONCE):
        own = edges[first : first + AT_ONCE + 1]
        rows = order[own[0] : own[-1]]
        without = {
            name: total[name] - np.add.reduceat(values[rows], own[:-1] - own[0], axis=0)
            for name, values in columns.items()
        }
        for name, value in figures(without).items():
            found.setdefault(name, []).append(value)
    return {name: np.concatenate(parts) for name, parts in found.items()}
