"""Selective enhancement: the formulas by hand, the search against brute force, ties, budgets."""

from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fundusray.attacks.segmentation.selective import (
    choice_text,
    class_steps,
    selective_enhancement,
)
from fundusray.attacks.segmentation.sign_search import best_of, combinations
from fundusray.errors import InputError
from tests.attacks.segmentation.per_pixel import (
    convolutions,
    drawn_classes,
    drawn_per_pixel,
    full_area_gradient,
    mean_loss,
    pictures,
)

EPS = 1 / 100


def brute_force(
    net: torch.nn.Module, image: Tensor, target: Tensor, eps: float, most: float
) -> tuple[tuple[int, ...], float, float]:
    """(signs, their loss, the loss of no change) of one image [3, S, S], one forward pass for each
    combination, steps by autograd."""
    num_classes = net(image[None]).shape[1]
    steps = []
    for c in range(num_classes):
        x = image[None].clone().requires_grad_(True)
        F.cross_entropy(net(x), torch.full_like(target[None], c)).backward()
        steps.append(eps * x.grad[0].sign())
    found = []
    for signs in product((1, 0, -1), repeat=num_classes):
        moved = sum((sign * step for sign, step in zip(signs, steps, strict=True)), 0 * image)
        changed = (image + moved.clamp(-most, most)).clamp(0, 1)
        with torch.no_grad():
            loss = F.cross_entropy(net(changed[None]), target[None]).item()
        used = sum(sign != 0 for sign in signs)
        found.append((loss, used, [-sign for sign in signs], signs))
    unchanged = next(loss for loss, used, _, _ in found if not used)
    best = min(found)
    return best[3], best[0], unchanged


def test_formula_1_by_hand() -> None:
    net, image = drawn_per_pixel(3), pictures(1, 2)
    steps = class_steps(net, image)
    assert steps.shape == (1, 3, 3, 2, 2) and steps.dtype == torch.int8
    for c in range(3):
        by_hand = np.sign(full_area_gradient(net, image[0].double().numpy(), c))
        assert np.array_equal(steps[0, c].numpy(), by_hand)


def test_formula_5_by_hand() -> None:
    """All 27 sums on 2 x 2 pixels: the lowest mean loss against the true mask is kept."""
    net, image = drawn_per_pixel(3), pictures(1, 2)
    target = torch.tensor([[[0, 1], [2, 1]]])
    x, truth = image[0].double().numpy(), target[0].numpy()
    eta = [EPS * np.sign(full_area_gradient(net, x, c)) for c in range(3)]
    losses = {}
    for a, b, c in product((1, 0, -1), repeat=3):
        moved = np.clip(x + a * eta[0] + b * eta[1] + c * eta[2], 0, 1)
        losses[a, b, c] = mean_loss(net, moved, truth)
    lowest = min(losses, key=losses.__getitem__)
    found = selective_enhancement(net, image, target, eps=EPS)
    assert tuple(found.choice[0].tolist()) == lowest != (0, 0, 0)
    assert found.loss[0].item() == pytest.approx(losses[lowest], abs=1e-6)
    assert found.loss_before[0].item() == pytest.approx(losses[0, 0, 0], abs=1e-6)
    moved = np.clip(x + sum(s * e for s, e in zip(lowest, eta, strict=True)), 0, 1)
    assert np.abs(found.image[0].numpy() - moved).max() < 1e-6
    assert found.linf[0].item() == pytest.approx(np.abs(moved - x).max(), abs=1e-6)


@pytest.mark.parametrize("ball", ["class", "image"])
@pytest.mark.parametrize(("num_classes", "num"), [(3, 4), (6, 1)])
def test_exact_search_is_brute_force(num_classes: int, num: int, ball: str) -> None:
    net = convolutions(num_classes)
    image, target = pictures(num, 8), drawn_classes(num, 8, num_classes)
    found = selective_enhancement(net, image, target, eps=EPS, ball=ball)
    most = EPS * (num_classes if ball == "class" else 1)
    for i in range(num):
        signs, loss, unchanged = brute_force(net, image[i], target[i], EPS, most)
        assert tuple(found.choice[i].tolist()) == signs
        assert found.loss[i].item() == pytest.approx(loss, abs=1e-6)
        assert found.loss_before[i].item() == pytest.approx(unchanged, abs=1e-6)
    assert (found.evaluations == 3**num_classes).all()
    far = (found.image - image).abs().amax(dim=(1, 2, 3))
    assert torch.allclose(far.double(), found.linf) and (found.linf <= most + 1e-6).all()
    assert found.image.min() >= 0 and found.image.max() <= 1


def test_classes_may_add_up_unless_eps_is_of_the_image() -> None:
    """One class's step is everybody's: to be far from it costs least, by C eps or by eps."""
    net = drawn_per_pixel(2)
    image, target = torch.full((1, 3, 2, 2), 0.5), torch.zeros(1, 2, 2, dtype=torch.int64)
    wide, narrow = (
        selective_enhancement(net, image, target, eps=EPS, ball=ball) for ball in ("class", "image")
    )
    assert choice_text(wide.choice[0]) == "-+" and wide.linf[0].item() == pytest.approx(2 * EPS)
    assert narrow.linf[0].item() == pytest.approx(EPS)
    # One class does all that is allowed; of equal ones added comes first.
    assert choice_text(narrow.choice[0]) in ("0+", "-0") and narrow.loss[0] > wide.loss[0]


def test_greedy_tries_few_and_never_harms() -> None:
    net = convolutions(6)
    image, target = pictures(6, 12), drawn_classes(6, 12, 6)
    exact = selective_enhancement(net, image, target, eps=EPS)
    few = selective_enhancement(net, image, target, eps=EPS, search="greedy")
    assert (few.evaluations == 48).all() and 729 / 48 > 15
    assert (few.loss <= few.loss_before).all() and (few.loss >= exact.loss - 1e-6).all()
    assert ((few.loss - exact.loss) < 1e-6).float().mean() >= 0.8
    assert torch.equal(few.loss_before, exact.loss_before)


def test_of_few_combinations_greedy_tries_all() -> None:
    net, image, target = convolutions(2), pictures(3, 8), drawn_classes(3, 8, 2)
    exact = selective_enhancement(net, image, target, eps=EPS)
    few = selective_enhancement(net, image, target, eps=EPS, search="greedy")
    assert torch.equal(few.choice, exact.choice) and (few.evaluations == 9).all()


@pytest.mark.parametrize("search", ["exact", "greedy"])
def test_an_image_does_not_depend_on_its_batch(search: str) -> None:
    net = convolutions(4)
    image, target = pictures(5, 9), drawn_classes(5, 9, 4)
    whole = selective_enhancement(net, image, target, eps=EPS, search=search)
    again = selective_enhancement(net, image, target, eps=EPS, search=search)
    part = selective_enhancement(net, image[2:4], target[2:4], eps=EPS, search=search)
    for name in whole._fields:
        assert torch.equal(getattr(whole, name), getattr(again, name))
        assert torch.equal(getattr(whole, name)[2:4], getattr(part, name))


def test_of_equal_losses_the_smallest_change_is_kept() -> None:
    """A network without any gradient: nothing helps, and nothing is done."""
    net = drawn_per_pixel(3)
    net.weight.zero_()
    image, target = pictures(2, 2), drawn_classes(2, 2, 3)
    for search in ("exact", "greedy"):
        found = selective_enhancement(net, image, target, eps=EPS, search=search)
        assert not found.choice.any() and torch.equal(found.image, image)
    order = combinations(2)
    assert order == [(0, 0), (1, 0), (0, 1), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)]
    equal = dict.fromkeys(reversed(order), 0.5)
    assert best_of(equal) == (0, 0)
    assert best_of(equal | {(0, 0): 0.6}) == (1, 0)
    assert best_of(equal | {(-1, -1): 0.4, (1, -1): 0.4}) == (1, -1)


def test_nothing_comes_of_nothing() -> None:
    found = selective_enhancement(
        convolutions(3), torch.zeros(0, 3, 8, 8), torch.zeros(0, 8, 8).long(), eps=EPS
    )
    assert found.image.shape == (0, 3, 8, 8) and len(found.choice) == 0


def test_what_cannot_be_enhanced_is_refused() -> None:
    image, target = pictures(1, 8), drawn_classes(1, 8, 3)
    with pytest.raises(InputError, match=r"search.*'greedly'.*greedy"):
        selective_enhancement(convolutions(3), image, target, eps=EPS, search="greedly")
    with pytest.raises(InputError, match=r"ball.*'eps'"):
        selective_enhancement(convolutions(3), image, target, eps=EPS, ball="eps")
    with pytest.raises(InputError, match=r"got \(1, 4\)"):
        selective_enhancement(lambda x: x.mean((2, 3)) @ torch.ones(3, 4), image, target, eps=EPS)
    with pytest.raises(InputError, match="19,683"):
        selective_enhancement(convolutions(9), image, target, eps=EPS)
