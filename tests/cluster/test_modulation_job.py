"""Targeted modulation beside other maps, end to end: rows, tables, sheet and page."""

import csv
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

pytestmark = pytest.mark.ray

TRAINED = ("demo", "data.num_images=60", "data.size=64", "data.target=sex",
           "model.name=timm/test_resnet", "model.weights=", "train.epochs=1", "train.batch=8",
           "cluster.cpus=1", "train.precision=fp32", "train.layout=contiguous")  # fmt: skip
ASKED = ("eps=0.05unit01|0.5unit01", "steps=4", "method=saliency,smooth_grad(draws=2)",
         "modulation.rows=10", "modulation.pictures=2")  # fmt: skip


def test_modulation_beside_other_maps_and_a_null(run, tmp_path: Path) -> None:
    code, trained, text = run("train.py", *TRAINED)
    assert code == 0, text
    code, null, text = run("train.py", *TRAINED, "data.permute_labels=true")
    assert code == 0 and "LABELS PERMUTED" in Path(null["report"]).read_text(), text
    assert null["folder"] != trained["folder"]
    null_bundle = f"null={null['bundle']}"
    code, result, text = run("modulation.py", trained["bundle"], null_bundle, *ASKED)
    assert code == 0, text
    rows = pq.read_table(result["rows"])
    assert rows.num_rows == result["n"] == 10
    assert {"reached", "distance", "share:saliency:vessels"} <= set(rows.column_names)
    assert rows["distance"].to_numpy().max() <= 0.5 + 1e-6
    with open(result["table"], newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 3 * 5 and all(row["against_null_difference"] for row in table)
    with open(result["correlations"], newline="") as file:
        assert len(list(csv.DictReader(file))) == 3
    assert Image.open(result["sheet"]).width > 600
    page = Path(result["report"]).read_text()
    assert "Poplin et al. 2018" in page and "<script" not in page
    # Nothing in a drawn eye tells its sex: there is nothing to decide the claim by.
    assert result["h12"]["verdict"] == "undecided" and "explains nothing" in text
    code, again, text = run("modulation.py", trained["bundle"], null_bundle, *ASKED)
    assert code == 0 and again["rows"] == result["rows"], text
    code, _, text = run("modulation.py", trained["bundle"], f"null={trained['bundle']}", *ASKED)
    assert code == 2 and "learned true labels" in text
