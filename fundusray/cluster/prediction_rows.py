"""What was predicted for rows of a prepared set."""

import numpy as np
import pyarrow as pa

from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.tasks import Columns, Task


def predictions_of(
    prepared: PreparedSet, rows: np.ndarray, columns: Columns, task: Task
) -> pa.Table:
    """The table of some rows of a prepared set, by what the task wrote of each."""
    ids, patients = prepared.image_ids(), prepared.patients()
    return task.table([ids[row] for row in rows], [patients[row] for row in rows], columns)
