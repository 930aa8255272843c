"""What attacks raise: numbers [B] that grow as a network becomes wrong of images.

DLR needs three classes, and four where it leads to one of them (Croce and Hein 2020, section 4.2
and 4.3). With fewer its denominator would be 0 or missing, and the margin takes its place: the
numerator alone.
"""

import torch
from torch import Tensor

from fundusray.attacks.gradient import Ascend, cross_entropy

TINY = 1e-12


def _of_class(logits: Tensor, target: Tensor) -> Tensor:
    return logits.gather(1, target[:, None])[:, 0]


def margin(logits: Tensor, target: Tensor) -> Tensor:
    """The largest logit of another class less the target's; above 0 the network is wrong."""
    others = logits.scatter(1, target[:, None], -torch.inf)
    return others.amax(dim=1) - _of_class(logits, target)


def difference_of_logits_ratio(logits: Tensor, target: Tensor) -> Tensor:
    """The margin over the distance of the largest logit from the third (Croce and Hein 2020, eq.
    6), which no scale of the logits changes; of two classes the margin."""
    if logits.shape[1] < 3:
        return margin(logits, target)
    largest = logits.sort(dim=1, descending=True).values
    return margin(logits, target) / (largest[:, 0] - largest[:, 2] + TINY)


def lead(logits: Tensor, goal: Tensor) -> Tensor:
    """How far another class is ahead of the target.

    Args:
        goal: [B, 2], the target and the class that is led to.
    """
    return _of_class(logits, goal[:, 1]) - _of_class(logits, goal[:, 0])


def targeted_ratio(logits: Tensor, goal: Tensor) -> Tensor:
    """The lead over the largest logit less the mean of the third and the fourth (Croce and Hein
    2020, eq. 7); below four classes the lead."""
    ahead = lead(logits, goal)
    if logits.shape[1] < 4:
        return ahead
    largest = logits.sort(dim=1, descending=True).values
    return ahead / (largest[:, 0] - (largest[:, 2] + largest[:, 3]) / 2 + TINY)


def towards(ascend: Ascend) -> Ascend:
    """What grows as a class is reached, where `ascend` grows as it is left."""
    return lambda logits, goal: -ascend(logits, goal)


LOSSES: dict[str, Ascend] = {"cross_entropy": cross_entropy, "margin": margin}
"""Those that a keyword may name."""


def rival_classes(logits: Tensor, target: Tensor, most: int) -> Tensor:
    """The other classes [B, T] that are nearest to the target, the most likely first; T is `most`,
    or one less than there are classes."""
    others = logits.scatter(1, target[:, None], -torch.inf)
    order = others.argsort(dim=1, descending=True, stable=True)
    return order[:, : min(most, logits.shape[1] - 1)]
