"""Losses: one number per sample, never reduced.

Every loss is `(outputs [B, ...], target [B], *, counts [K], **args) -> [B]`; `counts` are the
training set's images per class. Outputs are class logits [B, K]; of a loss that needs another head
(its fact `output`) what that head puts out. Whoever trains averages over the rows that count, so
padding weighs nothing and two workers add up to one. A loss whose signature has `progress` (share
of the run's steps done), `valid` (False on padding) or `batch_counts` (images per class in the
global batch) is given them; `compute_loss` does so.

A new loss is a file here, or a plugin's: `@LOSSES.register("name", **facts)` tells what else is to
be known of it (`table.LossFacts`), and its signature what its keywords may be.
"""

from fundusray.losses.arguments import check_args, check_output
from fundusray.losses.class_effects import ClassEffects, class_effect_sentences, effects_on_classes
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
from fundusray.losses.equivalence import same_loss
from fundusray.losses.ordinal import coral, corn, quadratic_kappa, squared_error
from fundusray.losses.registry import LOSSES, LossFacts, compute_loss, num_outputs
from fundusray.losses.weights import (
    class_balanced_weights,
    deferred_weights,
    effective_weights,
    inverse_frequency_weights,
    power_weights,
    weight_ratio,
)
from fundusray.registry import import_folder

__all__ = [
    "LOSSES",
    "ClassEffects",
    "LossFacts",
    "balanced_softmax",
    "check_args",
    "check_output",
    "class_balanced",
    "class_balanced_weights",
    "class_effect_sentences",
    "class_weights",
    "compute_loss",
    "coral",
    "corn",
    "cross_entropy",
    "deferred_weights",
    "effective_weights",
    "effects_on_classes",
    "focal",
    "inverse_frequency",
    "inverse_frequency_weights",
    "ldam",
    "ldam_margins",
    "num_outputs",
    "power_weights",
    "quadratic_kappa",
    "same_loss",
    "squared_error",
    "weight_ratio",
]

import_folder(__name__, __path__)
