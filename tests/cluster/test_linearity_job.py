"""Units followed along gradients: the rows of a worker, and the job end to end."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from fundusray import files
from fundusray.cluster.linearity import LinearityPlan, swept_rows
from fundusray.data.prepared.prepared_set import open_set
from fundusray.models.bundle import load_bundle
from fundusray.runs.provenance import unseen_rows
from fundusray.saliency.linearity import unit_sweep
from tests.saliency.layered_networks import hooks_of, opened_eyes, problem_of

LISTS = ("c", "moved", "output", "attribution", "difference", "gradient")


def numbers(table: pa.Table, name: str) -> np.ndarray:
    return np.array(table[name].to_pylist())


def test_a_workers_rows() -> None:
    plan = LinearityPlan("hidden", None, "logit", doublings=3, steps=5, units=4)
    evaluator, rows = opened_eyes(2), np.array([4, 0, 3])
    found = swept_rows(evaluator, plan, rows)
    assert numbers(found, "row").tolist() == np.repeat(rows, 4).tolist()
    assert numbers(found, "rank").tolist() == [0, 1, 2, 3] * 3
    problem = problem_of(evaluator.model, num=5).part(torch.from_numpy(rows))
    answers = evaluator.model(problem.image).argmax(dim=1)
    assert numbers(found, "explained").tolist() == np.repeat(answers.numpy(), 4).tolist()
    problem.target.copy_(answers)
    sweep = unit_sweep(problem, plan.sweep)
    for line, (unit, values) in enumerate(
        zip(numbers(found, "unit"), numbers(found, "attribution"), strict=True)
    ):
        assert np.allclose(values, sweep.attribution[line // 4, :, unit], atol=1e-6)
    # However they come in batches.
    other = swept_rows(opened_eyes(3), plan, rows)
    for name in ("unit", *LISTS):
        assert np.allclose(numbers(found, name), numbers(other, name), atol=1e-6), name
    assert hooks_of(evaluator.model) == 0
    named = swept_rows(evaluator, LinearityPlan("second", 2, "probability", 2, 3), rows)
    assert set(numbers(named, "explained")) == {2} and numbers(named, "c").shape == (15, 4)
    assert ((numbers(named, "output") > 0) & (numbers(named, "output") < 1)).all()


@pytest.mark.ray
def test_the_job(run: Callable, unbroken: dict, prepared: str, storage: str) -> None:
    asked = ("linearity.rows=5", "doublings=3", "layer=layer3", f"run.storage={storage}")
    code, result, text = run("linearity.py", unbroken["bundle"], *asked)
    assert code == 0, text
    rows = files.read_table(result["rows"])
    ids = list(dict.fromkeys(rows["image_id"].to_pylist()))
    assert result["n"] == len(ids) == 5 and result["layer"] == "layer3"
    judged = unseen_rows(open_set(prepared), unbroken["bundle"], load_bundle(unbroken["bundle"]))
    assert set(ids) <= set(np.array(open_set(prepared).image_ids())[judged.rows])
    assert numbers(rows, "attribution").shape == (rows.num_rows, 5)
    with open(result["units"], newline="") as file:
        assert len(list(csv.DictReader(file))) == rows.num_rows
    page = Path(result["report"]).read_text()
    assert "Unit attribution against c" in page and "<script" not in page
    assert result["verdict"] in ("supported", "not supported", "undecided")
    stamp = Path(result["rows"]).stat().st_mtime_ns
    code, again, _ = run("linearity.py", unbroken["bundle"], *asked)
    assert code == 0 and Path(again["rows"]).stat().st_mtime_ns == stamp
    code, refused, text = run("linearity.py", unbroken["bundle"], "layer=layer9", asked[-1])
    assert code == refused["code"] == 2 and "did you mean 'layer" in text
