"""Pixels behind single neurons are captum's, a loop's, and what can be worked out."""

import captum.attr
import pytest
import torch
from torch import nn

from fundusray.errors import InputError
from fundusray.saliency.activations import activation
from fundusray.saliency.neuron_integrated_gradients import (
    neuron_attributions,
    weighted_attributions,
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

NEURONS = torch.tensor([[[0, 0, 0], [3, 4, 2], [1, 2, 4]], [[2, 3, 3], [1, 0, 4], [3, 1, 1]]])


@pytest.mark.parametrize("rule", [("gauss_legendre", "gausslegendre"), ("right", "riemann_right")])
@pytest.mark.parametrize("layer", ["first", "second"])
@pytest.mark.parametrize("network", [Plain, Residual])
def test_they_are_captums(network: type[nn.Module], layer: str, rule: tuple[str, str]) -> None:
    model = built(network)
    problem = problem_of(model)
    found = neuron_attributions(problem, layer, NEURONS, Line(15, rule[0]))
    peer = captum.attr.NeuronIntegratedGradients(model, model.get_submodule(layer))
    for image, neurons, ours in zip(problem.image, NEURONS, found, strict=True):
        for neuron, own in zip(neurons, ours, strict=True):
            theirs = peer.attribute(
                image[None], tuple(neuron.tolist()), baselines=0.5, n_steps=15, method=rule[1]
            )
            assert (own - theirs[0]).abs().max() <= 1e-5 * theirs.abs().max()
    assert hooks_of(model) == 0


def test_what_writes_into_its_input_changes_nothing() -> None:
    for layer in ("first", "second"):
        plain, inplace = (
            neuron_attributions(problem_of(built(Plain, inplace=i)), layer, NEURONS, Line(5))
            for i in (False, True)
        )
        assert torch.allclose(plain, inplace)


def test_a_linear_neuron_has_a_closed_form_and_a_small_region() -> None:
    """Its kernel times what the image has beyond half-grey, and nothing elsewhere."""
    model = built(Straight)
    problem = problem_of(model, num=1)
    (found,) = neuron_attributions(problem, "first", torch.tensor([[[1, 5, 7]]]), Line(1))[0]
    window = (slice(None), slice(4, 7), slice(6, 9))
    expected = torch.zeros(3, SIZE, SIZE)
    expected[window] = model.first.weight[1] * (problem.image[0][window] - 0.5)
    assert torch.allclose(found, expected, atol=1e-7)


def test_a_neurons_pixels_sum_to_its_activation() -> None:
    problem = problem_of(built(Residual))
    found = neuron_attributions(problem, "second", NEURONS, Line(40)).sum(dim=(2, 3, 4))
    with torch.no_grad():
        own = activation(problem.model, "second", problem.image)
        grey = activation(problem.model, "second", torch.full_like(problem.image, 0.5))
    for place, neurons in enumerate(NEURONS):
        channel, y, x = neurons.unbind(1)
        difference = (own - grey)[place, channel, y, x]
        assert torch.allclose(found[place], difference, atol=1e-5)


def test_weighted_sums_are_sums_of_single_ones() -> None:
    problem = problem_of(built(Plain))
    weights = torch.tensor([[1.0, -2.0, 0.5], [0.0, 0.0, 3.0]]).expand(2, 2, 3)
    single = neuron_attributions(problem, "second", NEURONS, Line(10))
    found = weighted_attributions(problem, "second", NEURONS, weights, Line(10))
    assert torch.allclose(found, torch.einsum("bgk,bkchw->bgchw", weights, single), atol=1e-6)


def test_neurons_that_are_not_there_are_refused() -> None:
    problem = problem_of(built(Plain), num=1)
    for neuron in ([4, 0, 0], [0, 12, 0], [0, 0, -1]):
        with pytest.raises(InputError, match=r"columns \(4, 12, 12\), and no neuron"):
            neuron_attributions(problem, "first", torch.tensor([[neuron]]), Line(2))
    assert hooks_of(problem.model) == 0
