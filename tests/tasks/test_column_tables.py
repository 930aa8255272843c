"""Columns of any shape through a table and a file."""

from pathlib import Path

import numpy as np

from fundusray import files
from fundusray.tasks.column_tables import column_table, table_columns


def test_columns_come_back_in_their_shape_and_the_order_of_rows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    columns = {
        "row": np.array([2, 0, 1]),
        "hits": rng.integers(0, 9, (3, 2, 4)),
        "loss": rng.random(3),
        "stage": np.array(["a", "", "b"], dtype=object),
    }
    place = str(tmp_path / "part.parquet")
    files.write_table(place, column_table(columns))
    order = np.argsort(columns["row"])
    again = table_columns(files.read_table(place).sort_by("row"))
    assert list(again) == list(columns)
    for name, values in columns.items():
        np.testing.assert_array_equal(again[name], values[order])
        assert again[name].shape == values.shape


def test_no_rows_keep_their_shape() -> None:
    columns = {"row": np.zeros(0, np.int64), "hits": np.zeros((0, 2, 4), np.int64)}
    assert table_columns(column_table(columns))["hits"].shape == (0, 2, 4)
