"""Every figure from rows: one line per image with its target and logits.

What a figure is stands in `standard`, `confusion_matrix` and `ranks`, how sure it is in
`intervals` and
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
from fundusray.metrics.calibration import calibration_error, calibration_interval
from fundusray.metrics.comparison import figure_difference, paired_differences
from fundusray.metrics.confusion import from_confusion
from fundusray.metrics.predictions import NO_ORDER, PredictionRows, is_ordered, predictions_table
from fundusray.metrics.registered import (
    METRICS,
    UNDER_CORRUPTION,
    MetricFacts,
    constant_answer,
    metric_of,
    needing_order,
    selectors,
    withheld_figures,
)
from fundusray.metrics.repeats import repeated_differences, repeated_summary
from fundusray.metrics.summary import confusion_matrix, figure_summary, point_figures
from fundusray.registry import import_folder

__all__ = [
    "METRICS",
    "NO_ORDER",
    "UNDER_CORRUPTION",
    "MetricFacts",
    "PredictionRows",
    "calibration_error",
    "calibration_interval",
    "confusion_matrix",
    "constant_answer",
    "figure_difference",
    "figure_summary",
    "from_confusion",
    "interval",
    "is_ordered",
    "metric_of",
    "needing_order",
    "paired_differences",
    "paired_interval",
    "point_figures",
    "predictions_table",
    "repeated_differences",
    "repeated_summary",
    "selectors",
    "share",
    "spread",
    "standard",
    "withheld_figures",
]

import_folder(__name__, __path__)
