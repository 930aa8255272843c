"""Figures of predictions: of one network, of two in pairs, and of several trainings of a method."""

from fundusray.metrics.repeats import repeated, repeated_paired
from fundusray.metrics.single import (
    METRICS,
    confusion,
    from_confusion,
    paired,
    point,
    predictions_table,
    summary,
)

__all__ = [
    "METRICS",
    "confusion",
    "from_confusion",
    "paired",
    "point",
    "predictions_table",
    "repeated",
    "repeated_paired",
    "summary",
]
