"""How alike two maps are, against scipy."""

import numpy as np
import pytest
from scipy import stats

from fundusray.errors import InputError
from fundusray.metrics.map_agreement import map_similarity, map_stability, rank_correlation


@pytest.mark.parametrize("levels", [2, 6, 100_000])
def test_correlations_are_those_of_scipy(levels: int) -> None:
    rng = np.random.default_rng(levels)
    first = rng.integers(-levels, levels, (12, 12)) * 1e-20
    second = first + rng.integers(-levels, levels, (12, 12)) * 1e-20
    a, b = first.ravel(), second.ravel()
    assert map_similarity(first, second) == pytest.approx(
        {
            "rank_correlation": stats.spearmanr(a, b)[0],
            "absolute_rank_correlation": stats.spearmanr(np.abs(a), np.abs(b))[0],
            "linear_correlation": stats.pearsonr(a * 1e20, b * 1e20)[0],
        }
    )


def test_a_flat_map_agrees_with_flat_ones_only() -> None:
    flat, other = np.zeros(9), np.arange(9.0)
    assert rank_correlation(flat, other) == 0 == rank_correlation(other, flat)
    assert rank_correlation(flat, flat + 2) == 1


def test_stability_is_of_each_map_on_its_fundus() -> None:
    rng = np.random.default_rng(0)
    before = rng.normal(size=(3, 1, 8, 8))
    after = before.copy()
    after[1] *= -1
    after[2, :, :4] = rng.normal(size=(1, 4, 8))
    fundus = np.ones(before.shape, bool)
    fundus[2, :, :4] = False
    found = map_stability(before, after, fundus)
    assert [row["rank_correlation"] for row in found] == pytest.approx([1, -1, 1])
    assert [row["absolute_rank_correlation"] for row in found] == pytest.approx([1, 1, 1])
    assert map_stability(before, after)[2]["rank_correlation"] < 0.9


def test_maps_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(InputError, match="one shape"):
        map_similarity(np.zeros((4, 4)), np.zeros((4, 5)))
    with pytest.raises(InputError, match="not finite"):
        map_similarity(np.zeros((4, 4)), np.full((4, 4), np.inf))
    with pytest.raises(InputError, match="two maps are needed"):
        map_stability(np.zeros((2, 4, 4)), np.zeros((1, 4, 4)))
