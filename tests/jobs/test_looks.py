"""Looks at test rows: each counted, by the rows, whoever looks."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from fundusray import files
from fundusray.jobs.looks import Looks, record_look


@pytest.fixture
def predictions(tmp_path: Path):
    """(ids) -> a result whose predictions are of these rows."""

    def write(*ids: str, side: str = "test") -> dict:
        location = str(tmp_path / f"{'-'.join(ids)}.parquet")
        files.write_table(location, pa.table({"image_id": list(ids)}))
        return {"predictions": location, "reported_split": side}

    return write


def test_every_look_at_the_same_rows_of_the_same_set_counts(tmp_path: Path, predictions) -> None:
    storage = str(tmp_path / "runs")

    def seen(which: dict, manifest: str = "m", folder: str = "a-search-1") -> Looks:
        return record_look(manifest, which, storage, f"{storage}/{folder}")

    rows = predictions("a", "b")
    assert seen(rows) == Looks(0, [])
    # Another search, in another order of rows: the same rows were looked at.
    second = seen(predictions("b", "a"), folder="b-1")
    assert second.earlier == 1
    assert second.notes[0].startswith("These test rows were looked at once before (by a-search-1)")
    third = seen(rows)
    assert third.result == {"test_rows_looked_at_before": 2}
    assert "looked at 2 times before (by a-search-1, b-1)" in third.notes[0]
    # Other rows, or other photographs, were not.
    assert seen(predictions("a", "c")).earlier == seen(rows, manifest="n").earlier == 0
    # Validation rows choose anyhow.
    assert seen(predictions("a", "b", side="val")) == Looks()
    own = json.loads(Path(storage, "a-search-1", "looks.json").read_text())["looks"]
    assert [one["rows"] for one in own] == [2]  # of the last rows and photographs
    assert own[0]["command"].startswith("python ") and own[0]["when"].endswith("+00:00")


def test_a_look_whose_file_is_damaged_still_counts(tmp_path: Path, predictions) -> None:
    storage, rows = str(tmp_path / "runs"), predictions("a")
    for name in ("one", "two", "three"):
        record_look("m", rows, storage, f"{storage}/{name}")
    first, second, _ = sorted(Path(storage, "looks").glob("*/*.json"))
    first.write_bytes(b"")
    second.write_bytes(second.read_bytes().replace(b'"two"', b'"twp"'))
    found = record_look("m", rows, storage, f"{storage}/four")
    assert found.earlier == 3 and "3 times before (by three)" in found.notes[0]


def test_rows_of_one_table_look_once(tmp_path: Path, predictions) -> None:
    storage, mine = str(tmp_path / "runs"), {}
    for which in (predictions("a"), predictions("a"), predictions("b")):
        record_look("m", which, storage, f"{storage}/table", mine)
    assert [one.earlier for one in mine.values()] == [0, 0]
    assert record_look("m", predictions("a"), storage, f"{storage}/table").earlier == 1
