"""Every figure from rows: one line per image with its target and logits.

What a figure is stands in `standard`, `confusion` and `ranks`, how sure it is in `intervals` and
`by_patient`, how two networks are compared in `pairing`, what several trainings of a method say in
`repeats`. docs/statistics.md shows by simulation what the intervals cover.

A new metric is a file here, or a plugin's: a function of rows under `@METRICS.register("name",
**facts)` (`registered.MetricFacts`). It is measured, compared and shown as the others are. Any
other statistic of rows gets an interval by patient from `interval`, and a paired difference from
`paired_interval`.
"""

from fundusray.metrics import standard
from fundusray.metrics.any_statistic import interval, paired_interval
from fundusray.metrics.by_patient import share, spread
from fundusray.metrics.confusion import from_confusion
from fundusray.metrics.paired_differences import difference, paired
from fundusray.metrics.predictions import NO_ORDER, Rows, is_ordered, predictions_table
from fundusray.metrics.registered import (
    METRICS,
    MetricFacts,
    constant_answer,
    needing_order,
    selectors,
    withheld,
)
from fundusray.metrics.repeats import repeated, repeated_paired
from fundusray.metrics.summary import confusion, point, summary
from fundusray.registry import import_folder

__all__ = [
    "METRICS",
    "NO_ORDER",
    "MetricFacts",
    "Rows",
    "confusion",
    "constant_answer",
    "difference",
    "from_confusion",
    "interval",
    "is_ordered",
    "needing_order",
    "paired",
    "paired_interval",
    "point",
    "predictions_table",
    "repeated",
    "repeated_paired",
    "selectors",
    "share",
    "spread",
    "standard",
    "summary",
    "withheld",
]

import_folder(__name__, __path__)
