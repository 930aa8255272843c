import numpy as np
import pyarrow as pa
import pytest

from fundusray.data.split.assign_sides import largest_remainder, linked_groups, stratified_split
from fundusray.data.split.leaks import find_leaks
from fundusray.errors import InputError

FRACTIONS = (0.6, 0.1, 0.3)
IMBALANCE = (0.66, 0.11, 0.19, 0.033, 0.007)


def drawn_table(num_images: int, seed: int = 0) -> pa.Table:
    """Patients with one to three images, grades as imbalanced as published ones."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(num_images), rng.integers(1, 4, num_images))[:num_images]
    return pa.table(
        {
            "image_id": [f"image{i}" for i in range(num_images)],
            "patient_id": [f"patient{p}" for p in patients],
            "twin": [""] * num_images,
            "target": pa.array(rng.choice(5, num_images, p=IMBALANCE), pa.int32()),
        }
    )


def shares(sides: np.ndarray) -> np.ndarray:
    return np.array([(sides == name).mean() for name in ("train", "val", "test")])


@pytest.mark.parametrize("how", ["patient", "image"])
@pytest.mark.parametrize("seed", range(4))
def test_realised_shares_are_those_asked_for(how, seed):
    table = drawn_table(1000, seed)
    sides = stratified_split(table, how, FRACTIONS, seed)
    assert np.abs(shares(sides) - FRACTIONS).max() <= 0.01
    frequent = table["target"].to_numpy() == 0
    assert np.abs(shares(sides[frequent]) - FRACTIONS).max() <= 0.02


@pytest.mark.parametrize("seed", range(4))
def test_no_patient_is_on_two_sides(seed):
    table = drawn_table(1000, seed)
    sides = stratified_split(table, "patient", FRACTIONS, seed)
    seen = {}
    for patient, side in zip(table["patient_id"].to_pylist(), sides, strict=True):
        assert seen.setdefault(patient, side) == side
    by_image = stratified_split(table, "image", FRACTIONS, seed)
    pairs = set(zip(table["patient_id"].to_pylist(), by_image, strict=True))
    assert len(pairs) > len(seen), "by image, some patients straddle"


@pytest.mark.parametrize("how", ["patient", "image"])
def test_order_of_rows_does_not_matter_and_the_seed_does(how):
    table = drawn_table(500)
    sides = stratified_split(table, how, FRACTIONS, 7)
    order = np.random.default_rng(1).permutation(500)
    assert (stratified_split(table.take(order), how, FRACTIONS, 7) == sides[order]).all()
    assert (stratified_split(table, how, FRACTIONS, 7) == sides).all()
    moved = stratified_split(table, how, FRACTIONS, 8) != sides
    # Two independent splits agree with probability .36 + .01 + .09.
    assert moved.mean() == pytest.approx(0.54, abs=0.08)


def test_every_side_gets_a_rare_grade_when_it_can():
    grades = [0] * 990 + [4] * 3 + [3] * 2 + [2]
    ids = [f"i{i}" for i in range(len(grades))]
    twins = [""] * len(ids)
    columns = {"image_id": ids, "patient_id": ids, "twin": twins}
    table = pa.table(columns | {"target": pa.array(grades, pa.int32())})
    for seed in range(10):
        sides = stratified_split(table, "patient", (0.8, 0.1, 0.1), seed)
        of = {g: set(sides[table["target"].to_numpy() == g]) for g in (2, 3, 4)}
        assert of[4] == {"train", "val", "test"}
        assert "train" in of[3] and len(of[3]) == 2
        assert of[2] == {"train"}
        assert np.abs(shares(sides) - (0.8, 0.1, 0.1)).max() <= 0.01


def test_train_holds_a_grade_that_only_better_eyes_have():
    # Grade 1 is never a patient's worst: stratification alone would not look at it.
    patients = [f"p{i // 2}" for i in range(400)]
    grades = [0] * 398 + [1, 2]
    columns = {"image_id": [f"i{i}" for i in range(400)], "patient_id": patients}
    columns["twin"] = [""] * 400
    table = pa.table(columns | {"target": pa.array(grades, pa.int32())})
    for seed in range(20):
        sides = stratified_split(table, "patient", (0.5, 0.25, 0.25), seed)
        assert sides[398] == sides[399] == "train"


def test_a_test_share_of_zero_leaves_test_empty():
    sides = stratified_split(drawn_table(1000), "patient", (0.75, 0.25, 0.0), 0)
    assert np.abs(shares(sides) - (0.75, 0.25, 0.0)).max() <= 0.01
    assert "test" not in sides


def test_too_few_patients_are_refused():
    table = drawn_table(20).slice(0, 2)
    with pytest.raises(InputError, match=r"data\.fractions: a share of 0\.\d .* leaves"):
        stratified_split(table, "image", FRACTIONS, 0)
    with pytest.raises(InputError, match="patient or image, got 'eye'"):
        stratified_split(table, "eye", FRACTIONS, 0)


def test_largest_remainder_by_hand():
    everywhere = np.array([True, True, True])
    assert largest_remainder(np.array([4.2, 0.7, 2.1]), 7, everywhere).tolist() == [4, 1, 2]
    assert largest_remainder(np.array([0.4, 0.3, 0.3]), 1, everywhere).tolist() == [1, 0, 0]
    # A side owed less than nothing gets nothing, and the sum still holds.
    assert largest_remainder(np.array([-1.0, 2.5, 1.5]), 3, everywhere).tolist() == [0, 2, 1]
    no_test = np.array([True, True, False])
    assert largest_remainder(np.array([1.5, 1.5, 0.0]), 3, no_test).tolist() == [2, 1, 0]


def test_real_labels_split_by_patient(real_data):
    lines = (real_data / "eyepacs" / "trainLabels_full.csv").read_text().split()[1:]
    ids, levels = zip(*(line.split(",") for line in lines), strict=True)
    table = pa.table(
        {
            "image_id": ids,
            "patient_id": [name.split("_")[0] for name in ids],
            "twin": [""] * len(ids),
            "target": pa.array([int(level) for level in levels], pa.int32()),
        }
    )
    sides = stratified_split(table, "patient", FRACTIONS, 3)
    grades = table["target"].to_numpy()
    assert np.abs(shares(sides) - FRACTIONS).max() <= 0.0005
    for grade in range(5):
        assert np.abs(shares(sides[grades == grade]) - FRACTIONS).max() <= 0.01


def with_twins(num_images: int, num_pairs: int, seed: int) -> pa.Table:
    """The drawn table, some pairs of rows of any two patients being near-duplicates."""
    table, rng = drawn_table(num_images, seed), np.random.default_rng(seed)
    twins = [""] * num_images
    for pair, rows in enumerate(rng.permutation(num_images)[: 2 * num_pairs].reshape(-1, 2)):
        for row in rows:
            twins[row] = f"twin{pair}"
    return table.set_column(2, "twin", pa.array(twins))


def components(table: pa.Table) -> list[set[int]]:
    """Rows linked by patient or twin, found by walking."""
    keys = [
        {f"p{patient}", f"t{twin}"} - {"t"}
        for patient, twin in zip(
            *(table[n].to_pylist() for n in ("patient_id", "twin")), strict=True
        )
    ]
    left, found = set(range(len(keys))), []
    while left:
        reached, open_rows = set(), [min(left)]
        while open_rows:
            row = open_rows.pop()
            reached.add(row)
            open_rows += [other for other in left - reached if keys[other] & keys[row]]
        left -= reached
        found.append(reached)
    return found


@pytest.mark.parametrize("seed", range(3))
def test_kin_are_linked_through_patients_and_twins(seed):
    table = with_twins(120, 25, seed)
    of_row, names = linked_groups(table)
    patients = np.array(table["patient_id"].to_pylist())
    walked = components(table)
    assert len(names) == len(walked) == len(set(names))
    for rows in walked:
        assert len({of_row[row] for row in rows}) == 1
        assert names[of_row[min(rows)]] == min(patients[list(rows)])


@pytest.mark.parametrize("seed", range(3))
def test_no_twin_is_on_two_sides(seed):
    table = with_twins(600, 60, seed)
    sides = stratified_split(table, "patient", FRACTIONS, seed)
    assert not find_leaks(table, sides)
    assert find_leaks(table, stratified_split(table, "image", FRACTIONS, seed))
    assert np.abs(shares(sides) - FRACTIONS).max() <= 0.01


def test_without_twins_the_split_is_that_of_patients_alone():
    table = drawn_table(300)
    of_row, names = linked_groups(table)
    assert [names[group] for group in of_row] == table["patient_id"].to_pylist()
