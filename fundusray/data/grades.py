"""Grades of retinopathy as published sets code them, and photographs that could not be graded."""

from collections.abc import Iterable, Sequence

from fundusray.data.checks import LEVELS, NEED_LEVEL, Rows, convert, one_of

UNGRADABLE = -2
"""Stands for a code that says that nothing can be seen."""
REASON = "ungradable"


def read_grades(rows: Rows, column: str, ungradable: Sequence[str] = ()) -> list[int]:
    """The grade of each row, 0 to 4, -1 without one; rows with an ungradable code are left out."""
    codes = LEVELS | dict.fromkeys(ungradable, UNGRADABLE)
    values = convert(rows, column, one_of(codes), NEED_LEVEL)
    leave_out(rows, (row for row, value in enumerate(values) if value == UNGRADABLE))
    return values


def leave_out(rows: Rows, ungradable: Iterable[int]) -> None:
    """Leaves rows out that could not be graded, by name and count."""
    for row in ungradable:
        rows.leave_out(row, REASON)
