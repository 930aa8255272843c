"""Any table of photographs: the settings say what its columns are called."""

from array import array
from itertools import chain

from fundusray.config import Data
from fundusray.data.labels.read_labels import read_label
from fundusray.data.manifest.contract import LABELS, SEXES, SOURCES, SourceContent
from fundusray.data.reading import file_names
from fundusray.data.reading.csv_files import CsvTable, read_table
from fundusray.data.reading.folders import need_folder
from fundusray.data.reading.nested_folders import folders_of, image_rows
from fundusray.data.reading.rows import (
    BLANK,
    NEED_AGE,
    NEED_NAME,
    NEED_TEXT,
    SPLITS,
    TableRows,
    converted_column,
    joined_parts,
    one_of,
    read_age,
    read_name,
    read_text,
)
from fundusray.data.reading.table_settings import TableSettings, tables_of

LAYOUT = "source 'csv' expects data.table=<table in the root> and data.columns.image=<its column>"
SEX_CODES = {"female": "female", "f": "female", "male": "male", "m": "male", "": ""}
EYE_CODES = {"left": "left", "l": "left", "os": "left"}
EYE_CODES |= {"right": "right", "r": "right", "od": "right", "": ""}


def _read_patient(cell: str) -> str | None:
    """A patient's name; "" where the cell says that it is not known."""
    return "" if cell.casefold() in BLANK else read_name(cell)


READ = {
    "patient": ("patient_id", _read_patient, NEED_NAME),
    "eye": ("eye", one_of(EYE_CODES), "left, right, l, r, os, od or nothing"),
    "sex": ("sex", one_of(SEX_CODES), "female, male, f, m or nothing"),
    "age": ("age", read_age, NEED_AGE),
    "keywords": ("keywords", read_text, NEED_TEXT),
    "split": ("split", one_of(SPLITS | {"": ""}), "train, val, test or nothing"),
}
"""Our name -> the manifest's column, how a cell is read, and what it should be."""
EYES = ("left", "right")


@SOURCES.register("csv", title="your photographs", labels=None)
def csv_table(data: Data, root: str, seed: int) -> SourceContent:
    """Photographs named by tables, data.table; data.columns says which column is what.

    Images are names with or without extension, or paths; they lie in data.images, beside the
    table or, where their names are unambiguous, anywhere below. An id is the name without
    extension, with its folders before it where several have that name. Grades are numbers from 0
    on (0 to 4 are the international scale of retinopathy, also where a set lacks some), or names,
    in the order of their meaning; `data.classes` gives another one. A row without an image is set
    aside; one without a grade is unlabelled.

    Several tables are read as one. Where their names (or `train:a.csv,test:b.csv`) tell sides of a
    split, those are the publisher's. data.images then has a folder for each, or folders for all.

    Raises:
        InputError: a setting is missing (the error lists the table's columns), or the table cannot
            be read.
    """
    root = need_folder(root, LAYOUT)
    given, columns = tables_of(data, root)
    tables = [_table(root, one, columns) for one in given]
    if "image_left" in columns:
        tables = [_eye_by_eye(table, columns) for table in tables]
        columns = _eye_columns(columns)
    folders = folders_of(data.images, root)
    each = len(folders) == len(tables) > 1
    places = [[folder] for folder in folders] if each else [folders] * len(tables)
    rows = _joined(tables, root, columns["image"], places)
    if "split" not in columns and any(one.side for one in given):
        sides = ([one.side] * len(table.lines) for one, table in zip(given, tables, strict=True))
        rows.columns["split"] = list(chain.from_iterable(sides))
    labels: dict[str, tuple[str, ...]] = {}
    for name, column in columns.items():
        if name in READ:
            ours, read, need = READ[name]
            rows.columns[ours] = converted_column(rows, column, read, need)
    if "grade_left" in columns:
        columns["grade"] = _grade_of_eye(rows, columns, data.patient_pattern)
    for name in LABELS:
        if name in columns and not LABELS.facts(name).text:
            rows.columns[name], labels[name] = read_label(rows, columns[name], name, data)
    if "sex" in columns:
        labels["sex"] = SEXES
    return joined_parts([rows], labels)._replace(renamed=True)


def _table(root: str, given: TableSettings, columns: dict[str, str]) -> CsvTable:
    return read_table(root, given.name, tuple(dict.fromkeys(columns.values())), (), given.headed)


def _eye_columns(columns: dict[str, str]) -> dict[str, str]:
    """The columns of a table that has a row for each eye in place of one for both."""
    eyes = {name: f"{columns[f'{name}_left']}/{columns[f'{name}_right']}" for name in ("image",)}
    if "grade_left" in columns:
        eyes["grade"] = f"{columns['grade_left']}/{columns['grade_right']}"
    sided = {f"{name}_{eye}" for name in ("image", "grade") for eye in EYES}
    kept = {name: column for name, column in columns.items() if name not in sided}
    return eyes | kept | {"eye": "the eye"}


def _eye_by_eye(table: CsvTable, columns: dict[str, str]) -> CsvTable:
    """The table with a row for each eye that has an image."""
    images = [table.columns[columns[f"image_{eye}"]] for eye in EYES]
    kept = [(row, e) for row in range(len(table.lines)) for e in (0, 1) if images[e][row]]
    cells = {name: [values[row] for row, _ in kept] for name, values in table.columns.items()}
    for name, column in _eye_columns(columns).items():
        if name in ("image", "grade") and f"{name}_left" in columns:
            sides = [table.columns[columns[f"{name}_{eye}"]] for eye in EYES]
            cells[column] = [sides[e][row] for row, e in kept]
    cells["the eye"] = [EYES[e] for _, e in kept]
    return CsvTable(table.name, array("L", [table.lines[row] for row, _ in kept]), cells)


def _joined(tables: list[CsvTable], root: str, image: str, places: list[list[str]]) -> TableRows:
    """The rows of all tables one behind the other, each told by its own table and line."""
    if len(tables) == 1:
        return image_rows(tables[0], root, image, places, [len(tables[0].lines)])
    lines, wheres = array("L"), []
    cells: dict[str, list[str]] = {name: [] for name in tables[0].columns}
    bounds = []
    for table in tables:
        lines += table.lines
        wheres += [table.name] * len(table.lines)
        bounds.append(len(lines))
        for name, values in cells.items():
            values += table.columns[name]
    whole = CsvTable(", ".join(table.name for table in tables), lines, cells)
    rows = image_rows(whole, root, image, places, bounds)
    rows.where = lambda row: f"{wheres[row]}:{lines[row]}"
    return rows


def _grade_of_eye(rows: TableRows, columns: dict[str, str], pattern: str) -> str:
    """The column with each row's own grade, of the column of its eye.

    Without a column of eyes, names tell them. Where the eye is not known and one of the columns is
    empty, it is the other's.
    """
    if "eye" not in columns:
        reading = (
            file_names.read_by(pattern, rows.names)
            if pattern
            else file_names.read_file_names(rows.names)
        )
        rows.columns["eye"] = reading.eyes
    left, right = columns["grade_left"], columns["grade_right"]
    cells, eyes = [], rows.columns["eye"]
    for row, pair in enumerate(zip(rows.cells[left], rows.cells[right], strict=True)):
        filled = [eye for eye, cell in zip(EYES, pair, strict=True) if cell.casefold() not in BLANK]
        if not eyes[row] and len(filled) == 1:
            eyes[row] = filled[0]
        if not eyes[row] and filled:
            image = f"image {rows.ids[row]!r}"
            rows.refuse(row, f"{left} and {right} of {image}, no eye; give data.columns.eye")
        cells.append(pair[eyes[row] == "right"] if eyes[row] else "")
    name = f"{left}/{right}"
    rows.cells = {**rows.cells, name: cells}
    return name
