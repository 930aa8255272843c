"""A step, seen from the second of two workers."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fundusray.config import Recipe, override, to_json
from fundusray.data.sampling import EpochPlan, plan_eval
from fundusray.pipeline.loader import Batch
from fundusray.tasks import Classification
from fundusray.training.job import Job
from fundusray.training.ranks import Ranks
from fundusray.training.trainer import Trainer


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


@dataclass(frozen=True)
class SmallClassification(Classification):
    """Left or right of 4 pixels."""

    def network(self) -> Network:
        torch.manual_seed(0)
        return Network()


class Second(Ranks):
    """The second of two workers; the first has other statistics and one row less."""

    def __init__(self) -> None:
        self.rank, self.world, self.device = 1, 2, torch.device("cpu")

    def agree(self, make: Any) -> Any:
        return make()

    def distributed(self, model: nn.Module) -> nn.Module:
        return model

    def total(self, values: Tensor) -> Tensor:
        return values + torch.tensor([1.5, 3.0, 0.0, 0.0])

    def share_buffers(self, model: nn.Module) -> None:
        model.norm.running_mean.fill_(0.25)


class EightRows:
    """Eight rows of two classes in one step."""

    def __init__(self) -> None:
        self.sides = {"train": np.arange(8), "val": np.arange(8), "test": np.arange(0)}
        self.targets = np.arange(8) % 2
        self.image_ids = self.patients = [f"i{row}" for row in range(8)]
        self.about: dict[str, Any] = {}

    def plan(self, epoch: int) -> EpochPlan:
        return plan_eval(np.arange(8), 8)

    def learned(self, plan: EpochPlan, epoch: int, start: int) -> Iterator[Batch]:
        return iter([batch()])

    def judged(self, plan: EpochPlan) -> Iterator[Batch]:
        return iter([batch()])

    def halves(self, rows: np.ndarray) -> np.ndarray:
        return rows % 2

    def undecodable(self) -> dict[int, str]:
        return {}


def trainer(folder: Path, **adversarial: Any) -> Trainer:
    changes = {f"adversarial.{key}": value for key, value in adversarial.items()}
    changes |= {"train.epochs": 1, "train.batch": 8, "train.optimizer": "sgd", "train.lr": 0.1}
    changes |= {"train.precision": "fp32", "train.layout": "contiguous"}
    recipe = override(Recipe(), changes)
    job = Job(to_json(recipe), "", str(folder / "run"), "key", str(folder), 1, "")
    task = SmallClassification(recipe, ("left", "right"))
    return Trainer(job, EightRows(), task, Second())


def batch() -> Batch:
    """Four rows, of which one turned out not to decode."""
    image = torch.rand(4, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    valid = torch.tensor([True, True, False, True])
    return Batch(image, torch.tensor([0, 1, 0, 1]), torch.arange(4), valid)


@pytest.mark.parametrize("method", ["pgd", "trades", "mart"])
def test_attacks_look_at_the_first_worker_s_statistics(method: str, tmp_path: Path) -> None:
    ours = trainer(tmp_path, method=method, eps="8/255", steps=2)
    ours._step(batch(), step=0, rows=np.arange(8))
    assert ours.model.used and set(ours.model.used) == {0.25}


def test_the_mean_loss_is_of_the_rows_that_could_be_read(tmp_path: Path) -> None:
    ours = trainer(tmp_path)
    alone = trainer(tmp_path)
    ours._step(batch(), step=0, rows=np.arange(8))
    assert ours.position.seen == 3 + 3 and isinstance(ours.position.seen, int)
    each = alone.losses.per_sample(alone.model(batch().image), batch().target, batch().valid, 0.0)
    expected = each[batch().valid].sum().item() + 1.5
    assert ours.position.loss_sum == pytest.approx(expected, rel=1e-6)
    assert not ours.model.used
