"""Any table of photographs: the settings say what its columns are called."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from fundusray.config import Data
from fundusray.data.checks import (
    NEED_AGE,
    NEED_NAME,
    NEED_TEXT,
    SPLITS,
    Rows,
    convert,
    find_photographs,
    gather,
    one_of,
    read_age,
    read_name,
    read_text,
    table_rows,
)
from fundusray.data.found import EDEMA, GRADES, SEXES, SOURCES, Found
from fundusray.data.listing import LINK, bad_path, is_inside, list_folder, need_folder
from fundusray.data.sources.folder import natural
from fundusray.data.tables import Table, read_header, read_table
from fundusray.errors import InputError
from fundusray.registry import unknown_name

LAYOUT = "source 'csv' expects data.table=<table in the root> and data.columns.image=<its column>"
NAMES = ("image", "grade", "edema", "patient", "eye", "sex", "age", "keywords", "split")
"""What data.columns may name."""
SCALES = {"grade": GRADES, "edema": EDEMA}
SEX_CODES = {"female": "female", "f": "female", "male": "male", "m": "male", "": ""}
EYE_CODES = {"left": "left", "l": "left", "os": "left"}
EYE_CODES |= {"right": "right", "r": "right", "od": "right", "": ""}
NOBODY = ("", "nan", "null", "none", "n/a", "na")
"""What a table says of a patient who is not known, in either case."""


def _read_patient(cell: str) -> str | None:
    """A patient's name; "" where the cell says that it is not known."""
    return "" if cell.casefold() in NOBODY else read_name(cell)


READ = {
    "patient": ("patient_id", _read_patient, NEED_NAME),
    "eye": ("eye", one_of(EYE_CODES), "left, right, l, r, os, od or nothing"),
    "sex": ("sex", one_of(SEX_CODES), "female, male, f, m or nothing"),
    "age": ("age", read_age, NEED_AGE),
    "keywords": ("keywords", read_text, NEED_TEXT),
    "split": ("split", one_of(SPLITS | {"": ""}), "train, val, test or nothing"),
}
"""Our name -> the manifest's column, how a cell is read, and what it should be."""
NUMBER = re.compile(r"([0-9]{1,3})(\.0+)?")
ODD = re.compile(r"[+-]?[0-9.]+(e[+-]?[0-9]+)?|nan|null|n/a|inf|", re.IGNORECASE)
"""What is no class's name in a column of names."""
MOST_CLASSES = 100
BASE = "\0base"
"""The cells of the image column without folders, beside the table's own columns."""


@SOURCES.register("csv")
def csv_table(data: Data, root: str, seed: int) -> Found:
    """Photographs named by a table, data.table; data.columns says which column is what.

    Images are names with or without extension, or paths with folders separated by /. An id is the
    name without extension, with its folders before it where several have that name. Grades are
    numbers from 0 on (a highest grade of 4 is the international scale of retinopathy), or names,
    which are the classes in natural order. A row without an image is set aside.

    Raises:
        InputError: a setting is missing (the error lists the table's columns), or the table cannot
            be read.
    """
    root = need_folder(root, LAYOUT)
    columns = _settings(data, root)
    table = read_table(root, data.table, tuple(dict.fromkeys(columns.values())))
    rows = _images(table, root, columns["image"])
    labels: dict[str, tuple[str, ...]] = {}
    for name, column in columns.items():
        if name in READ:
            ours, read, need = READ[name]
            rows.columns[ours] = convert(rows, column, read, need)
        elif name in SCALES:
            rows.columns[name], labels[name] = _classes(rows, column, SCALES[name])
    if "sex" in columns:
        labels["sex"] = SEXES
    return gather([rows], labels)


def _settings(data: Data, root: str) -> dict[str, str]:
    """Our name -> the table's column, for all that is set."""
    if not data.table:
        names = sorted(name for name in list_folder(root).files if name.lower().endswith(".csv"))
        raise InputError(f"data.table is not set; {root} holds {', '.join(names) or 'no CSV'}")
    if bad_path(data.table) or not is_inside(root, data.table):
        raise InputError(f"data.table={data.table}: expected a path inside {root}")
    header = read_header(root, data.table)
    columns = {name: column.strip() for name, column in data.columns.items() if column.strip()}
    for name, column in columns.items():
        if name not in NAMES:
            raise unknown_name("data.columns entry", name, NAMES)
        columns[name] = unicodedata.normalize("NFC", column)
        if columns[name] not in header:
            raise InputError(f"data.columns.{name}={column}: no such column; {_told(data, header)}")
    for name in ("image", *({data.target} & {"grade", "edema", "sex"})):
        if name not in columns:
            raise InputError(f"data.columns.{name} is not set; {_told(data, header)}")
    return columns


def _told(data: Data, header: list[str]) -> str:
    return f"{data.table} has the columns {', '.join(map(repr, header))}"


def _images(table: Table, root: str, column: str) -> Rows:
    """The table's rows with path and size of their photographs."""
    cells = [cell.removeprefix("./") for cell in table.columns[column]]
    bases = cells
    members: dict[str, Sequence[int]] = {"": range(len(cells))}
    if any("/" in cell for cell in cells):
        bases, members = _by_folder(cells)
    rows = table_rows(table._replace(columns=table.columns | {BASE: bases}), BASE)
    rows.ids = _unique(rows.names, members)
    rows.columns = {"path": [None] * len(cells), "num_bytes": [0] * len(cells)}
    for prefix, inside in members.items():
        folder = prefix[:-1]
        if prefix and (bad_path(folder) or not is_inside(root, folder)):
            for row in inside:
                rows.names[row] = rows.ids[row] = cells[row]
                rows.refuse(row, bad_path(cells[row]) or f"{folder!r} {LINK}")
        else:
            find_photographs(rows, [list_folder(root, folder)], BASE, prefix + "{}.jpg", inside)
    return rows


def _by_folder(cells: list[str]) -> tuple[list[str], dict[str, Sequence[int]]]:
    """The paths' last parts, and what comes before them -> rows."""
    bases: list[str] = []
    members: dict[str, list[int]] = {}
    for row, cell in enumerate(cells):
        cut = cell.rfind("/") + 1
        members.setdefault(cell[:cut], []).append(row)
        bases.append(cell[cut:])
    return bases, dict(members)


def _unique(names: list[str], members: dict[str, Sequence[int]]) -> list[str]:
    """The names, those that are there several times with their folders before them."""
    ids = list(names)
    if len(members) > 1:
        times = Counter(names)
        for prefix, inside in members.items():
            for row in inside:
                if times[names[row]] > 1:
                    ids[row] = prefix.replace("/", "-") + names[row]
    return ids


def _classes(
    rows: Rows, column: str, scale: tuple[str, ...]
) -> tuple[list[int | None], tuple[str, ...]]:
    """The class of each row, and the names of the classes.

    Raises:
        InputError: more classes than a label can have.
    """
    times = Counter(rows.cells[column])
    numbers = {cell: int(m[1]) for cell in times if (m := NUMBER.fullmatch(cell))}
    if 2 * sum(times[cell] for cell in numbers) >= len(rows.ids):
        held = set(numbers.values())
        # The first number that no row has ends the classes, unless it is a scale that we know.
        end = next(number for number in range(len(held) + 1) if number not in held)
        named = max(held) == len(scale) - 1
        names = scale if named else tuple(map(str, range(end)))
        codes = {cell: number for cell, number in numbers.items() if named or number < end}
        need = f"0 to {len(names) - 1}" if names else "numbers that begin at 0"
        need += f", as no row has {end}" if 0 < end < len(held) and not named else ""
    else:
        # Of spellings that differ in case only, the most frequent is meant.
        spelled: dict[str, str] = {}
        for cell, _ in times.most_common():
            if (name := read_name(cell)) and not ODD.fullmatch(name):
                spelled.setdefault(name.casefold(), name)
        names = tuple(sorted(spelled.values(), key=natural))
        places = {name: place for place, name in enumerate(names)}
        codes = {cell: places.get(read_name(cell) or "") for cell in times}
        need = f"one of {', '.join(names[:10])}" + (", ..." if len(names) > 10 else "")
    if len(names) > MOST_CLASSES:
        raise InputError(
            f"column {column!r} has {len(names):,} different values, at most {MOST_CLASSES} "
            "classes are learned; is it the label?"
        )
    return convert(rows, column, codes.get, need), names
