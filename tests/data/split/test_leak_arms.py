"""The two splits of a leak premium differ in the fellow eyes alone."""

import numpy as np
import pyarrow as pa
import pytest

from fundusray.data.split.leak_arms import arrange_arms
from fundusray.errors import InputError

SHARES = (0.6, 0.1, 0.3)


def table(num_patients: int, seed: int = 0) -> pa.Table:
    """Two eyes a patient, but for every fifth, who has one."""
    rng = np.random.default_rng(seed)
    rows = [
        (f"{p}_{eye}", f"{p}", int(rng.integers(0, 3)))
        for p in range(num_patients)
        for eye in ("left", "right")[: 1 if p % 5 == 0 else 2]
    ]
    ids, patients, targets = zip(*rows, strict=True)
    columns = {"image_id": ids, "patient_id": patients, "twin": [""] * len(ids)}
    return pa.table(columns | {"target": pa.array(targets, pa.int32())})


@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_eyes_are_tested_and_only_one_side_knows_their_patients(seed: int) -> None:
    rows = table(100)
    arms = arrange_arms(rows, SHARES, seed)
    patients = np.array(rows["patient_id"].to_pylist())
    targets = rows["target"].to_numpy()
    tested = arms.patient == "test"
    assert np.array_equal(tested, arms.image == "test") and tested.sum() == arms.tested > 10
    assert len(set(patients[tested])) == arms.tested
    assert np.array_equal(arms.patient == "val", arms.image == "val")
    assert not set(patients[tested]) & set(patients[arms.patient == "train"])
    known = set(patients[tested]) & set(patients[arms.image == "train"])
    assert len(known) == arms.swapped and arms.swapped > 0.9 * arms.tested
    counts = [np.bincount(targets[side == "train"], minlength=3) for side in arms[:2]]
    assert np.array_equal(*counts)


def test_a_class_keeps_one_of_its_own_rows() -> None:
    rows = table(100)
    targets = rows["target"].to_numpy().copy()
    by_patient = arrange_arms(rows, SHARES, 0).patient
    train = np.flatnonzero((by_patient == "train") & (targets == 2))
    targets[train[1:]] = 0
    rows = rows.set_column(3, "target", pa.array(targets, pa.int32()))
    arms = arrange_arms(rows, SHARES, 0)
    assert (targets[arms.image == "train"] == 2).any()


def test_a_set_of_single_eyes_is_refused() -> None:
    rows = table(100)
    rows = rows.filter(np.array([name.endswith("left") for name in rows["image_id"].to_pylist()]))
    unknown = table(40)
    place = unknown.schema.get_field_index("patient_id")
    unknown = unknown.set_column(place, "patient_id", pa.array([""] * len(unknown)))
    with pytest.raises(InputError, match=r"patients of 0 known.*data\.patient_pattern"):
        arrange_arms(unknown, (0.6, 0.2, 0.2), 0)
    with pytest.raises(InputError, match="no patient on the test side"):
        arrange_arms(rows, SHARES, 0)
