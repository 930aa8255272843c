"""Rows of a table on their way to the manifest, every one looked at, all faults in one pass.

A column is checked as a whole: what a cell means is worked out once for each different cell, so a
million rows take seconds. Only rows at fault are looked at one by one.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, compress
from typing import TypeVar

from fundusray.data.manifest.contract import GRADES, RowProblem, SourceContent
from fundusray.data.reading.csv_files import CsvTable
from fundusray.data.reading.folders import (
    LINK,
    FolderListing,
    bad_id,
    is_photograph,
    match_photographs,
    name_stems,
    plain_id,
)

T = TypeVar("T")

USUAL = re.compile(r"[A-Za-z0-9_-]+")
USUAL_PHOTOGRAPH = re.compile(r"([A-Za-z0-9_-]+)\.(?:jpe?g|png|tiff?|bmp)", re.IGNORECASE)
"""Ids and file names that need no closer look; others may be fine too."""
WHOLE = re.compile(r"([0-9]+)\.0+")
AGE = re.compile(r">?([0-9]{1,3})(\.[0-9]+)?")
"""Sets that hide the ages of very old people write >90, which is taken as 90."""
OLDEST = 130
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
SPLITS |= {"val": "val", "valid": "val", "validation": "val"}
BLANK = dict.fromkeys(("", "nan", "na", "n/a", "#n/a", "<na>", "null", "none", "-1", "-1.0"), -1)
"""What programs write where there is no label, in lower case."""
LEVELS = {str(grade): grade for grade in range(len(GRADES))} | BLANK
NEED_LEVEL = "0, 1, 2, 3 or 4"
NEED_AGE = f"a number of years from 0 to {OLDEST}, or nothing"
NEED_NAME = "a name without control characters"
NEED_TEXT = "text without control characters"
LONG = 80
"""Characters of a cell that an error repeats."""


@dataclass
class TableRows:
    """Rows of a table or of a listing, what is known of them so far, and what is wrong."""

    ids: list[str]
    where: Callable[[int], str]
    """Row -> file and line, or folder."""
    names: list[str]
    """What the photographs are called on disk, without extension; often the ids."""
    cells: Mapping[str, list[str]] = field(default_factory=dict)
    """The table's columns."""
    columns: dict[str, list] = field(default_factory=dict)
    """The manifest's columns; a value is None where its row has a fault."""
    faults: list[tuple[int, str, bool]] = field(default_factory=list)
    """Row, reason, whether it is refused (the table must be corrected) or set aside."""
    accounted: list[str] = field(default_factory=list)
    """Paths of files beside the rows that a problem speaks of."""
    problems: list[RowProblem] = field(default_factory=list)
    """What is wrong beside the rows."""
    kind: str = "image"
    """What an id names."""

    def refuse(self, row: int, reason: str) -> None:
        """Notes that the table must be corrected."""
        self.faults.append((row, reason, True))

    def set_aside(self, row: int, reason: str) -> None:
        """Notes that the row cannot be used."""
        self.faults.append((row, reason, False))


def quoted_cell(cell: str) -> str:
    """A cell as errors show it: quoted, control characters made visible, not too long."""
    return repr(cell if len(cell) <= LONG else cell[:LONG] + "...")


def table_rows(table: CsvTable, image: str) -> TableRows:
    """The rows of a table by the ids in its column `image`; ids that are paths are refused."""
    ids = list(table.columns[image])
    rows = TableRows(ids, table.where, ids, table.columns)
    usual, photograph = USUAL.fullmatch, USUAL_PHOTOGRAPH.fullmatch
    for row, cell in enumerate(ids):
        if usual(cell):
            continue
        if named := photograph(cell):
            ids[row] = named[1]
            continue
        ids[row] = plain_id(cell)
        if wrong := bad_id(ids[row]):
            rows.refuse(row, wrong)
    return rows


def listed_rows(folder: FolderListing) -> TableRows:
    """The photographs of a folder as rows, in the order of their names, with path and size."""
    stems, twins = name_stems(folder.files)
    names = [stems[stem] for stem in sorted(stems)]
    ids = sorted(stems)
    rows = TableRows(ids, lambda row: folder.prefix or "./", ids)
    rows.columns["path"] = [folder.prefix + name for name in names]
    rows.columns["num_bytes"] = [folder.files[name] for name in names]
    for row, (stem, name) in enumerate(zip(rows.ids, names, strict=True)):
        if wrong := bad_id(stem):
            rows.refuse(row, wrong)
        elif stem in twins:
            rows.refuse(row, f"{stem!r} is there with another extension; keep one")
        elif name in folder.outside:
            rows.refuse(row, f"{name!r} {LINK}")
    rows.problems += folder.problems()
    rows.problems += [
        RowProblem(folder.prefix or "./", link, f"{link!r} is a link that leads nowhere", False)
        for link in folder.broken
        if is_photograph(link)
    ]
    return rows


def attach_masks(rows: TableRows, masks: Iterable[tuple[FolderListing, str, str, str]]) -> None:
    """Fills in masks from (folder, file name, id of its photograph, structure).

    A photograph without masks has an empty list; a mask without its photograph is set aside.
    """
    known = set(rows.ids)
    held: dict[str, list[tuple[str, str]]] = {}
    for folder, name, image_id, structure in masks:
        path = folder.prefix + name
        where = folder.prefix or "./"
        if name in folder.outside:
            rows.problems.append(RowProblem(where, image_id, f"{path!r} {LINK}", True))
        elif image_id in known:
            held.setdefault(image_id, []).append((structure, path))
        else:
            reason = f"mask {name!r} without its photograph {image_id}.jpg"
            rows.problems.append(RowProblem(where, image_id, reason, False))
            rows.accounted.append(path)
    rows.columns["masks"] = [held.get(image_id, []) for image_id in rows.ids]


def converted_column(
    rows: TableRows, column: str, read: Callable[[str], T | None], need: str
) -> list[T]:
    """What each cell of a column means; a cell of which `read` makes None is a fault."""
    cells = rows.cells[column]
    meanings = {cell: read(cell) for cell in set(cells)}
    values = [meanings[cell] for cell in cells]
    if None in meanings.values():
        for row, value in enumerate(values):
            if value is None:
                of = f"of {rows.kind} {quoted_cell(rows.ids[row])}"
                rows.refuse(row, f"{column} {quoted_cell(cells[row])} {of}, expected {need}")
    return values


def one_of(codes: Mapping[str, T]) -> Callable[[str], T | None]:
    """Reads a cell by a table of codes, in either case; spreadsheets write 2 as 2.0."""

    def read(cell: str) -> T | None:
        if whole := WHOLE.fullmatch(cell):
            cell = whole[1]
        return codes.get(cell.casefold())

    return read


def read_age(cell: str) -> int | None:
    """Completed years; -1 of an empty cell, None of what is no age."""
    if not cell or cell.casefold() == "nan":
        return -1
    match = AGE.fullmatch(cell)
    return int(match[1]) if match and int(match[1]) <= OLDEST else None


def read_name(cell: str) -> str | None:
    """A patient's or class's name as NFC; None when it is empty or holds control characters."""
    name = unicodedata.normalize("NFC", cell)
    return name if name and name.isprintable() else None


def read_text(cell: str) -> str | None:
    """Words with single spaces between them; None when it holds control characters."""
    text = " ".join(cell.split())
    return None if any(unicodedata.category(letter) == "Cc" for letter in text) else text


def read_split(cell: str) -> str | None:
    """train, val or test by the names they go by; None of anything else."""
    return SPLITS.get(cell.casefold())


def find_photographs(
    rows: TableRows,
    folders: Sequence[FolderListing],
    image: str,
    example: str,
    members: Sequence[int] | None = None,
) -> None:
    """Fills in path and num_bytes from the first folder that has a row's photograph.

    A row without one is set aside, with the file that differs only in case when there is one.

    Args:
        image: the table's column with the names.
        example: what a photograph's path looks like, with {} for the name.
        members: the rows to look for; all when it is not given.
    """
    members = range(len(rows.ids)) if members is None else members
    if lost := look_for(rows, folders, image, members):
        set_lost_aside(rows, lost, folders, example)


def look_for(
    rows: TableRows, folders: Sequence[FolderListing], image: str, members: Sequence[int]
) -> list[int]:
    """Fills in path and num_bytes as `find_photographs` does; which sound rows have none."""
    paths = rows.columns.setdefault("path", [None] * len(rows.ids))
    sizes = rows.columns.setdefault("num_bytes", [0] * len(rows.ids))
    wrong = {row for row, _, _ in rows.faults}
    for folder in folders:
        wanted, cells = rows.names, rows.cells[image]
        if len(members) < len(wanted):
            wanted, cells = ([column[row] for row in members] for column in (wanted, cells))
        names, found, twins = match_photographs(folder, wanted, cells)
        if len(members) == len(paths):
            paths[:] = [None if name is None else folder.prefix + name for name in names]
            sizes[:] = found
        else:
            for row, name, size in zip(members, names, found, strict=True):
                if name is not None:
                    paths[row], sizes[row] = folder.prefix + name, size
        if twins or folder.outside:
            _refuse_files(rows, members, names, folder.outside, twins)
        rows.problems += folder.problems()
        missing = None in names
        members = [m for m, n in zip(members, names, strict=True) if n is None] if missing else []
    return [row for row in members if row not in wrong]


def _refuse_files(
    rows: TableRows,
    members: Sequence[int],
    names: Sequence[str | None],
    outside: set[str],
    twins: set[str],
) -> None:
    for row, name in zip(members, names, strict=True):
        path = rows.columns["path"][row]
        if name in outside:
            rows.refuse(row, f"{path!r} {LINK}")
        elif name is not None and rows.names[row] in twins:
            rows.refuse(row, f"{path!r} is there with another extension; keep one")


def set_lost_aside(
    rows: TableRows, lost: Sequence[int], folders: Sequence[FolderListing], example: str
) -> None:
    """Sets rows aside whose photographs were looked for in vain, as `find_photographs` does."""
    wanted = {rows.names[row].casefold() for row in lost}
    folded = {
        plain_id(name).casefold(): folder.prefix + name
        for folder in folders
        for name in folder.files
        if name.rpartition(".")[0].casefold() in wanted
    }
    for row in lost:
        near = folded.get(rows.names[row].casefold())
        hint = f"; there is {near!r}, which differs in case" if near else ""
        expected = example.replace("{}", rows.names[row])
        rows.set_aside(row, f"no image file of {rows.ids[row]!r} ({expected}){hint}")


def problems_by_line(rows: TableRows) -> list[RowProblem]:
    """The faults of the rows, by line."""
    return [
        RowProblem(rows.where(row), rows.ids[row], reason, refused)
        for row, reason, refused in sorted(rows.faults, key=lambda fault: fault[0])
    ]


def joined_parts(parts: Sequence[TableRows], labels: dict[str, tuple[str, ...]]) -> SourceContent:
    """The sound rows of all parts, which have the same columns, and all problems by line."""
    _refuse_repeats(parts)
    columns: dict[str, list] = {name: [] for name in ("image_id", *parts[0].columns)}
    accounted: list[str] = []
    for rows in parts:
        rows.columns["image_id"] = rows.ids
        sound = bytearray(b"\1") * len(rows.ids)
        for row, _, _ in rows.faults:
            sound[row] = 0
        paths = rows.columns.get("path", ())
        accounted += [paths[row] for row, _, _ in rows.faults if paths and paths[row]]
        accounted += rows.accounted
        for name, values in columns.items():
            given = rows.columns[name]
            values += compress(given, sound) if rows.faults else given
    faults = chain.from_iterable(map(problems_by_line, parts))
    # Two tables may look for their photographs in the same folder.
    beside = dict.fromkeys(chain.from_iterable(rows.problems for rows in parts))
    return SourceContent(columns, [*faults, *beside], labels, accounted=accounted)


def _refuse_repeats(parts: Sequence[TableRows]) -> None:
    """An id may be there once in all parts; what is no id is a fault already."""
    everything = chain.from_iterable(rows.ids for rows in parts)
    if len(set(everything)) == sum(len(rows.ids) for rows in parts):
        return
    first: dict[str, tuple[TableRows, int]] = {}
    for rows in parts:
        for row, image_id in enumerate(rows.ids):
            if bad_id(rows.names[row]):
                continue
            other, line = first.setdefault(image_id, (rows, row))
            if (other, line) != (rows, row):
                rows.refuse(row, f"image {image_id!r} again, first in {other.where(line)}")
