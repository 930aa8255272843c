"""What attacks on segmentations raise: a number for each pixel, [B, S, S], of logits [B, C, S, S]
and classes int64 [B, S, S].

Weights and masks are constants: no gradient goes through them.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from fundusray.attacks.segmentation.registry import PixelLoss
from fundusray.errors import InputError

TINY = 1e-12


def cross_entropy_of_pixels(logits: Tensor, target: Tensor) -> Tensor:
    """-log p of each pixel's class."""
    return F.cross_entropy(logits, target, reduction="none")


def towards_classes(logits: Tensor, goal: Tensor) -> Tensor:
    """The cross entropy to the classes that are led to, times -1.

    Raises:
        InputError: the network does not know one of them.
    """
    highest = int(goal.max())
    if highest >= logits.shape[1]:
        raise InputError(
            f"to={highest}: the network knows the classes 0 to {logits.shape[1] - 1} of pixels"
        )
    return -cross_entropy_of_pixels(logits, goal)


def right_pixels(logits: Tensor, target: Tensor) -> Tensor:
    """Which pixels have their class as the answer, bool [B, S, S]."""
    return logits.argmax(dim=1) == target


def split_cross_entropy(wrong: float) -> PixelLoss:
    """The cross entropy, times 1 - `wrong` where a pixel is right and times `wrong` where it is
    not (Gu et al. 2022, eq. 4)."""

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        weight = torch.where(right_pixels(logits, target), 1 - wrong, wrong)
        return weight * cross_entropy_of_pixels(logits, target)

    return loss


def aligned_cross_entropy(squash: Callable[[Tensor], Tensor]) -> PixelLoss:
    """The cross entropy, times the cosine between `squash` of the logits and the class as a vector
    of one 1 (Agnihotri et al. 2024, algorithm 1)."""

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        vector = squash(logits.detach())
        of_class = vector.gather(1, target[:, None])[:, 0]
        cosine = of_class / vector.norm(dim=1).clamp_min(TINY)
        return cosine * cross_entropy_of_pixels(logits, target)

    return loss


def jensen_shannon(logits: Tensor, target: Tensor) -> Tensor:
    """The Jensen-Shannon divergence of the probabilities p and the class y as a vector of one 1,
    in [0, log 2] (Croce et al. 2024, section 2): log 2 + (p_y log p_y - (1 + p_y) log(1 + p_y))
    / 2, whose gradient fades where a pixel is wrong beyond doubt."""
    log = logits.log_softmax(dim=1).gather(1, target[:, None])[:, 0]
    share = log.exp()
    return math.log(2) + (share * log - (1 + share) * share.log1p()) / 2


def masked_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """The cross entropy of pixels that are still right, else 0 (Croce et al. 2024, section 2)."""
    return right_pixels(logits, target) * cross_entropy_of_pixels(logits, target)


def balanced_masked_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """The masked cross entropy, each class of an image with the same weight in it however few
    pixels it has: it lowers the mean IoU (Croce et al. 2024, with weights of classes).

    Theirs are weights of a whole data set; these are of the image alone, so that nothing but it
    decides what becomes of it.
    """
    counts = F.one_hot(target, logits.shape[1]).flatten(1, 2).sum(dim=1)
    present = (counts > 0).sum(dim=1, keepdim=True)
    weights = target[0].numel() / (present * counts.clamp_min(1))
    weight = weights.gather(1, target.flatten(1)).view(target.shape)
    return weight * masked_cross_entropy(logits, target)


def spherical(logits: Tensor, target: Tensor) -> Tensor:
    """-z_y / ||z||: the logit of the class y after logits are scaled to length 1."""
    of_class = logits.gather(1, target[:, None])[:, 0]
    return -of_class / logits.norm(dim=1).clamp_min(TINY)


def masked_spherical(logits: Tensor, target: Tensor) -> Tensor:
    """`spherical` of pixels that are still right, else 0 (Croce et al. 2023, section 2)."""
    return right_pixels(logits, target) * spherical(logits, target)
