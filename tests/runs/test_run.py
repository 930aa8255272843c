"""A run is planned once: its set opened, its split derived and its key computed for all who ask."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fundusray import files
from fundusray.config import Recipe, override
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.data.split import split_files
from fundusray.data.split.leaks import find_leaks
from fundusray.errors import DamagedError, InputError
from fundusray.runs.identity import run_key
from fundusray.runs.run import Run, plan_run
from fundusray.runs.split_of_run import (
    OpenSets,
    permutation_seed,
    split_of,
    write_sides,
    written_split,
)
from tests.runs.few import fake_set


@pytest.fixture
def data() -> Any:
    found: Any = fake_set(80)
    found.info |= {"preprocess": "graham", "preprocess_version": 1}
    targets = found.table["target"].to_numpy()
    found.targets, found.classes = lambda: targets, tuple("abcde")
    return found


@pytest.fixture
def sets(data: Any) -> OpenSets:
    return OpenSets({"set": data})


def planned(sets: OpenSets, **changes: Any) -> Run:
    changed = {key.replace("__", "."): value for key, value in changes.items()}
    recipe = override(Recipe(), {"train.batch": 8, "data.fractions": (0.5, 0.25, 0.25)} | changed)
    return plan_run(recipe, "set", "/storage", sets)


def test_holds_what_its_recipe_and_set_say(data: Any, sets: OpenSets) -> None:
    run = planned(sets, seed=3, train__epochs=4, train__drop_last=True)
    sides = split_files.assign_split(data.table, run.recipe.data, 3)
    assert run.split.sides.tolist() == sides.tolist()
    assert {name: rows.tolist() for name, rows in run.rows.items()} == {
        name: np.flatnonzero(sides == name).tolist() for name in ("train", "val", "test")
    }
    assert run.counts == np.bincount(data.targets()[run.rows["train"]], minlength=5).tolist()
    assert run.split.digest == split_files.assignment_digest(data.table, sides)
    assert run.split.leaks == find_leaks(data.table, sides)
    assert run.timetable.epochs == 4
    assert run.timetable.steps_per_epoch == len(run.rows["train"]) // 8
    assert run.folder == f"/storage/custom-{run.key[:8]}"
    assert run.prepared is data and run.start.place == "" and run.copies == ()


def test_trials_that_split_alike_share_one_split(sets: OpenSets, tmp_path: Path) -> None:
    """Each what was asked for: by identity, as a second derivation would be another value."""
    base = planned(sets)
    for alike in (
        {"model__dropout": 0.5},
        {"loss__name": "focal"},
        {"train__lr": 1.0},
        {"seed": 7, "data__split_seed": 0},
    ):
        other = planned(sets, **alike)
        assert other.split is base.split and other.key != base.key
    # A file of the same split under two names is one, too, and one with another line is not.
    for name in ("a.csv", "b.csv"):
        split_files.write_split_file(str(tmp_path / name), base.prepared.table, base.split.sides)
    first, second = (planned(sets, data__split_file=str(tmp_path / n)) for n in ("a.csv", "b.csv"))
    assert first.split is second.split and first.key == second.key
    assert first.split is not base.split and first.split.digest == base.split.digest
    moved = base.split.sides.copy()
    moved[:2] = "test" if moved[0] != "test" else "val"
    split_files.write_split_file(str(tmp_path / "b.csv"), base.prepared.table, moved)
    assert planned(sets, data__split_file=str(tmp_path / "b.csv")).key != first.key


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"data__split_seed": 1},
        {"data__fractions": (0.6, 0.2, 0.2)},
        {"data__split": "image"},
    ],
)
def test_what_decides_a_split_makes_another(changes: dict, sets: OpenSets) -> None:
    base, other = planned(sets), planned(sets, **changes)
    assert other.split is not base.split
    assert other.split.sides.tolist() == split_of(base.prepared, other.recipe).sides.tolist()


def test_a_split_file_that_is_not_there_is_refused(sets: OpenSets) -> None:
    with pytest.raises(InputError, match=r"data\.split_file=/gone\.csv: no such file"):
        planned(sets, data__split_file="/gone.csv")


def test_workers_read_the_drivers_split_and_no_other(
    data: Any, sets: OpenSets, tmp_path: Path
) -> None:
    run, folder = planned(sets), str(tmp_path)
    write_sides(folder, data.table, run.split.sides)
    read = written_split(folder, data, run.split.digest)
    assert read.sides.tolist() == run.split.sides.tolist()
    assert all(np.array_equal(read.rows[name], run.rows[name]) for name in run.rows)
    with pytest.raises(DamagedError, match=r"manifest\.parquet holds another split"):
        written_split(folder, data, planned(sets, seed=1).split.digest)
    place = tmp_path / "manifest.parquet"
    content = place.read_bytes()
    files.write_bytes(str(place), content[:60] + bytes([content[60] ^ 1]) + content[61:])
    with pytest.raises(DamagedError, match=r"manifest\.parquet: "):
        written_split(folder, data, run.split.digest)


def test_a_null_learns_permuted_labels_on_the_same_sides(data: Any, tmp_path: Path) -> None:
    """Its key is another one, its validation and test labels are true, and the run's own manifest
    holds the true labels; its workers permute as the driver does."""
    info = data.info | {"classes": list("abcde"), "manifest": "here"}
    stored: Any = PreparedSet("set", info, data.table, None)
    sets = OpenSets({"set": stored})
    run, null = planned(sets), planned(sets, data__permute_labels=True)
    assert null.key != run.key and null.split is not run.split
    assert null.split.sides.tolist() == run.split.sides.tolist()
    true, learned = stored.targets(), null.split.learned.targets()
    train = run.rows["train"]
    assert run.split.learned is stored and null.prepared is stored
    assert null.counts == run.counts
    assert learned[train].tolist() != true[train].tolist()
    for side in ("val", "test"):
        assert learned[run.rows[side]].tolist() == true[run.rows[side]].tolist()
    folder = str(tmp_path)
    write_sides(folder, null.prepared.table, null.split.sides)
    seed = permutation_seed(null.recipe)
    read = written_split(folder, stored, null.split.digest, seed)
    assert read.learned.targets().tolist() == learned.tolist()
    other = planned(sets, data__permute_labels=True, seed=1, data__split_seed=0)
    assert other.split.learned.targets().tolist() != learned.tolist()


def test_copies_with_labels_of_their_own_are_no_null() -> None:
    with pytest.raises(InputError, match=r"data\.permute_labels/mix: not together"):
        override(Recipe(), {"data.permute_labels": True, "data.mix": "/copies"})


def test_every_set_of_copies_decides_in_its_order(sets: OpenSets, tmp_path: Path) -> None:
    """One alone decides as ever: by the digest of its description."""
    folders = [str(tmp_path / name) for name in ("a", "b")]
    for number, folder in enumerate(folders):
        files.write_json(files.join(folder, "set.json"), {"number": number})
    a, b = folders
    one, both, turned = (planned(sets, data__mix=mix) for mix in (a, f"{a},{b}", f"{b},{a}"))
    assert len({planned(sets).key, one.key, both.key, turned.key}) == 4
    assert planned(sets, data__mix=f"{a}, {b}").key == both.key
    digest = files.sha256_file(files.join(a, "set.json"))
    info = one.prepared.info
    assert one.key == run_key(
        one.recipe, photographs=info["manifest"], pixels=1, split=one.split.digest, start="",
        copies=digest,
    )  # fmt: skip
