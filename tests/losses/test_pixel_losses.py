"""Losses over pixels against hand-written sums, and what their text is read as."""

import math

import pytest
import torch

from fundusray.errors import InputError
from fundusray.losses.pixel_losses import parsed_pixel_losses, pixel_loss


@pytest.fixture
def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [2, 3, 4, 5] and classes, of which the second image lacks one."""
    generator = torch.Generator().manual_seed(3)
    target = torch.randint(0, 3, (2, 4, 5), generator=generator)
    target[1] = target[1].clamp(max=1)
    return torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64), target


def _pixels(logits: torch.Tensor, target: torch.Tensor) -> list[tuple[int, float]]:
    """(class, probability of it) of each pixel of one image."""
    share = logits.softmax(0)
    return [
        (k := int(target[i, j]), float(share[k, i, j]))
        for i in range(target.shape[0])
        for j in range(target.shape[1])
    ]


def test_cross_entropy_and_focal_are_means_over_pixels(
    pictures: tuple[torch.Tensor, torch.Tensor],
) -> None:
    logits, target = pictures
    plain = pixel_loss("cross_entropy", logits, target)
    sharp = pixel_loss("focal(gamma=1.5)", logits, target)
    for image in range(2):
        own = _pixels(logits[image], target[image])
        mean = sum(-math.log(p) for _, p in own) / len(own)
        assert plain[image].item() == pytest.approx(mean)
        mean = sum(-((1 - p) ** 1.5) * math.log(p) for _, p in own) / len(own)
        assert sharp[image].item() == pytest.approx(mean)
    torch.testing.assert_close(pixel_loss("focal(gamma=0)", logits, target), plain)


def test_balanced_weights_count_each_class_that_is_there_alike(
    pictures: tuple[torch.Tensor, torch.Tensor],
) -> None:
    logits, target = pictures
    found = pixel_loss("cross_entropy(weights=balanced)", logits, target)
    for image in range(2):
        own = _pixels(logits[image], target[image])
        present = sorted({k for k, _ in own})
        means = []
        for k in present:
            values = [-math.log(p) for c, p in own if c == k]
            means.append(sum(values) / len(values))
        assert found[image].item() == pytest.approx(sum(means) / len(present))


def test_dice_by_hand() -> None:
    """Two pixels, a probability of 3/4 for the class each has: (2 * .75 + 1) / (1 + 1 + 1)."""
    logits = torch.log(torch.tensor([[0.75, 0.25], [0.25, 0.75]])).view(1, 2, 1, 2)
    target = torch.tensor([[[0, 1]]])
    assert pixel_loss("dice", logits, target).item() == pytest.approx(1 - 2.5 / 3)
    assert pixel_loss("dice(smooth=0)", logits, target).item() == pytest.approx(1 - 1.5 / 2)
    absent = torch.tensor([[[0, 0]]])
    sure = torch.tensor([40.0, -40.0]).view(1, 2, 1, 1).expand(1, 2, 1, 2)
    assert pixel_loss("dice", sure, absent).item() == pytest.approx(0, abs=1e-6)


def test_a_text_adds_losses_up(pictures: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, target = pictures
    both = pixel_loss("cross_entropy(weights=balanced) + 0.5 dice", logits, target)
    parts = [pixel_loss(t, logits, target) for t in ("cross_entropy(weights=balanced)", "dice")]
    torch.testing.assert_close(both, parts[0] + 0.5 * parts[1])


def test_an_image_counts_alone(pictures: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, target = pictures
    for text in ("cross_entropy(weights=balanced)", "focal", "dice"):
        whole = pixel_loss(text, logits, target)
        torch.testing.assert_close(whole[1:], pixel_loss(text, logits[1:], target[1:]))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("crossentropy", "cross_entropy"),
        ("dice +", "is no loss"),
        ("focal(gama=2)", "gamma"),
        ("focal(gamma=-1)", "gamma"),
        ("focal(gamma=1, gamma=2)", "is no keyword"),
        ("cross_entropy(weights=some)", "balanced"),
        ("1.2.3 dice", "factor"),
    ],
)
def test_what_is_no_loss_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parsed_pixel_losses(text)


@pytest.mark.parametrize("gamma", [0, 0.5, 1, 2])
def test_focal_has_a_slope_where_the_network_is_sure(gamma: float) -> None:
    """Pixels that are right beyond float32's doubt: no loss, and nothing to learn of them."""
    logits = torch.tensor([200.0, 0.0]).view(1, 2, 1, 1).repeat(1, 1, 2, 2).requires_grad_()
    value = pixel_loss(f"focal(gamma={gamma})", logits, torch.zeros(1, 2, 2, dtype=torch.int64))
    value.sum().backward()
    assert value.item() == 0 and logits.grad is not None and not logits.grad.any()
