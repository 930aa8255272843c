"""Integrated gradients are captum's, a hand-written loop's, and what can be worked out."""

import captum.attr
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fundusray.errors import InputError
from fundusray.saliency import run_map
from fundusray.saliency.integrated_gradients import (
    Paths,
    adaptive_integrated_gradients_of,
    clenshaw_curtis,
    integrated_gradients_of,
)
from tests.saliency.layered_networks import CLASSES, SIZE, Plain, Straight, built, problem_of

CAPTUM = {"gauss_legendre": "gausslegendre", "right": "riemann_right"}


class Bent(nn.Module):
    """A smooth network whose logits bend the more, the further an image is from half-grey; counts
    the images that it is asked about with a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, stride=2)
        self.head = nn.Linear(4, CLASSES)
        self.asked: list[Tensor] = []

    def forward(self, image: Tensor) -> Tensor:
        if image.requires_grad:
            self.asked += list(image.detach().clone())
        return 5 * self.head(torch.sin(3 * self.first(image)).mean(dim=(2, 3)))


def close(ours: Tensor, theirs: Tensor, share: float = 1e-5) -> bool:
    return bool((ours - theirs).abs().max() <= share * theirs.abs().max())


def pictures(num: int = 3) -> tuple[Tensor, Tensor]:
    problem = problem_of(built(Plain), num)
    return problem.image, problem.target


def paths_of(model: nn.Module, image: Tensor, target: Tensor, chunk: int = 7) -> Paths:
    return Paths(model, image, torch.full_like(image[:1], 0.5), target, chunk=chunk)


@pytest.mark.parametrize("rule", list(CAPTUM))
@pytest.mark.parametrize("network", [Plain, Bent])
def test_they_are_captums(network: type[nn.Module], rule: str) -> None:
    model, (image, target) = built(network), pictures()
    ours, gap = integrated_gradients_of(model, image, target, steps=12, rule=rule, chunk=7)
    theirs, delta = captum.attr.IntegratedGradients(model).attribute(
        image, torch.full_like(image[:1], 0.5), target=target, n_steps=12, method=CAPTUM[rule],
        return_convergence_delta=True,
    )  # fmt: skip
    assert close(ours, theirs.float())
    with torch.no_grad():
        away = (model(image) - model(torch.full_like(image, 0.5))).gather(1, target[:, None])[:, 0]
    share = delta.abs() / away.abs().clamp_min(1e-3)
    torch.testing.assert_close(gap, share.float(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("baseline", ["number", "one", "each"])
def test_the_right_sum_is_a_loop(baseline: str) -> None:
    """Li et al., numerical approximation, written out, of the softmax."""
    model, (image, target) = built(Plain), pictures()
    steps, first = 5, torch.Generator().manual_seed(2)
    start = {
        "number": 0.25,
        "one": torch.rand(1, 3, SIZE, SIZE, generator=first),
        "each": torch.rand(3, 3, SIZE, SIZE, generator=first),
    }[baseline]
    begin = start if isinstance(start, Tensor) else torch.full_like(image, start)
    total = torch.zeros_like(image)
    for k in range(1, steps + 1):
        point = (begin + k / steps * (image - begin)).requires_grad_(True)
        value = model(point).softmax(dim=1)[torch.arange(3), target].sum()
        total += torch.autograd.grad(value, point)[0] / steps
    ours, _ = integrated_gradients_of(
        model, image, target, steps=steps, rule="right", output="probability", baseline=start
    )
    assert close(ours, (image - begin) * total)


@pytest.mark.parametrize("keywords", [{}, {"steps": 1}, {"rule": "right", "steps": 3}])
def test_of_a_linear_network_they_are_weight_times_difference(keywords: dict) -> None:
    """Exactly, whatever the steps: the gradient is the same everywhere."""
    model, (image, target) = built(Straight), pictures()
    pixels = torch.eye(3 * SIZE * SIZE).view(-1, 3, SIZE, SIZE)
    weight = (model(pixels) - model(torch.zeros_like(pixels[:1]))).T.view(-1, 3, SIZE, SIZE)
    ours, gap = integrated_gradients_of(model, image, target, baseline=0.1, **keywords)
    assert close(ours, weight[target] * (image - 0.1))
    assert gap.max() < 1e-4


def test_the_map_is_their_sum_over_channels() -> None:
    model, (image, target) = built(Plain), pictures()
    values, gap = integrated_gradients_of(model, image, target, steps=9)
    found = run_map(
        "integrated_gradients", {"steps": 9}, model, image, target, row=target, layers={}
    )
    torch.testing.assert_close(found.values, values.sum(dim=1, keepdim=True), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.gap, gap, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("chunk", [1, 4, 1000])
def test_neither_passes_nor_other_images_matter(chunk: int) -> None:
    model, (image, target) = built(Plain), pictures()
    whole, _ = integrated_gradients_of(model, image, target, steps=6)
    parts, _ = integrated_gradients_of(model, image, target, steps=6, chunk=chunk)
    alone, _ = integrated_gradients_of(model, image[2:], target[2:], steps=6, chunk=chunk)
    assert close(parts, whole) and close(alone[0], whole[2])


@pytest.mark.parametrize(
    "shape", [(1, 3, SIZE, SIZE + 1), (2, 3, SIZE, SIZE), (1, 1, SIZE, SIZE), (3, SIZE, SIZE)]
)
def test_a_baseline_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    image, target = pictures()
    with pytest.raises(InputError, match=r"\(1, \*\(3, 12, 12\)\) or one of each, got"):
        integrated_gradients_of(built(Plain), image, target, baseline=torch.zeros(shape))


def test_another_rule_is_refused() -> None:
    with pytest.raises(InputError, match="rule=left: gauss_legendre or right"):
        integrated_gradients_of(built(Plain), *pictures(), rule="left")


@pytest.mark.parametrize("intervals", [2, 4, 8, 64])
def test_clenshaw_curtis_integrates_polynomials(intervals: int) -> None:
    places, weights = clenshaw_curtis(intervals)
    assert len(places) == intervals + 1 and (places[0], places[-1]) == (0, 1)
    assert weights.min() > 0 and weights.sum() == pytest.approx(1, abs=1e-14)
    for degree in range(min(intervals, 12) + 1):
        assert weights @ places**degree == pytest.approx(1 / (degree + 1), abs=1e-13)
    # One degree more is exact by symmetry, two are not.
    if intervals < 8:
        wrong = weights @ places ** (intervals + 2) - 1 / (intervals + 3)
        assert abs(wrong) > 1e-4
    finer, _ = clenshaw_curtis(2 * intervals)
    assert np.array_equal(finer[::2], places)


def test_adaptive_steps_end_at_the_tolerance() -> None:
    """Each image at its own: the one that is nearly half-grey needs few."""
    model, (image, target) = built(Bent), pictures()
    image[0] = 0.5 + 0.02 * (image[0] - 0.5)
    image[1] = 0.5 + 6 * (image[1] - 0.5)
    values, gap, taken = adaptive_integrated_gradients_of(paths_of(model, image, target), 1e-3)
    assert gap.max() <= 1e-3
    assert set(taken.tolist()) <= {5, 9, 17, 33, 65} and taken[0] == 5 < taken[1]
    exact, _ = integrated_gradients_of(model, image, target, steps=200)
    for own, true in zip(values, exact, strict=True):
        assert close(own, true, 0.01)


def test_no_gradient_is_taken_twice() -> None:
    model, (image, target) = built(Bent), pictures()
    image[0] = 0.5 + 0.02 * (image[0] - 0.5)
    image[1] = 0.5 + 6 * (image[1] - 0.5)
    _, _, taken = adaptive_integrated_gradients_of(paths_of(model, image, target), 1e-3)
    assert len(model.asked) == taken.sum()
    away = torch.stack(model.asked) - 0.5
    norms = (image - 0.5).flatten(1)
    found = 0
    for own, count in zip(norms, taken.tolist(), strict=True):
        along = away.flatten(1) @ own / own.square().sum()
        on_line = (away.flatten(1) - along[:, None] * own).norm(dim=1) < 1e-4
        distinct = along[on_line & (along > 1e-6)].sort().values
        assert (distinct.diff() > 1e-5).all() and len(distinct) == count - 1
        found += len(distinct)
    # The rest are the baseline, once for each image.
    assert found + 3 == len(model.asked)


def test_adaptive_steps_do_not_depend_on_other_images() -> None:
    model, (image, target) = built(Bent), pictures()
    image[1] = 0.5 + 6 * (image[1] - 0.5)
    whole = adaptive_integrated_gradients_of(paths_of(model, image, target), 1e-3)
    for one in range(3):
        some = slice(one, one + 1)
        alone = adaptive_integrated_gradients_of(
            paths_of(model, image[some], target[some], chunk=32), 1e-3
        )
        assert close(alone[0][0], whole[0][one], 1e-4) and alone[2] == whole[2][one]


@pytest.mark.parametrize(("steps", "taken"), [(1, 5), (4, 5), (15, 9), (16, 17)])
def test_no_more_steps_than_are_allowed(steps: int, taken: int) -> None:
    """The values are then those of the Clenshaw-Curtis rule of so many."""
    model, (image, target) = built(Bent), pictures()
    args = {"steps": steps, "tolerance": 1e-12}
    found = run_map("integrated_gradients", args, model, image, target, row=target, layers={})
    assert found.gradients.tolist() == [taken] * 3 and found.gap.min() > 0
    total = torch.zeros_like(image)
    for place, weight in zip(*clenshaw_curtis(taken - 1), strict=True):
        point = (0.5 + place * (image - 0.5)).float().requires_grad_(True)
        value = model(point)[torch.arange(3), target].sum()
        total += weight * torch.autograd.grad(value, point)[0]
    theirs = ((image - 0.5) * total).sum(dim=1, keepdim=True)
    assert close(found.values, theirs, 1e-4)
