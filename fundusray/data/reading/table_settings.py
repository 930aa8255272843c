"""Which tables source `csv` reads, and what their columns are called: data.table, data.columns."""

import re
import unicodedata
from typing import NamedTuple

from fundusray import files
from fundusray.config import Data
from fundusray.data.manifest.contract import LABELS
from fundusray.data.reading.csv_files import ENDINGS, read_header
from fundusray.data.reading.folders import bad_path, is_inside, list_folder
from fundusray.data.reading.rows import SPLITS, read_split
from fundusray.errors import InputError
from fundusray.registry import unknown_name

NAMES = ("image", "patient", "eye", "age", "keywords", "split")
"""What data.columns may name beside labels."""
SIDED = ("image", "grade")
"""Names of which there may be a column for each eye, e.g. grade_left and grade_right."""
WORD = re.compile(r"[a-z]+|[A-Z]+[a-z]*")


class TableSettings(NamedTuple):
    """One table, as the settings have it."""

    name: str
    """In the root."""
    side: str
    """train, val, test, or "" where nothing tells."""
    headed: bool
    """Its first line holds the names of the columns."""


def tables_of(data: Data, root: str) -> tuple[list[TableSettings], dict[str, str]]:
    """The tables, and our name -> their column, for all that is set.

    Raises:
        InputError: a setting is missing or names what is not there; the error lists the columns.
    """
    if not data.table:
        held = sorted(name for name in list_folder(root).files if name.lower().endswith(ENDINGS))
        raise InputError(f"data.table is not set; {root} holds {', '.join(held) or 'no table'}")
    columns = {name: column.strip() for name, column in data.columns.items() if column.strip()}
    sided = [f"{name}_{eye}" for name in SIDED for eye in ("left", "right")]
    every = [*NAMES, *LABELS, *sided]
    for name in columns:
        if name not in every:
            raise unknown_name("data.columns entry", name, every)
    columns = {name: unicodedata.normalize("NFC", column) for name, column in columns.items()}
    given = []
    for name, side in _named(data.table, root):
        if bad_path(name) or not is_inside(root, name):
            raise InputError(f"data.table={name}: expected a path inside {root}")
        given.append(
            TableSettings(name, side, _check(data, name, read_header(root, name), columns))
        )
    return given, columns


def _named(text: str, root: str) -> list[tuple[str, str]]:
    """(table, side) of each table; sides that the settings give, otherwise the tables' names."""
    # The name of a single table may hold a comma.
    names = [text] if files.exists(files.join(root, text)) else text.split(",")
    found = []
    for name in filter(None, map(str.strip, names)):
        side, colon, rest = name.partition(":")
        if colon and read_split(side):
            found.append((rest.strip(), SPLITS[side.casefold()]))
        else:
            found.append((name, _side(name) if len(names) > 1 else ""))
    # Where all tables are of one side, or none is told, their names say nothing.
    told = {side for _, side in found} - {""}
    return found if len(told) > 1 else [(name, "") for name, _ in found]


def _side(name: str) -> str:
    """The side that a table's own name tells, as RFMiD_Training_Labels.csv does; "" otherwise."""
    words = WORD.findall(files.base_name(name).rpartition(".")[0])
    sides = {side for word in words if (side := read_split(word))}
    return sides.pop() if len(sides) == 1 else ""


def _check(data: Data, name: str, header: list[str], columns: dict[str, str]) -> bool:
    """Whether a table has a header; raises InputError where it lacks a column."""
    has = f"{name} has the columns {', '.join(map(repr, header))}"
    missing = [(ours, theirs) for ours, theirs in columns.items() if theirs not in header]
    if missing and all(column.isdecimal() for column in columns.values()):
        return _need(data, columns, has, False)
    for ours, theirs in missing:
        raise InputError(f"data.columns.{ours}={theirs}: no such column; {has}")
    return _need(data, columns, has, True)


def _need(data: Data, columns: dict[str, str], has: str, headed: bool) -> bool:
    for name in ("image", *({data.target} & set(LABELS))):
        sided = name in SIDED and {f"{name}_left", f"{name}_right"} <= set(columns)
        if name not in columns and not sided:
            raise InputError(f"data.columns.{name} is not set; {has}")
    return headed
