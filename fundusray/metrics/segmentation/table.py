"""The table of a segmentation: one row per image, its counts as lists of fixed length."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from fundusray.errors import InputError

TASK = "segmentation"
Columns = Mapping[str, np.ndarray]
"""The arrays of `counts`, [N, ...] by name."""
HALF = "half"


def segmentation_table(
    image_ids: Sequence[str],
    patient_ids: Sequence[str],
    columns: Columns,
    classes: Sequence[str],
    half: np.ndarray | None = None,
) -> pa.Table:
    """One row per image: image_id, patient_id, the columns, and half (int8) where it is not None.

    A patient_id is "" where the patient is not known. `half` says which of several networks
    predicted a row: their scores have no common scale. The schema's metadata holds `task`,
    `classes` and `shapes` (of a row of each column), as JSON but the first.

    Raises:
        InputError: an image twice, columns of another length or of other classes, or a loss that is
            not finite.
    """
    if len(set(image_ids)) != len(image_ids):
        raise InputError("a segmentation's table has one row per image, but an image_id is twice")
    lengths = {name: len(values) for name, values in columns.items()}
    wrong = [name for name, length in lengths.items() if length != len(image_ids)]
    if wrong or len(patient_ids) != len(image_ids):
        raise InputError(
            f"a segmentation's table needs {len(image_ids)} rows of each column; got "
            f"{len(patient_ids)} patients and {lengths}"
        )
    if columns["hits"].shape[1] != len(classes):
        raise InputError(f"{len(classes)} classes for {columns['hits'].shape[1]} in the columns")
    broken = np.flatnonzero(~np.isfinite(columns["loss"]))
    if len(broken):
        raise InputError(
            f"the network's output is not finite for {len(broken)} of {len(image_ids)} images, "
            f"first {image_ids[broken[0]]!r}; it diverged: lower train.lr"
        )
    found: dict[str, Any] = {
        "image_id": pa.array(image_ids, pa.string()),
        "patient_id": pa.array(patient_ids, pa.string()),
    }
    found |= {name: _lists(np.asarray(values)) for name, values in columns.items()}
    if half is not None:
        found[HALF] = pa.array(np.asarray(half, np.int8), pa.int8())
    shapes = {name: values.shape[1:] for name, values in columns.items()}
    facts = {"task": TASK, "classes": json.dumps(list(classes)), "shapes": json.dumps(shapes)}
    return pa.table(found).replace_schema_metadata(facts)


def _lists(values: np.ndarray) -> pa.Array:
    """[N, ...] as N lists of fixed length, or as N numbers."""
    flat = pa.array(values.ravel())
    if values.ndim == 1:
        return flat
    return pa.FixedSizeListArray.from_arrays(flat, int(np.prod(values.shape[1:])))


def is_segmentation_table(table: pa.Table) -> bool:
    """Whether the rows are of a segmentation."""
    return (table.schema.metadata or {}).get(b"task") == TASK.encode()


def segmentation_columns_of(table: pa.Table) -> dict[str, np.ndarray]:
    """The columns of a table as arrays [N, ...], as `segmentation_table` was given them.

    Raises:
        InputError: the table is not of a segmentation.
    """
    facts = _facts(table)
    shapes = json.loads(facts[b"shapes"])
    found = {}
    for name, shape in shapes.items():
        column = table[name].combine_chunks()
        flat = column if not shape else column.flatten()
        found[name] = flat.to_numpy().reshape(len(table), *shape)
    return found


def columns_and_half(table: pa.Table) -> dict[str, np.ndarray]:
    """The same with half, int8 [N], where there is one."""
    half = {HALF: table[HALF].to_numpy()} if HALF in table.column_names else {}
    return segmentation_columns_of(table) | half


def segmentation_classes_of(table: pa.Table) -> tuple[str, ...]:
    """The classes of a table, the background first.

    Raises:
        InputError: the table is not of a segmentation.
    """
    return tuple(json.loads(_facts(table)[b"classes"]))


def _facts(table: pa.Table) -> dict[bytes, bytes]:
    facts = table.schema.metadata or {}
    if not is_segmentation_table(table):
        raise InputError(
            f"a table of a segmentation says task={TASK} in its schema; this one has the columns "
            f"{', '.join(table.column_names)}"
        )
    return facts
