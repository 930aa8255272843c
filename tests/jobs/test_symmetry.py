"""The job that compares maps toward two classes: which classes, and what it writes."""

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fundusray.errors import InputError
from fundusray.jobs.symmetry import class_pair, symmetry_outcome
from fundusray.reports.symmetry_page import SymmetryFacts
from tests.reports.test_html import POLICY

CLASSES = ("none", "mild", "severe")


def test_the_pair() -> None:
    for text, pair in (
        ("", (0, 2)), ("0,1", (0, 1)), ("mild, none", (1, 0)), ("2,predicted", (2, None)),
    ):  # fmt: skip
        assert class_pair(text, CLASSES) == pair
    for text in ("0", "1,mild", "predicted,0", "predicted,predicted"):
        with pytest.raises(InputError, match=r"two classes, e\.g\. pair=0,2"):
            class_pair(text, CLASSES)
    with pytest.raises(InputError, match="did you mean 'severe'"):
        class_pair("0,sever", CLASSES)


def rows(num: int, right: bool) -> pa.Table:
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(num, 16)).astype(np.float32)
    target = np.arange(num) % 2
    pearson = rng.uniform(-0.9, -0.5, num)
    pearson[-1] = np.nan
    return pa.table(
        {
            "image_id": [f"<b>{place}" for place in range(num)],
            "patient_id": [f"p{place}" for place in range(num)],
            "target": target, "prediction": target if right else 1 - target,
            "pearson": pearson, "spearman": pearson / 2, "side": [4] * num,
            "first_map": list(maps), "second_map": list(-maps),
            "picture": [bytes(range(48))] * num,
        }
    )  # fmt: skip


def test_what_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = SymmetryFacts("net", ("none", "severe"), "lesion_detection", ("<i>a note",), "make it")
    result = symmetry_outcome(str(tmp_path), rows(24, True), facts, CLASSES)
    assert result["verdict"] == "supported" and (result["n"], result["undefined"]) == (23, 1)
    with open(result["table"], newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["labelled"], line["n"]) for line in lines] == [
        ("all", "23"), ("none", "12"), ("mild", "11"),
    ]  # fmt: skip
    for name in ("sheet", "sums_first", "sums_second"):
        assert Path(result[name]).read_bytes().startswith(b"\x89PNG")
    assert Path(result["sums_first"]).read_bytes() != Path(result["sums_second"]).read_bytes()
    page = Path(result["report"]).read_text()
    assert POLICY in page and "<script" not in page and page.count("<img") == 3
    text = capsys.readouterr().out
    for part in (
        "toward none and toward severe are complementary: supported",
        "23 images of 23 patients", "Left out: 1 photograph (both",
        "unrelated maps have 0",
    ):  # fmt: skip
        assert part in text and part in page, part
    assert "<b>" not in page and "<i>" not in page and "note: <i>a note" in text
    assert result["report"] in text


def test_without_right_answers_there_is_no_sum(tmp_path: Path) -> None:
    facts = SymmetryFacts("net", ("none", "severe"), "lesion_detection", (), "make it")
    result = symmetry_outcome(str(tmp_path), rows(2, False), facts, CLASSES)
    assert result["verdict"] == "undecided" and "sums_first" not in result
    assert not (tmp_path / "sums_first.png").exists() and Path(result["sheet"]).exists()
