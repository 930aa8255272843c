"""What is written of some images as a table that travels, and back."""

import json

import numpy as np
import pyarrow as pa

from fundusray.tasks.task import Columns

SHAPE = b"shape"


def column_table(columns: Columns) -> pa.Table:
    """Columns [N, ...] as a table of N rows; several numbers a row are a list of fixed length,
    whose shape its field tells."""
    fields, arrays = [], []
    for name, values in columns.items():
        array, about = pa.array(values.reshape(-1)), None
        if values.ndim > 1:
            array = pa.FixedSizeListArray.from_arrays(array, int(np.prod(values.shape[1:])))
            about = {SHAPE: json.dumps(values.shape[1:]).encode()}
        fields.append(pa.field(name, array.type, metadata=about))
        arrays.append(array)
    return pa.table(arrays, schema=pa.schema(fields))


def table_columns(table: pa.Table) -> Columns:
    """The columns of such a table."""
    columns = {}
    for field in table.schema:
        held = table[field.name].combine_chunks()
        if SHAPE in (field.metadata or {}):
            shape = json.loads(field.metadata[SHAPE])
            columns[field.name] = held.flatten().to_numpy().reshape(len(held), *shape)
        else:
            columns[field.name] = table[field.name].to_numpy()
    return columns
