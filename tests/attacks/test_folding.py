"""A folded copy says what the network says, has no batch norms, and leaves the network alone."""

import pytest
import torch
from torch import Tensor, nn

from fundusray.attacks import folded
from fundusray.config import Model
from fundusray.models import build_model
from tests.attacks.small_networks import convolutions, pictures


def norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]


def with_statistics(model: nn.Module) -> nn.Module:
    """As after a training: means, variances, scales and shifts of all kinds."""
    torch.manual_seed(0)
    for layer in norms(model):
        layer.running_mean.normal_(std=0.2)
        layer.running_var.uniform_(0.5, 2.0)
        with torch.no_grad():
            layer.weight.uniform_(0.7, 1.4)
            layer.bias.normal_(std=0.2)
    return model


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18"])
def test_networks_of_the_papers_are_folded_whole(name: str) -> None:
    """timm's norms that activate, too."""
    model = with_statistics(build_model(Model(name=name), 5, 0)).train()
    image = pictures(2, 64)
    copy = folded(model, image)
    assert copy is not model and not norms(copy) and len(norms(model)) > 15
    assert all(layer.training for layer in norms(model)) and not copy.training
    shown = pictures(3, 64, seed=9)
    with torch.no_grad():
        ours, theirs = copy(shown), model.eval()(shown)
    assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()
    assert not any(parameter.requires_grad for parameter in copy.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_gradients_by_the_image_are_the_same() -> None:
    image, model = pictures(2, 15), convolutions()
    copy = folded(model.to(memory_format=torch.channels_last), image)
    gradients = []
    for net in (model, copy):
        shown = image.clone().requires_grad_(True)
        net(shown)[:, 0].sum().backward()
        gradients.append(shown.grad)
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-4)
    assert copy[0].weight.is_contiguous(memory_format=torch.channels_last)


class Between(nn.Module):
    """What the convolution gives is used beside its norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, image: Tensor) -> Tensor:
        made = self.conv(image)
        return (made + self.norm(made)).mean((2, 3))


class Twice(nn.Module):
    """One convolution before two norms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.one, self.two = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, image: Tensor) -> Tensor:
        return (self.one(self.conv(image)) + self.two(self.conv(image))).mean((2, 3))


class Plain(nn.Module):
    """No norm at all."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, image: Tensor) -> Tensor:
        return self.conv(image).mean((2, 3))


@pytest.mark.parametrize("kind", [Between, Twice, Plain])
def test_where_nothing_can_be_folded_the_copy_is_the_network(kind: type[nn.Module]) -> None:
    model = with_statistics(kind())
    assert folded(model, pictures(2, 8)) is model
