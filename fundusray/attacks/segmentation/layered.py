"""Layered iterative examples (Avramidis et al., draft, method one, formula (2)): targeted PGD
towards masks of one class everywhere, class after class, each pass from the last one's example.

    X <- clip(X - alpha sign(grad_X J(X, c everywhere))), `steps` times for each class c

The paper says neither which class comes first nor how far all passes may go. Here a pass leads to
the class of the largest predicted area among those that no pass has led to yet (where all have had
theirs, anew among all), until the prediction is of one class or `max_passes` are done, C unless
given. Each pass stays within eps of the example it begins with, so that P passes may add up to
P eps; with `ball=image` all stay within eps of the image.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from fundusray.attacks.budget import MOVES, Budget
from fundusray.attacks.gradient import Predict, pgd
from fundusray.attacks.segmentation.full_area import (
    BALL_OF_CLASS,
    BALL_OF_IMAGE,
    full_area_loss,
    measured_linf,
    pixel_classes,
    require_ball,
)
from fundusray.attacks.segmentation.maps import images_of_pass, require_pixel_logits

NONE = -1
"""In `order`: no pass."""


class LayeredExamples(NamedTuple):
    """What the layers make of a batch, and how it went with each image."""

    image: Tensor
    """[B, 3, S, S] float32 in [0, 1]."""
    order: Tensor
    """int64 [B, P]: the class that each pass led to, NONE behind an image's last one."""
    passes: Tensor
    """int64 [B]: how many there were; none where the prediction was of one class already."""
    single: Tensor
    """bool [B]: whether the prediction is of one class in the end."""
    linf: Tensor
    """The largest change of a pixel, float64 [B]."""


def layered_examples(
    predict: Predict,
    image: Tensor,
    *,
    eps: float,
    steps: int = 100,
    ball: str = BALL_OF_CLASS,
    max_passes: int = 0,
) -> LayeredExamples:
    """Layered examples of images [B, 3, S, S] in [0, 1]; steps are 2.5 eps / steps long.

    Images that are done are not computed again, and what becomes of one does not depend on the
    others.

    Args:
        predict: images [b, 3, S, S] -> logits [b, C, S, S], in evaluation mode.
        ball: a word of BALLS.
        max_passes: 0: as many as there are classes.

    Raises:
        InputError: another word, or a network without logits for each pixel, or without gradients.
    """
    require_ball(ball)
    image = image.float()
    num_classes = _num_classes(predict, image)
    most = max_passes or num_classes
    changed, live = image.clone(), torch.arange(len(image), device=image.device)
    order = torch.full((len(image), most), NONE, device=image.device)
    led = torch.zeros(len(image), num_classes, dtype=torch.bool, device=image.device)
    budget = Budget("linf", eps, MOVES * eps / steps, steps, random_start=False)
    for number in range(most + 1):
        areas = class_areas(predict, changed[live], num_classes)
        several = (areas > 0).sum(dim=1) > 1
        live, areas = live[several], areas[several]
        if not len(live) or number == most:
            break
        goal = next_classes(areas, led[live])
        order[live, number] = goal
        led[live] = _with_goal(led[live], areas, goal)
        for part in torch.arange(len(live), device=image.device).split(images_of_pass(image)):
            some, own = live[part], changed[live[part]]
            centre = image[some] if ball == BALL_OF_IMAGE else own
            changed[some] = pgd(predict, centre, goal[part], budget, own - centre, _towards)
    single = torch.ones(len(image), dtype=torch.bool, device=image.device)
    single[live] = False
    passes = (order != NONE).sum(dim=1)
    reach = eps * (1 if ball == BALL_OF_IMAGE else most)
    return LayeredExamples(changed, order, passes, single, measured_linf(changed, image, reach))


def class_areas(predict: Predict, image: Tensor, num_classes: int) -> Tensor:
    """How many pixels of each image are predicted to be of each class, int64 [B, C].

    Raises:
        InputError: a network without logits for each pixel.
    """
    if not len(image):
        return torch.zeros(0, num_classes, dtype=torch.int64, device=image.device)
    classes = pixel_classes(predict, image).flatten(1)
    areas = torch.zeros(len(image), num_classes, dtype=torch.int64, device=image.device)
    return areas.scatter_add_(1, classes, torch.ones_like(classes))


def next_classes(areas: Tensor, led: Tensor) -> Tensor:
    """The class that the next pass leads to, int64 [B]: of the largest area [B, C] among those that
    no pass has `led` bool [B, C] to, or among all where none is left; the first of equal ones."""
    new = areas * ~led
    anew = (new > 0).any(dim=1, keepdim=True)
    return torch.where(anew, new, areas).argmax(dim=1)


def _with_goal(led: Tensor, areas: Tensor, goal: Tensor) -> Tensor:
    """The classes that passes have led to; where all that are left had theirs, the goal alone."""
    anew = ((areas > 0) & ~led).any(dim=1, keepdim=True)
    return (led & anew).scatter(1, goal[:, None], True)


def _towards(logits: Tensor, goal: Tensor) -> Tensor:
    """What grows as an image becomes one class everywhere."""
    return -full_area_loss(logits, goal)


def _num_classes(predict: Predict, image: Tensor) -> int:
    if not len(image):
        return 1
    with torch.no_grad():
        logits = predict(image[:1])
    require_pixel_logits(logits, image)
    return logits.shape[1]
