"""A scan finds what is broken, doubled and contradictory, and says what to do about it."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fundusray.data.drawn.source import draw_photograph
from tests.conftest import jpeg

pytestmark = pytest.mark.ray
LABELS = {"1_left": 0, "1_right": 1, "2_left": 2, "2_right": 0, "3_left": 4, "3_right": 0}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Six drawn photographs; 4_left is 1_left smaller, encoded anew and mirrored, with another
    grade; 4_right is cut, 5_left black, 5_right a web page."""
    root = tmp_path / "set"
    (root / "train").mkdir(parents=True)
    files = {
        name: jpeg(draw_photograph(3, index, grade, side=320).image, quality=92)
        for index, (name, grade) in enumerate(LABELS.items())
    }
    first = Image.open(io.BytesIO(files["1_left"]))
    turned = first.resize((240, 240)).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    files["4_left"] = jpeg(np.asarray(turned), quality=40)
    files["4_right"] = files["3_left"][: int(0.8 * len(files["3_left"]))]
    files["5_left"] = jpeg(np.zeros((200, 200, 3), np.uint8))
    files["5_right"] = b"<!doctype html><title>404</title>"
    grades = LABELS | {"4_left": 3, "4_right": 4, "5_left": 0, "5_right": 0}
    for name, content in files.items():
        (root / "train" / f"{name}.jpeg").write_bytes(content)
    rows = [f"{name},{grade}" for name, grade in grades.items()]
    (root / "trainLabels.csv").write_text("\n".join(["image,level", *rows]) + "\n")
    return root


def test_scan(run, tree: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in tree.rglob("*"))
    code, result, text = run("scan.py", "data.source=eyepacs", f"data.root={tree}")
    assert code == 0, text
    rows = {row["image_id"]: row for row in pq.read_table(result["scan"]).to_pylist()}
    assert len(rows) == 10
    status = {name: row["status"] for name, row in rows.items()}
    refused = {"5_left": "no retina", "5_right": "a web page"}
    for name in LABELS:
        assert status[name] == "ok", rows[name]
    for name, reason in refused.items():
        assert status[name] == "refused" and reason in rows[name]["reason"]
    assert status["4_right"] == "repaired" and 0.5 < rows["4_right"]["recovered"] < 1
    pairs = pq.read_table(Path(result["folder"], "duplicates.parquet")).to_pylist()
    found = {(pair["first"], pair["second"]): pair for pair in pairs}
    twin = found["1_left", "4_left"]
    assert twin["how"] == "mirrored left to right" and twin["conflict"]
    assert rows["4_left"]["twin"] == "1_left" and rows["2_left"]["twin"] == ""
    summary = Path(result["summary"]).read_text()
    assert "1_left (none) = 4_left (severe): DIFFERENT grade" in summary
    assert "5_right" in summary and "data.max_bad" in summary
    assert Image.open(result["contact_sheet"]).width > 300
    json.loads(Path(result["folder"], "summary.json").read_text())
    assert before == sorted((path, path.stat().st_mtime_ns) for path in tree.rglob("*"))

    # What it says prepare will do is what prepare does.
    size = ("data.size=64", "data.fractions=0.5,0.25,0.25", "data.max_bad=0.2")
    code, prepared, text = run("prepare.py", "data.source=eyepacs", f"data.root={tree}", *size)
    assert code == 0, text
    kept = pq.read_table(Path(prepared["prepared"], "manifest.parquet")).to_pylist()
    assert {row["image_id"] for row in kept} == set(rows) - set(refused)
    assert [row["image_id"] for row in kept if row["repaired"]] == ["4_right"]
    assert {row["image_id"]: row["twin"] for row in kept}["4_left"] == "1_left"
