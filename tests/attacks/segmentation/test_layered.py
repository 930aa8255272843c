"""Layered iterative examples: formula (2) by hand, the order of the classes, budgets."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fundusray.attacks.segmentation.layered import class_areas, layered_examples, next_classes
from fundusray.errors import InputError
from tests.attacks.segmentation.per_pixel import (
    PerPixel,
    convolutions,
    drawn_per_pixel,
    full_area_gradient,
    pictures,
)

EPS = 1 / 100


def by_hand(net: PerPixel, image: np.ndarray, goals: list[int], steps: int, ball: str):
    """Formula (2), pass by pass and step by step."""
    x = image
    for goal in goals:
        centre = image if ball == "image" else x
        for _ in range(steps):
            x = x - 2.5 * EPS / steps * np.sign(full_area_gradient(net, x, goal))
            x = np.clip(np.clip(x, centre - EPS, centre + EPS), 0, 1)
    return x


@pytest.mark.parametrize("ball", ["class", "image"])
def test_formula_2_by_hand(ball: str) -> None:
    net, image = drawn_per_pixel(3, seed=5), pictures(1, 2, seed=3)
    areas = class_areas(net, image, 3)
    assert (areas > 0).sum() > 1
    found = layered_examples(net, image, eps=EPS, steps=4, ball=ball, max_passes=3)
    goals = found.order[0][: int(found.passes[0])].tolist()
    assert len(goals) > 1 and goals[0] == areas[0].argmax()
    expected = by_hand(net, image[0].double().numpy(), goals, 4, ball)
    assert np.abs(found.image[0].numpy() - expected).max() < 1e-6
    most = EPS * (1 if ball == "image" else len(goals))
    assert found.linf[0].item() == pytest.approx(
        np.abs(expected - image[0].numpy()).max(), abs=1e-6
    )
    assert found.linf[0] <= most + 1e-6


def steered(strength: float) -> PerPixel:
    """Three classes, each the brighter its own colour is."""
    return PerPixel(strength * np.eye(3), np.zeros(3))


def colours(*pixels: int, step: float = 0.004) -> Tensor:
    """A grey 2 x 2 image whose pixels are a little of colour 0, 1 or 2."""
    image = torch.full((1, 3, 4), 0.5)
    for place, colour in enumerate(pixels):
        image[0, colour, place] += step
    return image.view(1, 3, 2, 2)


def test_passes_end_when_one_class_is_left() -> None:
    """The largest class comes first; here it wins all pixels at once."""
    found = layered_examples(steered(20), colours(0, 2, 2, 1), eps=EPS, steps=10)
    assert found.order.tolist() == [[2, -1, -1]] and found.passes.tolist() == [1]
    assert found.single.tolist() == [True]
    assert steered(20)(found.image).argmax(1).unique().tolist() == [2]
    assert found.linf.item() == pytest.approx(EPS, abs=1e-6)


def test_an_image_of_one_class_is_left_as_it_is() -> None:
    image = colours(1, 1, 1, 1)
    found = layered_examples(steered(20), image, eps=EPS, steps=10)
    assert torch.equal(found.image, image) and found.single.all() and not found.passes.any()
    assert found.linf.item() == 0 and (found.order == -1).all()


def test_passes_end_at_the_most_that_are_allowed() -> None:
    """Colours too far apart for eps: every class gets its pass, the smallest last."""
    image = colours(0, 2, 2, 1, step=0.2)
    found = layered_examples(steered(20), image, eps=EPS, steps=10)
    assert found.order.tolist() == [[2, 0, 1]] and not found.single.any()
    longer = layered_examples(steered(20), image, eps=EPS, steps=10, max_passes=5)
    assert longer.order.tolist() == [[2, 0, 1, 2, 0]]
    assert longer.linf.item() <= 5 * EPS + 1e-6
    within = layered_examples(steered(20), image, eps=EPS, steps=10, max_passes=5, ball="image")
    assert within.linf.item() == pytest.approx(EPS, abs=1e-6)


def test_the_next_class_is_the_largest_that_had_no_pass() -> None:
    areas = torch.tensor([[5, 9, 2], [5, 9, 2], [5, 9, 0], [7, 7, 2]])
    led = torch.tensor([[0, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1]]).bool()
    assert next_classes(areas, led).tolist() == [1, 0, 1, 0]


def test_areas_are_those_of_the_prediction() -> None:
    net, image = convolutions(5), pictures(3, 9)
    predicted = net(image).argmax(dim=1)
    counted = [[int((one == c).sum()) for c in range(5)] for one in predicted]
    assert class_areas(net, image, 5).tolist() == counted


def test_an_image_does_not_depend_on_its_batch_and_is_not_computed_when_done() -> None:
    net = convolutions(4)
    image = pictures(6, 10)
    whole = layered_examples(net, image, eps=2 * EPS, steps=8)
    assert len(set(whole.passes.tolist())) > 1 or not whole.single.all()
    for i in range(6):
        own = layered_examples(net, image[i : i + 1], eps=2 * EPS, steps=8)
        assert torch.equal(own.order[0], whole.order[i]) and own.single[0] == whole.single[i]
        assert torch.allclose(own.image[0], whole.image[i], atol=1e-6)
    again = layered_examples(net, image, eps=2 * EPS, steps=8)
    assert all(torch.equal(a, b) for a, b in zip(whole, again, strict=True))
    counting = steered(20)
    both = torch.cat([colours(1, 1, 1, 1), colours(0, 2, 2, 1, step=0.2)])
    layered_examples(counting, both, eps=EPS, steps=10)
    # One to see what network it is, both before any pass, then one alone: 3 passes, 3 looks.
    assert counting.images == 1 + 2 + 3 * 10 + 3


def test_what_is_no_segmentation_is_refused() -> None:
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
    with pytest.raises(InputError, match=r"logits of at least two classes for each pixel"):
        layered_examples(classifier, pictures(2, 8), eps=EPS)
    with pytest.raises(InputError, match=r"ball.*'none'"):
        layered_examples(convolutions(3), pictures(2, 8), eps=EPS, ball="none")
    empty = layered_examples(convolutions(3), torch.zeros(0, 3, 8, 8), eps=EPS)
    assert len(empty.image) == 0 and len(empty.passes) == 0
