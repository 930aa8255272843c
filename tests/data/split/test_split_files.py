"""Splits from a file or the publisher, checked against the rows they are for."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fundusray.config import Data
from fundusray.data.split import split_files
from fundusray.errors import InputError


def table(num: int = 12, published: list[str] | None = None) -> pa.Table:
    return pa.table(
        {
            "image_id": [f"i{k}" for k in range(num)],
            "patient_id": [f"p{k // 2}" for k in range(num)],
            "twin": [""] * num,
            "target": pa.array([k // 2 % 2 for k in range(num)], pa.int32()),
            "split": published or [""] * num,
        }
    )


def from_text(tmp_path: Path, text: str, rows: pa.Table) -> np.ndarray:
    path = tmp_path / "split.csv"
    path.write_text(text)
    return split_files.assign_split(rows, Data(split_file=str(path)), 0)


def refused(tmp_path: Path, text: str, rows: pa.Table) -> str:
    with pytest.raises(InputError) as caught:
        from_text(tmp_path, text, rows)
    return str(caught.value)


def test_a_file_says_where_each_image_goes(tmp_path: Path) -> None:
    text = "\ufeffimage_id,split\r\ni1,test\r\ni0,train\r\ni2,none\r\nother,val\r\n"
    assert from_text(tmp_path, text, table(3)).tolist() == ["train", "test", ""]


def test_every_fault_of_a_file_is_named_with_its_line(tmp_path: Path) -> None:
    text = "image_id,split\ni0,train\ni0,test\ni1,training\n"
    said = refused(tmp_path, text, table(3))
    assert "split.csv:3: image 'i0' again" in said
    assert "split.csv:4: split 'training', expected train, val, test, none" in said
    assert "no line for image 'i2'" in said and "3 faults" in said
    with pytest.raises(InputError, match="no such file"):
        split_files.assign_split(table(3), Data(split_file=str(tmp_path / "not_there.csv")), 0)
    assert "and 10 more" in refused(tmp_path, "image_id,split\nx,val\n", table(30))


def test_what_is_written_gives_the_same_split_again(tmp_path: Path) -> None:
    rows = table(3).set_column(0, "image_id", pa.array(["a,b", 'c"d', "e"]))
    sides = np.array(["train", "", "test"])
    path = str(tmp_path / "split.csv")
    split_files.write_split_file(path, rows, sides)
    assert split_files.assign_split(rows, Data(split_file=path), 0).tolist() == sides.tolist()


def test_the_digest_follows_sides_and_not_order() -> None:
    rows, sides = table(4), np.array(["train", "val", "test", ""])
    turned = rows.take([3, 1, 0, 2])
    assert split_files.assignment_digest(rows, sides) == split_files.assignment_digest(
        turned, sides[[3, 1, 0, 2]]
    )
    assert split_files.assignment_digest(rows, sides) != split_files.assignment_digest(
        rows, sides[::-1]
    )


def test_the_publishers_split_is_kept_and_val_taken_from_train() -> None:
    rows = table(40, ["train"] * 32 + ["test"] * 8)
    sides = split_files.assign_split(rows, Data(split="given", fractions=(0.75, 0.25, 0.0)), 0)
    assert (sides[32:] == "test").all()
    assert (sides[:32] == "val").sum() == 8 and (sides[:32] == "train").sum() == 24
    assert (sides[:32:2] == sides[1:32:2]).all(), "patients were divided"


def test_rows_without_a_published_split_are_split_by_patient() -> None:
    rows = table(80, ["train"] * 20 + ["val"] * 10 + ["test"] * 10 + [""] * 40)
    sides = split_files.assign_split(rows, Data(split="given"), 0)
    assert sides[:40].tolist() == rows["split"].to_pylist()[:40]
    assert set(sides[40:]) == {"train", "val", "test"}
    assert (sides[40::2] == sides[41::2]).all()


def test_no_published_split_is_refused() -> None:
    for published in ([""] * 12, ["train"] * 12):
        with pytest.raises(InputError, match="without a split of their own"):
            split_files.assign_split(table(12, published), Data(split="given"), 0)
