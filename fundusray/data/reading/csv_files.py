"""CSV tables as programs write them, read whole into columns with the line of every row."""

import csv
import io
import re
import unicodedata
from array import array
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from fundusray import files
from fundusray.data.reading.delimiters import SPACES, delimiter_of
from fundusray.data.reading.folders import LINK, is_inside
from fundusray.data.reading.workbooks import as_csv, is_workbook
from fundusray.errors import InputError

CURE = "save it as CSV in UTF-8"
CHUNK = 4096
"""Rows in work at a time."""
MOST_NAMED = 300
"""Characters of a header that an error repeats."""
ENDINGS = (".csv", ".tsv", ".txt", ".xlsx", ".xlsm")
"""Files that may be tables."""
BLANKS = re.compile(r"[ \t]+")


class CsvTable(NamedTuple):
    """Some columns of a CSV text; blank rows are left out."""

    name: str
    """As errors call it, e.g. `trainLabels.csv`."""
    lines: array
    """In which line of the file each row begins."""
    columns: dict[str, list[str]]
    """Column -> its cells without spaces around them; a row that is too short has empty ones."""

    def where(self, row: int) -> str:
        """File and line of a row, e.g. `trainLabels.csv:17`."""
        return f"{self.name}:{self.lines[row]}"


def read_table(
    root: str, name: str, need: Sequence[str], optional: Sequence[str] = (), headed: bool = True
) -> CsvTable:
    """The named columns of a table in the root, as `parse_table` has them.

    Raises:
        InputError: no such file, or what `parse_table` refuses.
    """
    content = read_file(root, name)
    return parse_table(name, content, need, optional, headed)


def read_header(root: str, name: str) -> list[str]:
    """The names in the first line of a CSV file in the root.

    Raises:
        InputError: no such file, empty, not UTF-8, or not CSV.
    """
    return _header(name, _reader(name, read_file(root, name)))


def read_rows(root: str, name: str) -> Iterator[list[str]]:
    """Every line of a table as its cells, without spaces around them, header or not.

    Raises:
        InputError: no such file, empty, not UTF-8, or not CSV.
    """
    reader = _reader(name, read_file(root, name))
    try:
        for row in reader:
            yield [cell.strip() for cell in row]
    except csv.Error as error:
        raise InputError(f"{name}:{reader.line_num}: not CSV: {error}") from error


def read_file(root: str, name: str) -> bytes:
    """A table's bytes.

    Raises:
        InputError: no such file, one outside the root, or one that cannot be read.
    """
    location = files.join(root, name)
    if not is_inside(root, name):
        raise InputError(f"{location} {LINK}")
    try:
        return files.read_bytes(location)
    except FileNotFoundError as error:
        raise InputError(f"{location} is not there; put the table at that place") from error
    except OSError as error:
        raise InputError(f"{location} cannot be read: {error}") from error


def read_csv(name: str, content: bytes, columns: Sequence[str]) -> Iterator[tuple]:
    """(line, cell, cell, ...) of the named columns; see `parse_table` for what is read."""
    table = parse_table(name, content, columns)
    return zip(table.lines, *(table.columns[column] for column in columns), strict=True)


def parse_table(
    name: str,
    content: bytes,
    need: Sequence[str],
    optional: Sequence[str] = (),
    headed: bool = True,
) -> CsvTable:
    """Columns of a CSV text or workbook: those needed, and the optional ones that are there.

    UTF-8 with or without a BOM, any line ends, any delimiter, quoted cells, more columns, and
    spaces around cells or names are all fine.

    Args:
        headed: False where the first line is a row; columns are then called 0, 1, 2 ...

    Raises:
        InputError: not UTF-8, a column missing or there twice, no rows, or not CSV.
    """
    reader = _reader(name, content, headed)
    header = _header(name, reader)
    if not headed:
        header = list(map(str, range(len(header))))
        reader = _reader(name, content, headed)
    known = [column for column in optional if column in header]
    wanted = [*need, *known]
    if any(header.count(column) != 1 for column in wanted):
        got = ",".join(header)[:MOST_NAMED]
        raise InputError(
            f"{name}:1: expected the columns {','.join(wanted)} once each, got {got!r}"
        )
    places = [header.index(column) for column in wanted]
    lines, cells = _read_rows(name, reader, places)
    if not lines:
        raise InputError(f"{name}: a header and no rows; add one row per image")
    return CsvTable(name, lines, dict(zip(wanted, cells, strict=True)))


def _reader(name: str, content: bytes, headed: bool = True) -> "csv._reader":
    """A CSV reader over a text that is known to be UTF-8; the text is not held a second time."""
    if is_workbook(name):
        content = as_csv(name, content)
    if not content.strip():
        raise InputError(f"{name} is empty; expected a header and one row per image")
    head = content[:64]
    if head[:2] in (b"\xff\xfe", b"\xfe\xff") or 4 * head.count(b"\0") > len(head):
        raise InputError(f"{name}:1: UTF-16 text; {CURE}")
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start]
        raise InputError(f"{name}:{line}: byte 0x{byte:02x} is not UTF-8; {CURE}") from error
    text = io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline="")
    delimiter = delimiter_of(content, spaces=not headed)
    if delimiter == SPACES:
        return csv.reader((BLANKS.sub("\t", line.strip()) for line in text), delimiter="\t")
    return csv.reader(text, delimiter=delimiter)


def _header(name: str, reader: "csv._reader") -> list[str]:
    try:
        return [unicodedata.normalize("NFC", cell.strip()) for cell in next(reader, [])]
    except csv.Error as error:
        raise InputError(f"{name}:1: not CSV: {error}") from error


def _read_rows(
    name: str, reader: "csv._reader", places: Sequence[int]
) -> tuple[array, list[list[str]]]:
    """Lines and cells, column by column, of the rows that are not blank."""
    lines = array("L")
    columns: list[list[str]] = [[] for _ in places]
    # A row of many lines ends where the reader is; the next one begins behind that.
    begin = reader.line_num + 1
    try:
        while True:
            rows, begins = [], array("L")
            for row in islice(reader, CHUNK):
                rows.append(row)
                begins.append(begin)
                begin = reader.line_num + 1
            if not rows:
                return lines, columns
            _add_rows(rows, begins, places, lines, columns)
    except csv.Error as error:
        raise InputError(f"{name}:{begin}: not CSV: {error}") from error


def _add_rows(
    rows: list[list[str]],
    begins: array,
    places: Sequence[int],
    lines: array,
    columns: list[list[str]],
) -> None:
    """Adds rows column by column, several times faster than cell by cell."""
    width = max(places, default=0) + 1
    if min(map(len, rows)) < width:
        rows = [row + [""] * (width - len(row)) for row in rows]
    added = [[row[place].strip() for row in rows] for place in places]
    blank = set()
    if "" in added[0]:
        blank = {i for i, row in enumerate(rows) if not any(cell.strip() for cell in row)}
    if blank:
        kept = [i for i in range(len(rows)) if i not in blank]
        begins = array("L", [begins[i] for i in kept])
        added = [[cells[i] for i in kept] for cells in added]
    lines.extend(begins)
    for column, cells in zip(columns, added, strict=True):
        column += cells
