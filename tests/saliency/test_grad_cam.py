"""Grad-CAM is captum's and the paper's equations; layers that break it are refused in words."""

import captum.attr
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fundusray import config
from fundusray.errors import InputError
from fundusray.models import build_model, feature_layers
from fundusray.saliency import run_map
from fundusray.saliency.grad_cam import grad_cam_of
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


class Tiny(nn.Module):
    """One feature map of two channels: the mean of the colours, and red. Class 1 is 2 of the
    first's mean minus 3 of the second's, class 0 is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 2, 2, stride=2, bias=False)
        weight = torch.zeros(2, 3, 2, 2)
        weight[0], weight[1, 0] = 1 / 12, 1 / 4
        self.features.weight.data = weight

    def forward(self, image: Tensor) -> Tensor:
        first, second = self.features(image).mean(dim=(2, 3)).unbind(dim=1)
        return torch.stack([0 * first, 2 * first - 3 * second], dim=1)


class Twice(nn.Module):
    """A layer that is passed twice."""

    def __init__(self) -> None:
        super().__init__()
        self.same = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        return self.same(self.same(image)).mean(dim=(2, 3))


class Tokens(nn.Module):
    """Of patches, and no feature map."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 4, 4, stride=4)
        self.tokens = nn.Linear(4, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        return self.tokens(self.patches(image).flatten(2).transpose(1, 2)).mean(dim=1)


def mapped(model: nn.Module, num: int = 3, **keywords: object) -> Tensor:
    problem = problem_of(model, num)
    layers = keywords.pop("layers", problem.layers)
    target = keywords.pop("target", problem.target)
    chunk = keywords.pop("chunk", 32)
    return run_map(
        "grad_cam", keywords, model, problem.image, target, row=problem.row, layers=layers,
        chunk=chunk,
    ).values  # fmt: skip


def close(ours: Tensor, theirs: Tensor, share: float = 1e-5) -> bool:
    return bool((ours - theirs).abs().max() <= share * theirs.abs().max())


@pytest.mark.parametrize("layer", ["first", "second"])
@pytest.mark.parametrize("network", [Plain, Residual, Straight])
def test_is_captums(network: type[nn.Module], layer: str) -> None:
    if network is Straight and layer == "second":
        layer = "first"
    model = built(network)
    problem = problem_of(model, 3)
    ours = grad_cam_of(model, layer, problem.image, problem.target)
    theirs = captum.attr.LayerGradCam(model, model.get_submodule(layer)).attribute(
        problem.image, target=problem.target
    )
    assert close(ours, theirs.detach()) and hooks_of(model) == 0
    wide = F.interpolate(theirs.detach(), (SIZE, SIZE), mode="bilinear", align_corners=False)
    assert close(mapped(model, layer=layer), wide)


def test_a_resnets_last_feature_map_is_captums() -> None:
    model = build_model(config.Model(name="resnet18"), 3, seed=0).eval().requires_grad_(False)
    path = feature_layers("resnet18")["last"]
    image, target = torch.rand(2, 3, 64, 64), torch.tensor([2, 0])
    theirs = captum.attr.LayerGradCam(model, model.get_submodule(path)).attribute(
        image, target=target
    )
    ours = grad_cam_of(model, path, image, target)
    assert ours.shape == (2, 1, 2, 2) and close(ours, theirs.detach())


def test_the_equations_by_hand() -> None:
    """Channel weights are means of the gradient: 2 and -3, each by the four places of the map."""
    image = torch.zeros(1, 3, 4, 4)
    image[0, 0, :2, :2] = 0.6  # red, upper left: means 0.2 and 0.6
    image[0, 1, 2:, 2:] = 0.9  # green, lower right: 0.3 and 0
    found = grad_cam_of(Tiny().eval(), "features", image, torch.tensor([1]))
    upper_left, lower_right = (2 * 0.2 - 3 * 0.6) / 4, 2 * 0.3 / 4
    expected = torch.tensor([[upper_left, 0], [0, lower_right]])
    torch.testing.assert_close(found[0, 0], expected)
    assert (grad_cam_of(Tiny(), "features", image, torch.tensor([0])) == 0).all()


def test_the_probability_is_explained_where_it_is_asked_for() -> None:
    model = built(Plain)
    problem = problem_of(model, 3)
    kept: list[Tensor] = []

    def keep(_: nn.Module, inputs: object, output: Tensor) -> Tensor:
        kept.append(output.requires_grad_(True))
        return output

    handle = model.second.register_forward_hook(keep)
    value = model(problem.image).softmax(dim=1).gather(1, problem.target[:, None]).sum()
    handle.remove()
    (gradient,) = torch.autograd.grad(value, kept[0])
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    expected = (weights * kept[0]).sum(dim=1, keepdim=True).detach()
    ours = grad_cam_of(model, "second", problem.image, problem.target, "probability")
    assert close(ours, expected)


def test_passes_and_a_layer_that_is_named_the_same() -> None:
    model = built(Plain)
    assert torch.allclose(mapped(model, chunk=1), mapped(model), atol=1e-6)
    assert torch.equal(mapped(model, layer="second"), mapped(model))
    assert not torch.allclose(mapped(model, layer="first"), mapped(model))


def test_what_is_written_into_the_layer_behind_it_does_not_change_it() -> None:
    """An in-place ReLU leaves what the layer said, negative numbers too."""
    assert torch.equal(mapped(built(Plain, inplace=True)), mapped(built(Plain)))
    assert torch.equal(
        mapped(built(Residual, inplace=True), layer="second"),
        mapped(built(Residual), layer="second"),
    )


@pytest.mark.parametrize(
    ("network", "keywords", "words"),
    [
        (
            Plain,
            {"layer": "secnd"},
            "no layer named 'secnd'; did you mean 'second'.*have: first, head",
        ),
        (Plain, {"layers": {}}, r"no feature map.*name a layer \(layer=\).*occlusion"),
        (Plain, {"layer": "hidden"}, r"layer hidden gives \(3, 6\), no feature map"),
        (Twice, {"layer": "same"}, "layer same is passed more than once"),
        (Residual, {"layer": "unused"}, "does not depend on layer unused"),
        (Tokens, {"layer": "tokens"}, r"layer tokens gives \(3, 9, 3\), no feature map"),
    ],
)
def test_layers_that_break_it_are_refused(
    network: type[nn.Module], keywords: dict, words: str
) -> None:
    model = built(network)
    with pytest.raises(InputError, match=words):
        mapped(model, **keywords)
    assert hooks_of(model) == 0


def test_a_network_judged_under_flips_passes_its_layers_twice() -> None:
    model = build_model(config.Model(name="resnet18", flips="horizontal"), CLASSES, seed=0).eval()
    with pytest.raises(InputError, match=r"passed more than once.*model\.flips=none"):
        mapped(model, layers=feature_layers("resnet18"))
    assert hooks_of(model) == 0
