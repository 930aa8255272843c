"""The attacks on pixels go where plain loops written from their papers go."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fundusray.attacks.budget import Budget
from fundusray.attacks.noise import random_offset
from fundusray.attacks.segmentation import SegmentationProblem, run_segmentation_attack
from fundusray.attacks.segmentation.sea import (
    SEA_LOSSES,
    steps_of_radii,
    within_shrinking_radius,
)
from fundusray.attacks.segmentation.segpgd import share_of_wrong_pixels
from tests.attacks.coloured_squares import CLASSES, accuracy, finder, found, squares

EPS = 8 / 255
STEPS = 6


def run(name: str, image: Tensor, target: Tensor, **args: object) -> Tensor:
    row = torch.arange(len(image))
    return run_segmentation_attack(
        name, args, found, image, target, row=row, eps=EPS
    ).candidates[""]  # fmt: skip


def plain_pgd(image: Tensor, row: int, loss, random: bool = True) -> Tensor:
    """One image [1, 3, S, S] after STEPS steps of 2.5 eps / STEPS up `loss(logits, t)`."""
    attacked = image.clone()
    if random:
        budget = Budget("linf", EPS, 1.0, 1)
        attacked = attacked + random_offset(image, torch.tensor([row]), 0, budget)
        attacked = attacked.clamp(0, 1)
    for t in range(1, STEPS + 1):
        attacked = attacked.detach().requires_grad_()
        loss(finder()(attacked - 0.5), t).backward()
        attacked = attacked.detach() + 2.5 * EPS / STEPS * attacked.grad.sign()
        attacked = torch.min(torch.max(attacked, image - EPS), image + EPS).clamp(0, 1)
    return attacked


def log_losses(logits: Tensor, target: Tensor) -> Tensor:
    """-log p [S, S] by its definition."""
    wide = logits[0].double().exp()
    own = torch.stack([(target[0] == k) * wide[k] for k in range(CLASSES)]).sum(dim=0)
    return -(own / wide.sum(dim=0)).log()


def same(mine: Tensor, theirs: Tensor) -> bool:
    """But for pixels whose gradient is so small that rounding decides on its sign."""
    return ((mine - theirs).abs() < 1e-6).double().mean().item() > 0.99


def test_segpgd_is_the_loop_of_its_paper() -> None:
    image, target = squares(2)
    mine = run("segpgd", image, target, steps=STEPS)
    for k in range(2):
        own = target[k : k + 1]

        def loss(logits: Tensor, t: int, own: Tensor = own) -> Tensor:
            wrong, share = logits.argmax(dim=1)[0] != own[0], (t - 1) / (2 * STEPS)
            each = log_losses(logits, own)
            return (1 - share) * each[~wrong].sum() + share * each[wrong].sum()

        assert same(mine[k], plain_pgd(image[k : k + 1], k, loss)[0])
    assert [share_of_wrong_pixels(t, 4) for t in (1, 2, 3, 4)] == [0, 1 / 8, 2 / 8, 3 / 8]


@pytest.mark.parametrize("squash", ["softmax", "sigmoid"])
def test_cospgd_is_the_loop_of_its_paper(squash: str) -> None:
    image, target = squares(2)
    mine = run("cospgd", image, target, steps=STEPS, squash=squash)
    for k in range(2):
        own = target[k : k + 1]

        def loss(logits: Tensor, t: int, own: Tensor = own) -> Tensor:
            vector = logits.softmax(1) if squash == "softmax" else logits.sigmoid()
            once = F.one_hot(own, CLASSES).movedim(3, 1).float()
            weight = F.cosine_similarity(vector, once, dim=1)[0].detach()
            return (weight * log_losses(logits, own)).sum()

        assert same(mine[k], plain_pgd(image[k : k + 1], k, loss)[0])


def test_one_step_of_segpgd_is_that_of_the_masked_loss() -> None:
    """At the first step wrong pixels have no weight; from an image without any, that is PGD."""
    image, target = squares(2)
    answered = found(image).argmax(dim=1)
    first = run("segpgd", image, answered, steps=1, start="image")
    plain = run("pixel_pgd", image, answered, steps=1, start="image")
    assert torch.equal(first, plain)
    assert not torch.equal(first, run("segpgd", image, target.roll(3, 1), steps=1, start="image"))


def test_the_background_attack_descends_to_the_background() -> None:
    image, target = squares(2)
    goal = torch.zeros_like(target)

    def to_background(shown: Tensor) -> Tensor:
        return F.cross_entropy(found(shown), goal, reduction="none").flatten(1).mean(dim=1)

    mine = run("background_pgd", image, target, steps=STEPS)
    for k in range(2):
        own = goal[k : k + 1]
        theirs = plain_pgd(
            image[k : k + 1], k, lambda logits, t, own=own: -log_losses(logits, own).sum(), False
        )
        assert same(mine[k], theirs[0])
    assert (to_background(mine) < to_background(image)).all()
    called = (found(mine).argmax(dim=1) == 0).double().mean()
    assert called > (found(image).argmax(dim=1) == 0).double().mean()
    green = run("background_pgd", image, target, steps=STEPS, to=2)
    assert (found(green).argmax(dim=1) == 2).double().mean() > 2 * (target == 2).double().mean()


def test_radii_share_the_steps_as_their_authors_do() -> None:
    assert steps_of_radii(300) == (90, 90, 120)
    assert steps_of_radii(10) == (3, 3, 4)
    assert steps_of_radii(1) == (0, 0, 1)


def plain_sea(image: Tensor, target: Tensor, name: str, turn: int) -> Tensor:
    """One image after APGD within 2, 1.5 and 1 eps, written from algorithm 1, step by step."""
    ascend, judge = SEA_LOSSES[name]
    wide = Budget("linf", 2 * EPS, 1.0, 1)
    x = image + random_offset(image, torch.tensor([0]), 0, wide, turn)

    def looked(x: Tensor) -> tuple[Tensor, float, int]:
        x = x.detach().requires_grad_()
        logits = finder()(x - 0.5)
        ascend(logits, target).sum().backward()
        right = int((logits.argmax(dim=1) == target).sum())
        return x.grad, judge(logits, target).mean().item(), right

    for radius, steps in ((2, 3), (1.5, 3), (1, 4)):
        low = (image - radius * EPS).clamp(min=0)
        high = (image + radius * EPS).clamp(max=1)
        x = torch.min(torch.max(x, low), high)
        step, before = 2 * radius * EPS, x
        gradient, loss, fewest = looked(x)
        worst = best = x
        best_gradient, best_loss, last_best, halved = gradient, loss, loss, False
        period, since, rises = max(int(0.22 * steps), 1), 0, 0
        for k in range(steps):
            z = torch.min(torch.max(x + step * gradient.sign(), low), high)
            share = 0.75 if k else 1.0
            moved = x + share * (z - x) + (1 - share) * (x - before)
            before, x = x, torch.min(torch.max(moved, low), high)
            gradient, now, right = looked(x)
            rises, loss = rises + (now > loss), now
            if right <= fewest:
                worst, fewest = x, right
            if loss > best_loss:
                best, best_gradient, best_loss = x, gradient, loss
            since += 1
            if since == period:
                halved = rises <= 0.75 * period or (not halved and last_best >= best_loss)
                if halved:
                    step, x, gradient = step / 2, best, best_gradient
                last_best, rises, since = best_loss, 0, 0
                period = max(period - 1, 1)
        x = worst
    return x


@pytest.mark.parametrize(("turn", "name"), list(enumerate(SEA_LOSSES)))
def test_sea_is_the_loop_of_its_paper(turn: int, name: str) -> None:
    image, target = squares(1)
    problem = SegmentationProblem(found, image, target, torch.arange(1), EPS)
    mine = within_shrinking_radius(problem, SEA_LOSSES[name], 10, turn)
    assert same(mine, plain_sea(image, target, name, turn))


def test_sea_keeps_the_iterate_with_the_fewest_right_pixels() -> None:
    """More steps of the last radius can only help; the mean loss alone would not say so."""
    image, target = squares(3)
    row = torch.arange(3)
    made = run_segmentation_attack("sea", {"steps": 20}, found, image, target, row=row, eps=EPS)
    assert list(made.candidates) == list(SEA_LOSSES)
    worst = torch.stack([accuracy(one, target) for one in made.candidates.values()]).amin(dim=0)
    assert (worst <= accuracy(run("pixel_pgd", image, target, steps=20), target) + 0.02).all()
    assert math.isclose(made.queries.double().mean(), 4 * 23)
