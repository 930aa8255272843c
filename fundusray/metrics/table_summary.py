"""The figures of a table of any task, with their intervals."""

from typing import Any

import pyarrow as pa

from fundusray.metrics.segmentation.figures import segmentation_summary
from fundusray.metrics.segmentation.table import is_segmentation_table
from fundusray.metrics.summary import figure_summary


def table_summary(table: pa.Table) -> dict[str, Any]:
    """`figure_summary` of a table of classes, `segmentation_summary` of one of pixels.

    Raises:
        InputError: no rows.
    """
    return segmentation_summary(table) if is_segmentation_table(table) else figure_summary(table)
