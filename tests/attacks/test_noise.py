"""An attack's numbers: spread as they should be, and nobody's but their row's."""

import math

import pytest
import torch

from fundusray.attacks import Budget, random_offset
from fundusray.attacks.noise import drawn_rows, slight_offset
from fundusray.hashed_numbers import coarse_normal_numbers, normal_numbers, uniform_numbers

MASK = (1 << 64) - 1


def splitmix(state: int) -> int:
    """The published finaliser on Python's whole numbers."""
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return state ^ (state >> 31)


def test_numbers_are_those_of_splitmix64() -> None:
    seed, row, use = (1 << 62) + 12345, 987654321, 3
    state = splitmix(splitmix(splitmix(seed) ^ row) ^ use)
    expected = [
        ((splitmix((state + (i + 1) * 0x9E3779B97F4A7C15) & MASK) >> 41) + 0.5) / 2**23
        for i in range(50)
    ]
    got = uniform_numbers(seed, torch.tensor([row]), use, 50)
    assert got[0].tolist() == expected


def test_rows_seeds_and_uses_have_numbers_of_their_own() -> None:
    rows = torch.arange(6)
    numbers = [uniform_numbers(seed, rows, use, 64) for seed in (0, 1) for use in (1, 2)]
    every = torch.cat(numbers)
    assert len(every.unique()) > 0.999 * every.numel()
    correlation = torch.corrcoef(every) - torch.eye(len(every))
    assert correlation.abs().max() < 0.6  # 276 pairs of 64 numbers: about 4.8 standard errors
    shuffled = torch.tensor([4, 0, 5])
    assert torch.equal(uniform_numbers(0, shuffled, 1, 64), numbers[0][shuffled])


def test_uniforms_and_normals_are_spread_as_they_should_be() -> None:
    numbers = uniform_numbers(7, torch.arange(4), 1, 50_000).double().flatten().sort().values
    expected = (torch.arange(len(numbers)) + 0.5) / len(numbers)
    # Kolmogorov: 1.95 / sqrt(n) is exceeded once in a thousand.
    assert (numbers - expected).abs().max() < 1.95 / math.sqrt(len(numbers))
    bell = normal_numbers(7, torch.arange(4), 1, 50_000).double().flatten()
    assert bell.mean().abs() < 0.01
    assert bell.std().item() == pytest.approx(1, abs=0.01)
    assert (bell**4).mean().item() == pytest.approx(3, abs=0.1)
    assert torch.isfinite(bell).all()


def test_starts_lie_within_the_budget() -> None:
    image, row = torch.zeros(64, 3, 8, 8), torch.arange(64)
    cube = random_offset(image, row, 3, Budget("linf", 0.1, 0.1, 1))
    assert 0.0999 < cube.abs().max() <= 0.1
    assert cube.mean().abs() < 0.002
    ball = random_offset(image, row, 3, Budget("l2", 0.5, 0.1, 1)).flatten(1)
    lengths = ball.norm(dim=1)
    assert lengths.max() <= 0.5 + 1e-6
    assert lengths.mean().item() == pytest.approx(0.25, abs=4 * 0.5 / math.sqrt(12 * 64))
    assert slight_offset(image, row, 3, 0.001).std().item() == pytest.approx(0.001, rel=0.02)


def test_a_share_of_rows() -> None:
    row = torch.arange(10_000)
    chosen = drawn_rows(row, 5, 0.3)
    assert chosen.float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert torch.equal(drawn_rows(row[100:200], 5, 0.3), chosen[100:200])
    assert not torch.equal(drawn_rows(row, 6, 0.3), chosen)
    assert not drawn_rows(row, 5, 1e-9).any()


def test_coarse_numbers_are_spread_as_they_should_be_and_their_rows_own() -> None:
    rows = torch.arange(4)
    bell = coarse_normal_numbers(7, rows, 1, 50_001)
    assert bell.shape == (4, 50_001)
    assert bell.abs().max() < 4.33
    assert bell.mean().abs() < 0.01
    assert bell.std().item() == pytest.approx(1, abs=0.01)
    assert (bell**4).mean().item() == pytest.approx(3, abs=0.1)
    # Four numbers of one hash do not go together, nor do neighbours of two.
    apart = torch.corrcoef(bell[:, :50_000].reshape(-1, 8).T) - torch.eye(8)
    assert apart.abs().max() < 4.5 / math.sqrt(25_000)
    assert torch.equal(coarse_normal_numbers(7, rows[2:3], 1, 77)[0], bell[2, :77])


def test_each_row_may_have_a_use_of_its_own() -> None:
    rows, uses = torch.tensor([5, 5, 9]), torch.tensor([1, 2, 2])
    for numbers in (uniform_numbers, normal_numbers, coarse_normal_numbers):
        together = numbers(3, rows, uses, 10)
        for place, (row, use) in enumerate(zip(rows, uses.tolist(), strict=True)):
            assert torch.equal(together[place], numbers(3, row[None], use, 10)[0])
