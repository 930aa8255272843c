"""Lesion detection put together by hand from captum's parts."""

import captum.attr
import pytest
import torch
from torch import nn

from fundusray.errors import InputError
from fundusray.saliency import MAPS, run_map
from fundusray.saliency.layer_integrated_gradients import layer_baseline
from fundusray.saliency.lesion_detection import (
    LesionMethod,
    active_regions,
    influential_neurons,
    lesion_regions,
)
from fundusray.saliency.path_integral import Line
from tests.saliency.layered_networks import Plain, Residual, built, hooks_of, problem_of


def by_hand(model: nn.Module, image: torch.Tensor, target: int, num: int) -> list[torch.Tensor]:
    """[positive, negative] resultant regions [S, S] of an image [1, 3, S, S]."""
    layer = captum.attr.LayerIntegratedGradients(model, model.second)
    values = layer.attribute(image, 0.5 + 0 * image, target=target, n_steps=12)[0]
    order = [tuple(place.tolist()) for place in torch.argwhere(values != 0)]
    order.sort(key=lambda place: float(values[place]))
    neuron = captum.attr.NeuronIntegratedGradients(model, model.second)
    regions = []
    for places in (
        [place for place in order[::-1][:num] if values[place] > 0],
        [place for place in order[:num] if values[place] < 0],
    ):
        total = torch.zeros(image.shape[2:])
        for place in places:
            region = neuron.attribute(image, place, baselines=0.5, n_steps=12)[0].sum(dim=0)
            total += values[place] * region
        regions.append(total)
    return regions


@pytest.mark.parametrize("network", [Plain, Residual])
def test_it_is_what_the_paper_says(network: type[nn.Module]) -> None:
    model = built(network)
    problem = problem_of(model)
    found = lesion_regions(problem, LesionMethod("second", 3, Line(12)))
    for place in range(2):
        expected = by_hand(model, problem.image[place : place + 1], place, 3)
        for ours, theirs in zip((found.positive, found.negative), expected, strict=True):
            assert (ours[place, 0] - theirs).abs().max() <= 1e-5 * theirs.abs().max()
    assert hooks_of(model) == 0


def test_active_regions_sum_to_the_resultant_one() -> None:
    problem, line = problem_of(built(Plain)), Line(8)
    method = LesionMethod("first", 4, line)
    kept = layer_baseline(problem.model, "first", problem.image)
    found = lesion_regions(problem, method, kept)
    assert torch.equal(found.both, lesion_regions(problem, method).both)
    for neurons, resultant in (
        (found.supporting, found.positive),
        (found.opposing, found.negative),
    ):
        regions = active_regions(problem, "first", neurons, line)
        assert regions.shape == (2, 4, 12, 12)
        summed = torch.einsum("bk,bkhw->bhw", neurons.attribution, regions)
        assert torch.allclose(summed, resultant[:, 0], atol=1e-6)
        # A neuron of the first layer answers to the nine pixels of its kernel.
        assert (regions != 0).sum(dim=(2, 3)).max() <= 9


def test_neurons_are_sorted_and_of_one_sign() -> None:
    values = torch.tensor([[[[1.0, -2.0], [0.0, 3.0]], [[-4.0, 5.0], [0.0, 0.5]]]])
    supporting, opposing = influential_neurons(values, 3)
    assert supporting.attribution.tolist() == [[5, 3, 1]]
    assert supporting.places.tolist() == [[[1, 0, 1], [0, 1, 1], [0, 0, 0]]]
    assert opposing.attribution.tolist() == [[-4, -2, 0]]
    assert opposing.places[0, :2].tolist() == [[1, 0, 0], [0, 0, 1]]
    supporting, opposing = influential_neurons(values, 100)
    assert supporting.attribution.shape == (1, 8) and (supporting.attribution >= 0).all()
    assert (opposing.attribution <= 0).all()


def test_the_map_is_both_regions() -> None:
    problem = problem_of(built(Plain))
    args = {"neurons": 3, "steps": 6, "rule": "right", "layer": "second"}
    found = run_map(
        "lesion_detection", args, problem.model, problem.image, problem.target,
        row=problem.row, layers=problem.layers,
    )  # fmt: skip
    whole = lesion_regions(problem, LesionMethod("second", 3, Line(6, "right")))
    assert torch.allclose(found.values, whole.both, atol=1e-7) and found.values.abs().max() > 0
    usual = MAPS.find("lesion_detection")(problem).values
    early = lesion_regions(problem, LesionMethod("first", 20, Line(50))).both
    assert torch.allclose(usual, early, atol=1e-7)


def test_unknown_layers_are_listed() -> None:
    problem = problem_of(built(Plain))
    with pytest.raises(InputError, match=r"no layer named 'third'.*first.*second"):
        MAPS.find("lesion_detection")(problem, layer="third")
