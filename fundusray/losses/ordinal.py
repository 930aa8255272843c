"""Losses that know that classes are ordered: a grade missed by two is worse than by one."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fundusray.losses.priors import border_log_odds, mean_class, next_border_log_odds
from fundusray.losses.registry import LOSSES, at_least_float32

KAPPA_FLOOR = 1e-10
"""Added to both sides of the kappa ratio: keeps the logarithm finite at perfect agreement, and
makes the ratio of a batch of one class 1, where kappa is undefined."""


def _borders_of(num_classes: int) -> int:
    return num_classes - 1


def _single(num_classes: int) -> int:
    return 1


@LOSSES.register(
    "coral", output="coral", width=_borders_of, prior=border_log_odds, needs_order=True
)
def coral(logits: Tensor, target: Tensor, *, counts: Tensor) -> Tensor:
    """Sum over the K - 1 borders of the binary cross entropy of "the class is above border k".

    Of raw outputs [B, K-1]. Cao, Mirjalili and Raschka, Rank consistent ordinal regression for
    neural networks (2020), section 3.2, with all importances 1.
    """
    wide, borders = _borders(logits, counts)
    above = (target[:, None] > borders).to(wide.dtype)
    return F.binary_cross_entropy_with_logits(wide, above, reduction="none").sum(dim=1)


@LOSSES.register(
    "corn", output="corn", width=_borders_of, prior=next_border_log_odds, needs_order=True
)
def corn(logits: Tensor, target: Tensor, *, counts: Tensor) -> Tensor:
    """Binary cross entropy of "above border k", learned from rows at or above border k - 1 alone.

    Of raw outputs [B, K-1]; sigmoid of output k is P(y > k | y > k - 1). Shi, Cao and Raschka,
    Deep neural networks for rank-consistent ordinal regression based on conditional probabilities
    (2021), take the mean over all pairs of a row and a border it counts for. Here the sum over a
    row's borders is divided by their mean number over the training images: the batch's mean is the
    paper's where the batch has the training set's shares, and no row depends on the others.
    """
    wide, borders = _borders(logits, counts)
    reached = (target[:, None] >= borders).to(wide.dtype)
    above = (target[:, None] > borders).to(wide.dtype)
    terms = F.binary_cross_entropy_with_logits(wide, above, reduction="none") * reached
    counts = counts.to(wide.device, torch.float64)
    places = torch.arange(1, len(counts) + 1, device=wide.device).clamp_max(len(counts) - 1)
    per_row = ((counts * places).sum() / counts.sum().clamp_min(1)).clamp_min(1)
    return terms.sum(dim=1) / per_row.to(wide.dtype)


@LOSSES.register(
    "squared_error", output="regression", width=_single, prior=mean_class, needs_order=True
)
def squared_error(logits: Tensor, target: Tensor, *, counts: Tensor) -> Tensor:
    """(output - class index)^2 of raw outputs [B, 1]: regression on the grade."""
    assert logits.shape[1:] == (1,), f"squared_error takes [B, 1], got {tuple(logits.shape)}"
    wide = at_least_float32(logits)
    return (wide[:, 0] - target.to(wide.dtype)) ** 2


@LOSSES.register("quadratic_kappa", needs_order=True)
def quadratic_kappa(
    logits: Tensor, target: Tensor, *, counts: Tensor, valid: Tensor | None = None
) -> Tensor:
    """log(1 - kappa) of the batch, the same for every row, so that the mean is the loss.

    De la Torre, Puig and Valls, Weighted kappa loss function for multi-class classification of
    ordinal data in deep learning (2018): 1 - kappa = sum(W O) / sum(W E), W_ij = (i - j)^2, O the
    batch's confusion matrix with predicted probabilities in place of predicted classes, E the
    product of its margins. From about -22 (all right and sure) over 0 (chance) to log 2.

    Kappa is no mean over rows: it is that of the batch given, with several workers each worker's
    own share of it, so that their number is a setting that matters. A batch of one class says 0.
    Rows that are not `valid` weigh nothing.
    """
    keep = torch.ones_like(target, dtype=torch.bool) if valid is None else valid
    # Here what does not count may hold anything, as NaN times 0 would be NaN; its gradient in the
    # network would be NaN all the same.
    p = at_least_float32(logits).masked_fill(~keep[:, None], 0.0).softmax(dim=1)
    num_classes = p.shape[1]
    keep = (keep / keep.sum().clamp_min(1)).to(p.dtype)
    grades = torch.arange(num_classes, device=p.device, dtype=p.dtype) / (num_classes - 1)
    penalty = (grades[:, None] - grades) ** 2  # [K, K], at most 1
    observed = keep @ (penalty[target] * p).sum(dim=1)
    truth = keep @ F.one_hot(target, num_classes).to(p.dtype)
    chance = truth @ penalty @ (keep @ p)
    ratio = (observed + KAPPA_FLOOR) / (chance + KAPPA_FLOOR)
    return ratio.log().expand(len(target))


def _borders(raw: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """(outputs [B, K-1] in float32 or wider, border numbers [K-1])."""
    need = len(counts) - 1
    assert raw.shape[1:] == (need,), f"needs [B, {need}], got {tuple(raw.shape)}"
    return at_least_float32(raw), torch.arange(need, device=raw.device)
