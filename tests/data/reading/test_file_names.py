"""Patients and eyes in names: the common ways, what is no such way, and patterns of one's own."""

import time
from pathlib import Path

import pytest

from fundusray.config import Data, Recipe, override
from fundusray.data.reading.file_names import read_by, read_file_names, reading_note
from fundusray.errors import InputError
from fundusray.settings.deciding import deciding

EYES = ("left", "right")


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("{}_left", "{}_right"),
        ("{}_LEFT", "{}_RIGHT"),
        ("{}_OS", "{}_OD"),
        ("{}-os", "{}-od"),
        ("{} OI", "{} OD"),
        ("{}.LE.1", "{}.RE.1"),
        ("{}L", "{}R"),
        ("{}_l2", "{}_r2"),
        ("{}_left_1", "{}_right_1"),
        ("{} (left)", "{} (right)"),
        ("left_{}", "right_{}"),
        ("OS-{}", "OD-{}"),
        ("{}_os_macula", "{}_od_disc"),
    ],
)
def test_ways_of_naming(left: str, right: str) -> None:
    """Both eyes of twelve patients, and two photographs of nobody."""
    names = [way.format(f"p{p}") for p in range(12) for way in (left, right)]
    found = read_file_names([*names, "000c1434d8d7", "overview"])
    assert found.patients == [f"p{p}" for p in range(12) for _ in EYES] + ["", ""]
    assert found.eyes == [*EYES * 12, "", ""]


def test_several_shots_are_of_one_patient() -> None:
    names = [f"{p}_{eye}{shot}" for p in range(3) for eye in "lr" for shot in (1, 2)]
    assert read_file_names(names).patients == [str(p) for p in range(3) for _ in range(4)]


@pytest.mark.parametrize("study", [["img"], ["Mild", "Severe", "No_DR"]])
def test_a_study_or_a_class_is_no_patient(study: list[str]) -> None:
    names = [f"{word}_{eye}_{n:03d}" for word in study for eye in EYES for n in range(9)]
    found = read_file_names(names)
    assert len(set(found.patients)) == 9 * len(study) and set(found.eyes) == set(EYES)
    # Numbers that name no eye twice tell nothing.
    alone = [f"img_left_{n:03d}" for n in range(20)] + [f"img_right_{n:03d}" for n in range(20, 40)]
    assert set(read_file_names(alone).patients) == {""}


def test_a_visit_is_no_other_patient() -> None:
    days = ("20190101", "2021-03-30", "20220412")
    names = [f"P{p}_{day}_{eye}" for p in range(4) for day in days for eye in ("OS", "OD")]
    assert set(read_file_names(names).patients) == {"P0", "P1", "P2", "P3"}
    # A moment is nobody.
    moments = [f"20190101{n:06d}_{EYES[n % 2]}" for n in range(9)]
    assert set(read_file_names(moments).patients) == {""}


def test_one_eye_of_each_patient_may_have_been_kept() -> None:
    assert read_file_names([f"{n}_{EYES[n % 2]}" for n in range(20)]).patients == [
        str(n) for n in range(20)
    ]


@pytest.mark.parametrize(
    "names",
    [
        # Hashes and words that end in a letter which may be an eye's.
        ["aB3r", "cc1l", "0a9d", "77e0", "9f2c"],
        ["normal", "colour", "vessel"],
        # One eye only: it may be anything, such as the optic disc.
        [f"IDRiD_{n:02d}_OD" for n in range(9)],
        # Too few of the names.
        [*(f"{n}L" for n in range(4)), *(f"{n}R" for n in range(4)), *(f"IM{n}" for n in range(9))],
        [f"train-{n}" for n in range(9)],
        ["20050000_40000_0100_PP", "IM000001", "007-0056-000", "1.2", "_left", "left", ""],
    ],
)
def test_what_is_no_way_of_naming(names: list[str]) -> None:
    found = read_file_names(names)
    assert found.patients == found.eyes == [""] * len(names)
    assert reading_note(names, found, "", secret=False) == ""


def test_what_was_read_is_told_with_an_example() -> None:
    names = ["p0_OS", "p0_OD", "p1_OS", "p1_OD", "loose"]
    said = reading_note(names, read_file_names(names), "", secret=False)
    assert said == (
        "patients read from names: 'p0_OS' -> patient p0, left eye (4 of 5 names); 1 tell no "
        "patient, each counts on its own: 'loose'"
    )
    secret = reading_note(names, read_file_names(names), "", secret=True)
    assert "4 of 5 names" in secret and "p0" not in secret and "loose" not in secret


@pytest.mark.parametrize(
    ("case", "patients"),
    [("odos", 36), ("deepdrid", 18), ("stale", 24), ("messidor2", 0), ("ddr", 0), ("gaussian", 0)],
)
def test_names_of_cases(cases: Path, case: str, patients: int) -> None:
    photographs = (".jpg", ".jpeg", ".png")
    names = [p.stem for p in (cases / case).rglob("*") if p.suffix.lower() in photographs]
    assert len(set(read_file_names(names).patients) - {""}) == patients


@pytest.mark.parametrize(
    ("part", "patients"), [("CHASEDB1", 7), ("odir5k", 201), ("idrid_small", 0), ("aptos2019", 0)]
)
def test_names_of_published_sets(real_data: Path, part: str, patients: int) -> None:
    names = [p.stem for p in (real_data / part).rglob("*") if p.suffix in (".jpg", ".png")]
    assert len(set(read_file_names(names).patients) - {""}) == patients


def test_a_pattern_of_ones_own() -> None:
    names = ["S1-A-007-OD", "S1-A-007-os", "S2-B-011-x", "odd"]
    pattern = r"^S\d-[AB]-(?P<patient>\d+)-(?P<eye>.*)"
    found = read_by(pattern, names)
    assert found.patients == ["007", "007", "011", ""]
    assert found.eyes == ["right", "left", "", ""]
    said = reading_note(names, found, pattern, secret=False)
    assert said.startswith(f"patients read from names by data.patient_pattern={pattern}: ")
    assert said.endswith("(3 of 4 names); 1 tell no patient, each counts on its own: 'odd'")
    assert read_by("(?P<patient>x)?", ["a", "x"]).patients == ["", "x"]


def test_a_pattern_that_never_ends_is_ended() -> None:
    began = time.monotonic()
    with pytest.raises(
        InputError, match=r"not done with 1 names in 1 s; write it without a repeat"
    ):
        read_by(r"(?P<patient>(a+)+)$", ["a" * 60 + "b"], seconds=1)
    assert time.monotonic() - began < 8


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(?P<patient>", "no regular expression"),
        (r"(\d+)", "needs a group"),
        ("(?P<patient>a)(?P<side>b)", "no other named one"),
        (f"(?P<patient>{'a' * 300})", "at most 300 characters"),
    ],
)
def test_a_pattern_is_looked_at_when_the_recipe_is_made(pattern: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        Data(patient_pattern=pattern)
    assert "data.patient_pattern" in str(caught.value)


def test_without_a_pattern_a_run_is_called_as_before() -> None:
    assert "data.patient_pattern" not in deciding(Recipe())
    named = override(Recipe(), {"data.patient_pattern": "(?P<patient>[0-9]+)"})
    assert deciding(named)["data.patient_pattern"] == "(?P<patient>[0-9]+)"
