"""Faithfulness: closed forms of linear networks, loops by hand, and captum's metrics."""

import copy

import numpy as np
import pytest
import torch
from captum.metrics import infidelity as captum_infidelity
from captum.metrics import sensitivity_max
from scipy import ndimage
from torch import Tensor

from fundusray.errors import InputError
from fundusray.saliency import explanation
from fundusray.saliency.faithfulness import (
    infidelity,
    max_sensitivity,
    normal_noise,
    pixel_curves,
    square_removal,
    start_image,
    uniform_offset,
)
from tests.saliency.planted import Linear, convolutions, eyes, problem_of


def random_maps(image: Tensor, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(image), 1, *image.shape[2:], generator=generator)


def test_curves_of_a_linear_network_are_sums_of_its_map() -> None:
    """Of weights w and half-grey starts what goes or comes is w (x - 1/2), summed by strength."""
    image = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    model = Linear(torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(2)))
    parts = (model.weight * (image - 0.5)).detach().sum(dim=1, keepdim=True)
    curves = pixel_curves(
        problem_of(model, image), parts, step=5, inserted="half_grey", output="logit"
    )
    assert curves.pixels.tolist() == [0, 5, 10, 15, 20, 25, 30, 35, 36]
    ordered = parts.flatten(1).sort(dim=1, descending=True).values
    summed = torch.cat([torch.zeros(2, 1), ordered.cumsum(dim=1)], dim=1)[:, curves.pixels]
    with torch.no_grad():
        whole, nothing = model(image)[:, 1:], model(torch.full_like(image, 0.5))[:, 1:]
    assert torch.allclose(curves.deletion, whole - summed, atol=1e-4)
    assert torch.allclose(curves.insertion, nothing + summed, atol=1e-4)
    share = curves.pixels.numpy() / 36
    for area, curve in (
        (curves.deletion_area(), curves.deletion),
        (curves.insertion_area(), curves.insertion),
    ):
        assert area.numpy() == pytest.approx(np.trapezoid(curve.numpy(), share, axis=1), rel=1e-5)


@pytest.mark.parametrize(("chunk", "folding"), [(1, True), (7, True), (1000, False)])
def test_curves_are_those_of_a_loop(chunk: int, folding: bool) -> None:
    """One image and one step after the other, by the authors' own description."""
    image, _, _ = eyes()
    image = image[:, :, 8:32, 8:32]
    model, values = convolutions().eval(), random_maps(image)
    curves = pixel_curves(problem_of(model, image, chunk), values, step=100, folding=folding)
    blurred = start_image(image, "blurred")
    for k in range(len(image)):
        order = np.argsort(-values[k].flatten().numpy(), kind="stable")
        for step, num in enumerate(curves.pixels.tolist()):
            gone, come = image[k].flatten(1).clone(), blurred[k].flatten(1).clone()
            gone[:, order[:num]] = 0.5
            come[:, order[:num]] = image[k].flatten(1)[:, order[:num]]
            with torch.no_grad():
                answers = model(torch.stack([gone, come]).view(2, 3, 24, 24)).softmax(dim=1)[:, 1]
            found = (curves.deletion[k, step].item(), curves.insertion[k, step].item())
            assert found == pytest.approx(answers.tolist(), abs=1e-6)


def test_the_oracle_is_more_faithful_than_a_random_map() -> None:
    """A network that sums up what is on the lesions of a drawn eye."""
    image, lesions, _ = eyes(1)
    model = Linear((lesions[0] / lesions.sum()).expand(3, 48, 48).clone())
    problem = problem_of(model, image)
    oracle = pixel_curves(problem, lesions.float(), inserted="half_grey", deleted="half_grey")
    random = pixel_curves(problem, random_maps(image), inserted="half_grey", deleted="half_grey")
    sign = torch.sign(oracle.deletion[0, 0] - oracle.deletion[0, -1])
    assert sign * (random.deletion_area() - oracle.deletion_area()) > 0.01
    assert sign * (oracle.insertion_area() - random.insertion_area()) > 0.01


def test_blurring_is_that_of_scipy() -> None:
    image, _, _ = eyes(1)
    image = image[:, :, :40, :40]
    reach = int(3 * 40 / 32) + 1
    expected = ndimage.gaussian_filter(
        image[0].double().numpy(), (0, 40 / 32, 40 / 32), mode="mirror", radius=(0, reach, reach)
    )
    assert np.allclose(start_image(image, "blurred")[0].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("perturb", [square_removal(5, seed=3), normal_noise(0.1, seed=3)])
def test_infidelity_is_captums(perturb, scaled: bool) -> None:
    image, _, _ = eyes()
    image, draws = image[:, :, 8:24, 8:24], 6
    model, values = convolutions().eval(), random_maps(image)
    problem = problem_of(model, image)
    found = infidelity(problem, values, perturb, draws=draws, scaled=scaled)

    def same(inputs: Tensor) -> tuple[Tensor, Tensor]:
        pairs = [perturb(image, problem.row, draw) for draw in range(draws)]
        where, after = (torch.stack(side, dim=1).flatten(0, 1) for side in zip(*pairs, strict=True))
        assert after.shape == inputs.shape
        return where.expand_as(after), after

    # Its map has a number for each channel; ours is their sum.
    spread = (values / 3).expand_as(image).contiguous()
    expected = captum_infidelity(
        model, same, image, spread, target=1, n_perturb_samples=draws, normalize=scaled
    )
    assert found.numpy() == pytest.approx(expected.numpy(), rel=1e-4)


def test_squares_stand_anywhere_on_the_image() -> None:
    image, row = torch.zeros(200, 3, 6, 6), torch.arange(200)
    where, after = square_removal(4, seed=1)(image, row, 0)
    assert torch.equal(after, 0.5 * where.expand_as(image))
    corners = set()
    for square in where[:, 0]:
        rows, columns = square.nonzero().unbind(dim=1)
        assert len(rows) == 16 and rows.max() - rows.min() == 3 == columns.max() - columns.min()
        corners.add((int(rows.min()), int(columns.min())))
    assert corners == {(top, left) for top in range(3) for left in range(3)}
    others = [square_removal(4, seed=seed)(image, row, draw)[0] for seed, draw in ((2, 0), (1, 1))]
    assert not any(torch.equal(where, other) for other in others)


def test_the_gradient_of_a_linear_network_has_no_infidelity() -> None:
    image = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    weight = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(2))
    problem = problem_of(Linear(weight.expand(3, 8, 8).clone()), image)
    gradient = (3 * weight).expand(2, 1, 8, 8)
    complete = (weight * (image - 0.5)).sum(dim=1, keepdim=True)
    for values, perturb in ((gradient, normal_noise(0.3)), (complete, square_removal(3))):
        assert infidelity(problem, values, perturb).max() < 1e-8
        assert infidelity(problem, 7 * values, perturb).min() > 0.1
        assert infidelity(problem, 7 * values, perturb, scaled=True).max() < 1e-8


def test_sensitivity_is_captums() -> None:
    image, _, _ = eyes()
    image, draws = image[:, :, 8:24, 8:24], 5
    model = convolutions().eval()
    problem = problem_of(model, image)
    explain = explanation("saliency", {})
    found = max_sensitivity(explain, problem, radius=0.05, draws=draws, seed=4)

    def noisy(inputs: Tensor) -> Tensor:
        each = [
            image + uniform_offset(image, problem.row, torch.full((len(image),), draw), 0.05, 4)
            for draw in range(draws)
        ]
        assert inputs.shape[0] == draws * len(image)
        return torch.stack(each, dim=1).flatten(0, 1)

    def maps(inputs: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor]:
        if isinstance(inputs, tuple):
            return (maps(inputs[0]),)
        return explain(problem_of(model, inputs))

    expected = sensitivity_max(maps, image, perturb_func=noisy, n_perturb_samples=draws)
    assert found.numpy() == pytest.approx(expected.numpy(), rel=1e-4)
    assert found.min() > 0


def test_a_map_that_asks_no_pixel_is_not_sensitive() -> None:
    image, _, _ = eyes()
    problem = problem_of(convolutions().eval(), image)
    assert max_sensitivity(lambda part: random_maps(part.image[:, :1]) * 0, problem).max() == 0


def test_nothing_depends_on_the_batch_and_the_model_is_left_as_it_was() -> None:
    image, _, _ = eyes()
    model = convolutions()
    state, values = copy.deepcopy(model.state_dict()), random_maps(image)
    perturb, explain = square_removal(7), explanation("saliency", {})

    def figures(problem, values: Tensor) -> list[Tensor]:
        curves = pixel_curves(problem, values, step=500)
        return [
            curves.deletion_area(), curves.insertion_area(),
            infidelity(problem, values, perturb, draws=3),
            max_sensitivity(explain, problem, draws=3),
        ]  # fmt: skip

    whole = problem_of(model, image, chunk=4)
    together = figures(whole, values)
    alone = figures(whole.part(torch.tensor([1])), values[1:2])
    for both, one in zip(together, alone, strict=True):
        assert not both.requires_grad
        assert both[1].item() == pytest.approx(one.item(), rel=1e-4)
    assert model.training and all(weight.requires_grad for weight in model.parameters())
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, state[name])


def test_wrong_input_is_refused_in_words() -> None:
    image, _, _ = eyes()
    problem = problem_of(convolutions().eval(), image)
    with pytest.raises(InputError, match="maps of images"):
        pixel_curves(problem, torch.zeros(3, 3, 48, 48))
    with pytest.raises(InputError, match="half_grey or blurred, got black"):
        pixel_curves(problem, torch.zeros(3, 1, 48, 48), deleted="black")
    with pytest.raises(InputError, match="at least 1"):
        pixel_curves(problem, torch.zeros(3, 1, 48, 48), step=-4)
    with pytest.raises(InputError, match="does not fit images of 48"):
        infidelity(problem, torch.zeros(3, 1, 48, 48), square_removal(49))
