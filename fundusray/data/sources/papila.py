"""PAPILA, both eyes of 244 patients, for glaucoma (Kovalyk et al. 2022)."""

import re
from array import array

from fundusray import files
from fundusray.config import Data
from fundusray.data.manifest.contract import SEXES, SOURCES, SourceContent
from fundusray.data.reading.csv_files import CsvTable, read_rows
from fundusray.data.reading.folders import list_folder, need_folder, need_photographs
from fundusray.data.reading.rows import (
    BLANK,
    NEED_AGE,
    TableRows,
    converted_column,
    find_photographs,
    joined_parts,
    one_of,
    read_age,
    table_rows,
)
from fundusray.errors import InputError

EYES = {"od": "right", "os": "left"}
TABLES = "ClinicalData/patient_data_"
ENDINGS = (".xlsx", ".csv")
COLUMNS = ("Age", "Gender", "Diagnosis")
NUMBER = re.compile(r"#?([0-9]{1,3})(\.0+)?")
CLASSES = ("healthy", "suspect", "glaucoma")
DIAGNOSES = {"0": 0, "2": 1, "1": 2} | BLANK
"""The publisher's codes, in which 1 is glaucoma and 2 suspicion of it -> places in CLASSES."""
SEX_CODES = {"0": "male", "1": "female", "": ""}
LAYOUT = (
    "source 'papila' expects ClinicalData/patient_data_od.xlsx and patient_data_os.xlsx (Age,"
    "Gender,Diagnosis; rows #002 ...) and FundusImages/RET002OD.jpg"
)


@SOURCES.register(
    "papila",
    title="PAPILA",
    marks=("ClinicalData", "FundusImages"),
    labels=("disease", "sex"),
)
def papila(data: Data, root: str, seed: int) -> SourceContent:
    """PAPILA as published: a workbook for each eye, and FundusImages.

    The label is `disease`: healthy, suspect, glaucoma. Gender is 0 male, 1 female. The workbooks
    have two header lines, of which the one that names the columns is taken.

    Raises:
        InputError: no workbook, one that cannot be read, or no images.
    """
    root = need_folder(root, LAYOUT)
    parts = []
    for short in EYES:
        names = [f"{TABLES}{short}{ending}" for ending in ENDINGS]
        held = [name for name in names if files.exists(files.join(root, name))]
        if not held:
            raise InputError(f"{files.join(root, names[0])} is not there; {LAYOUT}")
        parts.append(_part(root, held[0], short))
    return joined_parts(parts, {"disease": CLASSES, "sex": SEXES})


def _part(root: str, name: str, short: str) -> TableRows:
    rows = table_rows(_table(root, name, short), "image")
    rows.columns |= {
        "patient_id": [image[3:6] for image in rows.names],
        "eye": [EYES[short]] * len(rows.ids),
        "disease": converted_column(rows, "Diagnosis", one_of(DIAGNOSES), "0, 1, 2 or nothing"),
        "sex": converted_column(
            rows, "Gender", one_of(SEX_CODES), "0 (male), 1 (female) or nothing"
        ),
        "age": converted_column(rows, "Age", read_age, NEED_AGE),
    }
    folders = [list_folder(root, "FundusImages")]
    need_photographs(root, folders, LAYOUT)
    find_photographs(rows, folders, "image", "FundusImages/{}.jpg")
    return rows


def _table(root: str, name: str, short: str) -> CsvTable:
    """A workbook's rows that begin with a patient's number."""
    lines, columns = array("L"), {key: [] for key in ("image", *COLUMNS)}
    places: list[int] = []
    for line, row in enumerate(read_rows(root, name), 1):
        if not places and set(COLUMNS) <= set(row):
            places = [row.index(column) for column in COLUMNS]
        elif places and row and (number := NUMBER.fullmatch(row[0])):
            lines.append(line)
            columns["image"].append(f"RET{int(number[1]):03d}{short.upper()}")
            for column, place in zip(COLUMNS, places, strict=True):
                columns[column].append(row[place] if place < len(row) else "")
    if not lines:
        raise InputError(f"{name}: no rows of patients under {','.join(COLUMNS)}; {LAYOUT}")
    return CsvTable(name, lines, columns)
