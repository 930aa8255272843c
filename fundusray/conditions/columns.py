"""What a table of predictions says of the condition they were made under."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

TYPES: dict[str, Any] = {
    "clean_prediction": pa.int32(),  # the class of the image as it is
    "success": pa.bool_(),  # right of the image as it is, wrong of the changed one
    "linf": pa.float64(),  # the largest change of a pixel, in [0, 1]
    "l2": pa.float64(),  # the length of the change, pixels in [0, 1]
    "corruption": pa.string(),  # what damaged the photograph
    "level": pa.int32(),  # how much
}
"""Columns of rows whose images were changed or damaged, beside the task's own."""


def with_condition(
    table: pa.Table, condition: object, columns: Mapping[str, np.ndarray]
) -> pa.Table:
    """The table with the condition's text in every row, and what was measured of each row."""
    texts = pa.array([str(condition)] * table.num_rows, pa.string())
    table = table.append_column("condition", texts)
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values, TYPES[name]))
    return table
