"""Every figure from rows: one line per image with its target and logits.

What a figure is stands in `confusion` and `ranks`, how sure it is in `intervals`, how two networks
are compared in `pairing`. docs/statistics.md shows by simulation what the intervals cover.
"""

from fundusray.metrics.confusion import from_confusion
from fundusray.metrics.pairing import paired
from fundusray.metrics.patients import METRICS
from fundusray.metrics.summing import confusion, point, summary
from fundusray.metrics.table import predictions_table

__all__ = [
    "METRICS",
    "confusion",
    "from_confusion",
    "paired",
    "point",
    "predictions_table",
    "summary",
]
