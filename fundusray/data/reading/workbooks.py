"""Tables that are kept in an Excel workbook; the one door to openpyxl."""

import csv
import io
import warnings
import zipfile
from importlib.util import find_spec

from fundusray.errors import InputError

ENDINGS = (".xlsx", ".xlsm")
OLD = (".xls", ".ods")
LARGEST = 1 << 28
"""Bytes of a workbook when it is unpacked."""
NEEDED = "pip install 'fundusray[xlsx]' (openpyxl), or save it as CSV in UTF-8"


def is_workbook(name: str) -> bool:
    """Whether a table is a workbook by its name."""
    return name.lower().endswith(ENDINGS + OLD)


def as_csv(name: str, content: bytes) -> bytes:
    """The first sheet of a workbook as CSV, one line for each of its rows.

    Raises:
        InputError: openpyxl is not installed, or it is no workbook that can be read.
    """
    if name.lower().endswith(OLD):
        raise InputError(f"{name}: an old spreadsheet; save it as .xlsx or as CSV in UTF-8")
    if find_spec("openpyxl") is None:
        raise InputError(f"{name}: reading an Excel table needs more: {NEEDED}")
    import openpyxl

    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            size = sum(member.file_size for member in packed.infolist())
        if size > LARGEST:
            raise InputError(f"{name}: {size:,} bytes unpacked, at most {LARGEST:,} are read")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and checks that it drops
            book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True)
            sheet = book.worksheets[0]
            sheet.reset_dimensions()  # what a file claims of its size may be wrong
            for row in sheet.iter_rows(values_only=True):
                writer.writerow([_text(cell) for cell in row])
    except (InputError, MemoryError):
        raise
    except Exception as error:  # damaged workbooks raise anything
        told = str(error) or type(error).__name__
        raise InputError(f"{name}: no Excel workbook that can be read: {told}") from error
    return sink.getvalue().encode()


def _text(cell: object) -> str:
    """A cell as CSV has it, on one line."""
    return "" if cell is None else " ".join(str(cell).split("\n"))
