"""The page and the sheet of targeted modulation beside other maps."""

import io
from typing import Any

import numpy as np
from PIL import Image

from fundusray.reports.evaluation_page import evaluation_page
from fundusray.reports.modulation_page import (
    ModulationFacts,
    ModulationFigures,
    accuracy_sentence,
    better_than_majority,
    literature_regions,
    map_picture,
    modulation_page,
    modulation_sheet,
    table_rows,
)
from tests.reports.test_html import EVIL, POLICY

METHODS = ("targeted_modulation", "grad_cam")


def accuracy(value: float, low: float) -> dict[str, Any]:
    return {"accuracy": value, "accuracy_low": low, "accuracy_high": 2 * value - low,
            "majority_accuracy": 0.59, "n": 400, "num_patients": 210}  # fmt: skip


def difference(value: float, verdict: str) -> dict[str, Any]:
    ends = {"low": value - 0.02, "high": value + 0.02}
    return {"difference": value, "verdict": verdict, "why": ""} | ends


def figures(null: bool = True) -> ModulationFigures:
    regions: list[dict[str, Any]] = [
        {"method": method, "region": region, "n": 100, "num_patients": 60, "share": 0.3,
         "share_low": 0.28, "share_high": 0.32, "area": 0.1, "enrichment": 3.0,
         "enrichment_low": 2.8, "enrichment_high": 3.2,
         "against_area": difference(0.2, "better"),
         "against_null": difference(-0.123, "worse") if null else None}
        for method in METHODS
        for region in ("optic_disc", "macula", "vessels", "rest", "disc or vessels")
    ]  # fmt: skip
    pair = {"first": METHODS[0], "second": METHODS[1], "n": 100, "correlation": 0.234,
            "correlation_low": 0.2, "correlation_high": 0.26}  # fmt: skip
    reached = [
        {"eps": eps, "n": 100, "reached_rate": rate, "reached_rate_low": rate - 0.05,
         "reached_rate_high": rate + 0.05}
        for eps, rate in (("1unit01", 0.411), ("3unit01", 0.912))
    ]  # fmt: skip
    return ModulationFigures(regions, [pair], reached)


def facts(of: dict[str, Any]) -> ModulationFacts:
    claim = {"verdict": "undecided", "why": "against area better, against the null undecided"}
    return ModulationFacts(EVIL, ("Female", "Male"), ("a note",), "python jobs/x.py", of, claim)


def arrays(size: int = 24) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    disc = np.zeros((size, size), bool)
    disc[4:12, 4:12] = True
    return {
        "image": rng.integers(0, 255, (size, size, 3)).astype(np.uint8),
        "modulated": rng.integers(0, 255, (size, size, 3)).astype(np.uint8),
        "difference": rng.normal(0, 0.01, (size, size, 3)).astype(np.float16),
        "map:targeted_modulation": rng.normal(size=(size, size)).astype(np.float16),
        "map:grad_cam": np.zeros((size, size), np.float16),
        "region:optic_disc": disc,
        "region:macula": ~disc,
    }


def test_the_page_says_every_figure_with_its_interval_baseline_and_verdict() -> None:
    sheet = modulation_sheet([("eye 1", arrays())])
    page = evaluation_page(modulation_page(facts(accuracy(0.7, 0.65)), figures(), sheet))
    assert EVIL not in page and POLICY in page
    said = (
        "0.700 [0.650, 0.750]", "0.590", "0.912 [0.862, 0.962]", "0.411", "undecided",
        "0.300 [0.280, 0.320]", "3.00 [2.80, 3.20]", "0.234 [0.200, 0.260]", "0.123",
        "Poplin et al. 2018", "Dieck et al. 2020", "a note", "python jobs/x.py",
    )  # fmt: skip
    assert not [text for text in said if text not in page]
    assert "explains nothing" not in page


def test_a_network_that_is_not_better_than_the_majority_is_said_to_be_none() -> None:
    weak = accuracy(0.62, 0.57)
    assert not better_than_majority(weak) and better_than_majority(accuracy(0.7, 0.6))
    few = weak | {"accuracy_low": None}
    assert not better_than_majority(few)
    assert "explains nothing" in accuracy_sentence(weak)
    page = evaluation_page(modulation_page(facts(weak), figures(null=False), b""))
    assert "explains nothing" in page


def test_the_literature_has_the_six_rows_of_the_paper() -> None:
    rows = literature_regions()
    assert [row["study"] for row in rows] == [
        "Poplin et al. 2018", "Korot et al. 2021", "Ilanchezian et al. 2021", "Dieck et al. 2020",
        "Rim et al. 2020", "Betzler et al. 2021",
    ]  # fmt: skip
    assert [row["optic_disc"] for row in rows] == ["yes"] * 6
    assert [bool(row["macula"]) for row in rows] == [True, True, True, True, False, False]
    assert [bool(row["vessels"]) for row in rows] == [True, True, False, False, True, False]


def test_table_rows_are_flat_and_of_equal_keys() -> None:
    rows = table_rows(figures().regions) + table_rows(figures(null=False).regions)
    assert len({tuple(row) for row in rows}) == 1
    assert rows[0]["against_null_difference"] == -0.123 and rows[-1]["against_null_low"] is None


def test_the_sheet_is_a_row_for_each_photograph() -> None:
    first, both = (
        Image.open(io.BytesIO(modulation_sheet([(f"eye {n}", arrays()) for n in range(num)])))
        for num in (1, 2)
    )
    assert first.width == both.width and both.height > 1.7 * first.height
    assert first.width >= 5 * 160


def test_a_map_is_green_for_red_against_and_grey_where_it_says_nothing() -> None:
    values = np.zeros((10, 10))
    values[0, 0], values[9, 9] = 1.0, -1.0
    image = np.full((10, 10, 3), 100, np.uint8)
    drawn = map_picture(values, image).astype(int)
    assert drawn[0, 0, 1] > drawn[0, 0, 0] + 100 and drawn[9, 9, 0] > drawn[9, 9, 1] + 100
    assert drawn[5, 5].tolist() == [60, 60, 60]
