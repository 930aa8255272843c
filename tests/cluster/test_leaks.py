"""Training refuses a split that leaks, says so where it is allowed, and survives a bad image."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fundusray import files
from fundusray.cluster.runtime.train_workers import RunFailedError
from fundusray.cluster.train import train_recipe
from fundusray.config import Recipe, override
from fundusray.data.prepared.prepared_set import open_set
from fundusray.data.split import split_files
from fundusray.errors import InputError
from fundusray.runs.run import plan_run
from fundusray.runs.split_of_run import split_of

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def quick(small: Recipe) -> Recipe:
    return override(small, {"train.epochs": 1})


def test_a_leaking_split_is_refused_before_anything_runs(
    quick: Recipe, prepared: str, tmp_path: Path
) -> None:
    by_image = override(quick, {"data.split": "image"})
    with pytest.raises(InputError, match="patients are on more than one side: 0-") as caught:
        train_recipe(by_image, prepared, str(tmp_path))
    assert "data.allow_leak=true" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_split_file_decides_and_is_written_again(
    quick: Recipe, prepared: str, tmp_path: Path
) -> None:
    opened = open_set(prepared)
    patients = np.array(opened.patients())
    names = sorted(set(patients))
    place = {name: ("train", "val", "test", "none")[k % 4] for k, name in enumerate(names)}
    sides = np.array([place[patient].replace("none", "") for patient in patients])
    split_file = str(tmp_path / "mine.csv")
    split_files.write_split_file(split_file, opened.table, sides)
    asked = override(quick, {"data.split_file": split_file, "data.fractions": "0.9,0.05,0.05"})
    rows = split_of(opened, asked).rows
    assert all(np.array_equal(rows[name], np.flatnonzero(sides == name)) for name in rows)
    result = train_recipe(asked, prepared, str(tmp_path / "runs"))
    judged = pq.read_table(result["predictions"])["image_id"].to_pylist()
    assert judged == [
        i for i, side in zip(opened.image_ids(), sides, strict=True) if side == "test"
    ]
    again = Path(result["folder"], "split.csv")
    assert again.read_bytes() == Path(split_file).read_bytes()
    # The name of the file does not matter to the run, its content does.
    copy = override(asked, {"data.split_file": str(again)})
    same = plan_run(asked, prepared, "unused").key
    assert plan_run(copy, prepared, "unused").key == same
    sides[sides == "val"] = "test"
    sides[np.flatnonzero(sides == "test")[0]] = "val"
    split_files.write_split_file(split_file, opened.table, sides)
    assert plan_run(asked, prepared, "unused").key != same


def broken_copy(prepared: str, folder: Path, bad: list[int]) -> str:
    """The prepared set with the JPEGs of some rows cut to their first half."""
    shutil.copytree(prepared, folder)
    info = files.read_json(str(folder / "set.json"))
    start = 0
    for shard in info["shards"]:
        path = folder / shard["name"]
        table = pa.ipc.open_file(pa.BufferReader(path.read_bytes())).read_all()
        images = [bytes(image) for image in table["image"].to_pylist()]
        for row in bad:
            if start <= row < start + len(images):
                images[row - start] = images[row - start][: len(images[row - start]) // 2]
        start += len(images)
        arrays = [table["image_id"].combine_chunks(), pa.array(images, pa.large_binary())]
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(pa.table(arrays, schema=table.schema))
        shard |= {"sha256": files.sha256_file(str(path)), "bytes": path.stat().st_size}
    files.write_json(str(folder / "set.json"), info)
    return str(folder)


def test_a_bad_image_is_set_aside_by_name_and_the_run_goes_on(
    quick: Recipe, prepared: str, tmp_path: Path
) -> None:
    opened = open_set(prepared)
    sides = split_of(opened, quick).rows
    bad = [int(sides["train"][3]), int(sides["test"][1])]
    broken = broken_copy(prepared, tmp_path / "set", bad)
    allowed = override(quick, {"data.max_bad": 0.1})
    result = train_recipe(allowed, broken, str(tmp_path / "runs"))
    ids = opened.image_ids()
    assert {row["image_id"] for row in result["quarantined"]} == {ids[row] for row in bad}
    assert all(row["reason"] for row in result["quarantined"])
    judged = pq.read_table(result["predictions"])["image_id"].to_pylist()
    assert ids[bad[1]] not in judged and len(judged) == len(sides["test"]) - 1
    with pytest.raises(RunFailedError, match=ids[bad[0]]) as caught:
        train_recipe(override(quick, {"data.max_bad": 0.0}), broken, str(tmp_path / "strict"))
    assert caught.value.exit_code == 5
