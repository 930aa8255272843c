"""Names of classes: their order, their meaning, and where it is not known."""

import pytest

from fundusray.data.labels.class_names import (
    arrange_classes,
    class_positions,
    is_ordered,
    is_ungradable,
    name_key,
    no_label,
    place_in,
)
from fundusray.data.manifest.contract import EDEMA, GRADES, SEXES

RETFOUND = ("anodr", "bmilddr", "cmoderatedr", "dseveredr", "eproliferativedr")
KAGGLE = ("No_DR", "Mild", "Moderate", "Severe", "Proliferate_DR")
CLINICAL = (
    "no apparent retinopathy",
    "Mild NPDR",
    "moderate non-proliferative retinopathy",
    "Severe nonproliferative diabetic retinopathy",
    "PDR",
)
NUMBERED = ("0_No_DR", "1_Mild", "2_Moderate", "3_Severe", "4_Proliferative")


@pytest.mark.parametrize("names", [KAGGLE, RETFOUND, CLINICAL, NUMBERED, tuple("01234"), GRADES])
def test_grades_of_retinopathy_in_their_spellings(names: tuple[str, ...]) -> None:
    """Also where the alphabet has another order, which once gave the kappa of a random order."""
    found = arrange_classes(sorted(names))
    assert found.classes == GRADES and found.ordered
    assert [found.places[name] for name in names] == [0, 1, 2, 3, 4]
    assert class_positions(names, GRADES) == [0, 1, 2, 3, 4] == class_positions(GRADES, names)


@pytest.mark.parametrize(
    "names", [("No DR", "Mild", "Moderate", "Severe"), tuple("0123"), ("0", "2", "4"), RETFOUND[:3]]
)
def test_a_set_that_lacks_grades_still_has_five(names: tuple[str, ...]) -> None:
    assert arrange_classes(names).classes == GRADES


@pytest.mark.parametrize(
    "names",
    [
        ("R0", "R1", "R2", "R3S", "R3A"),
        ("R0", "R1", "R2", "R3"),
        ("M0", "M1"),
        ("Normal", "Mild", "Severe"),
        ("anormal_control", "bearly_glaucoma", "cadvanced_glaucoma"),
        ("No DR", "NPDR", "PDR"),
        ("DR1", "DR2", "DR10"),
        ("0", "1"),
        ("no", "yes"),
        ("negative", "positive"),
        ("normal", "abnormal"),
        ("healthy", "dr"),
        ("normal", "cataract"),
        ("non-referable", "referable"),
        ("Not referable", "referable"),
        ("nonglaucoma", "glaucoma"),
        ("healthy", "suspect", "glaucoma"),
        ("No_DR", "DR"),
        EDEMA,
    ],
    ids=" ".join,
)
def test_names_that_say_their_order_keep_their_spelling(names: tuple[str, ...]) -> None:
    found = arrange_classes(sorted(names, reverse=True))
    assert found.classes == names and found.ordered and is_ordered(names)
    assert not is_ordered(names[::-1])


@pytest.mark.parametrize(
    "names",
    [
        ("AMD", "DR", "cataract"),
        ("ill", "well"),
        ("1", "2"),
        tuple("0123456789"),
        ("R0", "R1", "M1"),
        ("class 1", "class 2", "class 3"),
        SEXES,
    ],
    ids=" ".join,
)
def test_names_that_say_nothing_of_an_order(names: tuple[str, ...]) -> None:
    assert not arrange_classes(names).ordered and not is_ordered(names)


def test_a_number_beyond_the_scale_is_no_sixth_grade() -> None:
    found = arrange_classes(list("012345"))
    assert found.classes == GRADES and found.doubtful == ("5",) and "5" not in found.places


@pytest.mark.parametrize(
    ("names", "classes", "expected"),
    [
        (("0", "1", "2", "3"), GRADES, [0, 1, 2, 3]),
        (KAGGLE, RETFOUND, [0, 1, 2, 3, 4]),
        (("normal", "severe"), GRADES, [0, 3]),
        (("b", "a"), ("a", "b", "c"), [1, 0]),
        (("healthy", "Glaucoma"), ("non glaucoma", "glaucoma"), [0, 1]),
        (("not glaucoma", "glaucoma"), ("normal", "glaucoma"), [0, 1]),
        (("normal", "glaucoma"), ("healthy", "suspect", "glaucoma"), [0, 2]),
        # 0 and 1 may be no and yes of anything, "normal" beside cataract is no grade.
        (("0", "1"), GRADES, [None, None]),
        (("0", "1"), ("0", "1", "x"), [None, None]),
        (("normal", "cataract"), GRADES, [None, None]),
        (("no", "yes"), ("normal", "glaucoma"), [None, None]),
        (GRADES, ("No DR", "DR"), [None] * 5),
    ],
)
def test_classes_meet_by_name_or_by_meaning(names, classes, expected) -> None:
    assert class_positions(names, classes) == expected


def test_labels_in_classes_given_by_hand() -> None:
    given = ("No DR", "Mild", "Moderate", "Severe", "Proliferative")
    assert [place_in(name, given) for name in KAGGLE] == [0, 1, 2, 3, 4]
    assert [place_in(name, given) for name in ["0", "4", "5", "cataract"]] == [0, 4, None, None]
    assert [place_in(name, ("thick", "thin")) for name in ("THIN", "0", "no")] == [1, 0, None]
    assert [place_in(name, ("2", "1")) for name in ("1", "2", "0")] == [1, 0, None]


def test_names_are_compared_without_case_and_punctuation() -> None:
    assert len({name_key(name) for name in ("No_DR", "no dr", "NO-DR", " No  DR. ")}) == 1
    assert len({name_key(number) for number in ("-1", "1", "+1", "1.5", "15", "1 5")}) == 6
    assert name_key("Größe") != name_key("Grosse_") and name_key("α") == "α"


def test_what_is_no_grade() -> None:
    assert all(is_ungradable(n, ()) for n in ("Ungradable", "poor-quality", "UNGRADED", "R6"))
    assert is_ungradable("5", ("5",)) and not is_ungradable("5", ()) and not is_ungradable("", ())
    assert is_ungradable("-1", ("-1",)) and not is_ungradable("1", ("-1",))
    assert all(map(no_label, ["", " ", "NaN", "-1", "-1.0", "n/a", "unknown"]))
    assert not any(map(no_label, ["0", "none", "-2", "1"]))
