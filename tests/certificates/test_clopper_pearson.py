"""The bound is that of scipy, and misses no more often than it says."""

import pytest
from scipy import stats

from fundusray.certificates import lower_bound


@pytest.mark.parametrize("num", [1, 10, 100, 1000, 100_000])
@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.4])
def test_it_is_the_exact_bound_of_scipy(num: int, alpha: float) -> None:
    for share in (0.0, 0.013, 0.5, 0.8, 0.999, 1.0):
        hits = round(share * num)
        exact = stats.binomtest(hits, num, alternative="greater").proportion_ci(1 - alpha, "exact")
        assert lower_bound(hits, num, alpha) == pytest.approx(exact.low, rel=1e-9, abs=1e-12)


def test_all_hits_are_the_closed_form() -> None:
    """P(n of n) = p^n = alpha."""
    assert lower_bound(1000, 1000, 0.001) == pytest.approx(0.001 ** (1 / 1000), rel=1e-12)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.77, 0.99])
def test_it_covers(share: float) -> None:
    """Summed over all outcomes of 60 trials: the bound is above the truth with alpha at most."""
    for alpha in (0.001, 0.05):
        miss = sum(
            stats.binom.pmf(hits, 60, share)
            for hits in range(61)
            if lower_bound(hits, 60, alpha) > share
        )
        assert miss <= alpha


def test_at_the_bound_so_many_hits_are_as_rare_as_alpha() -> None:
    for hits in (1, 31, 60):
        assert stats.binom.sf(hits - 1, 60, lower_bound(hits, 60, 0.05)) == pytest.approx(0.05)
