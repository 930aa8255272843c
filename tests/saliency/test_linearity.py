"""Units along a sweep of the gradient: hand-written, and in closed form for a linear network."""

import captum.attr
import numpy as np
import pytest
import torch

from fundusray.errors import InputError
from fundusray.saliency.linearity import (
    FIRST,
    GradientSweep,
    gradient_examples,
    require_units,
    unit_sweep,
)
from fundusray.saliency.path_integral import Line
from tests.saliency.layered_networks import (
    SIZE,
    Plain,
    Residual,
    Straight,
    built,
    hooks_of,
    problem_of,
)


def test_images_are_moved_as_the_paper_says() -> None:
    """x + c dF/dx, clipped, with c doubled; a linear network's gradient is written down."""
    model = built(Straight)
    problem = problem_of(model)
    c, images = gradient_examples(problem, 9)
    assert c.shape == (2, 11) and images.shape == (2, 11, 3, SIZE, SIZE)
    weights = model.head.weight[problem.target].view(2, 4, SIZE, SIZE)
    gradient = torch.nn.functional.conv_transpose2d(weights, model.first.weight, padding=1)
    largest = gradient.abs().amax(dim=(1, 2, 3))
    assert torch.equal(c[:, 0], torch.zeros(2)) and torch.equal(images[:, 0], problem.image)
    assert torch.allclose(c[:, 1] * largest, torch.full((2,), FIRST))
    assert torch.allclose(c[:, 2:] / c[:, 1:-1], torch.full((2, 9), 2.0))
    for step in range(11):
        expected = (problem.image + c[:, step, None, None, None] * gradient).clamp(0, 1)
        assert torch.allclose(images[:, step], expected, atol=1e-5)
    assert (images[:, -1] % 1 == 0).float().mean() > 0.3  # many are clipped


def test_an_image_without_gradient_stays() -> None:
    model = built(Straight)
    model.head.weight.zero_()
    c, images = gradient_examples(problem_of(model), 3)
    assert c.isfinite().all() and torch.equal(images[:, 3], images[:, 0])


@pytest.mark.parametrize("layer", ["hidden", "second"])
def test_units_are_captums_layer(layer: str) -> None:
    """Of a fully connected layer as they are; of a feature map summed over its places."""
    model = built(Plain)
    problem = problem_of(model)
    found = unit_sweep(problem, GradientSweep(layer, 4, Line(10)))
    _, images = gradient_examples(problem, 4)
    peer = captum.attr.LayerIntegratedGradients(model, model.get_submodule(layer))
    own: list[torch.Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(lambda _, __, out: own.append(out))
    model(images[1])
    model(torch.full((1, 3, SIZE, SIZE), 0.5))
    handle.remove()
    theirs = peer.attribute(images[1], 0.5 + 0 * images[1], target=1, n_steps=10)
    difference = own[0] - own[1]
    if layer == "second":
        theirs, difference = theirs.sum((2, 3)), difference.mean((2, 3))
    assert found.attribution.shape == (2, 6, theirs.shape[1])
    assert torch.allclose(found.attribution[1], theirs.detach(), atol=1e-6)
    assert torch.allclose(found.difference[1], difference, atol=1e-6)
    assert torch.allclose(found.output[1], model(images[1])[:, 1], atol=1e-5)
    moved = (images[1] - images[1, :1]).abs().mean(dim=(1, 2, 3))
    assert torch.allclose(found.moved[1], moved) and found.moved[1, 0] == 0
    assert hooks_of(model) == 0


def test_before_a_linear_layer_an_attribution_is_weight_times_difference() -> None:
    """So of a convolution that is averaged and weighed, whatever lies before it."""
    model = built(Plain)
    model.hidden.bias += 10  # above 0 everywhere: nothing behind the layer bends
    problem = problem_of(model)
    found = unit_sweep(problem, GradientSweep("hidden", 5, Line(3)))
    weight = model.head.weight[problem.target][:, None]
    assert torch.allclose(found.gradient, weight.expand_as(found.gradient), atol=1e-6)
    assert torch.allclose(found.attribution, weight * found.difference, atol=1e-5)


def test_rows_hold_the_largest_units() -> None:
    found = unit_sweep(problem_of(built(Plain)), GradientSweep("hidden", 3, Line(4)))
    columns = found.columns(2)
    assert columns["place"] == [0, 0, 1, 1]
    sizes = found.attribution.abs().mean(dim=1)
    for row, (place, unit) in enumerate(zip(columns["place"], columns["unit"], strict=True)):
        assert sizes[place, unit] == sizes[place].sort(descending=True).values[row % 2]
        for name in ("attribution", "difference", "gradient"):
            own = getattr(found, name)[place, :, unit].double().numpy()
            assert np.array_equal(columns[name][row], own)
        assert np.array_equal(columns["c"][row], found.c[place].double().numpy())
    assert len(found.columns(0)["unit"]) == len(found.columns(100)["unit"]) == 2 * 6


def test_layers_that_cannot_be_followed_are_refused_before() -> None:
    model = built(Residual)
    require_units(model, "second", SIZE)
    require_units(built(Plain), "hidden", SIZE)
    with pytest.raises(InputError, match="does not depend on layer unused"):
        require_units(model, "unused", SIZE)
    assert hooks_of(model) == 0
