"""Shares of a map's energy in regions, correlations and the claim, by hand and against scipy."""

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import spearmanr

from fundusray.metrics.regions import (
    DISC_AND_VESSELS,
    area_shares,
    correlation_figures,
    energy_shares,
    enrichment_claim,
    rank_correlation,
    reached_figures,
    region_figures,
)

METHOD = "targeted_modulation"


def square_regions() -> dict[str, np.ndarray]:
    """A fundus of twelve pixels of sixteen: disc 2, macula 1, vessels 3, rest 6."""
    codes = np.array([[0, 1, 1, 0], [4, 2, 3, 3], [4, 4, 3, 4], [0, 4, 4, 0]])
    names = ("optic_disc", "macula", "vessels", "rest")
    return {name: codes == number for number, name in enumerate(names, 1)}


def test_shares_by_hand() -> None:
    regions = square_regions()
    assert area_shares(regions) == pytest.approx(
        {"optic_disc": 2 / 12, "macula": 1 / 12, "vessels": 3 / 12, "rest": 6 / 12}
    )
    values = np.array([[9, -2, 1, 9], [0, 4, -1, 1], [0, 0, 0, 1], [9, 0, 0, 9.0]])
    assert energy_shares(values, regions) == pytest.approx(
        {"optic_disc": 0.3, "macula": 0.4, "vessels": 0.2, "rest": 0.1}
    )
    even = energy_shares(np.full((4, 4), -3.0), regions)
    assert even == pytest.approx(area_shares(regions))
    assert all(np.isnan(share) for share in energy_shares(np.zeros((4, 4)), regions).values())


def test_a_random_map_has_the_share_of_the_area() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(1, 5, (300, 300)) ** 2 // 5
    regions = {str(code): codes == code for code in np.unique(codes)}
    found = energy_shares(rng.normal(size=(300, 300)), regions)
    assert found == pytest.approx(area_shares(regions), abs=0.01)


def test_rank_correlations_are_scipys_ties_included() -> None:
    rng = np.random.default_rng(1)
    for levels in (1000, 7, 2):
        first, second = rng.integers(0, levels, (2, 500))
        second = second + first
        assert rank_correlation(first, second) == pytest.approx(spearmanr(first, second).statistic)
    assert rank_correlation(np.arange(5), -(np.arange(5) ** 3)) == pytest.approx(-1)
    assert np.isnan(rank_correlation(np.ones(5), np.arange(5)))


def drawn_rows(disc: float, seed: int, num: int = 80) -> pa.Table:
    """Photographs of which a disc of a tenth of the area has this share of the energy."""
    rng = np.random.default_rng(seed)
    share = np.clip(disc + rng.normal(0, 0.05, num), 0, 1)
    columns = {
        "image_id": [f"i{n}" for n in range(num)],
        "patient_id": [f"p{n // 2}" for n in range(num)],
        "area:optic_disc": np.full(num, 0.1),
        "area:vessels": np.full(num, 0.1),
        "area:rest": np.full(num, 0.8),
        f"share:{METHOD}:optic_disc": share,
        f"share:{METHOD}:vessels": np.full(num, 0.1),
        f"share:{METHOD}:rest": 0.9 - share,
        f"rank:{METHOD}:occlusion": np.tanh(rng.normal(0.5, 0.1, num)),
    }
    return pa.table(columns)


def figure(figures: list[dict], region: str) -> dict:
    (row,) = (row for row in figures if row["region"] == region)
    return row


def test_figures_are_means_and_ratios_of_the_rows() -> None:
    rows, null = drawn_rows(0.3, seed=0), drawn_rows(0.1, seed=1)
    figures = region_figures(rows, null)
    assert [row["region"] for row in figures] == ["optic_disc", "vessels", "rest", DISC_AND_VESSELS]
    disc, share = figure(figures, "optic_disc"), rows[f"share:{METHOD}:optic_disc"].to_numpy()
    assert (disc["n"], disc["num_patients"]) == (80, 40)
    assert disc["share"] == pytest.approx(share.mean()) and disc["area"] == pytest.approx(0.1)
    assert disc["enrichment"] == pytest.approx(share.mean() / 0.1)
    assert disc["share_low"] < share.mean() < disc["share_high"]
    assert disc["enrichment_low"] < disc["enrichment"] < disc["enrichment_high"]
    assert disc["against_area"]["difference"] == pytest.approx(share.mean() - 0.1)
    assert disc["against_area"]["verdict"] == disc["against_null"]["verdict"] == "better"
    both = figure(figures, DISC_AND_VESSELS)
    assert both["share"] == pytest.approx(share.mean() + 0.1)
    assert figure(figures, "rest")["against_null"]["verdict"] == "worse"


def test_a_map_without_energy_does_not_count() -> None:
    rows = drawn_rows(0.3, seed=0, num=60)
    for column in [name for name in rows.column_names if name.startswith("share:")]:
        values = rows[column].to_numpy().copy()
        values[:10] = np.nan
        rows = rows.set_column(rows.schema.get_field_index(column), column, pa.array(values))
    disc = figure(region_figures(rows), "optic_disc")
    share = rows[f"share:{METHOD}:optic_disc"].to_numpy()
    assert disc["n"] == 50 and disc["share"] == pytest.approx(np.nanmean(share))
    assert disc["against_null"] is None


@pytest.mark.parametrize(
    ("disc", "null", "learned", "verdict"),
    [
        (0.3, 0.1, True, "supported"),
        (0.3, 0.3, True, "undecided"),
        (0.3, 0.4, True, "not supported"),
        (0.05, 0.1, True, "not supported"),
        (0.3, 0.1, False, "undecided"),
        (0.3, None, True, "undecided"),
    ],
)
def test_the_claim_needs_both_the_area_and_the_null(
    disc: float, null: float | None, learned: bool, verdict: str
) -> None:
    rows = drawn_rows(disc, seed=0)
    against = None if null is None else drawn_rows(null, seed=0 if null == disc else 1)
    claim = enrichment_claim(region_figures(rows, against), METHOD, learned)
    assert claim["verdict"] == verdict
    if not learned:
        assert "always answering one class" in claim["why"]
    if null is None:
        assert "null=" in claim["why"]


def test_correlations_and_rates_by_hand() -> None:
    rows = drawn_rows(0.3, seed=0)
    (pair,) = correlation_figures(rows)
    values = rows[f"rank:{METHOD}:occlusion"].to_numpy()
    assert (pair["first"], pair["second"], pair["n"]) == (METHOD, "occlusion", 80)
    assert pair["correlation"] == pytest.approx(values.mean())
    assert pair["correlation_low"] < values.mean() < pair["correlation_high"]
    reached = np.arange(80) < 60
    columns = {"reached": reached, "budget": np.where(reached, np.arange(80) % 3, 2)}
    table = rows
    for name, column in columns.items():
        table = table.append_column(name, pa.array(column))
    found = reached_figures(table, ["1/255", "2/255", "4/255"])
    assert [row["reached_rate"] for row in found] == pytest.approx([0.25, 0.5, 0.75])
    assert [row["eps"] for row in found] == ["1/255", "2/255", "4/255"]
