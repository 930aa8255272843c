"""Plain gradients: captum's saliency, and SmoothGrad as a loop over the same noise."""

import captum.attr
import pytest
import torch
from torch import Tensor, nn

from fundusray.hashed_numbers import normal_numbers
from fundusray.saliency import run_map
from fundusray.saliency.gradients import NOISE, largest_channel
from tests.saliency.layered_networks import Plain, built, problem_of
from tests.saliency.planted import Linear

ROW = torch.tensor([11, 4, 70])


def mapped(name: str, model: nn.Module, some: slice = slice(None), **keywords: object) -> Tensor:
    problem, chunk = problem_of(model, 3), keywords.pop("chunk", 32)
    return run_map(
        name, keywords, model, problem.image[some], problem.target[some], row=ROW[some],
        layers={}, chunk=chunk,
    ).values  # fmt: skip


def test_saliencys_magnitude_is_captums() -> None:
    model = built(Plain)
    problem = problem_of(model, 3)
    theirs = captum.attr.Saliency(model).attribute(
        problem.image.clone().requires_grad_(True), target=problem.target
    )
    values = mapped("saliency", model)
    torch.testing.assert_close(values.abs(), theirs.amax(dim=1, keepdim=True))
    assert (values < 0).any() and (values > 0).any()


def test_of_a_linear_network_it_is_the_weight() -> None:
    weight = torch.tensor([[[1.0, -2]], [[-3, 1]], [[2, 0.5]]])
    image, target = torch.rand(2, 3, 1, 2), torch.tensor([1, 0])
    values = run_map("saliency", {}, Linear(weight), image, target, row=target, layers={}).values
    assert values.tolist() == [[[[-3.0, -2.0]]], [[[0.0, 0.0]]]]
    again = run_map(
        "smooth_grad", {"draws": 3}, Linear(weight), image, target, row=target, layers={}
    ).values
    torch.testing.assert_close(again, values)


def test_smooth_grad_is_a_loop_over_noisy_copies() -> None:
    model = built(Plain)
    problem = problem_of(model, 3)
    draws, noise = 4, 0.3
    total = torch.zeros_like(problem.image)
    for place in range(3):
        image = problem.image[place]
        for draw in range(draws):
            numbers = normal_numbers(0, ROW[place : place + 1], NOISE + draw, image.numel())
            spread = noise * (image.max() - image.min())
            noisy = (image + spread * numbers.view(image.shape))[None].requires_grad_(True)
            value = model(noisy)[0, problem.target[place]]
            total[place] += torch.autograd.grad(value, noisy)[0][0] / draws
    values = mapped("smooth_grad", model, draws=draws, noise=noise)
    torch.testing.assert_close(values, largest_channel(total), rtol=1e-4, atol=1e-6)
    assert not torch.allclose(values, mapped("saliency", model), rtol=0.1)


def test_without_noise_it_is_saliency() -> None:
    model = built(Plain)
    values = mapped("smooth_grad", model, draws=2, noise=0.0)
    torch.testing.assert_close(values, mapped("saliency", model))


def test_the_probability_is_explained_where_it_is_asked_for() -> None:
    model = built(Plain)
    problem = problem_of(model, 3)
    leaf = problem.image.clone().requires_grad_(True)
    shares = model(leaf).softmax(dim=1).gather(1, problem.target[:, None])
    (gradient,) = torch.autograd.grad(shares.sum(), leaf)
    values = mapped("saliency", model, output="probability")
    torch.testing.assert_close(values, largest_channel(gradient))


@pytest.mark.parametrize(("name", "keywords"), [("saliency", {}), ("smooth_grad", {"draws": 3})])
def test_other_images_and_passes_do_not_matter(name: str, keywords: dict) -> None:
    model = built(Plain)
    whole = mapped(name, model, **keywords)
    torch.testing.assert_close(mapped(name, model, chunk=2, **keywords), whole)
    for one in range(3):
        alone = mapped(name, model, slice(one, one + 1), **keywords)
        torch.testing.assert_close(alone, whole[one : one + 1])


def test_noise_is_of_the_row() -> None:
    model = built(Plain)
    problem = problem_of(model, 1)
    image, target = problem.image.repeat(3, 1, 1, 1), problem.target.repeat(3)
    row = torch.tensor([5, 6, 5])
    first, second, third = run_map(
        "smooth_grad", {"draws": 2}, model, image, target, row=row, layers={}
    ).values
    torch.testing.assert_close(first, third)
    assert not torch.allclose(first, second, rtol=1e-2)
