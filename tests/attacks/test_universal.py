"""One change for many images: exact on a linear network, learned here and judged there."""

import pytest
import torch
from torch import Tensor

from fundusray.attacks.budget import Budget
from fundusray.attacks.universal import judge_universal, learn_universal, sign_noise, with_universal
from fundusray.errors import InputError
from tests.attacks.linear_networks import LinearNetwork, convolutional_network, grey_images

Batch = tuple[Tensor, Tensor, Tensor]


def batches(predict, image: Tensor, first_row: int = 0, size: int = 8) -> list[Batch]:
    with torch.no_grad():
        target = predict(image).argmax(dim=1)
    row = torch.arange(len(image)) + first_row
    return list(zip(image.split(size), target.split(size), row.split(size), strict=True))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("goal", [0, 1])
def test_towards_a_class_it_is_the_best_there_is_on_a_linear_network(norm: str, goal: int) -> None:
    """eps sign(w), or eps w / ||w||: the same best move for every image."""
    image = grey_images(16)
    network = LinearNetwork(2).centred(image)
    budget = Budget(norm, 0.05 if norm == "linf" else 0.5, 0.02 if norm == "linf" else 0.3, 12)
    learned = learn_universal(network, batches(network, image), budget, goal)
    normal = network.weight[goal] - network.weight[1 - goal]
    length = normal.abs().max() if norm == "linf" else normal.norm()
    best = budget.eps * (normal.sign() if norm == "linf" else normal / length)
    torch.testing.assert_close(learned.perturbation.double().flatten(), best, atol=2e-3, rtol=0)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.03), ("l2", 0.5)])
@pytest.mark.parametrize("goal", [None, 2])
def test_it_fools_images_it_never_met(norm: str, eps: float, goal: int | None) -> None:
    image = grey_images(96, 12)
    network = convolutional_network(image)
    train, test = batches(network, image[:48]), batches(network, image[48:], 48)
    budget = Budget(norm, eps, eps / 4, 10)
    learned = learn_universal(network, train, budget, goal)
    columns = judge_universal(network, test, learned.perturbation, learned.row)
    order = float("inf") if norm == "linf" else 2
    assert torch.linalg.vector_norm(learned.perturbation.flatten(), order) <= eps + 1e-6
    assert (columns[norm] <= eps + 1e-6).all()
    assert columns["row"].tolist() == list(range(48, 96))
    assert torch.equal(columns["target"], columns["clean_prediction"])
    if goal is None:
        rate = (columns["prediction"] != columns["clean_prediction"]).float().mean()
    else:
        rate = (columns["prediction"] == goal).float().mean()
    # Noise of the same length hardly fools anything.
    noise = torch.randn(3, 12, 12, generator=torch.Generator().manual_seed(0)).sign()
    noise *= eps / (1 if norm == "linf" else noise.norm())
    other = judge_universal(network, test, noise, learned.row)
    chance = (other["prediction"] != other["clean_prediction"]).float().mean()
    assert rate > 0.6
    assert rate > 2 * chance


def test_it_is_a_function_of_the_seed_and_the_batches() -> None:
    image = grey_images(24, 12)
    network = convolutional_network(image)
    train, budget = batches(network, image), Budget("linf", 0.03, 0.01, 3)
    drawn = torch.get_rng_state()
    first = learn_universal(network, train, budget, seed=5)
    again = learn_universal(network, train, budget, seed=5)
    other = learn_universal(network, train, budget, seed=6)
    assert torch.equal(first.perturbation, again.perturbation)
    assert not torch.equal(first.perturbation, other.perturbation)
    assert first.row.tolist() == list(range(24))
    assert torch.equal(torch.get_rng_state(), drawn)
    assert first.perturbation.dtype == torch.float32
    assert not first.perturbation.requires_grad


def test_rows_it_was_learned_from_do_not_judge_it() -> None:
    image = grey_images(16, 12)
    network = convolutional_network(image)
    train = batches(network, image)
    learned = learn_universal(network, train, Budget("linf", 0.03, 0.01, 1))
    with pytest.raises(InputError, match="learned from row 8 and 7 others"):
        judge_universal(network, train[1:], learned.perturbation, learned.row)


def test_what_cannot_be_is_refused() -> None:
    image = grey_images(8, 12)
    network = convolutional_network(image)
    budget = Budget("linf", 0.03, 0.01, 1)
    with pytest.raises(InputError, match="got no batch"):
        learn_universal(network, [], budget)
    with pytest.raises(InputError, match="goal=4: the network knows the classes 0 to 3"):
        learn_universal(network, batches(network, image), budget, goal=4)
    with pytest.raises(InputError, match="8 x 8 pixels does not fit images of 12 x 12"):
        with_universal(image, torch.zeros(3, 8, 8))


def test_pixels_that_are_cut_off_do_not_pull() -> None:
    """White images: only darkening changes anything, whatever the gradient says."""
    image = torch.ones(4, 3, 8, 8)
    network = LinearNetwork(2)
    train = [(image, torch.zeros(4, dtype=torch.long), torch.arange(4))]
    learned = learn_universal(network, train, Budget("linf", 0.1, 0.05, 8))
    start = learn_universal(network, train, Budget("linf", 0.1, 1e-9, 1)).perturbation
    above = start > 0
    torch.testing.assert_close(learned.perturbation[above], start[above])
    assert not torch.allclose(learned.perturbation[~above], start[~above])


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.03), ("l2", 0.5)])
def test_noise_is_as_long_as_the_budget_and_even(norm: str, eps: float) -> None:
    radius = Budget(norm, eps, eps, 1)
    noise = sign_noise(torch.zeros(3, 32, 32), radius, 3)
    order = float("inf") if norm == "linf" else 2
    length = torch.linalg.vector_norm(noise.flatten(), order).item()
    assert length == pytest.approx(eps, rel=1e-5) and len(noise.abs().unique()) == 1
    # 3,072 signs: the share of each is half, to four standard errors.
    assert (noise > 0).float().mean().item() == pytest.approx(0.5, abs=4 * 0.5 / 3072**0.5)
    assert torch.equal(noise, sign_noise(noise, radius, 3))
    assert not torch.equal(noise, sign_noise(noise, radius, 4))
