"""A worker's step, seen from the second of two workers."""

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fundusray.cluster.worker import Training
from fundusray.config import Adversarial, Loss, Recipe, override
from fundusray.pipeline import Batch
from fundusray.training.checkpoints import Position
from fundusray.training.loop import Objective, Way
from fundusray.training.timetable import Timetable


class Network(nn.Module):
    """Notes by which statistics it norms images that are attacked."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.last = nn.BatchNorm2d(3), nn.Linear(3 * 16, 2)
        self.used: list[float] = []

    def forward(self, image: Tensor) -> Tensor:
        if not self.training:
            self.used.append(self.norm.running_mean[0].item())
        return self.last(self.norm(image).flatten(1))

    def class_logits(self, raw: Tensor) -> Tensor:
        return raw


class Second:
    """The second of two workers; the first has other statistics and one row less."""

    rank, world, first = 1, 2, False

    def total(self, values: Tensor) -> Tensor:
        return values + torch.tensor([1.5, 3.0, 0.0, 0.0])

    def share_buffers(self, model: nn.Module) -> None:
        model.norm.running_mean.fill_(0.25)


def training(adversarial: Adversarial) -> Training:
    """One without Ray, a prepared set and files."""
    torch.manual_seed(0)
    found, model = Training.__new__(Training), Network().train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    objective = Objective(Loss(), torch.tensor([4.0, 4.0]))
    found.recipe = override(Recipe(), {"train.epochs": 1})
    object.__setattr__(found.recipe, "adversarial", adversarial)
    found.timetable, found.stage = Timetable(found.recipe.train, 4), 0
    found.model, found.optimizer, found.ranks = model, optimizer, Second()
    found.device, found.position = torch.device("cpu"), Position()
    found.targets, found.num_classes = np.arange(8) % 2, 2
    found.pulse, found.watcher = SimpleNamespace(step=0), SimpleNamespace()
    found.way = Way(model, model, optimizer, objective, adversarial, nullcontext(), 0.0)
    return found


def batch() -> Batch:
    """Four rows, of which one turned out not to decode."""
    image = torch.rand(4, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    valid = torch.tensor([True, True, False, True])
    return Batch(image, torch.tensor([0, 1, 0, 1]), torch.arange(4), valid)


@pytest.mark.parametrize("method", ["pgd", "trades", "mart"])
def test_attacks_look_at_the_first_worker_s_statistics(method: str) -> None:
    ours = training(Adversarial(method=method, eps="8/255", steps=2))
    ours._step(batch(), step=0, rows=torch.arange(8).numpy())
    assert ours.model.used and set(ours.model.used) == {0.25}


def test_the_mean_loss_is_of_the_rows_that_could_be_read() -> None:
    ours = training(Adversarial())
    ours._step(batch(), step=0, rows=torch.arange(8).numpy())
    assert ours.position.seen == 3 + 3 and isinstance(ours.position.seen, int)
    alone = training(Adversarial())
    each = alone.way.objective.per_sample(
        alone.model(batch().image), batch().target, batch().valid, 0.0
    )
    expected = each[batch().valid].sum().item() + 1.5
    assert ours.position.loss_sum == pytest.approx(expected, rel=1e-6)
    assert not ours.model.used
