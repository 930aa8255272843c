"""Every map is held to its form, what cannot be explained is refused, and the model stays as it
was."""

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fundusray import config
from fundusray.errors import InputError
from fundusray.models import build_model, feature_layers
from fundusray.saliency import MAPS, Attribution, MapProblem, explanation, run_map
from tests.saliency.layered_networks import CLASSES, SIZE, Plain, built, problem_of

SIDE, ROWS = 64, torch.tensor([40, 7, 12])
FEW = {"steps": 3, "draws": 2, "window": 32, "neurons": 3}
"""Keywords with which a map is quickly made."""


class Dense(nn.Module):
    """Logits of every pixel, as a network of masks gives them."""

    def forward(self, image: Tensor) -> Tensor:
        return image


class OneLogit(nn.Module):
    """Of the mean brightness."""

    def forward(self, image: Tensor) -> Tensor:
        return image.mean(dim=(1, 2, 3))[:, None]


class Pair(nn.Module):
    """Gives two outputs."""

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return image.mean(dim=(2, 3)), image.mean(dim=(2, 3))


class Overflowing(nn.Module):
    """Its gradient is not finite where an image holds a black pixel."""

    def forward(self, image: Tensor) -> Tensor:
        return image.sqrt().mean(dim=(2, 3))


@cache
def network(name: str) -> nn.Module:
    return build_model(config.Model(name=name), CLASSES, seed=0)


def keywords_of(name: str) -> dict[str, Any]:
    own = MAPS[name].__kwdefaults__ or {}
    return {key: value for key, value in FEW.items() if key in own}


def explained(name: str, some: slice, chunk: int = 32, **keywords: Any) -> Attribution:
    model = "bagnet33" if name == "bagnet_evidence" else "resnet18"
    image = torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(8))
    return run_map(
        name, keywords_of(name) | keywords, network(model), image[some],
        torch.tensor([2, 0, 1])[some], row=ROWS[some], layers=feature_layers(model), chunk=chunk,
    )  # fmt: skip


def close(ours: Tensor, theirs: Tensor, share: float = 1e-4) -> bool:
    return bool((ours - theirs).abs().max() <= share * theirs.abs().max())


@pytest.mark.parametrize("name", sorted(MAPS))
def test_every_map_has_its_form_and_is_of_its_own_image(name: str) -> None:
    whole = explained(name, slice(None))
    assert whole.values.shape == (3, 1, SIDE, SIDE) and whole.values.dtype == torch.float32
    assert whole.values.isfinite().all() and whole.values.is_contiguous()
    assert (whole.values.flatten(1).std(dim=1) > 0).all() and not whole.values.requires_grad
    assert close(explained(name, slice(None), chunk=2).values, whole.values)
    alone = explained(name, slice(1, 2))
    assert close(alone.values, whole.values[1:2])
    assert (whole.gap is None) == (alone.gap is None)
    if MAPS.facts(name).complete:
        assert whole.gap.shape == (3,)
    if whole.gap is not None:
        torch.testing.assert_close(alone.gap, whole.gap[1:2], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("name", sorted(MAPS))
def test_the_model_stays_as_it_was(name: str) -> None:
    model = network("bagnet33" if name == "bagnet_evidence" else "resnet18")
    model.train()
    last = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)][-1]
    last.eval()
    last.weight.requires_grad_(False)

    def state() -> list[Any]:
        hooks = [
            len(layer._forward_hooks) + len(layer._forward_pre_hooks) + len(layer._backward_hooks)
            for layer in model.modules()
        ]
        modes = [layer.training for layer in model.modules()]
        learning = [weight.requires_grad for weight in model.parameters()]
        return [modes, learning, hooks, [weight.grad is None for weight in model.parameters()]]

    before = state()
    numbers = {key: value.clone() for key, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    explained(name, slice(0, 1))
    assert state() == before and torch.is_grad_enabled()
    assert all(torch.equal(value, numbers[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
    last.weight.requires_grad_(True)
    model.eval()


@pytest.mark.parametrize("name", sorted(MAPS))
def test_no_images_have_no_maps(name: str) -> None:
    assert explained(name, slice(0, 0)).values.shape == (0, 1, SIDE, SIDE)


def refused(model: nn.Module, target: int = 0, name: str = "saliency", **args: Any) -> None:
    image = torch.rand(2, 3, SIZE, SIZE)
    classes = torch.tensor([0, target])
    run_map(name, args, model, image, classes, row=classes, layers={})


@pytest.mark.parametrize(
    ("model", "target", "words"),
    [
        (built(Plain), 3, "class 3 is asked for; the network's 3 classes are numbered 0 to 2"),
        (built(Plain), -1, "class -1 is asked for"),
        (OneLogit(), 0, "gives one logit.*model.output=binary"),
        (Dense(), 0, r"class logits \[B, K\]; this network gives \(1, 3, 12, 12\).*masks"),
        (Pair(), 0, "this network gives tuple"),
    ],
)
def test_what_cannot_be_explained_is_refused(model: nn.Module, target: int, words: str) -> None:
    model.train()
    with pytest.raises(InputError, match=words):
        refused(model, target)
    assert model.training
    model.eval()


@pytest.mark.parametrize("output", ["softmax", "regression", "coral"])
def test_a_classifier_says_itself_how_many_classes_it_has(output: str) -> None:
    model = build_model(config.Model(name="timm/test_resnet", output=output), CLASSES, 0).eval()
    image = torch.rand(2, 3, SIDE, SIDE)
    with torch.no_grad():
        assert model(image).shape == (2, CLASSES)
    for target in (-1, CLASSES):
        classes = torch.tensor([0, target])
        with pytest.raises(InputError, match=f"class {target} is asked for; .* 0 to 2"):
            run_map("saliency", {}, model, image, classes, row=classes, layers={})


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("grad_cm", {}, "no map named 'grad_cm'; did you mean 'grad_cam'"),
        ("saliency", {"step": 3}, "step.*output"),
        ("integrated_gradients", {"steps": 0}, "steps: needs a whole number of at least 1, got 0"),
        ("integrated_gradients", {"rule": "rigt"}, "gauss_legendre or right, got 'rigt'.*'right'"),
        ("integrated_gradients", {"baseline": 1.5}, r"baseline: needs a number in \[0, 1\]"),
        ("smooth_grad", {"noise": float("nan")}, "noise: needs a number of at least 0"),
        ("saliency", {"output": "softmax"}, "needs logit or probability"),
        ("saliency", {"problem": 1}, "problem"),
    ],
)
def test_other_names_and_keywords_are_refused(name: str, args: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        refused(built(Plain), name=name, **args)
    with pytest.raises(InputError, match=words):
        explanation(name, args)


def test_what_is_not_finite_is_refused_with_its_rows() -> None:
    image = torch.full((3, 3, SIZE, SIZE), 0.5)
    image[1, 0, 2, 3] = 0.0
    target = torch.zeros(3, dtype=torch.int64)
    with pytest.raises(InputError, match=r"map saliency is not finite for rows \[7\]: .*occlusion"):
        run_map("saliency", {}, Overflowing(), image, target, row=ROWS, layers={})
    # The map that it names instead says something.
    found = run_map("occlusion", {"fill": 0.0}, Overflowing(), image, target, row=ROWS, layers={})
    assert found.values.isfinite().all()


def test_the_model_stays_as_it_was_when_a_map_fails() -> None:
    model = Overflowing()
    model.weight = nn.Parameter(torch.ones(1))
    image, target = torch.zeros(1, 3, SIZE, SIZE), torch.zeros(1, dtype=torch.int64)
    with pytest.raises(InputError, match="not finite"):
        run_map("saliency", {}, model, image, target, row=target, layers={})
    assert model.training and model.weight.requires_grad


def test_an_explanation_is_the_map_of_a_problem() -> None:
    problem: MapProblem = problem_of(built(Plain), 3)
    args = {"steps": 4}
    values = explanation("integrated_gradients", args)(problem)
    found = run_map(
        "integrated_gradients", args, problem.model, problem.image, problem.target,
        row=problem.row, layers={}, chunk=problem.chunk,
    )  # fmt: skip
    assert torch.equal(values, found.values)
