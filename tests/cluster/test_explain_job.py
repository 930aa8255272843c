"""What a network looks at: the job from end to end, and what cannot be is refused."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fundusray import files
from fundusray.data.prepared.map_files import read_map, read_photograph_map
from fundusray.metrics.attribution_scores import ANY_LESION
from tests.conftest import draw_fundus, jpeg

pytestmark = pytest.mark.ray

INDEX = {"network", "image_id", "patient_id", "label", "condition", "method", "target",
         "prediction", "probability", "map", "overlay", "gap", "gradients", "seconds"}  # fmt: skip
METHODS = "method=integrated_gradients(steps=4),grad_cam"


def test_maps_are_made_scored_and_found_again(run, unbroken: dict, storage: str) -> None:
    asked = (unbroken["bundle"], METHODS, "explain.rows=6", "overlays=true", "checks=true",
             "condition=motion_blur(level=2);pgd(eps=4/255, steps=2)",
             f"run.storage={storage}")  # fmt: skip
    code, result, text = run("explain.py", *asked)
    assert code == 0, text
    index = pq.read_table(result["index"])
    assert set(index.column_names) == INDEX
    assert result["n"] == 6 and index.num_rows == result["maps"] == 6 * 2 * 3
    folder = Path(result["index"]).parent
    for row in index.to_pylist():
        values = read_map(str(folder / row["map"]))
        assert values.shape == (32, 32) and np.isfinite(values).all()
        there = read_photograph_map(str(folder / row["map"]))
        assert there is not None and there.ndim == 2
        assert Image.open(folder / row["overlay"]).size == (32, 32)
        assert (row["gap"] is None) == row["method"].startswith("grad_cam")
    # The class is that of the photograph as it is, also where it is attacked.
    explained = {(row["image_id"], row["target"]) for row in index.to_pylist()}
    assert len(explained) == 6
    scores = pq.read_table(result["scores"])
    assert set(scores.column_names) == {
        "network", "image_id", "patient_id", "condition", "method", "lesion", "score", "value",
    }  # fmt: skip
    kinds = {(row["lesion"], row["score"]) for row in scores.to_pylist()}
    assert {(ANY_LESION, "average_precision"), ("", "deletion"), ("", "rank_correlation")} <= kinds
    page = files.read_bytes(result["report"]).decode()
    assert "by chance" in text and "infidelity" in page and "motion_blur" in page
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.npz")}
    code, again, text = run("explain.py", *asked)
    assert code == 0 and again["index"] == result["index"], text
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.npz")} == before


def test_one_photograph_is_explained_on_one_sheet(run, unbroken: dict, tmp_path: Path) -> None:
    photograph = tmp_path / "eye.jpeg"
    photograph.write_bytes(jpeg(draw_fundus(120, 160)))
    methods = f"{METHODS},lesion_detection(neurons=4, steps=4)"
    asked = (unbroken["bundle"], methods, f"image={photograph}", "target=proliferative",
             f"run.storage={tmp_path}")  # fmt: skip
    code, result, text = run("explain.py", *asked)
    assert code == 0, text
    assert result["target"] == "proliferative" and 0 < result["probability"] < 1
    assert Image.open(result["sheet"]).width > 900
    assert Image.open(result["lesions"]).height > 400
    values = read_photograph_map(result["maps"]["grad_cam"])
    assert values is not None and values.shape == (120, 160)


def test_what_cannot_be_explained_is_refused(run, unbroken: dict, tmp_path: Path) -> None:
    bundle, storage = unbroken["bundle"], f"run.storage={tmp_path}"
    (tmp_path / "none.jpeg").write_bytes(b"no picture")
    for words, reason in (
        (("method=grad_can",), "did you mean 'grad_cam'"),
        (("target=7",), "no target named '7'"),
        (("image=/nowhere.jpeg",), "no such file"),
        ((f"image={tmp_path}/none.jpeg",), "none.jpeg"),
        (("overlays=yes",), "overlays: true or false"),
        (("method=grad_cam(layer=conv9)", "explain.rows=2"), "no layer named 'conv9'"),
        (("explain.rows=many",), "explain.rows"),
    ):
        code, result, _ = run("explain.py", bundle, storage, *words)
        assert code == 2 and reason in result["reason"], (words, result)
    code, result, _ = run("explain.py", bundle, bundle, storage)
    assert code == 2 and "different names" in result["reason"]
