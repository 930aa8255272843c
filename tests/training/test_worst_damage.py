"""The worst damage within a level is no milder than any draw, and a gradient finds its end."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fundusray.conditions import WorstCase
from fundusray.corruptions import Receipt, corrupted, parse_corruption
from fundusray.corruptions.worst_case import level_intervals, smooth_corruption
from fundusray.data.drawn.source import draw_photograph
from fundusray.tasks import Columns
from fundusray.tasks.classification import with_logits
from fundusray.training.worst_damage import worst_damage

SIDE, ROWS = 48, np.array([4, 9, 2])


@pytest.fixture(scope="module")
def frames() -> Tensor:
    """Three drawn photographs, uint8 [3, 3, S, S]."""
    drawn = [draw_photograph(0, index, index, SIDE).image for index in range(3)]
    return torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2)


class Bright:
    """A network that is the surer of class 0, and so the more wrong, the brighter an image is."""

    def __init__(self, frames: Tensor) -> None:
        self.frames, self.looks = frames, 0

    def logits(self, image: Tensor) -> Tensor:
        bright = 20 * image.mean(dim=(1, 2, 3))
        return torch.stack([bright, torch.zeros_like(bright)], dim=1)

    def look(self, receipts: Sequence[Receipt]) -> Columns:
        self.looks += 1
        logits = self.logits(corrupted(self.frames, receipts).float() / 255)
        return with_logits({"target": np.ones(3, np.int64)}, logits.numpy())

    def loss(self, places: np.ndarray, name: str, parameters: dict[str, Tensor]) -> Tensor:
        frames = self.frames[torch.from_numpy(places)].float() / 255
        logits = self.logits(smooth_corruption(name)(frames, parameters))
        return F.cross_entropy(logits, torch.ones(len(places), dtype=torch.long), reduction="none")


def cost(columns: Columns) -> np.ndarray:
    return columns["logit_0"] - columns["logit_1"]


def test_more_draws_are_never_milder(frames: Tensor) -> None:
    corruption, costs = parse_corruption("wu(level=2)"), []
    for draws in (1, 3, 8):
        bright = Bright(frames)
        columns, done = worst_damage(
            WorstCase(corruption, 5, draws), ROWS, SIDE, bright.look, bright.loss
        )
        assert bright.looks == draws and len(done) == 3
        assert np.allclose(cost(columns), cost(bright.look(done)))
        costs.append(cost(columns))
    assert (costs[0] <= costs[1]).all() and (costs[1] <= costs[2]).all()
    assert (costs[2] > costs[0]).any()
    # The first draw is what an evaluation without a search draws.
    first = WorstCase(corruption, 5, 1).drawn(0).receipts(ROWS, SIDE)
    bright = Bright(frames)
    assert np.allclose(cost(bright.look(first)), costs[0])


@pytest.mark.parametrize(("name", "key", "end"), [("over_exposure", "stops", 1),
                                                   ("light_leakage", "gain", 1)])  # fmt: skip
def test_a_gradient_leads_to_the_end_of_the_level(
    frames: Tensor, name: str, key: str, end: int
) -> None:
    bright = Bright(frames)
    condition = WorstCase(parse_corruption(f"{name}(level=2)"), 0, 1, 6)
    columns, done = worst_damage(condition, ROWS, SIDE, bright.look, bright.loss)
    interval = level_intervals(name, 2)[key]
    for receipt in done:
        assert (receipt.name, receipt.level) == (name, 2)
        assert receipt.parameters[key] == pytest.approx(interval[end], abs=1e-3)
    plain = worst_damage(
        WorstCase(condition.corruption, 0, 1), ROWS, SIDE, bright.look, bright.loss
    )
    assert (cost(columns) >= cost(plain[0])).all() and (cost(columns) > cost(plain[0])).any()
