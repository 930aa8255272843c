"""Grades of retinopathy as published sets code them, and photographs that could not be graded."""

from collections.abc import Sequence

from fundusray.data.labels.read_labels import set_ungradable
from fundusray.data.reading.rows import (
    LEVELS,
    NEED_LEVEL,
    TableRows,
    converted_column,
    one_of,
    quoted_cell,
)

UNGRADABLE = -2
"""Stands for a code that says that nothing can be seen."""


def read_grades(rows: TableRows, column: str, ungradable: Sequence[str] = ()) -> list[int]:
    """The grade of each row, 0 to 4, -1 without one; an ungradable code is none, and is noted."""
    codes = LEVELS | dict.fromkeys(ungradable, UNGRADABLE)
    values = converted_column(rows, column, one_of(codes), NEED_LEVEL)
    for row, value in enumerate(values):
        if value == UNGRADABLE:
            set_ungradable(rows, row, f"{column} {quoted_cell(rows.cells[column][row])}")
            values[row] = -1
    return values
