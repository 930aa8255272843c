"""What was predicted for rows of a prepared set."""

import numpy as np
import pyarrow as pa

from fundusray.data.shards import PreparedSet
from fundusray.metrics import predictions_table


def predictions_of(
    prepared: PreparedSet, rows: np.ndarray, logits: np.ndarray, half: np.ndarray | None = None
) -> pa.Table:
    """The predictions table of some rows of a prepared set; `half` as in `predictions_table`."""
    ids, patients = prepared.image_ids(), prepared.patients()
    return predictions_table(
        [ids[row] for row in rows],
        [patients[row] for row in rows],
        prepared.targets()[rows],
        logits,
        half,
        prepared.ordered,
    )
