"""Losses of class logits [B, K]; most of them against class imbalance."""

from collections.abc import Sequence
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fundusray.errors import InputError
from fundusray.keywords import Above, AtLeast, OneOf, Within, is_number
from fundusray.losses.registry import LOSSES, at_least_float32, of_target
from fundusray.losses.weights import (
    class_balanced_weights,
    deferred_weights,
    inverse_frequency_weights,
    power_weights,
    present_weights,
)

Share = Annotated[float, Within(0, 1, "[)")]
NotNegative = Annotated[float, AtLeast(0)]


class ClassWeights:
    """A weight for each class."""

    need = "numbers of at least 0, not all 0"

    def fits(self, value: Any) -> bool:
        numbers = isinstance(value, (tuple, list)) and all(map(is_number, value))
        return numbers and (not value or (min(value) >= 0 and max(value) > 0))


def _gamma_of_focal(args: dict[str, Any]) -> None:
    """Refuses a gamma that class_balanced would not use."""
    base = args.get("base", "softmax")
    if "gamma" in args and base != "focal":
        raise InputError(
            f"loss.args.gamma={args['gamma']} has no effect with loss.args.base={base}; "
            f"give loss.args.base=focal, or leave gamma out"
        )


@LOSSES.register("cross_entropy")
def cross_entropy(
    logits: Tensor, target: Tensor, *, counts: Tensor, smoothing: Share = 0.0
) -> Tensor:
    """-sum_j q_j log p_j with q = (1 - smoothing) [j = target] + smoothing / K.

    Label smoothing: Szegedy et al., Rethinking the Inception architecture (2016), section 7.
    """
    return F.cross_entropy(
        at_least_float32(logits), target, reduction="none", label_smoothing=smoothing
    )


@LOSSES.register("focal")
def focal(logits: Tensor, target: Tensor, *, counts: Tensor, gamma: NotNegative = 2.0) -> Tensor:
    """-(1 - p)^gamma log p with p = p[target]; gamma 0 is cross entropy.

    Lin et al., Focal loss for dense object detection (2017), eq. 4, in its softmax form.
    """
    log_p = -F.cross_entropy(at_least_float32(logits), target, reduction="none")
    # 1 - p without cancellation; the floor keeps the gradient of (1 - p)^gamma finite at p = 1.
    rest = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny)
    return -(rest**gamma) * log_p


@LOSSES.register(
    "class_balanced",
    weights=class_balanced_weights,
    weighs_cross_entropy=True,
    check=_gamma_of_focal,
)
def class_balanced(
    logits: Tensor,
    target: Tensor,
    *,
    counts: Tensor,
    beta: Share = 0.999,
    base: Annotated[str, OneOf("softmax", "focal", "sigmoid")] = "softmax",
    gamma: NotNegative = 2.0,
) -> Tensor:
    """A loss weighted by the inverse effective number of images; beta 0 leaves it as it is.

    w = (1 - beta) / (1 - beta^n), scaled to sum to K. Cui et al., Class-balanced loss based on
    effective number of samples (2019), eq. 4 and 12. While beta^n is near 0 for the rarest class
    all weights are near 1: with hundreds of images per class, beta .9 and .99 do nothing.

    `base` is what is weighed (the paper's 4.1 to 4.3): softmax, cross entropy; sigmoid, the sum
    over the classes of the binary cross entropy of "is it this class"; focal, that sum with every
    term times (1 - p)^gamma, p the probability of that class's right answer. For the last two the
    paper lets the output biases begin at -log(K - 1); here they begin as the network has them.
    """
    wide = at_least_float32(logits)
    if base == "softmax":
        plain = F.cross_entropy(wide, target, reduction="none")
    else:
        plain = _one_versus_rest(wide, target, gamma if base == "focal" else 0.0)
    return plain * of_target(class_balanced_weights(counts, beta), target, plain)


@LOSSES.register("inverse_frequency", weights=inverse_frequency_weights, weighs_cross_entropy=True)
def inverse_frequency(
    logits: Tensor, target: Tensor, *, counts: Tensor, normalise: bool = True
) -> Tensor:
    """Cross entropy weighted by 1 / (n / N), as Wu (2020) has it, for N images in all.

    With `normalise` the weights have mean 1 over the training images, so the learning rate keeps
    its meaning; without, they are N / n to the letter, whose mean is K.
    """
    return _weighted(logits, target, inverse_frequency_weights(counts, normalise))


@LOSSES.register("class_weights", weights=power_weights, weighs_cross_entropy=True)
def class_weights(
    logits: Tensor,
    target: Tensor,
    *,
    counts: Tensor,
    power: NotNegative = 1.0,
    weights: Annotated[Sequence[float], ClassWeights()] = (),
    divide: Annotated[str, OneOf("images", "weights")] = "images",
    batch_counts: Tensor | None = None,
    valid: Tensor | None = None,
) -> Tensor:
    """Cross entropy weighted by (n_max / n)^power, or by the given weights; power 0 leaves it.

    Both are scaled to mean 1 over the training images (sum of n w / N = 1): ratios between
    classes are as given, and the learning rate keeps its meaning. Power 1 is Yu's table 5C.

    With divide=weights a batch's mean is the sum of w times loss over the sum of w, as that of
    torch's CrossEntropyLoss(weight) is: a rare image weighs less in a batch that holds others of
    its kind. The batch is the global one, of which `batch_counts` [K] says how many images of each
    class it holds; without it, the rows at hand.
    """
    scaled = power_weights(counts, power, weights)
    losses = _weighted(logits, target, scaled)
    if divide == "images":
        return losses
    if batch_counts is None:
        rows = target if valid is None else target[valid]
        batch_counts = torch.bincount(rows, minlength=len(counts))
    held = batch_counts.to(scaled)
    total = (held * scaled).sum()
    share = torch.where(total > 0, held.sum() / total.clamp_min(1e-300), 0.0)
    return losses * share.to(losses)


@LOSSES.register("balanced_softmax", weights=present_weights)
def balanced_softmax(logits: Tensor, target: Tensor, *, counts: Tensor) -> Tensor:
    """-log of n_y exp(z_y) / sum_j n_j exp(z_j): cross entropy of the logits plus log n.

    Ren et al., Balanced meta-softmax for long-tailed visual recognition (2020), eq. 3. Predictions
    are made from the logits alone, as if every class were equally frequent. Equal counts are cross
    entropy. A class without images is left out of the sum, and its rows cost nothing.
    """
    wide, counts = at_least_float32(logits), counts.to(logits.device)
    present = counts > 0
    shifted = wide + counts.clamp_min(1).log().to(wide.dtype)
    shifted = shifted.masked_fill(~present, torch.finfo(wide.dtype).min)
    # A row of an empty class has the weight 0; as a target, any other class keeps it finite.
    known = torch.where(present[target], target, counts.argmax())
    return _weighted(shifted, known, torch.ones_like(counts)) * of_target(
        present_weights(counts), target, wide
    )


@LOSSES.register("ldam", weights=deferred_weights)
def ldam(
    logits: Tensor,
    target: Tensor,
    *,
    counts: Tensor,
    max_margin: NotNegative = 0.5,
    scale: Annotated[float, Above(0)] = 30.0,
    beta: Share = 0.9999,
    defer: Annotated[float, Within(0, 1)] = 0.8,
    progress: float = 0.0,
) -> Tensor:
    """Cross entropy of scale (z - m_y [j = y]): the target must lead by a margin m_y = C / n^(1/4).

    Cao et al., Learning imbalanced datasets with label-distribution-aware margin loss (2019),
    section 3.2. C gives the rarest class `max_margin`. From the share `defer` of the run on the
    classes are also weighted as by `class_balanced` (deferred re-weighting, algorithm 1), scaled to
    mean 1 over the training images; 1 is never. The paper's logits are cosines, in [-1, 1]; where
    they have no bound, `scale` also makes the network surer of itself. max_margin 0 with scale 1 is
    cross entropy.
    """
    wide = at_least_float32(logits)
    margins = of_target(ldam_margins(counts, max_margin), target, wide)
    shifted = wide - F.one_hot(target, wide.shape[1]) * margins[:, None]
    return _weighted(scale * shifted, target, deferred_weights(counts, beta, defer, progress))


def ldam_margins(counts: Tensor, max_margin: float = 0.5) -> Tensor:
    """[K] float64 margins C / n^(1/4), the largest `max_margin`; 0 for a class without images."""
    counts = counts.double()
    roots = torch.where(counts > 0, counts.clamp_min(1) ** -0.25, 0.0)
    return roots * (max_margin / roots.max().clamp_min(1e-300))


def _one_versus_rest(wide: Tensor, target: Tensor, gamma: float) -> Tensor:
    """[B] sums over the classes of -(1 - p)^gamma log p, p = sigmoid(z), of the others sigmoid(-z).

    All in logarithms: the usual exp(-z) is infinite from z = -89 on in float32.
    """
    signed = torch.where(F.one_hot(target, wide.shape[1]).bool(), wide, -wide)
    terms = -F.logsigmoid(signed)
    if gamma:
        terms = torch.exp(gamma * F.logsigmoid(-signed)) * terms
    return terms.sum(dim=1)


def _weighted(logits: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    loss = F.cross_entropy(at_least_float32(logits), target, reduction="none")
    return loss * of_target(weights, target, loss)
