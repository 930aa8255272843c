"""The largest batch: the search by hand, and a real try on this machine."""

import pytest
import torch

from fundusray.config import Model, Train
from fundusray.errors import InputError
from fundusray.models import build_model
from fundusray.training import batch_size
from fundusray.training.batch_size import batch_that_fits, largest_fitting


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 7, 8, 31, 100, 1000])
def test_the_search_ends_within_an_eighth_and_never_above(limit: int) -> None:
    asked: list[int] = []

    def fits(size: int) -> bool:
        asked.append(size)
        return size <= limit

    found = largest_fitting(fits, most=10_000)
    assert found <= limit and found % 2 == 0
    assert found >= limit - max(2, limit // 7)
    assert len(asked) < 20 and all(size % 2 == 0 for size in asked)


@pytest.mark.parametrize("most", [2, 3, 10, 17])
def test_it_stays_within_the_rows(most: int) -> None:
    assert largest_fitting(lambda size: True, most) == most - most % 2 or most > 8
    assert largest_fitting(lambda size: True, most) <= most


def test_more_memory_lets_larger_batches_in(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for gibibytes in (1, 4):
        monkeypatch.setattr(batch_size, "_free", lambda free=gibibytes: free << 30)
        model = build_model(Model(name="resnet18"), 5, seed=0)
        found[gibibytes] = batch_that_fits(
            model, 64, Train(batch=0), torch.device("cpu"), "fp32", most=4096
        )
    assert 2 <= found[1] <= found[4] <= batch_size.LARGEST


def tried(part: float = 1.0) -> int:
    model = build_model(Model(name="resnet18"), 5, seed=0)
    return batch_that_fits(
        model, 64, Train(batch=0), torch.device("cpu"), "fp32", most=4096, part=part
    )


def test_what_the_process_once_held_says_nothing_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_size, "_free", lambda: 1 << 30)
    ballast = torch.ones(300 << 20)  # 1.2 GB, more than any step below
    del ballast
    assert 2 <= tried() < 512


def test_half_of_the_memory_holds_a_smaller_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_size, "_free", lambda: 2 << 30)
    monkeypatch.setattr(batch_size, "_peak_of", lambda step, size: size << 23)
    assert tried(part=1.0) == 128 and tried(part=0.5) == 64


def test_a_system_that_does_not_tell_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"train\.batch=auto: .* give train\.batch a number"):
        batch_size._told_by("/no/such/table", "MemAvailable")
    with pytest.raises(InputError, match="give train"):
        batch_size._told_by("/proc/meminfo", "NoSuchLine")
