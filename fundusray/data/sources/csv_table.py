"""Any table of photographs: the settings say what its columns are called."""

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
from fundusray.data.found import SEXES, SOURCES, Found
from fundusray.data.labels import SCALES, read_label
from fundusray.data.listing import LINK, bad_path, is_inside, list_folder, need_folder
from fundusray.data.tables import Table, read_header, read_table
from fundusray.errors import InputError
from fundusray.registry import unknown_name

LAYOUT = "source 'csv' expects data.table=<table in the root> and data.columns.image=<its column>"
NAMES = ("image", "grade", "edema", "patient", "eye", "sex", "age", "keywords", "split")
"""What data.columns may name."""
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
BASE = "\0base"
"""The cells of the image column without folders, beside the table's own columns."""


@SOURCES.register("csv")
def csv_table(data: Data, root: str, seed: int) -> Found:
    """Photographs named by a table, data.table; data.columns says which column is what.

    Images are names with or without extension, or paths with folders separated by /. An id is the
    name without extension, with its folders before it where several have that name. Grades are
    numbers from 0 on (0 to 4 are the international scale of retinopathy, also where a set lacks
    some), or names, in the order of their meaning; `data.classes` gives another one. A row without
    an image is set aside; one without a grade is unlabelled.

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
            rows.columns[name], labels[name] = read_label(rows, column, name, data)
    if "sex" in columns:
        labels["sex"] = SEXES
    return gather([rows], labels)._replace(renamed=True)


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
