"""Folders and tables as people have them: what comes of each, unchanged or with which setting.

docs/data.md has the table; a row of it is a row here.
"""

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fundusray.config import Data, Recipe, override
from fundusray.data.manifest.build import Manifest, build_manifest
from fundusray.data.manifest.contract import GRADES
from fundusray.data.manifest.recognise import marks, source_of
from fundusray.errors import InputError

IMAGE = {"data.columns.image": "file", "data.columns.grade": "dx"}
CSV = {"data.source": "csv", "data.table": "labels.csv", **IMAGE}
OF_FOLDERS = {"data.source": "folder"}


class Outcome(NamedTuple):
    """What a case comes to."""

    settings: dict[str, str]
    rows: int
    unlabelled: int = 0
    ungradable: int = 0
    patients: int = 0
    """Known ones; 0 where none is."""
    aside: int = 0
    """Rows that count against data.max_bad."""
    untaken: dict[str, int] = {}  # noqa: RUF012
    """Reason -> how many do not."""
    splits: dict[str, int] = {}  # noqa: RUF012
    classes: tuple[str, ...] = GRADES
    """In their order."""


LOOSE = {"in no class folder": 14}
REST = "not in the table"
SIDES = {"train": 48, "val": 12, "test": 12}
KNOWN = ("messidor2", "mbrset", "ddr", "deepdrid", "rfmid")
OUTCOMES = {
    "blank": Outcome(CSV, 71, patients=36, unlabelled=1),
    "nan": Outcome(CSV, 71, patients=36, unlabelled=1),
    "minus_one": Outcome(CSV, 68, patients=36, unlabelled=4),
    "semicolon": Outcome(CSV, 72, patients=36),
    "tab": Outcome(CSV | {"data.table": "labels.tsv"}, 72, patients=36),
    "subfolder": Outcome(CSV, 72, patients=36),
    "subfolder, said": Outcome(CSV | {"data.images": "images/"}, 72, patients=36),
    "winpath": Outcome(CSV, 72, patients=36),
    "f_mixed_tif": Outcome(OF_FOLDERS, 72, patients=36),
    "f_unlabelled_test": Outcome({"data.source": "folder"}, 58, patients=29, untaken=LOOSE,
                                 splits={"train": 44, "val": 14}),
    "messidor2": Outcome({}, 70, ungradable=2),
    "mbrset": Outcome({}, 69, patients=18, unlabelled=3),
    "ddr": Outcome({}, 68, ungradable=4, splits={"train": 46, "val": 11, "test": 11}),
    "deepdrid": Outcome({}, 72, patients=18, splits={"train": 48, "val": 24}),
    "rfmid": Outcome({"data.target": "disease"}, 72, splits=SIDES, classes=("absent", "present")),
    "gap4": Outcome(CSV, 66, patients=33, untaken={REST: 6}),
    "names": Outcome(CSV, 72, patients=36),
    "odos": Outcome(CSV, 72, patients=36),
    "zero_four": Outcome(CSV, 36, patients=18, untaken={REST: 36}),
    "ungradable": Outcome(CSV | {"data.ungradable": "5"}, 68, patients=36, ungradable=4),
    "gaussian": Outcome(OF_FOLDERS | {"data.root": "gaussian/gaussian_filtered_images"}, 72),
    "stale": Outcome({}, 48, patients=24),
    "messidor2, csv": Outcome(
        {
            "data.source": "csv",
            "data.table": "messidor_data.csv",
            "data.columns.image": "image_id",
            "data.columns.grade": "adjudicated_dr_grade",
        },
        70,
        unlabelled=2,
    ),
    "deepdrid, csv": Outcome(
        {
            "data.source": "csv",
            "data.table": "regular-fundus-training/regular-fundus-training.csv,"
            "regular-fundus-validation/regular-fundus-validation.csv",
            "data.columns.image": "image_path",
            "data.columns.patient": "patient_id",
            "data.columns.grade_left": "left_eye_DR_Level",
            "data.columns.grade_right": "right_eye_DR_Level",
        },
        72,
        patients=18,
        splits={"train": 48, "val": 24},
    ),
    "rfmid, csv": Outcome(
        {
            "data.source": "csv",
            "data.table": "Training_Set/RFMiD_Training_Labels.csv,"
            "Evaluation_Set/RFMiD_Validation_Labels.csv,Test_Set/RFMiD_Testing_Labels.csv",
            "data.images": "Training_Set/Training,Evaluation_Set/Validation,Test_Set/Test",
            "data.columns.image": "ID",
            "data.columns.disease": "DR",
            "data.target": "disease",
        },
        72,
        splits=SIDES,
        classes=("absent", "present"),
    ),
}  # fmt: skip


def read(cases: Path, name: str, settings: dict[str, Any]) -> Manifest:
    root = str(cases / settings.get("data.root", name.split(",")[0]))
    given = {"data.source": source_of(root)} if "data.source" not in settings else {}
    data: Data = override(Recipe(), {**given, **settings, "data.root": root}).data
    return build_manifest(data, root, 0)


@pytest.mark.parametrize("name", OUTCOMES)
def test_what_comes_of_a_case(cases: Path, name: str) -> None:
    outcome = OUTCOMES[name]
    manifest = read(cases, name, outcome.settings)
    assert manifest.table.num_rows == outcome.rows
    assert manifest.unlabelled == outcome.unlabelled + outcome.ungradable
    assert manifest.ungradable.num_rows == outcome.ungradable
    skipped = manifest.skipped.to_pylist()
    assert sum(row["counted"] for row in skipped) == outcome.aside
    assert Counter(row["reason"] for row in skipped if not row["counted"]) == outcome.untaken
    splits = Counter(filter(None, manifest.table["split"].to_pylist()))
    assert splits == outcome.splits
    assert manifest.classes == outcome.classes and manifest.ordered
    assert len(set(manifest.table["patient_id"].to_pylist()) - {""}) == outcome.patients


def test_a_five_beside_the_grades_is_asked_about(cases: Path) -> None:
    with pytest.raises(InputError, match=r"labels\.csv:18: dx '5' .*data\.ungradable=5 sets such"):
        read(cases, "ungradable", CSV)


@pytest.mark.parametrize(("name", "num"), [("ddr", 4), ("messidor2", 2)])
def test_what_a_publisher_calls_ungradable_can_be_judged(cases: Path, name: str, num: int) -> None:
    manifest = read(cases, name, {"data.judge": "ungradable"})
    assert manifest.table["target"].to_pylist() == [-1] * num
    assert manifest.skipped.num_rows == manifest.unlabelled == manifest.ungradable.num_rows == 0


def test_every_photograph_of_a_case_is_a_row_or_is_spoken_of(cases: Path) -> None:
    for name, outcome in OUTCOMES.items():
        manifest = read(cases, name, outcome.settings)
        images = [
            path
            for path in (cases / name.split(",")[0]).rglob("*")
            if path.suffix.lower() in (".jpg", ".png", ".tif", ".jpeg")
        ]
        total = manifest.table.num_rows + manifest.unlabelled + manifest.skipped.num_rows
        assert total == len(images), name


def test_published_sets_are_known_by_their_tables(cases: Path) -> None:
    for name in KNOWN:
        assert source_of(str(cases / name)) == name
    assert set(KNOWN) <= set(marks())


def in_words(outcome: Outcome) -> str:
    """An outcome as the documentation has it."""
    parts = [f"{outcome.rows} photographs"]
    parts += [f"{outcome.unlabelled} unlabelled"] if outcome.unlabelled else []
    parts += [f"{outcome.ungradable} ungradable"] if outcome.ungradable else []
    parts += [f"{num} {reason}" for reason, num in outcome.untaken.items()]
    splits = [f"{side} {num}" for side, num in outcome.splits.items()]
    parts += [", ".join(splits)] if splits else []
    return "; ".join([*parts, f"{outcome.patients or 'no'} patients known"])


def test_every_case_is_in_the_table_of_the_documentation(cases: Path) -> None:
    lines = (Path(__file__).parents[2] / "docs" / "data.md").read_text().splitlines()
    rows = {line.split("`")[1]: line for line in lines if line.startswith("| `")}
    for folder in sorted(path.name for path in cases.iterdir() if path.is_dir()):
        assert folder in rows, folder
    for name, outcome in OUTCOMES.items():
        assert rows[name].endswith(f"| {in_words(outcome)} |"), (name, in_words(outcome))


def test_the_documentation_tells_for_every_source_what_to_type() -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    for source in (*KNOWN, "papila", "fgadr", "odir", "eyepacs", "aptos", "brset", "idrid"):
        assert f"\n| `{source}` |" in page and f"`data.source={source} " in page, source
