"""The four metrics of classified photographs; what they are says `confusion` and `ranks`."""

import numpy as np

from fundusray.metrics.auc import OrderedPairs
from fundusray.metrics.confusion import confusion_counts, confusion_figures
from fundusray.metrics.predictions import PredictionRows
from fundusray.metrics.registered import METRICS


def _most_frequent(targets: np.ndarray) -> float:
    return float(np.bincount(targets).max(initial=0) / max(len(targets), 1))


def _one_of_those_present(targets: np.ndarray) -> float:
    return 1.0 / max(int((np.bincount(targets) > 0).sum()), 1)


def _nothing(targets: np.ndarray) -> float:
    return 0.0


def _half(targets: np.ndarray) -> float:
    return 0.5


@METRICS.register("accuracy", title="accuracy", constant=_most_frequent, under_attack=True)
def accuracy(rows: PredictionRows) -> float:
    """The share of rows whose answer is right."""
    return _figure(rows, "accuracy")


@METRICS.register(
    "balanced_accuracy",
    title="balanced accuracy",
    constant=_one_of_those_present,
    under_attack=True,
)
def balanced_accuracy(rows: PredictionRows) -> float:
    """The mean of the recalls of the classes that have rows."""
    return _figure(rows, "balanced_accuracy")


@METRICS.register("kappa", title="kappa", span=(-1.0, 1.0), needs_order=True, constant=_nothing)
def kappa(rows: PredictionRows) -> float:
    """Cohen's kappa with quadratic weights."""
    return _figure(rows, "kappa")


@METRICS.register("auc_referable", title="AUC", needs_order=True, constant=_half)
def auc_referable(rows: PredictionRows) -> float:
    """The AUC of referable disease, of pairs within a part."""
    return OrderedPairs(rows.targets, rows.logits, rows.part).auc()


def _figure(rows: PredictionRows, name: str) -> float:
    return float(confusion_figures(confusion_counts(rows.targets, rows.logits)[None])[name][0])
