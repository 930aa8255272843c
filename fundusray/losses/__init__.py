"""Losses: one number per sample, never reduced.

Every loss is `(outputs [B, ...], target [B], *, counts [K], **args) -> [B]`; `counts` are the
training set's images per class. Outputs are class logits [B, K]; of the losses in OUTPUTS what the
model's ordinal head puts out. Whoever trains averages over the rows that count, so padding weighs
nothing and two workers add up to one. A loss whose signature has `progress` (share of the run's
steps done), `valid` (False on padding) or `batch_counts` (images per class in the global batch) is
given them; `compute` does so.
"""

from fundusray.losses.checks import check_args, check_output
from fundusray.losses.classes import (
    balanced_softmax,
    class_balanced,
    class_weights,
    cross_entropy,
    focal,
    inverse_frequency,
    ldam,
    ldam_margins,
)
from fundusray.losses.ordinal import coral, corn, quadratic_kappa, squared_error
from fundusray.losses.panel import Panel, panel, sentences
from fundusray.losses.same import same_loss
from fundusray.losses.table import LOSSES, OUTPUTS, compute
from fundusray.losses.weights import (
    WEIGHTS,
    class_balanced_weights,
    deferred_weights,
    effective_weights,
    inverse_frequency_weights,
    power_weights,
    weight_ratio,
)

__all__ = [
    "LOSSES",
    "OUTPUTS",
    "WEIGHTS",
    "Panel",
    "balanced_softmax",
    "check_args",
    "check_output",
    "class_balanced",
    "class_balanced_weights",
    "class_weights",
    "compute",
    "coral",
    "corn",
    "cross_entropy",
    "deferred_weights",
    "effective_weights",
    "focal",
    "inverse_frequency",
    "inverse_frequency_weights",
    "ldam",
    "ldam_margins",
    "panel",
    "power_weights",
    "quadratic_kappa",
    "same_loss",
    "sentences",
    "squared_error",
    "weight_ratio",
]
