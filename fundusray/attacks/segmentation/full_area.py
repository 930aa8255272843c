"""What layered and selective examples have in common: masks of one class everywhere, what their eps
bounds, and that it was kept (Avramidis et al., draft)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fundusray.attacks.gradient import SLACK, Predict, perturbation_distance
from fundusray.attacks.segmentation.maps import images_of_pass, require_pixel_logits
from fundusray.registry import unknown_name

BALL_OF_CLASS, BALL_OF_IMAGE = "class", "image"
BALLS = (BALL_OF_CLASS, BALL_OF_IMAGE)
"""What eps is the radius of: of what is done for one class, as in the paper, so that C classes may
add up to C eps; or of all that is done to an image."""


def require_ball(ball: str) -> None:
    """Refuses what bounds nothing.

    Raises:
        InputError: another word than those of BALLS.
    """
    if ball not in BALLS:
        raise unknown_name("ball", ball, BALLS)


def full_area_loss(logits: Tensor, goal: Tensor) -> Tensor:
    """J of each image against the mask that is one class everywhere: mean cross entropy [B] of
    logits [B, C, S, S] for classes `goal` int64 [B]."""
    logs = F.log_softmax(logits.float(), dim=1)
    return -logs[torch.arange(len(goal), device=goal.device), goal].flatten(1).mean(dim=1)


def pixel_classes(predict: Predict, image: Tensor) -> Tensor:
    """The class of each pixel that the network predicts, int64 [B, S, S], and how many there are.

    Raises:
        InputError: a network without logits for each pixel.
    """
    with torch.no_grad():
        parts = [predict(part) for part in image.split(images_of_pass(image))]
    for logits in parts:
        require_pixel_logits(logits, image)
    return torch.cat([logits.argmax(dim=1) for logits in parts])


def measured_linf(changed: Tensor, image: Tensor, most: float) -> Tensor:
    """How far each image was changed, float64 [B], after checking that no pixel is farther than
    `most` or outside [0, 1]."""
    far = perturbation_distance(changed, image, "linf")
    if len(image):
        assert far.max().item() <= most + SLACK, f"{far.max().item()} is beyond linf {most}"
        low, high = (bound.item() for bound in changed.aminmax())
        assert 0 <= low <= high <= 1, f"pixels in [{low}, {high}], not in [0, 1]"
    return far
