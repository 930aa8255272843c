"""A segmentation is trained and attacked end to end; attacks of the other task are refused."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fundusray.metrics.segmentation.attacked import WORST_CASES
from fundusray.tasks.column_tables import table_columns

pytestmark = pytest.mark.ray


def test_a_segmentation_is_attacked_at_budgets_and_by_an_ensemble(
    run: Callable, segmented: str
) -> None:
    bundle = segmented
    how = ("attack.py", bundle, "attack=segpgd(eps=2/255|1/100, steps=2)", "attack.rows=4")
    code, result, text = run(*how)
    assert code == 0, text
    rows = table_columns(pq.read_table(result["rows"]))
    num = len(set(rows["image_id"].tolist()))
    assert 0 < num <= 4 and len(rows["eps"]) == 3 * num
    assert rows["eps"].tolist()[:3] == pytest.approx([0, 2 / 255, 0.01])
    assert (rows["linf"] <= rows["eps"] + 1e-6).all() and (rows["linf"][1::3] > 0).all()
    assert set(rows["attack"].tolist()) == {"segpgd(steps=2)"}
    assert (rows["labelled"].sum(axis=1) == 32 * 32).all()
    with open(result["table"], newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["case"] for row in table] == ["clean", "attacked", "attacked"]
    assert "everything background" in text and "1/100" in Path(result["report"]).read_text()
    assert result["robust_miou"] == pytest.approx(float(table[-1]["miou"]))

    # The same command again computes nothing anew.
    before = Path(result["rows"]).stat().st_mtime_ns
    code, again, _ = run(*how)
    assert code == 0 and Path(again["rows"]).stat().st_mtime_ns == before

    code, result, text = run("attack.py", bundle, "attack=sea(eps=2/255, steps=2)", "attack.rows=2")
    assert code == 0, text
    with open(result["table"], newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["case"] for row in table][-2:] == list(WORST_CASES) and len(table) == 1 + 4 + 2
    accuracy = np.array([float(row["pixel_accuracy"]) for row in table])
    assert accuracy[-2] <= accuracy[1:5].min() + 1e-12

    code, _, text = run("attack.py", bundle, "attack=pgd(eps=1/255)")
    assert code == 2 and "the class of a whole image" in text and "background_pgd" in text
    code, _, text = run("attack.py", bundle, "attack=segpgd(eps=1/255)", f"surrogate={bundle}")
    assert code == 2 and "along its own gradients" in text


def test_a_classifier_is_not_asked_for_pixels(run: Callable, unbroken: dict) -> None:
    code, _, text = run("attack.py", unbroken["bundle"], "attack=segpgd(eps=1/255)")
    assert code == 2 and "the classes of pixels" in text and "autoattack" in text
