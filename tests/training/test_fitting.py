"""The largest batch: the search by hand, and a real try on this machine."""

import pytest
import torch

from fundusray.config import Model, Train
from fundusray.models import build_model
from fundusray.training import fitting
from fundusray.training.fitting import batch_that_fits, largest


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 7, 8, 31, 100, 1000])
def test_the_search_ends_within_an_eighth_and_never_above(limit: int) -> None:
    asked: list[int] = []

    def fits(size: int) -> bool:
        asked.append(size)
        return size <= limit

    found = largest(fits, most=10_000)
    assert found <= limit and found % 2 == 0
    assert found >= limit - max(2, limit // 7)
    assert len(asked) < 20 and all(size % 2 == 0 for size in asked)


@pytest.mark.parametrize("most", [2, 3, 10, 17])
def test_it_stays_within_the_rows(most: int) -> None:
    assert largest(lambda size: True, most) == most - most % 2 or most > 8
    assert largest(lambda size: True, most) <= most


def test_more_memory_lets_larger_batches_in(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for gibibytes in (1, 4):
        monkeypatch.setattr(fitting, "_free", lambda free=gibibytes: free << 30)
        model = build_model(Model(name="resnet18"), 5, seed=0)
        found[gibibytes] = batch_that_fits(
            model, 64, Train(batch=0), torch.device("cpu"), "fp32", most=4096
        )
    assert 2 <= found[1] <= found[4] <= fitting.LARGEST
