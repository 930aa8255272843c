"""Maps toward two classes: the rows of a worker, and the job end to end."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from fundusray import files
from fundusray.cluster.symmetry import SymmetryPlan, symmetry_rows
from fundusray.saliency import parse_methods
from fundusray.saliency.symmetry import symmetry_maps
from tests.saliency.layered_networks import SIZE, hooks_of, opened_eyes, problem_of

(METHOD,) = parse_methods("lesion_detection(neurons=3, steps=4, layer=second)")
PLAN = SymmetryPlan(0, 2, METHOD)


def numbers(table: pa.Table, name: str) -> np.ndarray:
    return np.array(table[name].to_pylist())


def test_a_workers_rows() -> None:
    evaluator, rows = opened_eyes(2), np.array([4, 0, 3])
    found = symmetry_rows(evaluator, PLAN, rows)
    problem = problem_of(evaluator.model, num=5).part(torch.from_numpy(rows))
    expected = symmetry_maps(problem, (0, 2), METHOD.name, METHOD.keywords)
    assert numbers(found, "row").tolist() == rows.tolist()
    assert numbers(found, "second_class").tolist() == [2, 2, 2]
    answers = evaluator.model(problem.image).argmax(dim=1)
    assert numbers(found, "prediction").tolist() == answers.tolist()
    assert np.allclose(numbers(found, "pearson"), expected.pearson, atol=1e-5)
    for name, maps in (("first_map", expected.first), ("second_map", expected.second)):
        assert np.allclose(numbers(found, name), maps.flatten(1), atol=1e-6)
    assert numbers(found, "side").tolist() == [SIZE] * 3
    picture = np.frombuffer(found["picture"][1].as_py(), np.uint8).reshape(SIZE, SIZE, 3)
    shown = (problem.image[1].permute(1, 2, 0) * 255).round()
    assert np.array_equal(picture, shown.byte().numpy())
    assert hooks_of(evaluator.model) == 0


def test_what_decides_the_rows_is_in_their_key() -> None:
    (other,) = parse_methods("lesion_detection(neurons=4)")
    texts = {plan.text for plan in (PLAN, SymmetryPlan(0, None, METHOD), SymmetryPlan(0, 2, other))}
    assert len(texts) == 3 and any("second=predicted" in text for text in texts)


@pytest.mark.ray
def test_the_job(run: Callable, unbroken: dict, storage: str) -> None:
    asked = ("symmetry.rows=5", "method=lesion_detection(neurons=5, steps=4)", "pair=0,predicted")
    place = (f"run.storage={storage}",)
    code, result, text = run("symmetry.py", unbroken["bundle"], *asked, *place)
    assert code == 0, text
    rows = files.read_table(result["rows"])
    assert result["n"] + result["undefined"] == rows.num_rows == 5
    assert numbers(rows, "first_map").shape == (5, 32 * 32)
    assert Path(result["sheet"]).read_bytes().startswith(b"\x89PNG")
    assert "complementary" in Path(result["report"]).read_text()
    stamp = Path(result["rows"]).stat().st_mtime_ns
    code, again, _ = run("symmetry.py", unbroken["bundle"], *asked, *place)
    assert code == 0 and Path(again["rows"]).stat().st_mtime_ns == stamp
    code, _, text = run("symmetry.py", unbroken["bundle"], "pair=0,9", *place)
    assert code == 2 and "no target named '9'" in text
