"""Boundary attack and HopSkipJump: labels alone, queries counted, near the exact distance."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import fundusray.attacks.boundary
import fundusray.attacks.hop_skip_jump  # noqa: F401
from fundusray.attacks.boundary import AdaptiveStep, on_sphere
from fundusray.attacks.folding import within_rounding
from fundusray.attacks.gradient import perturbation_distance
from fundusray.attacks.label_walks import TRIES, to_boundary
from fundusray.attacks.registry import ATTACKS
from fundusray.attacks.run import AttackOutcome, run_attack
from fundusray.conditions import parse_condition
from fundusray.errors import InputError
from tests.attacks.linear_networks import (
    LinearNetwork,
    convolutional_network,
    grey_images,
    wrong_class,
)

ATTACKS_ON_LABELS = [("boundary", "l2"), ("hop_skip_jump", "l2"), ("hop_skip_jump", "linf")]


def attacked(
    name: str,
    predict: Any,
    image: Tensor,
    norm: str = "l2",
    eps: float = math.inf,
    row: Tensor | None = None,
    **args: Any,
) -> AttackOutcome:
    row = torch.arange(len(image)) if row is None else row
    with torch.no_grad():
        target = predict(image).argmax(dim=1)
    return run_attack(
        name, args, predict, image, target, row=row, norm=norm, eps=eps, success=wrong_class
    )


@pytest.mark.parametrize(("name", "norm"), ATTACKS_ON_LABELS)
def test_the_distance_on_a_linear_network_comes_near_the_exact_one(name: str, norm: str) -> None:
    """From above, and nearer with more queries."""
    image = grey_images(4)
    network = LinearNetwork(3).centred(image)
    exact = network.distance(image, norm)
    ratios = []
    for queries in (300, 2500):
        outcome = attacked(name, network, image, norm, queries=queries)
        assert outcome.success.all()
        ratios.append(perturbation_distance(outcome.image, image, norm) / exact)
    short, long = ratios
    assert long.min() > 1 - 1e-6
    # Signs of an estimated normal are wrong where the normal is next to 0.
    assert long.max() < (1.4 if norm == "linf" else 1.1)
    assert (long < short).all()


@pytest.mark.parametrize(("name", "norm"), ATTACKS_ON_LABELS)
def test_a_small_network_is_flipped(name: str, norm: str) -> None:
    image = grey_images(6, 12)
    network = convolutional_network(image)
    outcome = attacked(name, network, image, norm, queries=400)
    assert outcome.success.all()
    assert (network(outcome.image).argmax(1) != network(image).argmax(1)).all()
    # Noise from which a walk starts is about this far away.
    assert (perturbation_distance(outcome.image, image, "l2") < 0.3 * 0.3 * math.sqrt(432)).all()


@pytest.mark.parametrize(("name", "norm"), ATTACKS_ON_LABELS)
def test_nothing_but_the_label_is_looked_at(name: str, norm: str) -> None:
    """Other logits with the same largest one, and no gradients, change nothing."""
    image = grey_images(3)
    network = LinearNetwork(3).centred(image)

    def labels_only(shown: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        assert not shown.requires_grad
        logits = network(shown)
        label = logits.argmax(dim=1, keepdim=True)
        # The others are in another order, and the largest is so by little.
        return (-logits).softmax(dim=1).scatter(1, label, 1.001)

    assert not ATTACKS.facts(name).gradient
    once = attacked(name, network, image, norm, queries=300)
    again = attacked(name, labels_only, image, norm, queries=300)
    assert torch.equal(once.image, again.image)


@pytest.mark.parametrize(("name", "norm"), ATTACKS_ON_LABELS)
def test_queries_are_counted_and_all_used(name: str, norm: str) -> None:
    """By the network itself: every image of its own, in batches that are full to the end."""
    image = grey_images(7)
    network = LinearNetwork(3).centred(image)
    sizes: list[int] = []

    def counted(shown: Tensor) -> Tensor:
        sizes.append(len(shown))
        return network(shown)

    outcome = attacked(name, counted, image, norm, queries=123, batch=4)
    # One query before the walks and one after them.
    assert outcome.queries.tolist() == [125] * 7
    asked = sizes[sizes.index(7, 1) + 1 : -1]
    assert sum(asked) == 7 * 123
    assert max(asked) == 4
    # The last walks have nobody to take their place; until then every batch is full.
    last = 7 * 123 // 4 - 123
    assert set(asked[:last]) == {4}


@pytest.mark.parametrize(("name", "norm"), ATTACKS_ON_LABELS)
@pytest.mark.parametrize("batch", [1, 5, 32])
def test_neither_the_others_nor_the_batch_matter(name: str, norm: str, batch: int) -> None:
    image, row = grey_images(4), torch.tensor([30, 4, 99, 7])
    network = LinearNetwork(3).centred(image)
    whole = attacked(name, network, image, norm, row=row, queries=200)
    part = [3, 1]
    alone = attacked(name, network, image[part], norm, row=row[part], queries=200, batch=batch)
    assert torch.equal(alone.image, whole.image[part])
    assert torch.equal(alone.queries, whole.queries[part])
    others = attacked(name, network, image[part], norm, row=row[part] + 1, queries=200)
    assert not torch.equal(others.image, alone.image)


@pytest.mark.parametrize(("name", "norm"), ATTACKS_ON_LABELS)
def test_within_a_budget_or_as_it_was(name: str, norm: str) -> None:
    """Of two images one is nearer than the budget by far, the other one farther than it."""
    image = grey_images(8)
    network = LinearNetwork(2).centred(image)
    exact = network.distance(image, norm)
    eps = exact.sort().values[3:5].mean().item()
    easy, hard = exact < 0.7 * eps, exact > eps
    outcome = attacked(name, network, image, norm, eps, queries=1500)
    assert easy.any()
    assert outcome.success[easy].all()
    assert not outcome.success[hard].any()
    assert torch.equal(outcome.image[hard], image[hard])
    far = perturbation_distance(outcome.image, image, norm)
    assert (far <= eps).all()
    # A walk is over at the first image within the budget.
    assert (outcome.queries[easy] < 1502).all()
    assert (outcome.queries[hard] == 1502).all()


@pytest.mark.parametrize("name", ["boundary", "hop_skip_jump"])
def test_an_image_that_nothing_misleads_comes_back(name: str) -> None:
    image = grey_images(3)

    def constant(shown: Tensor) -> Tensor:
        return torch.tensor([[0.0, 1.0]]).repeat(len(shown), 1)

    outcome = attacked(name, constant, image, queries=500)
    assert torch.equal(outcome.image, image)
    assert not outcome.success.any()
    assert outcome.queries.tolist() == [TRIES + 2] * 3


def test_starts_reach_networks_that_take_all_fine_noise_for_one_class() -> None:
    """Only what is dark all over is of the other class here."""
    image = grey_images(6)

    def dark(shown: Tensor) -> Tensor:
        mean = shown.double().mean(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(mean), 0.3 - mean], dim=1)

    noise = torch.rand(1000, *image.shape[1:], generator=torch.Generator().manual_seed(0))
    assert (dark(noise).argmax(1) == 0).all()
    assert attacked("boundary", dark, image, queries=200).success.all()


def test_bisection_stops_beyond_the_boundary() -> None:
    image = torch.full((3, 2, 2), 0.5)
    offset = torch.tensor([0.4, -0.2, 0.1]).repeat_interleave(4).view(3, 2, 2)
    for norm, cut in (("l2", lambda share: offset * share), ("linf", lambda _: None)):
        walk = to_boundary(image, offset, norm, 12)
        request = next(walk)
        while True:
            # The end is reached where the first channel is moved by 0.15.
            reached = bool((request[0] - image)[0, 0, 0] >= 0.15)
            try:
                request = walk.send([reached])
            except StopIteration as end:
                result = end.value
                break
        first = result[:, 0, 0]
        assert 0.15 <= first[0] < 0.15 + 0.4 / 2**12 + 1e-6
        if norm == "l2":
            torch.testing.assert_close(result, cut(float(first[0]) / 0.4))
        else:
            torch.testing.assert_close(
                first, torch.tensor([float(first[0]), -float(first[0]), 0.1])
            )


def test_a_step_on_the_sphere_keeps_the_distance_and_is_as_long_as_it_says() -> None:
    generator = torch.Generator().manual_seed(1)
    offset, noise = torch.randn(2, 3, 9, 9, generator=generator, dtype=torch.float64)
    for step in (0.01, 0.5):
        around = on_sphere(offset, noise, step)
        assert around.norm().item() == pytest.approx(offset.norm().item())
        angle = torch.acos((around * offset).sum() / offset.norm() ** 2).item()
        assert angle == pytest.approx(math.atan(step))
        # It lies in the plane of the two.
        plane = torch.stack([offset.flatten(), noise.flatten()], dim=1)
        rest = torch.linalg.lstsq(plane, around.flatten()[:, None]).residuals
        assert rest.numel() == 0 or rest.item() < 1e-20


def test_steps_adapt_to_their_share_of_successes() -> None:
    step = AdaptiveStep(1.0, 0.2, 0.5, 5)
    assert [step.hear(True) for _ in range(5)] == [1, 1, 1, 1, 1.5]
    assert [step.hear(outcome) for outcome in (True, False, True, False, False)] == [1] * 5
    assert [step.hear(False) for _ in range(5)][-1] == pytest.approx(1 / 1.5)
    assert step.length == pytest.approx(1.0)


def test_where_another_network_decides_both_have_to_be_fooled() -> None:
    image = grey_images(4)
    judge, search = (LinearNetwork(2).centred(image) for _ in range(2))
    search.bias = search.bias + torch.tensor([0.5, 0.0], dtype=torch.float64)
    target = judge(image).argmax(dim=1)
    exact = torch.maximum(judge.distance(image, "l2"), search.distance(image, "l2"))
    outcome = run_attack(
        "boundary", {"queries": 1500}, judge, image, target, row=torch.arange(4), norm="l2",
        eps=math.inf, success=wrong_class, search=search,
    )  # fmt: skip
    assert outcome.success.all()
    assert (judge(outcome.image).argmax(dim=1) != target).all()
    right = search(image).argmax(dim=1) == target
    far = perturbation_distance(outcome.image, image, "l2")
    assert (far[right] > exact[right] * (1 - 1e-6)).all()
    assert (far < 1.3 * exact).all()


def test_a_copy_answers_for_the_network_except_within_rounding() -> None:
    image = grey_images(4)
    judge = LinearNetwork(2).centred(image)
    target = judge(image).argmax(dim=1)

    def copy(shown: Tensor) -> Tensor:
        logits = judge(shown)
        return logits + 1e-5 * logits.abs().amax() * torch.tensor([1.0, -1.0])

    def walked(copied: bool) -> AttackOutcome:
        return run_attack(
            "boundary", {"queries": 300}, judge, image, target, row=torch.arange(4), norm="l2",
            eps=math.inf, success=wrong_class, search=copy, copied=copied,
        )  # fmt: skip

    outcome, surrogate = walked(True), walked(False)
    assert outcome.success.all()
    assert (judge(outcome.image).argmax(dim=1) != target).all()
    assert (outcome.queries < surrogate.queries).all()
    near = torch.tensor([[1.0, 1.0 + 1e-4], [1.0, 1.1], [torch.nan, 1.0]])
    assert within_rounding(near).tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("boundary", "boundary(queries=5000)"),
        ("hop_skip_jump(norm=linf, queries=100)", "hop_skip_jump(norm=linf, queries=100)"),
        ("boundary(eps=0.5unit01, batch=8)", "boundary(eps=0.5unit01, queries=5000, batch=8)"),
        ("referable_missed(eps=2/255)", "referable_missed(eps=2/255, steps=20)"),
        ("kappa_loss(eps=2/255, grades=3)", "kappa_loss(eps=2/255, steps=20, grades=3)"),
    ],
)
def test_each_is_a_condition_by_its_name(text: str, whole: str) -> None:
    """Without a budget, where the nearest image is looked for."""
    assert str(parse_condition(text)) == whole


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("boundary(norm=linf)", "no norm of boundary named 'linf'"),
        ("boundary(queries=0)", "queries"),
        ("kappa_loss", "kappa_loss needs eps"),
    ],
)
def test_what_they_do_not_take_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_condition(text)
