"""Attributions of a layer's neurons are captum's, a hand-written loop's, and what can be worked
out."""

import captum.attr
import pytest
import torch
from torch import nn

from fundusray.config import Model
from fundusray.errors import InputError
from fundusray.models import build_model, feature_layers
from fundusray.saliency import MapProblem, run_map
from fundusray.saliency.layer_integrated_gradients import layer_attributions, layer_baseline
from fundusray.saliency.path_integral import Line, completeness_gap
from tests.saliency.layered_networks import (
    CLASSES,
    SIZE,
    Plain,
    Residual,
    Straight,
    built,
    hooks_of,
    problem_of,
)

CAPTUM = {"gauss_legendre": "gausslegendre", "right": "riemann_right"}


def close(ours: torch.Tensor, theirs: torch.Tensor, share: float = 1e-5) -> bool:
    return bool((ours - theirs).abs().max() <= share * theirs.abs().max())


PLAIN, RESIDUAL = built(Plain), built(Residual)
CASES = {
    "plain": (PLAIN, PLAIN, ("first", "second")),
    # The peer's layer must not be written into: captum keeps it without a copy.
    "in place": (built(Plain, inplace=True), PLAIN, ("first", "second")),
    "added": (RESIDUAL, RESIDUAL, ("first", "second", "around")),
    "added in place": (built(Residual, inplace=True), RESIDUAL, ("first", "second", "around")),
    "joined": (*[built(Residual, joined=True)] * 2, ("first", "second", "around")),
}


@pytest.mark.parametrize("rule", list(CAPTUM))
@pytest.mark.parametrize(
    ("case", "layer"), [(case, layer) for case, found in CASES.items() for layer in found[2]]
)
def test_they_are_captums(case: str, layer: str, rule: str) -> None:
    model, peer, _ = CASES[case]
    problem, line = problem_of(model), Line(20, rule)
    baseline = layer_baseline(model, layer, problem.image)
    found = layer_attributions(problem, layer, baseline, line)
    theirs = captum.attr.LayerIntegratedGradients(peer, peer.get_submodule(layer)).attribute(
        problem.image,
        torch.full_like(problem.image[:1], 0.5),
        target=problem.target,
        n_steps=20,
        method=CAPTUM[rule],
    )
    assert close(found.values, theirs)
    assert hooks_of(model) == 0


def test_the_right_sum_is_a_loop() -> None:
    """Li et al., numerical approximation, written out for what lies behind the layer."""
    model, steps = built(Plain), 6
    problem = problem_of(model)

    def behind(said: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool2d(model.second(said.relu()).relu(), 2).mean(dim=(2, 3))
        return model.head(model.hidden(x).relu()).softmax(dim=1)

    with torch.no_grad():
        own, grey = model.first(problem.image), model.first(torch.full((1, 3, SIZE, SIZE), 0.5))
    total = torch.zeros_like(own)
    for k in range(1, steps + 1):
        point = (grey + k / steps * (own - grey)).requires_grad_(True)
        value = behind(point)[torch.arange(2), problem.target].sum()
        total += torch.autograd.grad(value, point)[0] / steps
    found = layer_attributions(problem, "first", grey, Line(steps, "right"), "probability")
    assert close(found.values, (own - grey) * total)
    assert close(found.gradient, total) and close(found.activation, own)
    assert torch.allclose(found.output, model(problem.image).softmax(1)[[0, 1], problem.target])


def test_a_linear_network_has_a_closed_form() -> None:
    """One step is enough, and the neurons' weights are those of the last layer."""
    model = built(Straight)
    problem = problem_of(model)
    baseline = layer_baseline(model, "first", problem.image)
    found = layer_attributions(problem, "first", baseline, Line(1))
    weights = model.head.weight[problem.target].view(2, 4, SIZE, SIZE)
    assert close(found.values, weights * (model.first(problem.image) - baseline))
    assert found.gap.max() < 1e-4


def test_units_of_a_fully_connected_layer() -> None:
    model = built(Plain, inplace=True)
    problem, dims = problem_of(model), (2, 4)
    baseline = layer_baseline(model, "hidden", problem.image, dims)
    found = layer_attributions(problem, "hidden", baseline, Line(64), dims=dims)
    theirs = captum.attr.LayerIntegratedGradients(PLAIN, PLAIN.hidden).attribute(
        problem.image, torch.full_like(problem.image, 0.5), problem.target, n_steps=64
    )
    assert found.values.shape == (2, 6) and close(found.values, theirs)


def test_no_image_depends_on_its_batch_or_its_passes() -> None:
    problem = problem_of(built(Plain), num=3)
    baseline = layer_baseline(problem.model, "first", problem.image)
    whole = layer_attributions(problem, "first", baseline, Line(9)).values
    part = problem.part(torch.tensor([2]))
    alone = MapProblem(part.model, part.image, part.target, part.row, part.layers, 100)
    assert close(layer_attributions(alone, "first", baseline, Line(9)).values, whole[2:])


def test_a_gap_is_what_is_missing_between_the_photograph_and_half_grey() -> None:
    model = built(Plain)
    problem = problem_of(model)
    baseline = layer_baseline(model, "second", problem.image)
    for steps in (2, 200):
        found = layer_attributions(problem, "second", baseline, Line(steps, "right"))
        value, grey = (
            model(image)[torch.arange(2), problem.target]
            for image in (problem.image, torch.full_like(problem.image, 0.5))
        )
        missing = (found.values.sum(dim=(1, 2, 3)) - (value - grey)).abs() / (
            value - grey
        ).abs().clamp_min(1e-3)
        assert torch.allclose(found.gap, missing, atol=1e-4)
        assert torch.allclose(found.output, value, atol=1e-6)
    assert found.gap.max() < 1e-2


def test_a_gap_is_a_share_of_what_should_be_there() -> None:
    values = torch.tensor([[1.0, 2.0], [1.0, -1.0], [0.0, 2e-4]])
    difference = torch.tensor([4.0, 0.0, 1e-4])
    assert completeness_gap(values, difference).tolist() == pytest.approx([0.25, 0.0, 0.1])


@pytest.mark.parametrize("rule", list(CAPTUM))
def test_points_and_weights(rule: str) -> None:
    places, weights = Line(8, rule).nodes(torch.zeros(1))
    theirs = captum.attr._utils.approximation_methods.approximation_parameters(CAPTUM[rule])
    assert places.tolist() == pytest.approx(theirs[1](8), abs=1e-6)
    assert weights.tolist() == pytest.approx(theirs[0](8), abs=1e-6)


def test_the_map_is_of_the_images_size() -> None:
    """A network of torchvision's whose layer stands where Li et al. look."""
    model = build_model(Model(name="inception_v3"), CLASSES, 0)
    image = torch.rand(1, 3, 80, 80, generator=torch.Generator().manual_seed(0))
    layers = feature_layers("inception_v3")
    assert layers["early"] == "net.Conv2d_4a_3x3"
    asked = {"row": torch.arange(1), "layers": layers}
    found = run_map(
        "layer_integrated_gradients", {"steps": 4}, model, image, torch.tensor([1]), **asked
    )
    assert found.values.shape == (1, 1, 80, 80) and found.gap.shape == (1,)
    assert found.values.abs().max() > 0 and hooks_of(model) == 0
    assert model.training
    named = run_map(
        "layer_integrated_gradients", {"steps": 4, "layer": "Conv2d_4a_3x3"}, model, image,
        torch.tensor([1]), row=torch.arange(1), layers={},
    )  # fmt: skip
    assert torch.equal(named.values, found.values)
    with pytest.raises(InputError, match=r"did you mean 'Conv2d_4a_3x3'"):
        run_map("layer_integrated_gradients", {"layer": "Conv2d_4a_3x"}, model, image,
                torch.tensor([1]), **asked)  # fmt: skip
    with pytest.raises(
        InputError, match=r"AuxLogits\.conv0 is not passed when the network answers"
    ):
        run_map("layer_integrated_gradients", {"layer": "AuxLogits.conv0"}, model, image,
                torch.tensor([1]), **asked)  # fmt: skip


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("unused", "does not depend on layer unused"),
        ("head", r"layer head gives \(1, 3\), no feature map"),
    ],
)
def test_layers_that_cannot_be_are_refused(layer: str, words: str) -> None:
    problem = problem_of(built(Residual))
    with pytest.raises(InputError, match=words):
        baseline = layer_baseline(problem.model, layer, problem.image)
        layer_attributions(problem, layer, baseline, Line(2))
    assert hooks_of(problem.model) == 0


def test_a_network_judged_under_flips_passes_its_layer_twice() -> None:
    model = build_model(Model(name="timm/test_resnet", flips="horizontal"), CLASSES, 0)
    problem = problem_of(model.eval().requires_grad_(False), size=32)
    path = feature_layers("timm/test_resnet")["early"]
    baseline = layer_baseline(model, path, problem.image)
    with pytest.raises(InputError, match="passed more than once"):
        layer_attributions(problem, path, baseline, Line(2))
    assert hooks_of(model) == 0
