"""The Square attack draws what its paper says, as good as torchattacks', from logits alone."""

import pytest
import torch

from fundusray.attacks import ATTACKS
from fundusray.attacks.square import hill_and_valley, square_side
from tests.attacks.small_networks import attacked, convolutions, distance, pictures


def test_squares_shrink_as_the_paper_says() -> None:
    """0.8 of the pixels for 10 of 10,000 queries, half as much after 10, 50, 200, 500, ..."""
    sides = [square_side(query, 10_000, 100 * 100) for query in (1, 10, 11, 51, 201, 8001, 9999)]
    share = [0.8, 0.8, 0.4, 0.2, 0.1, 0.8 / 512, 0.8 / 512]
    assert sides == [round((part * 1e4) ** 0.5) for part in share]
    assert square_side(1, 100, 100 * 100) == square_side(100, 10_000, 100 * 100)
    assert square_side(99, 100, 9) == 1


@pytest.mark.parametrize("side", [2, 3, 4, 5, 8, 11])
def test_hills_are_those_of_torchattacks(side: int) -> None:
    import torchattacks

    peer = torchattacks.Square(convolutions(), norm="L2")
    torch.manual_seed(0)
    theirs = peer.eta(side)
    ours = hill_and_valley(side)
    same = [torch.allclose(theirs, one, atol=1e-6) for one in (ours, ours.T)]
    assert any(same) and abs(ours.norm().item() - 1) < 1e-6


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_is_about_as_strong_as_that_of_torchattacks(norm: str) -> None:
    import torchattacks

    image, model = pictures(40, 15), convolutions()
    target = model(image).argmax(1)
    eps = 8 / 255 if norm == "linf" else 0.8
    sizes = {"eps": eps, "n_queries": 60}
    peer = torchattacks.Square(model, norm={"linf": "Linf", "l2": "L2"}[norm], **sizes)
    theirs = (model(peer(image, target)).argmax(1) != target).sum().item()
    ours = attacked("square", {"queries": 60}, model, image, norm=norm, eps=eps)
    # Of 40 images two standard errors of a difference are 9.
    assert 8 < theirs < 40 and ours.success.sum() >= theirs - 9
    assert distance(ours.image, image, norm).max() <= eps + 1e-6


def test_queries_are_what_was_granted_and_gradients_none() -> None:
    image, model = pictures(12, 15), convolutions()
    outcome = attacked("square", {"queries": 30}, model, image, eps=1e-4)
    # As they are, and as they are returned, are the runner's.
    assert (outcome.queries[~outcome.success] == 30 + 2).all() and (~outcome.success).any()
    assert not ATTACKS.facts("square").gradient and ATTACKS.facts("square").passes(
        {"queries": 30}, 5
    ) == 30  # fmt: skip
    # A square is kept where it helps: twice the queries are never worse.
    few = attacked("square", {"queries": 1}, model, image, eps=0.03)
    many = attacked("square", {"queries": 80}, model, image, eps=0.03)
    assert few.success.sum() < many.success.sum()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (4, 9), (12, 5)])
def test_any_size_of_image_will_do(norm: str, height: int, width: int) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * height * width, 3))
    image = torch.rand(4, 3, height, width)
    outcome = attacked("square", {"queries": 8}, model, image, norm=norm, eps=0.1)
    assert distance(outcome.image, image, norm).max() <= 0.1 + 1e-6
