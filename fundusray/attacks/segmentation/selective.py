"""Selective enhancement (Avramidis et al., draft, method two): for each class a signed step, added,
subtracted or left, so that together they help the network most.

    eta_c = eps sign(grad_x J(x, c everywhere))                                    formula (1)
    x_imp = the x + sum_c s_c eta_c, s_c in {+1, 0, -1}, of the lowest J           formulas (3)-(5)

J is the mean cross entropy over pixels; what is lowest is judged against the true mask. Images are
clipped to [0, 1]. Of equal losses the one that uses the fewest classes is kept, of those the one
that adds, then leaves, then subtracts, class by class, in the order of formula (5). A step that is
added leads away from its class, one that is subtracted towards it. With C classes a pixel may
change by C eps, which the paper does not say: `ball=image` keeps every combination within eps.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fundusray.attacks.gradient import Predict, input_gradient
from fundusray.attacks.segmentation.full_area import (
    BALL_OF_CLASS,
    full_area_loss,
    measured_linf,
    require_ball,
)
from fundusray.attacks.segmentation.maps import images_of_pass, require_pixel_logits
from fundusray.attacks.segmentation.sign_search import SEARCHES, Candidates, best_of
from fundusray.errors import InputError
from fundusray.registry import unknown_name

MOST_CLASSES = 8
"""For which combinations are gone through: 6,561."""
SIGNS = "-0+"
"""How the signs of a choice are written."""


class EnhancedImages(NamedTuple):
    """What selective enhancement makes of a batch, and what was chosen for each image."""

    image: Tensor
    """[B, 3, S, S] float32 in [0, 1]."""
    choice: Tensor
    """int8 [B, C]: 1 where the step of a class was added, -1 subtracted, 0 left."""
    loss_before: Tensor
    """Mean cross entropy of each image as it was against its true mask, float32 [B]."""
    loss: Tensor
    """The same of the enhanced image, float32 [B]; never more."""
    linf: Tensor
    """The largest change of a pixel, float64 [B]."""
    evaluations: Tensor
    """int64 [B]: combinations that were tried, a forward pass each; the C gradients apart."""


def selective_enhancement(
    predict: Predict,
    image: Tensor,
    target: Tensor,
    *,
    eps: float,
    search: str = "exact",
    ball: str = BALL_OF_CLASS,
) -> EnhancedImages:
    """Enhanced images of images [B, 3, S, S] in [0, 1] whose pixels have the classes `target` int64
    [B, S, S].

    Each image has passes of its own, so that not a bit of it depends on the batch.

    Args:
        predict: images [b, 3, S, S] -> logits [b, C, S, S], in evaluation mode.
        search: exact tries all 3^C combinations, greedy 8 C of them (`sign_search.few_losses`).
        ball: a word of BALLS.

    Raises:
        InputError: another word, more classes than are searched, or a network without logits for
            each pixel, or without gradients.
    """
    require_ball(ball)
    if search not in SEARCHES:
        raise unknown_name("search of selective enhancement", search, SEARCHES)
    image = image.float()
    steps = class_steps(predict, image)
    num_classes = steps.shape[1]
    most = num_classes if ball == BALL_OF_CLASS else 1
    enhanced = torch.empty_like(image)
    choice = image.new_zeros((len(image), num_classes), dtype=torch.int8)
    before, loss = image.new_zeros(len(image)), image.new_zeros(len(image))
    evaluations = torch.zeros(len(image), dtype=torch.int64, device=image.device)
    for i, (own, classes, moves) in enumerate(zip(image, target, steps, strict=True)):
        candidates = Candidates(predict, own, classes, moves, eps, most)
        losses = SEARCHES[search](candidates)
        best = best_of(losses)
        choice[i] = torch.tensor(best)
        enhanced[i] = candidates.images(choice[i : i + 1])[0]
        before[i], loss[i] = losses[(0,) * num_classes], losses[best]
        evaluations[i] = len(losses)
    linf = measured_linf(enhanced, image, eps * most)
    return EnhancedImages(enhanced, choice, before, loss, linf, evaluations)


def class_steps(predict: Predict, image: Tensor) -> Tensor:
    """sign(grad_x J(x, c everywhere)) of each class, int8 [B, C, 3, S, S]: eta_c of formula (1) by
    eps. Each image has passes of its own, in which it stands once for each class.

    Raises:
        InputError: a network without logits for each pixel, or without gradients, or of more
            classes than are searched.
    """
    if not len(image):
        return image.new_zeros((0, 1, *image.shape[1:]), dtype=torch.int8)
    with torch.no_grad():
        logits = predict(image[:1])
    require_pixel_logits(logits, image)
    num_classes = logits.shape[1]
    if num_classes > MOST_CLASSES:
        raise InputError(
            f"selective enhancement goes through 3^C combinations, of {num_classes} classes "
            f"{3**num_classes:,} for each image; it takes up to {MOST_CLASSES} classes"
        )
    classes = torch.arange(num_classes, device=image.device)
    parts = classes.split(images_of_pass(image))
    steps = [
        input_gradient(predict, one.expand(len(part), -1, -1, -1), part, full_area_loss)[0]
        for one in image.unsqueeze(1)
        for part in parts
    ]
    signs = torch.cat([step.sign().to(torch.int8) for step in steps])
    return signs.view(len(image), num_classes, *image.shape[1:])


def mean_losses(predict: Predict, image: Tensor, target: Tensor) -> Tensor:
    """J of each image [B, 3, S, S] against its true mask int64 [B, S, S], [B]."""
    length = images_of_pass(image)
    with torch.no_grad():
        parts = [
            F.cross_entropy(predict(some).float(), classes, reduction="none").flatten(1).mean(dim=1)
            for some, classes in zip(image.split(length), target.split(length), strict=True)
        ]
    return torch.cat(parts) if parts else image.new_zeros(0)


def choice_text(choice: Tensor | np.ndarray) -> str:
    """What was done for each class, in their order: "+0-00+"."""
    return "".join(SIGNS[int(sign) + 1] for sign in choice)
