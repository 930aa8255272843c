"""Referable disease called healthy, and grades far off: what is raised, where it ends, of whom."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fundusray.attacks.clinical import healthy_over_referable, log_disagreement
from fundusray.attacks.registry import ATTACKS
from fundusray.attacks.run import AttackOutcome, attack_success, run_attack
from fundusray.errors import InputError
from tests.attacks.linear_networks import (
    LinearNetwork,
    convolutional_network,
    grey_images,
    wrong_class,
)

NORMS = [("linf", 0.02), ("l2", 0.4)]


def attacked(name: str, predict, image: Tensor, target: Tensor, norm: str, eps: float, **args):
    row = torch.arange(len(image))
    return run_attack(
        name, args, predict, image, target, row=row, norm=norm, eps=eps, success=wrong_class
    )


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_missed_disease_is_exact_on_a_linear_network(norm: str) -> None:
    """Of two classes: an image is missed where its distance to the border is below the budget."""
    image = grey_images(40)
    network = LinearNetwork(2).centred(image)
    target = network(image).argmax(dim=1)
    distance = network.distance(image, norm)
    eps = distance[target == 1].median().item() * 1.05
    outcome = attacked("referable_missed", network, image, target, norm, eps, steps=20)
    # On a sphere steps come near the best place and do not reach it.
    sure = (distance < 0.98 * eps) | (distance > eps) | (target == 0)
    within = (distance < eps) & (target == 1)
    assert sure.sum() > 35
    assert torch.equal(outcome.success[sure], within[sure])
    assert 0 < within.sum() < (target == 1).sum()
    # What is healthy is not what this attack is about.
    assert torch.equal(outcome.image[target == 0], image[target == 0])
    assert (outcome.queries[target == 0] == 3).all()


@pytest.mark.parametrize(("norm", "eps"), NORMS)
def test_disease_is_missed_more_often_than_by_chance_of_another_class(norm, eps) -> None:
    image = grey_images(60, 12)
    network = convolutional_network(image, 5)
    target = network(image).argmax(dim=1)
    outcome = attacked("referable_missed", network, image, target, norm, eps)
    answer = network(outcome.image).argmax(dim=1)
    assert torch.equal(outcome.success, (target >= 2) & (answer < 2))
    assert outcome.success.sum() > 0.5 * (target >= 2).sum()
    other_grade = (target >= 2) & (answer >= 2) & (answer != target)
    assert not outcome.success[other_grade].any()


@pytest.mark.parametrize(("norm", "eps"), NORMS)
def test_grades_end_far_off(norm: str, eps: float) -> None:
    image = grey_images(60, 12)
    network = convolutional_network(image, 5)
    target = network(image).argmax(dim=1)
    outcome = attacked("kappa_loss", network, image, target, norm, eps)
    off = (network(outcome.image).argmax(dim=1) - target).abs()
    assert torch.equal(outcome.success, off >= 2)
    assert outcome.success.float().mean() > 0.5
    far = attacked("kappa_loss", network, image, target, norm, eps, grades=3)
    assert torch.equal(far.success, (network(far.image).argmax(dim=1) - target).abs() >= 3)
    assert not far.success[target == 2].any()


def test_the_logarithm_rises_where_the_disagreement_does_and_does_not_vanish() -> None:
    logits = torch.randn(20, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    target = torch.arange(20) % 5
    away = (torch.arange(5) - target[:, None]).double() ** 2

    def gradients(values: Tensor) -> tuple[Tensor, Tensor]:
        values.requires_grad_(True)
        plain = (values.softmax(dim=1) * away).sum(dim=1)
        torch.testing.assert_close(log_disagreement(values, target).exp(), plain)
        return (
            torch.autograd.grad(log_disagreement(values, target).sum(), values)[0],
            torch.autograd.grad(plain.sum(), values)[0],
        )

    ours, plain = gradients(logits)
    torch.testing.assert_close(F.cosine_similarity(ours, plain), torch.ones(20).double())
    sure = (200.0 * F.one_hot(target, 5)).requires_grad_(True)
    (gradient,) = torch.autograd.grad(log_disagreement(sure, target).sum(), sure)
    (lost,) = torch.autograd.grad((sure.softmax(dim=1) * away.float()).sum(), sure)
    assert not lost.any()
    assert gradient.isfinite().all()
    assert (gradient.norm(dim=1) > 0.5).all()


def test_odds_of_healthy_are_those_of_the_probabilities() -> None:
    generator = torch.Generator().manual_seed(1)
    for num_classes, first in ((2, 1), (3, 2), (5, 2)):
        logits = torch.randn(6, num_classes, generator=generator)
        shares = logits.softmax(dim=1)
        healthy = shares[:, :first].sum(dim=1)
        odds = healthy_over_referable(logits, torch.zeros(6)).exp()
        torch.testing.assert_close(odds, healthy / (1 - healthy))


def test_what_an_attack_is_after_can_be_asked() -> None:
    answers = torch.eye(5)  # one image of each answer
    missed = attack_success("referable_missed", {}, wrong_class)
    assert missed(answers, torch.full((5,), 4)).tolist() == [True, True, False, False, False]
    assert not missed(answers, torch.ones(5, dtype=torch.long)).any()
    off = attack_success("kappa_loss", {}, wrong_class)
    assert off(answers, torch.ones(5, dtype=torch.long)).tolist() == [False] * 3 + [True] * 2
    off = attack_success("kappa_loss", {"grades": 3}, wrong_class)
    assert off(answers, torch.ones(5, dtype=torch.long)).tolist() == [False] * 4 + [True]
    facts = ATTACKS.facts("referable_missed")
    assert facts.needs_order
    assert facts.concerns(torch.arange(5), 5).tolist() == [False, False, True, True, True]
    assert facts.concerns(torch.arange(2), 2).tolist() == [False, True]
    assert ATTACKS.facts("kappa_loss").concerns is None


def test_grades_that_are_nowhere_so_far_apart_are_refused() -> None:
    image = grey_images(4)
    network = LinearNetwork(2).centred(image)
    target = network(image).argmax(dim=1)
    with pytest.raises(InputError, match=r"grades=2\): 2 classes are 1 apart at most; give grad"):
        attacked("kappa_loss", network, image, target, "linf", 0.1)


def test_restarts_begin_elsewhere_and_only_with_what_is_left() -> None:
    image = grey_images(60, 12)
    network = convolutional_network(image, 5)
    target = network(image).argmax(dim=1)

    def outcome(restarts: int) -> AttackOutcome:
        return attacked(
            "kappa_loss", network, image, target, "linf", 0.008, steps=3, restarts=restarts
        )

    once, often = outcome(1), outcome(6)
    assert once.success.any()
    assert torch.equal(often.image[once.success], once.image[once.success])
    assert torch.equal(often.queries[once.success], once.queries[once.success])
    left = ~once.success
    assert (often.image[left] != once.image[left]).flatten(1).any(dim=1).all()
    assert often.success.sum() >= once.success.sum()
    passes = ATTACKS.facts("kappa_loss").passes({"steps": 3, "restarts": 6}, 5)
    assert often.queries[~often.success].unique().tolist() == [2 + 6 * 3 + 5]
    assert passes == 6 * (3 * 3 + 1)
