"""Guided backpropagation against the rule written out, and against captum where captum is right."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from captum.attr import GuidedBackprop
from torch import Tensor, nn

from fundusray import config
from fundusray.errors import InputError
from fundusray.models import build_model
from fundusray.saliency import run_map
from fundusray.saliency.gradients import largest_channel

Rectifier = Callable[[Tensor], Tensor]


class ByHand(torch.autograd.Function):
    """Springenberg et al. 2015, section 3.4: back goes what is positive, where forth it did."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, most: float) -> Tensor:
        ctx.save_for_backward((value > 0) & (value < most))
        return value.clamp(0, most)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0].clamp_min(0) * ctx.saved_tensors[0], None


def rectified(value: Tensor) -> Tensor:
    return ByHand.apply(value, torch.inf)


def rectified_to_six(value: Tensor) -> Tensor:
    return ByHand.apply(value, 6.0)


def overwriting(value: Tensor) -> Tensor:
    """Writes into its input, and its result is not looked at."""
    F.relu(value, inplace=True)
    return value


REUSED = nn.ReLU(inplace=True)
WRITTEN: dict[str, tuple[Rectifier, Rectifier]] = {
    "module": (REUSED, rectified),
    "function": (F.relu, rectified),
    "method": (lambda value: value.relu(), rectified),
    "overwriting": (overwriting, rectified),
    "in place": (lambda value: value.relu_(), rectified),
    "relu6": (nn.ReLU6(inplace=True), rectified_to_six),
    "relu6 function": (F.relu6, rectified_to_six),
}
"""How a rectifier is written -> (it, it by hand)."""


class Small(nn.Module):
    """Two convolutions; between them a rectifier, around which goes its input, too; one after."""

    def __init__(self, rectifier: Rectifier) -> None:
        super().__init__()
        self.act = rectifier
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.Linear(4, 3)
        generator = torch.Generator().manual_seed(4)
        for weight in self.parameters():
            weight.data.copy_(1.5 * torch.randn(weight.shape, generator=generator))

    def forward(self, image: Tensor) -> Tensor:
        before = self.first(image)
        around = 0.5 * before
        features = self.act(self.second(self.act(before.clone())) + around)
        return self.last(features.mean(dim=(2, 3)))


def pictures(side: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(3, 3, side, side, generator=generator), torch.tensor([0, 2, 1])


def mapped(model: nn.Module, image: Tensor, target: Tensor, **keywords: Any) -> Tensor:
    rows, name = torch.arange(len(image)), keywords.pop("name", "guided_backpropagation")
    chunk = keywords.pop("chunk", 32)
    return run_map(name, keywords, model, image, target, row=rows, layers={}, chunk=chunk).values


@pytest.mark.parametrize("written", WRITTEN)
def test_is_the_rule_by_hand_however_the_rectifier_is_written(written: str) -> None:
    image, target = pictures()
    theirs, ours = (Small(act).eval() for act in WRITTEN[written])
    leaf = image.clone().requires_grad_(True)
    logits = ours(leaf).gather(1, target[:, None])
    (gradient,) = torch.autograd.grad(logits.sum(), leaf)
    values = mapped(theirs, image, target)
    assert gradient.abs().max() > 0
    torch.testing.assert_close(values, largest_channel(gradient), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(values, mapped(theirs, image, target, name="saliency"), atol=1e-3)
    torch.testing.assert_close(mapped(theirs, image, target, chunk=1), values)


def test_the_probability_is_explained_where_it_is_asked_for() -> None:
    image, target = pictures()
    leaf = image.clone().requires_grad_(True)
    shares = Small(rectified)(leaf).softmax(dim=1).gather(1, target[:, None])
    (gradient,) = torch.autograd.grad(shares.sum(), leaf)
    values = mapped(Small(F.relu).eval(), image, target, output="probability")
    torch.testing.assert_close(values, largest_channel(gradient), rtol=1e-4, atol=1e-6)


def test_a_tensor_that_also_goes_around_the_rectifier_is_cut_off_in_it_alone() -> None:
    """Captum by itself cuts off the sum of both gradients."""

    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, image: Tensor) -> Tensor:
            value = 1.0 * image
            return torch.stack([(2 * self.act(value) - 3 * value).sum((1, 2, 3))] * 2, dim=1)

    image = torch.rand(1, 3, 4, 4) + 0.1
    values = mapped(Around().eval(), image, torch.tensor([1]))
    torch.testing.assert_close(values, torch.full_like(values, 2.0 - 3.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = GuidedBackprop(Around().eval()).attribute(image, target=1)
    assert (theirs == 0).all()


def test_resnet_is_captums() -> None:
    """Its rectifiers are modules, and nothing goes around them: captum is right of it."""
    model = build_model(config.Model(name="resnet18"), 3, seed=0).eval()
    image, target = pictures(32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = GuidedBackprop(model).attribute(image, target=target)
    values = mapped(model, image, target)
    torch.testing.assert_close(values, largest_channel(theirs), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "side"), [("inception_v3", 75), ("efficientnet_lite0", 32), ("bagnet9", 17)]
)
def test_is_no_plain_gradient_where_captum_alone_gives_one(name: str, side: int) -> None:
    """Rectifiers that are functions (inception_v3), end at 6 (lite0); modules stay as they were."""
    model = build_model(config.Model(name=name), 3, seed=0).eval()
    image, target = pictures(side)
    with torch.no_grad():
        before = model(image)
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    modules = [(path, id(module)) for path, module in model.named_modules()]
    values = mapped(model, image, target)
    plain = mapped(model, image, target, name="saliency")
    pair = torch.stack([values.flatten(), plain.flatten()])
    assert values.abs().max() > 0 and torch.corrcoef(pair)[0, 1].abs() < 0.9
    assert hooks == [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    assert modules == [(path, id(module)) for path, module in model.named_modules()]
    with torch.no_grad():
        assert torch.equal(model(image), before)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (nn.SiLU(inplace=True), "this one has silu, where it would be a plain gradient"),
        (F.gelu, "this one has gelu"),
        (nn.Hardtanh(), "this one has hardtanh"),
        (torch.sigmoid, "this one has no rectifier"),
    ],
)
def test_what_would_be_a_plain_gradient_is_refused(act: Rectifier, words: str) -> None:
    model = Small(act).eval()
    image, target = pictures()
    with pytest.raises(InputError, match=words):
        mapped(model, image, target)
    assert all(not module._forward_hooks for module in model.modules())


def test_efficientnet_b0_is_refused_and_nothing_warns() -> None:
    image, target = pictures(32)
    model = build_model(config.Model(name="efficientnet_b0"), 3, seed=0).eval()
    with pytest.raises(InputError, match="efficientnet_lite0 or bagnet33"):
        mapped(model, image, target)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mapped(Small(F.relu).eval(), *pictures())
