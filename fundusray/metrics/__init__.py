"""Every figure from rows: one line per image with its target and logits.

What a figure is stands in `confusion` and `ranks`, how sure it is in `intervals`, how two networks
are compared in `pairing`, what several trainings of a method say in `repeats`. docs/statistics.md
shows by simulation what the intervals cover.
"""

from fundusray.metrics.confusion import from_confusion
from fundusray.metrics.pairing import paired
from fundusray.metrics.patients import METRICS
from fundusray.metrics.repeats import repeated, repeated_paired
from fundusray.metrics.summing import confusion, point, summary
from fundusray.metrics.table import NO_ORDER, ORDINAL, is_ordered, predictions_table, withheld

__all__ = [
    "METRICS",
    "NO_ORDER",
    "ORDINAL",
    "confusion",
    "from_confusion",
    "is_ordered",
    "paired",
    "point",
    "predictions_table",
    "repeated",
    "repeated_paired",
    "summary",
    "withheld",
]
