"""Losses of pixels are what their formulas say, on two by two pixels by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from torch import Tensor

from fundusray.attacks.segmentation.losses import (
    aligned_cross_entropy,
    balanced_masked_cross_entropy,
    cross_entropy_of_pixels,
    jensen_shannon,
    masked_cross_entropy,
    masked_spherical,
    spherical,
    split_cross_entropy,
    towards_classes,
)
from fundusray.errors import InputError

# Pixels: right, wrong; wrong, right.
LOGITS = torch.tensor([[[[2.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 3.0]]]])
TARGET = torch.tensor([[[0, 0], [1, 1]]])
RIGHT = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])


def entropies() -> Tensor:
    """-log p of each pixel's class, of two classes log(1 + exp(other - own))."""
    apart = [[-2.0, 1.0], [1.0, -3.0]]
    return torch.tensor([[[math.log1p(math.exp(x)) for x in row] for row in apart]])


def test_the_cross_entropy_of_two_by_two_pixels() -> None:
    torch.testing.assert_close(cross_entropy_of_pixels(LOGITS, TARGET), entropies())
    torch.testing.assert_close(towards_classes(LOGITS, TARGET), -entropies())
    with pytest.raises(InputError, match="to=2: the network knows the classes 0 to 1 of pixels"):
        towards_classes(LOGITS, torch.full_like(TARGET, 2))


def test_the_split_loss_weighs_right_and_wrong_pixels() -> None:
    for wrong in (0.0, 0.25, 0.5):
        expected = entropies() * ((1 - wrong) * RIGHT + wrong * (1 - RIGHT))
        torch.testing.assert_close(split_cross_entropy(wrong)(LOGITS, TARGET), expected)
    # At 0 it is the masked loss, at 1/2 half of the plain one.
    none = split_cross_entropy(0.0)(LOGITS, TARGET)
    torch.testing.assert_close(none, masked_cross_entropy(LOGITS, TARGET))
    half = split_cross_entropy(0.5)(LOGITS, TARGET)
    torch.testing.assert_close(half, cross_entropy_of_pixels(LOGITS, TARGET) / 2)


def test_the_aligned_loss_weighs_by_the_cosine() -> None:
    for squash in (lambda z: torch.softmax(z, 1), torch.sigmoid):
        expected = torch.zeros(1, 2, 2)
        for y in range(2):
            for x in range(2):
                vector = squash(LOGITS[:, :, y : y + 1, x : x + 1])[0, :, 0, 0].tolist()
                cosine = vector[TARGET[0, y, x]] / math.hypot(*vector)
                expected[0, y, x] = cosine * entropies()[0, y, x]
        torch.testing.assert_close(aligned_cross_entropy(squash)(LOGITS, TARGET), expected)


@pytest.mark.parametrize(
    "loss", [split_cross_entropy(0.3), aligned_cross_entropy(lambda z: z.softmax(dim=1))]
)
def test_no_gradient_goes_through_weights(loss) -> None:
    logits = LOGITS.clone().requires_grad_()
    weighed = loss(logits, TARGET)
    (gradient,) = torch.autograd.grad(weighed.sum(), logits)
    weight = weighed.detach() / entropies()
    (plain,) = torch.autograd.grad((weight * cross_entropy_of_pixels(logits, TARGET)).sum(), logits)
    torch.testing.assert_close(gradient, plain)


def test_the_divergence_is_that_of_scipy() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(2, 5, 3, 3, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 5, (2, 3, 3), generator=generator)
    mine = jensen_shannon(logits, target)
    for k, y, x in np.ndindex(2, 3, 3):
        one = np.eye(5)[target[k, y, x]]
        theirs = jensenshannon(logits[k, :, y, x].softmax(0).numpy(), one) ** 2
        assert mine[k, y, x].item() == pytest.approx(theirs, rel=1e-9)


def test_the_divergence_stays_finite_where_pixels_are_beyond_doubt() -> None:
    logits = torch.tensor([[[[200.0, -200.0]], [[-200.0, 200.0]]]], requires_grad=True)
    value = jensen_shannon(logits, torch.zeros(1, 1, 2, dtype=torch.int64))
    torch.testing.assert_close(value[0, 0], torch.tensor([0.0, math.log(2)]))
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert gradient.isfinite().all()


def test_masked_losses_see_right_pixels_alone() -> None:
    torch.testing.assert_close(masked_cross_entropy(LOGITS, TARGET), RIGHT * entropies())
    on_sphere = torch.tensor([[[-1.0, 0.0], [0.0, -1.0]]])
    torch.testing.assert_close(masked_spherical(LOGITS, TARGET), on_sphere)
    both = torch.tensor([[[[3.0]], [[4.0]]]])
    assert spherical(both, torch.tensor([[[0]]])).item() == pytest.approx(-0.6)
    assert spherical(both, torch.tensor([[[1]]])).item() == pytest.approx(-0.8)
    assert spherical(0 * both, torch.tensor([[[1]]])).item() == 0


def test_the_balanced_loss_gives_each_class_of_an_image_the_same_weight() -> None:
    logits = torch.zeros(2, 3, 2, 2)
    target = torch.tensor([[[0, 0], [0, 1]], [[2, 2], [2, 2]]])
    # All say class 0: right on three of four pixels of the first image.
    logits[:, 0] = 1
    right = math.log(math.e + 2) - 1
    expected = torch.zeros(2, 2, 2)
    expected[0] = torch.tensor([[4 / (2 * 3), 4 / (2 * 3)], [4 / (2 * 3), 0]]) * right
    torch.testing.assert_close(balanced_masked_cross_entropy(logits, target), expected)
    # Where all are right the weights have mean 1.
    certain = torch.nn.functional.one_hot(target, 3).movedim(3, 1).float()
    value = balanced_masked_cross_entropy(certain, target).flatten(1).mean(dim=1)
    torch.testing.assert_close(value, torch.full((2,), right))
