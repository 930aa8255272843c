"""A scan told to a person: every number and name is there, nothing else is."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fundusray import files
from fundusray.reports import scan_summary

FLAGS = ("black", "tiny", "no_fundus", "torn", "dark", "bright", "grey", "masks")


def facts(**changes: Any) -> dict[str, Any]:
    """The facts of a set of ten sound photographs, with changes."""
    sound: dict[str, Any] = {
        "source": "eyepacs",
        "photographs": 10,
        "patients": 5,
        "unknown_patients": 0,
        "notes": [],
        "many": {},
        "bytes": 1_500_000,
        "status": {"ok": 10, "repaired": 0, "refused": 0},
        "refused": [],
        "repaired": [],
        "missing": [],
        "untaken": [],
        "flags": {flag: [] for flag in FLAGS},
        "mask_faults": {},
        "target": "grade",
        "labels": {"none": 8, "mild": 2},
        "kinds": {},
        "examples": {"none": ["1_left", "1_right"], "mild": ["2_left"], "": []},
        "unlabelled": 0,
        "ungradable": [],
        "ordered": True,
        "eyes": {"left": 5, "right": 5},
        "sexes": {"": 10},
        "splits": {"": 10},
        "datasets": {"eyepacs": 10},
        "sizes": {"2000x1500": 10},
        "duplicates": [],
        "leaks": {"patients": [], "twins": [], "judged": {}},
        "max_bad": 0.01,
        "bad_share": 0.0,
        "enough": 0.0,
    }
    return sound | changes


def twins(number: int, conflict: str = "", patients: tuple[str, ...] = ("a", "b")) -> dict:
    images = [f"{number}_left", f"{number}_right"]
    labels, splits = ["none", "severe" if conflict else "none"], ["", ""]
    group = {"images": images, "patients": list(patients), "labels": labels, "splits": splits}
    return group | {"conflict": conflict, "identical": False}


def test_a_sound_set_in_words() -> None:
    assert scan_summary.scan_text(facts()) == (
        "10 photographs of 5 patients, 1.5 MB (eyepacs)\n"
        "  sizes: 2000x1500 10\n"
        "  eyes:  left 5, right 5\n"
        "\n"
        "what prepare will do with them\n"
        "  ok              10\n"
        "  repaired         0\n"
        "  refused          0\n"
        "\n"
        "labels (grade; in their order)\n"
        "  none                                 8   80.0%\n"
        "  mild                                 2   20.0%\n"
        "\n"
        "near-duplicates: none\n"
        "\n"
        "what to do next\n"
        "  1. nothing stands in the way of jobs/prepare.py with the same data settings\n"
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bad_share": 0.0417, "enough": 0.042}, "4.2% of the labelled rows cannot be used"),
        ({"bad_share": 0.0417, "enough": 0.042}, "set data.max_bad=0.042 to go on without them"),
        ({"duplicates": [twins(1, "grade,sex")]}, "1_left (none) = 1_right (severe): DIFFERENT"),
        ({"duplicates": [twins(1, "grade,sex")]}, "1 with different labels: grade 1, sex 1"),
        ({"duplicates": [twins(1)]}, "with several patients: data.split=patient"),
        ({"splits": {"train": 8, "test": 2}}, "published split: train 8, test 2\n  no patient"),
        (
            {
                "splits": {"train": 8, "test": 2},
                "leaks": {"patients": ["p7"], "twins": [], "judged": {"test": [1, 2]}},
            },
            "LEAK: 1 patient on more than one side: p7\n  1 of 2 test images",
        ),
        ({"patients": 0, "unknown_patients": 10}, "10 photographs; patients unknown, 1.5 MB"),
        ({"unknown_patients": 4}, "2. the patients of 4 photographs are unknown: eyes of one"),
        (
            {"patients": 0, "unknown_patients": 10, "splits": {"train": 8, "test": 2}},
            "  no near-duplicate is on two sides; patients are unknown and may be\n",
        ),
        (
            {"unknown_patients": 4, "splits": {"train": 8, "test": 2}},
            "  no known patient and no near-duplicate is on two sides\n",
        ),
        ({"notes": ["patients read from names"]}, "(eyepacs)\n  patients read from names\n"),
        ({"many": {"p1": 17}}, "patients with many photographs: p1 17"),
        ({"datasets": {"odir": 4, "brset": 6}}, "sets:  odir 4, brset 6"),
        ({"sexes": {"female": 6, "": 4}}, "sexes: female 6, unknown 4"),
        ({"unlabelled": 3}, "3 photographs without a label of grade"),
        (
            {
                "unlabelled": 3,
                "ungradable": [
                    {"image_id": "3", "where": "t.csv:4", "reason": "ungradable (dx '5')"}
                ],
            },
            "without a label of grade, 1 of them ungradable\n    t.csv:4: ungradable (dx '5')",
        ),
        ({"ordered": False, "labels": {"a": 4, "b": 3, "c": 3}}, "say the order of the classes"),
        ({"untaken": ["14 photographs not taken, x: a"]}, "\n  14 photographs not taken, x: a"),
        ({"labels": {}, "unlabelled": 10}, "no photograph has a label of grade"),
        ({"mask_faults": {"1_left": "MA: 80x80 pixels"}}, "1_left: MA: 80x80 pixels"),
        ({"flags": facts()["flags"] | {"torn": ["5_left"]}}, "1  rows jump: the file is damaged"),
        ({"flags": facts()["flags"] | {"no_fundus": ["9"]}}, "take it out of the table"),
    ],
)
def test_what_is_wrong_in_words(changes: dict[str, Any], words: str) -> None:
    told = scan_summary.scan_text(facts(**changes))
    assert words in told and ("nothing stands in the way" in told) == (
        not {"bad_share", "duplicates", "leaks", "labels", "flags"} & set(changes)
    )


def test_names_are_counted_after_the_first_ten() -> None:
    bad = [{"image_id": f"{n}", "where": f"{n}.jpg", "reason": "empty file"} for n in range(12)]
    told = scan_summary.scan_text(
        facts(refused=bad, flags=facts()["flags"] | {"dark": list("abcdefghijkl")})
    )
    assert "9.jpg: empty file\n    and 2 more" in told and "10.jpg" not in told
    assert "i, j and 2 more" in told


def test_names_cannot_write_lines_of_their_own() -> None:
    evil = "a\n  refused 0\x1b[2J\u202e"
    row = {"image_id": evil, "where": evil, "reason": evil, "recovered": 0.7}
    changes = {"refused": [row], "repaired": [row], "missing": [row], "many": {evil: 3}}
    changes["untaken"] = [f"1 photograph not taken, {evil}"]
    changes |= {"labels": {evil: 3}, "duplicates": [twins(1) | {"images": [evil, evil]}]}
    told = scan_summary.scan_text(facts(**changes, flags=facts()["flags"] | {"dark": [evil]}))
    assert "\x1b" not in told and "\u202e" not in told and "\n  refused 0" not in told


def test_the_sheet_shows_what_matters_first() -> None:
    repaired = [{"image_id": "7_left", "where": "", "reason": "", "recovered": 0.6}]
    flags = facts()["flags"] | {"dark": ["8_left", "9_left"], "tiny": ["9_left"]}
    groups = [twins(1), twins(2, "grade"), twins(3, patients=("a", "a"))]
    refused = [{"image_id": "9_left", "where": "", "reason": ""}]
    rows = scan_summary.contact_sheet_rows(
        facts(duplicates=groups, repaired=repaired, refused=refused, flags=flags)
    )
    assert [[image_id for image_id, _ in row] for row in rows] == [
        ["2_left", "2_right", "1_left", "1_right", "3_left", "3_right"],
        ["7_left"],
        ["8_left"],
        ["1_left", "1_right", "2_left"],
    ]
    captions = [caption for row in rows for _, caption in row]
    assert captions[:2] == [
        "2_left: none; twin of 2_left; DIFFERENT grade",
        "2_right: severe; twin of 2_left; DIFFERENT grade",
    ]
    assert captions[6:8] == ["7_left: repaired, 60% of the rows", "8_left: dark"]


def test_pairs_are_not_torn_apart_and_rows_are_bounded() -> None:
    three = twins(0) | {"images": ["a", "b", "c"], "labels": ["", "", ""]}
    many = [three] + [twins(n) for n in range(1, 40)]
    rows = scan_summary.contact_sheet_rows(facts(duplicates=many, examples={}))
    assert len(rows) == scan_summary.ROWS and all(len(row) <= scan_summary.COLUMNS for row in rows)
    for row in rows:
        firsts = [name.split("_")[0] for name, _ in row if "_" in name]
        assert all(firsts.count(name) == 2 for name in firsts)


def test_what_is_written(tmp_path: Path) -> None:
    told = facts(flags=facts()["flags"] | {"dark": ["8_left"]})
    names = {image_id for row in scan_summary.contact_sheet_rows(told) for image_id, _ in row}
    assert names == {"8_left", "1_left", "1_right", "2_left"}
    pictures = {name: np.full((60, 80, 3), 99, np.uint8) for name in names}
    places = scan_summary.write_scan(str(tmp_path), told, pictures)
    assert Path(places["summary"]).read_text() == scan_summary.scan_text(told)
    assert files.read_json(str(tmp_path / "summary.json")) == told
    sheet = Image.open(io.BytesIO(Path(places["contact_sheet"]).read_bytes()))
    assert sheet.format == "PNG" and sheet.width > 400 and not sheet.info
    first = Path(places["contact_sheet"]).read_bytes()
    scan_summary.write_scan(str(tmp_path), told, pictures)
    assert Path(places["contact_sheet"]).read_bytes() == first


def test_masks_are_counted_by_their_kinds() -> None:
    kinds = {"microaneurysms": 7, "optic_disc": 9}
    given = {"target": "lesions", "labels": {"masks": 9}, "kinds": kinds, "ordered": False}
    told = scan_summary.scan_text(facts(**given, unlabelled=1))
    assert "masks (lesions), photographs that have one" in told
    for kind, num in kinds.items():
        assert any(line.split() == [kind, str(num)] for line in told.splitlines())
    assert "order" not in told and "%" not in told.partition("masks (lesions)")[2]
