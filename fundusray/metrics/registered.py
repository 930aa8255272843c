"""The metrics by name, with what a table, a report and the choice of an epoch ask of them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from fundusray.metrics.predictions import PredictionRows, is_ordered
from fundusray.registry import Registry

UNDER_ATTACK = "robust_"
"""Before the name of a metric that is measured under attack."""
UNDER_CORRUPTION = "corrupted_"
"""Before the name of a metric that is measured on damaged photographs."""


@dataclass(frozen=True, kw_only=True)
class MetricFacts:
    """What is to be known of a metric."""

    title: str
    """What a table calls it."""
    meaning: str = ""
    """A sentence for a page's list of terms."""
    higher: bool = True
    """Whether more is better."""
    span: tuple[float, float] | None = (0.0, 1.0)
    """The least and the largest value it can have; None: any."""
    smooth: bool = True
    """Whether a little change of the rows changes it a little: False of quantiles and maxima, whose
    interval is then drawn (`by_patient`)."""
    needs_order: bool = False
    """Whether it means nothing of three and more classes without a known order."""
    constant: Callable[[np.ndarray], float] | None = None
    """Targets [N] -> what always answering one class reaches at most; a metric that says so can
    choose the epoch (train.select), among those that are above it. Only where more is better."""
    under_attack: bool = False
    """Whether it can choose the epoch under attack, too, as robust_<name>."""

    def __post_init__(self) -> None:
        assert self.higher or self.constant is None, "what chooses an epoch is better if larger"


OF_MASKS = ("dice",)
"""What can choose the epoch where masks are learned (`metrics.segmentation`)."""
METRICS: Registry[Callable[[PredictionRows], float]] = Registry("metric", MetricFacts)
"""name -> (rows) -> value, NaN where these rows do not define it. The rows are targets, logits,
patient and part (`table.Rows`)."""


def selectors() -> tuple[str, ...]:
    """What can choose the best epoch: metrics, also under attack or on damaged photographs."""
    plain = [name for name in METRICS if METRICS.facts(name).constant]
    robust = [UNDER_ATTACK + name for name in plain if METRICS.facts(name).under_attack]
    corrupted = [UNDER_CORRUPTION + name for name in plain]
    return (*plain, *robust, *corrupted, *OF_MASKS)


def metric_of(selector: str) -> str:
    """The metric that a selector names, whatever it is measured under."""
    return selector.removeprefix(UNDER_ATTACK).removeprefix(UNDER_CORRUPTION)


def constant_answer(selector: str, targets: np.ndarray) -> float:
    """What always answering one class reaches at most, of targets [N], in what `selectors` names.

    Raises:
        InputError: no such metric.
    """
    constant = METRICS.facts(metric_of(selector)).constant
    assert constant, f"{selector} chooses no epoch"
    return constant(targets)


def needing_order() -> tuple[str, ...]:
    """Metrics that need an order of more than two classes."""
    return tuple(name for name in METRICS if METRICS.facts(name).needs_order)


def withheld_figures(predictions: pa.Table) -> tuple[str, ...]:
    """The figures that mean nothing here, as the order of the classes is not known: sensitivity and
    specificity, of more than two classes also kappa, AUC and what else needs an order; of two these
    do not depend on it."""
    if is_ordered(predictions):
        return ()
    several = "logit_2" in predictions.column_names
    return ("sensitivity", "specificity", *(needing_order() if several else ()))


def span_of(figure: str) -> tuple[float, float]:
    """The least and the largest value of a figure of a summary, which need not be a metric."""
    if figure in METRICS:
        return METRICS.facts(figure).span or (-np.inf, np.inf)
    return (-1.0, 1.0) if figure.endswith("kappa") else (0.0, 1.0)


def higher_is_better(figure: str) -> bool:
    """Whether more of a figure of a summary is better, which need not be a metric."""
    return METRICS.facts(figure).higher if figure in METRICS else True
