"""Correlations are scipy's; what is said of symmetry follows from the interval."""

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from fundusray.metrics.symmetry import map_correlations, mean_ranks, symmetry_figures


def test_they_are_scipys() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(size=(4, 1, 6, 6)).round(1)
    second = (rng.normal(size=first.shape) - 0.5 * first).round(1)
    second[1] = -3 * first[1] + 2
    found = map_correlations(first, second)
    for place in range(4):
        a, b = first[place].ravel(), second[place].ravel()
        assert found["pearson"][place] == pytest.approx(stats.pearsonr(a, b).statistic)
        assert found["spearman"][place] == pytest.approx(stats.spearmanr(a, b).statistic)
    assert [values[1] for values in found.values()] == pytest.approx([-1, -1])
    values = rng.integers(0, 5, 40)
    assert mean_ranks(values).tolist() == stats.rankdata(values).tolist()


def test_an_even_map_has_no_correlation() -> None:
    found = map_correlations(np.full((2, 3, 3), 0.1), np.arange(18.0).reshape(2, 3, 3))
    assert np.isnan([*found["pearson"], *found["spearman"]]).all()
    small = 1e-9 * np.arange(9.0).reshape(1, 3, 3)
    assert map_correlations(small, -small)["pearson"].tolist() == pytest.approx([-1])


def rows(correlations: list[float]) -> pa.Table:
    return pa.table(
        {
            "patient_id": [f"p{place // 2}" for place in range(len(correlations))],
            "pearson": correlations,
            "spearman": [value / 2 for value in correlations],
        }
    )


@pytest.mark.parametrize(
    ("middle", "verdict"), [(-0.5, "supported"), (0.5, "not supported"), (0.0, "undecided")]
)
def test_the_verdict_follows_the_interval(middle: float, verdict: str) -> None:
    spread = np.random.default_rng(1).uniform(-0.3, 0.3, 40)
    spread -= spread.mean()
    values = [*(middle + spread), float("nan")]
    found = symmetry_figures(rows(values))
    assert (found["n"], found["undefined"], found["num_patients"]) == (40, 1, 20)
    assert found["pearson"] == pytest.approx(middle) and found["verdict"] == verdict
    assert found["spearman"] == pytest.approx(middle / 2)
    assert found["pearson_low"] < middle < found["pearson_high"]
    assert found["negative_share"] == pytest.approx(np.mean(middle + spread < 0))


def test_without_images_nothing_is_said() -> None:
    found = symmetry_figures(rows([float("nan")] * 3))
    assert (found["n"], found["undefined"], found["pearson"]) == (0, 3, None)
    assert found["verdict"] == "undecided"
    assert symmetry_figures(rows([-0.5, -0.6]))["verdict"] == "undecided"
