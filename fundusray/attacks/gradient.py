"""PGD: start, step along the gradient, project; in L-inf and L2, as training uses it.

Only gradients with respect to images are taken: weights, their gradients and batch statistics stay
as they are, if the network is in evaluation mode (`evaluation_mode`). Losses are summed over
images, so what happens to one does not depend on the others.

Attacked images are float32 whatever the type of the images: in bf16 a pixel of 0.8 and the next one
are a level of 255 apart, so a budget could not be kept. The network sees them in the images' type.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fundusray.attacks.budget import Budget
from fundusray.errors import InputError

Predict = Callable[[Tensor], Tensor]
"""Images [B, 3, S, S] in [0, 1] to class logits [B, K]; may compute under autocast."""
Ascend = Callable[[Tensor, Tensor], Tensor]
"""(logits [B, K] float32, goal [B, ...]) to what is to grow, [B]."""
Success = Callable[[Tensor, Tensor], Tensor]
"""(what the network says [B, ...], target [B, ...]) to whether an attack has reached its end with
each image, bool [B]: a task's `attack_success`."""

SLACK = 1e-6
"""What rounding may add to a distance."""


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """The loss of each image, [B]."""
    return F.cross_entropy(logits, target, reduction="none")


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[nn.Module]:
    """The model in evaluation mode; afterwards every layer is in the mode it was in."""
    training = [layer for layer in model.modules() if layer.training]
    model.eval()
    try:
        yield model
    finally:
        for layer in training:
            layer.training = True


def input_gradient(
    predict: Predict,
    image: Tensor,
    goal: Tensor,
    ascend: Ascend = cross_entropy,
    wanted: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """(gradient of `ascend` by each image [B, 3, S, S], logits [B, K] float32).

    A gradient that is no number counts as 0: a network that has diverged tells so by its loss.
    `wanted` says of the logits which images need one, bool [B]; where none does none is computed,
    and 0 comes back.

    Raises:
        InputError: what the network says has no gradient by its images.
    """
    with torch.enable_grad():
        image = image.detach().requires_grad_(True)
        logits = predict(image).float()
        if wanted is not None and not wanted(logits.detach()).any():
            return torch.zeros_like(image), logits.detach()
        value = ascend(logits, goal).sum()
        gradient = None
        if value.requires_grad:
            (gradient,) = torch.autograd.grad(value, image, allow_unused=True)
        if gradient is None:
            raise InputError(
                "this network gives no gradient by its images (it is detached, or computes outside "
                "torch); take an attack that needs none: square, boundary"
            )
    return gradient.nan_to_num_(nan=0.0), logits.detach()


def steepest_move(gradient: Tensor, budget: Budget) -> Tensor:
    """The move by `budget.step` that raises a linear function most; none where the gradient is 0.

    linf: step sign(g) (Goodfellow et al. 2015, section 4); l2: step g / ||g||.
    """
    if budget.norm == "linf":
        return gradient.sign().mul_(budget.step)
    # A saturated network's gradients are so small that their squares are 0 in float32.
    largest = gradient.abs().amax(dim=(1, 2, 3), keepdim=True)
    scaled = gradient / torch.where(largest > 0, largest, 1.0)
    return scaled * (budget.step / _length(scaled).clamp_min(1.0))


def project_into_budget(attacked: Tensor, image: Tensor, budget: Budget) -> Tensor:
    """The nearest images within eps of `image`, then within [0, 1]."""
    offset = attacked - image
    if budget.norm == "linf":
        offset.clamp_(-budget.eps, budget.eps)
    else:
        offset *= (budget.eps / _length(offset).clamp_min(1e-30)).clamp_max(1.0)
    return offset.add_(image).clamp_(0.0, 1.0)


def _length(image: Tensor) -> Tensor:
    """L2 norm of each image, [B, 1, 1, 1]."""
    return torch.linalg.vector_norm(image, dim=(1, 2, 3), keepdim=True)


def perturbation_distance(attacked: Tensor, image: Tensor, norm: str) -> Tensor:
    """How far each attacked image is from its original, float64 [B]."""
    order = float("inf") if norm == "linf" else 2
    return torch.linalg.vector_norm((attacked - image).double(), order, dim=(1, 2, 3))


def checked_within_budget(attacked: Tensor, image: Tensor, budget: Budget) -> Tensor:
    """The attacked images, after measuring that they are within the budget and in [0, 1]."""
    if not len(image):
        return attacked
    far = perturbation_distance(attacked, image, budget.norm).max().item()
    assert far <= budget.eps + SLACK * max(1.0, budget.eps), f"{far} is beyond {budget}"
    low, high = (bound.item() for bound in attacked.aminmax())
    assert 0 <= low <= high <= 1, f"attacked pixels in [{low}, {high}], not in [0, 1]"
    return attacked


def pgd(
    predict: Predict,
    image: Tensor,
    goal: Tensor,
    budget: Budget,
    offset: Tensor | None = None,
    ascend: Ascend = cross_entropy,
) -> Tensor:
    """Attacked images [B, 3, S, S] in [0, 1] after `budget.steps` steps.

    x <- project(x + move) (Madry et al. 2018, section 2.1); the last iterate comes back, or with
    `budget.best` of each image the one with the largest `ascend`, its start included. `offset` is
    where they start, seen from the images; `goal` is the class [B], or whatever `ascend` takes.
    """
    if not len(image):
        return image
    predict, image = _widened(predict, image)
    attacked = image if offset is None else project_into_budget(image + offset, image, budget)
    best, worth = attacked, image.new_full((len(image),), -torch.inf)
    for _ in range(budget.steps):
        gradient, logits = input_gradient(predict, attacked, goal, ascend)
        if budget.best:
            best, worth = _better(attacked, ascend(logits, goal), best, worth)
        attacked = project_into_budget(attacked + steepest_move(gradient, budget), image, budget)
    if budget.best:
        # With a graph that nobody uses: without one, autocast would keep weights cast without one
        # for whoever learns from these images.
        with torch.enable_grad():
            logits = predict(attacked).float().detach()
        value = ascend(logits, goal)
        attacked, _ = _better(attacked, value, best, worth)
    return checked_within_budget(attacked, image, budget)


def _widened(predict: Predict, image: Tensor) -> tuple[Predict, Tensor]:
    """(the network for wide images, the images in float32, or in float64 if they are)."""
    narrow, wide = image.dtype, torch.promote_types(image.dtype, torch.float32)
    if narrow == wide:
        return predict, image
    return lambda shown: predict(shown.to(narrow)), image.to(wide)


def _better(attacked: Tensor, value: Tensor, best: Tensor, worth: Tensor) -> tuple[Tensor, Tensor]:
    """(images, values): of each image what is worth more; the earlier one where both are equal."""
    more = value > worth
    return torch.where(more[:, None, None, None], attacked, best), torch.where(more, value, worth)
