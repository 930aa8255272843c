"""Where patients are unknown, caption, table, figures and page say it; nowhere is one claimed."""

import json
from pathlib import Path

import pytest

from fundusray.reports import leaderboards, paper_table
from fundusray.reports.number_text import patients_text, people_text
from fundusray.reports.paper_table import DifferenceText, Line

CAVEAT = (
    "patients unknown: images are counted as independent; intervals are too narrow if eyes of one "
    "person are among them"
)
SPLIT = "split by image, near-duplicates together: no near-duplicate is on two sides"


@pytest.mark.parametrize(
    ("num_patients", "num_unknown", "said"),
    [
        (36, 0, "72 eyes of 36 patients"),
        (0, 72, "72 eyes; patients unknown"),
        (6, 60, "12 eyes of 6 patients and 60 eyes of unknown patients"),
        (1, 71, "1 eye of 1 patient and 71 eyes of unknown patients"),
    ],
)
def test_how_many_of_how_many(num_patients: int, num_unknown: int, said: str) -> None:
    summary = {"n": 72, "num_patients": num_patients, "num_unknown": num_unknown}
    assert people_text(summary, "eye") == said
    assert patients_text(summary) in said or f"unknown of {num_unknown} images" in patients_text(
        summary
    )


@pytest.fixture
def unknown(about: dict) -> dict:
    """What a page says around figures of a set without patients."""
    changes = {"split": SPLIT, "patients": CAVEAT}
    return about | changes | {"splits": {"test": {"n": 120, "patients": 0, "counts": [120]}}}


def test_a_search_without_patients_claims_none(tmp_path: Path, make_trial, unknown) -> None:
    trials = [make_trial("plain", 0.6, having=0, baseline=True), make_trial("good", having=0)]
    leaderboards.write_search(str(tmp_path), trials, {}, unknown)
    page = (tmp_path / "report.html").read_text()
    line = (tmp_path / "leaderboard.md").read_text().splitlines()[2]
    assert line.startswith("120 eyes; patients unknown, test rows; ")
    assert line.endswith(f"{CAVEAT}; {SPLIT}.")
    for text in (page, line):
        assert CAVEAT in text and "no patient or near-duplicate" not in text
        assert "of 60 patients" not in text and "of 120 patients" not in text
    assert "kappa 0." in page and "on 120 eyes; patients unknown" in page
    assert "interval over images" in page and "over patients" not in page
    row = (tmp_path / "leaderboard.csv").read_text().splitlines()
    cells = dict(zip(row[0].split(","), row[1].split(","), strict=False))
    assert (cells["num_patients"], cells["num_unknown"]) == ("0", "120")


def test_a_run_keeps_it_with_its_figures(tmp_path: Path, make_trial, unknown) -> None:
    for having, said in ((0, CAVEAT), (120, "")):
        leaderboards.write_run(str(tmp_path), make_trial("plain", having=having), unknown)
        figures = json.loads((tmp_path / "metrics.json").read_text())
        assert figures["patients"] == said and figures["num_unknown"] == 120 - having
        assert figures["num_patients"] == having // 2


def test_some_are_known(tmp_path: Path, make_trial, about) -> None:
    told = about | {"patients": f"patients unknown (aptos): {CAVEAT}"}
    leaderboards.write_run(str(tmp_path), make_trial("plain", having=80), told)
    page = (tmp_path / "report.html").read_text()
    assert "80 eyes of 40 patients and 40 eyes of unknown patients" in page
    assert "patients unknown (aptos)" in page and "interval over patients" in page


def test_a_papers_table_says_it_too(tmp_path: Path, make_trial, unknown) -> None:
    trial = make_trial("plain", having=0, baseline=True)
    told = DifferenceText(title="x", about=unknown, notes=[], hourly=0.0, panel={}, examples="")
    paper_table.write_paper_table(
        str(tmp_path), [Line(name="x.plain", trial=trial, start="random")], told
    )
    text = (tmp_path / "table.md").read_text()
    assert "120 eyes; patients unknown" in text and CAVEAT in text
    (row,) = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert (row["num_patients"], row["num_unknown"]) == (0, 120)
