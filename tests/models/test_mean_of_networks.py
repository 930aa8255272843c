"""The mean of several networks is the mean of what they answer, in answers and in gradients."""

import math

import pytest
import torch
from torch import nn

from fundusray.errors import InputError
from fundusray.models.mean_of_networks import MeanOfNetworks
from fundusray.saliency.registry import class_gradient


class Table(nn.Module):
    """Answers the same logits to every image."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(image), -1)


def linear(seed: int) -> nn.Sequential:
    layers = nn.Sequential(nn.Flatten(), nn.Linear(27, 4))
    with torch.no_grad():
        layers[1].weight.normal_(generator=torch.Generator().manual_seed(seed))
    return layers.eval()


def test_it_answers_the_mean_of_the_probabilities() -> None:
    """Odds of 1 to 3 and of 3 to 2: a quarter and three fifths are .425 in the mean."""
    mean = MeanOfNetworks([Table(0, math.log(3)), Table(math.log(3), math.log(2))]).eval()
    logits = mean(torch.rand(2, 3, 3, 3))
    torch.testing.assert_close(logits.exp(), torch.tensor([[0.425, 0.575]] * 2))
    torch.testing.assert_close(logits.softmax(1), logits.exp())


def test_a_member_that_is_sure_does_not_make_the_others_vanish() -> None:
    mean = MeanOfNetworks([Table(0.0, 2000.0), Table(0.0, 2000.0), Table(0.0, 2000.0)]).eval()
    assert mean(torch.rand(1, 3, 3, 3)).tolist() == [[-2000.0, 0.0]]


def test_its_gradient_is_that_of_the_mean_probability() -> None:
    members, image = [linear(0), linear(1), linear(2)], torch.rand(5, 3, 3, 3)
    target = torch.tensor([0, 1, 2, 3, 0])
    gradient, value = class_gradient(MeanOfNetworks(members).eval(), image, target, "probability")
    each = [class_gradient(member, image, target, "probability") for member in members]
    torch.testing.assert_close(gradient, sum(one for one, _ in each) / 3)
    torch.testing.assert_close(value, sum(one for _, one in each) / 3)


def test_members_must_be_several_and_of_the_same_classes() -> None:
    with pytest.raises(InputError, match="two networks or more, got 1"):
        MeanOfNetworks([Table(0.0, 1.0)])
    mean = MeanOfNetworks([Table(0.0, 1.0), Table(0.0, 1.0, 2.0)]).eval()
    with pytest.raises(InputError, match="same classes; these have 2, 3"):
        mean(torch.rand(1, 3, 3, 3))
