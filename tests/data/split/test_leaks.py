"""What stands on two sides of a split is found, counted and named."""

import numpy as np
import pyarrow as pa

from fundusray.data.split.leaks import find_leaks, leak_refusal, leak_sentence


def table(patients: list[str], twins: list[str] | None = None) -> pa.Table:
    return pa.table({"patient_id": patients, "twin": twins or [""] * len(patients)})


def test_a_clean_split_has_none() -> None:
    leaks = find_leaks(table(["a", "a", "b", "c"]), np.array(["train", "train", "val", "test"]))
    assert not leaks and leak_sentence(leaks) == ""
    assert leaks.judged == {"val": (0, 1), "test": (0, 1)}


def test_patients_and_twins_are_counted() -> None:
    patients = ["a", "a", "b", "c", "d", "d"]
    twins = ["", "", "t1", "t1", "", ""]
    sides = np.array(["train", "test", "train", "test", "test", ""])
    leaks = find_leaks(table(patients, twins), sides)
    assert leaks.patients == ["a"] and leaks.twins == ["t1"]
    assert leaks.judged == {"test": (2, 3)}
    assert (
        "2 of 3 test images show a patient or a near-duplicate of the train side"
        in leak_sentence(leaks)
    )
    assert leak_sentence(leaks).startswith("LEAK ALLOWED (data.allow_leak=true)")


def test_where_patients_are_unknown_more_may_leak() -> None:
    leaks = find_leaks(table(["", "", "a", "a"]), np.array(["train", "test", "train", "test"]))
    assert leaks.patients == ["a"] and leaks.unknown == 2
    assert "at least 1 of 2 test images show a patient" in leak_sentence(leaks)


def test_val_against_test_leaks_too() -> None:
    leaks = find_leaks(table(["x", "a", "a"]), np.array(["train", "val", "test"]))
    assert leaks.patients == ["a"] and leaks.judged == {"val": (0, 1), "test": (0, 1)}
    assert "on both val and test" in leak_sentence(leaks)


def test_rows_left_out_do_not_count() -> None:
    assert not find_leaks(table(["a", "a"]), np.array(["train", ""]))


def test_the_refusal_names_the_first_and_the_cure() -> None:
    patients = [f"p{i}" for i in range(8)]
    sides = np.array(["train"] * 8 + ["test"] * 8)
    text = leak_refusal(find_leaks(table(patients * 2), sides))
    assert "8 patients are on more than one side: p0, p1, p2, p3, p4, and 3 more" in text
    assert "data.split=patient" in text and "data.allow_leak=true" in text
