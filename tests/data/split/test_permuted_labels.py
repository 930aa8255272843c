"""Labels permuted over patients: nothing to learn, and all else as it was."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from fundusray.data.split.permuted_labels import permuted_targets


def two_eyed_table(num_patients: int = 120, seed: int = 0) -> pa.Table:
    """Patients of one or two eyes; the sex is the patient's, so that both eyes have it."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(num_patients), rng.integers(1, 3, num_patients))
    eye = ["left" if first else "right" for first in np.diff(patient, prepend=-1) > 0]
    return pa.table(
        {
            "image_id": [f"p{p}_{e}" for p, e in zip(patient, eye, strict=True)],
            "patient_id": [f"p{p}" for p in patient],
            "eye": eye,
            "twin": [""] * len(patient),
            "target": pa.array(rng.integers(0, 2, num_patients)[patient], pa.int32()),
        }
    )


def by_patient(table: pa.Table, targets: np.ndarray, rows: np.ndarray) -> dict[str, tuple]:
    """Patient -> the labels of its eyes, left before right."""
    found: dict[str, tuple] = {}
    ids, patients = table["image_id"].to_pylist(), table["patient_id"].to_pylist()
    for row in sorted(rows, key=lambda r: ids[r]):
        found[patients[row]] = (*found.get(patients[row], ()), int(targets[row]))
    return found


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return two_eyed_table()


def train_rows(table: pa.Table) -> np.ndarray:
    """The rows of two patients of three."""
    numbers = np.array([int(name[1:]) for name in table["patient_id"].to_pylist()])
    return np.flatnonzero(numbers % 3 > 0)


def test_counts_stay_and_other_rows_keep_their_labels(table: pa.Table) -> None:
    rows, true = train_rows(table), table["target"].to_numpy()
    permuted = permuted_targets(table, rows, seed=1)
    others = np.setdiff1d(np.arange(len(true)), rows)
    assert permuted[others].tolist() == true[others].tolist()
    assert np.bincount(permuted[rows]).tolist() == np.bincount(true[rows]).tolist()
    # Half of two equally frequent labels is met by chance.
    assert 0.35 < (permuted[rows] == true[rows]).mean() < 0.65


def test_both_eyes_bear_the_label_of_one_other_patient(table: pa.Table) -> None:
    rows, true = train_rows(table), table["target"].to_numpy()
    before, after = (
        by_patient(table, labels, rows) for labels in (true, permuted_targets(table, rows, seed=1))
    )
    assert all(len(set(labels)) == 1 for labels in after.values())
    assert {name: len(own) for name, own in before.items()} == {
        name: len(own) for name, own in after.items()
    }
    assert Counter(before.values()) == Counter(after.values())


def test_eyes_that_differ_move_together_left_for_left() -> None:
    """With a label of its own for every eye it is seen who gave which."""
    table = two_eyed_table(40)
    own = pa.array(np.arange(table.num_rows), pa.int32())
    table = table.set_column(table.schema.get_field_index("target"), "target", own)
    rows = np.arange(table.num_rows)
    permuted = permuted_targets(table, rows, seed=3)
    assert sorted(permuted.tolist()) == rows.tolist()
    eye, patient = (np.array(table[name].to_pylist()) for name in ("eye", "patient_id"))
    assert (eye[permuted] == eye).all()
    givers = {name: set(patient[permuted[patient == name]]) for name in set(patient)}
    assert all(len(giver) == 1 for giver in givers.values())
    assert sum(giver != {name} for name, giver in givers.items()) > 30


def test_it_is_a_function_of_the_seed_and_not_of_the_order_of_rows(table: pa.Table) -> None:
    rows = train_rows(table)
    once = permuted_targets(table, rows, seed=1)
    assert permuted_targets(table, rows, seed=1).tolist() == once.tolist()
    assert permuted_targets(table, rows, seed=2).tolist() != once.tolist()
    order = np.random.default_rng(0).permutation(table.num_rows)
    place = np.argsort(order)
    shuffled = permuted_targets(table.take(pa.array(order)), place[rows], seed=1)
    assert shuffled[place].tolist() == once.tolist()


def test_a_patient_who_is_alone_of_its_size_keeps_its_labels() -> None:
    table = pa.table(
        {
            "image_id": ["a1", "a2", "b", "c"],
            "patient_id": ["a", "a", "b", "c"],
            "twin": [""] * 4,
            "target": pa.array([0, 1, 2, 3], pa.int32()),
        }
    )
    found = [permuted_targets(table, np.arange(4), seed).tolist() for seed in range(20)]
    assert {tuple(labels[:2]) for labels in found} == {(0, 1)}
    assert {tuple(labels[2:]) for labels in found} == {(2, 3), (3, 2)}
