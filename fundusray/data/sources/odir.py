"""ODIR-5K, Ocular Disease Intelligent Recognition (Peking University, 2019)."""

import re
from array import array

from fundusray import files
from fundusray.config import Data
from fundusray.data.manifest.contract import GRADES, SEXES, SOURCES, SourceContent
from fundusray.data.reading.csv_files import ENDINGS, CsvTable, read_header, read_table
from fundusray.data.reading.folders import list_folder, need_folder, need_photographs
from fundusray.data.reading.rows import (
    NEED_AGE,
    NEED_NAME,
    NEED_TEXT,
    TableRows,
    converted_column,
    find_photographs,
    joined_parts,
    one_of,
    problems_by_line,
    quoted_cell,
    read_age,
    read_name,
    read_text,
    table_rows,
)
from fundusray.errors import InputError

TABLE = "full_df.csv"
FILES = ("Left-Fundus", "Right-Fundus")
KEYWORDS = ("Left-Diagnostic Keywords", "Right-Diagnostic Keywords")
NEED = ("ID", "Patient Age", "Patient Sex", *FILES, *KEYWORDS)
FOLDERS = (
    "preprocessed_images",
    "Training Images",
    "ODIR-5K/Training Images",
    "ODIR-5K/ODIR-5K/Training Images",
    "ODIR-5K_Training_Dataset",
    "ODIR-5K_Training_Images",
)
LAYOUT = (
    "source 'odir' expects full_df.csv, or the original table as workbook or CSV "
    f"({','.join(NEED)}), and images in preprocessed_images or 'Training Images'"
)
SEX_CODES = {"female": "female", "male": "male", "": ""}
STAGES = {
    "normal fundus": 0,
    "mild nonproliferative retinopathy": 1,
    "moderate non proliferative retinopathy": 2,
    "severe nonproliferative retinopathy": 3,
}
PROLIFERATIVE = "proliferative diabetic retinopathy"
OTHER_STAGE = re.compile(r"non.?proliferative|normal fundus")


@SOURCES.register(
    "odir",
    title="ODIR",
    marks=("full_df.csv", "ODIR-5K_Training_Annotations(Updated)_V2.xlsx"),
    labels=("grade", "sex"),
    keywords=True,
)
def odir(data: Data, root: str, seed: int) -> SourceContent:
    """ODIR-5K as its publisher or Kaggle lays it out: one table row per patient, two photographs.

    Sex, age and each eye's own keywords are given; `grade_of` makes the grade of the keywords, -1
    where they do not tell one. Kaggle's full_df.csv repeats a patient's row for each photograph it
    kept, named in the column filename: repeated rows are one, conflicting ones are faults, and
    only the photographs named are expected. Images are looked for in the first folder of FOLDERS
    that is there, otherwise beside the table.

    Raises:
        InputError: no table, several, one that cannot be read, or no images.
    """
    root = need_folder(root, LAYOUT)
    table = read_table(root, _table_name(root), NEED, ("filename",))
    people = _patients(table)
    eyes, owners = _eyes(table, people)
    rows = table_rows(eyes, "image")
    keywords = converted_column(rows, "keywords", read_text, NEED_TEXT)
    rows.columns |= {name: [values[o] for o in owners] for name, values in people.columns.items()}
    rows.columns["eye"] = eyes.columns["eye"]
    rows.columns["keywords"] = keywords
    rows.columns["grade"] = [grade_of(text or "") for text in keywords]
    folder = next((name for name in FOLDERS if files.is_dir(files.join(root, name))), "")
    example = f"{folder}/{{}}.jpg" if folder else "{}.jpg"
    folders = [list_folder(root, folder)]
    need_photographs(root, folders, LAYOUT)
    find_photographs(rows, folders, "image", example)
    found = joined_parts([rows], {"grade": GRADES, "sex": SEXES})
    return found._replace(problems=problems_by_line(people) + found.problems)


def grade_of(keywords: str) -> int:
    """The stage of retinopathy that an eye's keywords tell, -1 where they tell none.

    Stages 0 to 3 when their words are all there is; 4 wherever proliferative retinopathy is among
    the findings and no other stage is. Eyes with other findings have no grade, as those findings
    would be learned with it.
    """
    text = keywords.casefold()
    if text in STAGES:
        return STAGES[text]
    return 4 if PROLIFERATIVE in text and not OTHER_STAGE.search(text) else -1


def _table_name(root: str) -> str:
    """full_df.csv, or the one table or workbook in the root with the original table's columns."""
    if files.exists(files.join(root, TABLE)):
        return TABLE
    names = sorted(name for name in list_folder(root).files if name.lower().endswith(ENDINGS))
    fitting, unread = [], []
    for name in names:
        try:
            fitting += [name] if set(NEED) <= set(read_header(root, name)) else []
        except InputError as error:
            unread.append(str(error))
    if len(fitting) > 1:
        raise InputError(f"{root}: the tables {', '.join(fitting)} all fit; keep one of them")
    if not fitting:
        more = "".join(f"; {one}" for one in unread)
        raise InputError(f"{files.join(root, TABLE)} is not there; {LAYOUT}{more}")
    return fitting[0]


def _patients(table: CsvTable) -> TableRows:
    """One row per row of the table, checked; a repeated one must say the same."""
    ids = [read_name(cell) or cell for cell in table.columns["ID"]]
    rows = TableRows(ids, table.where, ids, table.columns, kind="patient")
    read_sex = one_of(SEX_CODES)
    rows.columns = {
        "patient_id": converted_column(rows, "ID", read_name, NEED_NAME),
        "sex": converted_column(rows, "Patient Sex", read_sex, "Female, Male or nothing"),
        "age": converted_column(rows, "Patient Age", read_age, NEED_AGE),
    }
    first: dict[str, int] = {}
    for row, patient in enumerate(ids):
        known = first.setdefault(patient, row)
        for name in NEED if known != row else ():
            mine, other = table.columns[name][row], table.columns[name][known]
            if mine != other:
                text = (
                    f"{name} {quoted_cell(mine)}, but {quoted_cell(other)} in {table.where(known)}"
                )
                rows.refuse(row, f"patient {patient!r} again with {text}; correct one of them")
    for row, name in enumerate(table.columns.get("filename", ())):
        if name not in (pair := [table.columns[side][row] for side in FILES]):
            rows.refuse(row, f"filename {quoted_cell(name)}, expected {' or '.join(pair)}")
    return rows


def _eyes(table: CsvTable, people: TableRows) -> tuple[CsvTable, list[int]]:
    """A row for each photograph of the table's sound patients, and which row of it it is from."""
    wrong = {row for row, _, _ in people.faults}
    kept = table.columns.get("filename")
    named = kept and set(zip(people.ids, kept, strict=True))
    seen: set[str] = set()
    owners: list[int] = []
    columns: dict[str, list[str]] = {"image": [], "keywords": [], "eye": []}
    for row, patient in enumerate(people.ids):
        if row in wrong or patient in seen:
            continue
        seen.add(patient)
        for side, eye in enumerate(("left", "right")):
            image = table.columns[FILES[side]][row]
            if not named or (patient, image) in named:
                owners.append(row)
                values = (image, table.columns[KEYWORDS[side]][row], eye)
                for column, value in zip(columns.values(), values, strict=True):
                    column.append(value)
    lines = array("L", [table.lines[row] for row in owners])
    return CsvTable(table.name, lines, columns), owners
