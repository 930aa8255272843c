"""What of a set is new to a network: its own split's side, or of other sets what it never saw."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from fundusray.config import Recipe, override
from fundusray.data.split import split_files
from fundusray.errors import InputError
from fundusray.runs.provenance import BY_BYTES, require_pixels, unseen_rows
from fundusray.runs.split_of_run import write_sides
from tests.runs.few import fake_set, run_manifest


def with_twins(data, twins):
    data.table = data.table.set_column(2, "twin", pa.array(twins))
    return data


def bundle(changes=None, **info):
    return SimpleNamespace(info=info, recipe=override(Recipe(), changes or {}))


class TestOwnSet:
    def test_the_split_is_the_one_beside_the_bundle(self, tmp_path):
        """Not what the recipe's file says by now; that may even be gone."""
        data = fake_set(20)
        sides = np.array(["train"] * 10 + ["val"] * 4 + ["test"] * 4 + [""] * 2)
        write_sides(str(tmp_path), data.table, sides)
        gone = bundle({"data.split_file": "/gone/split.csv"}, manifest="here")
        found = unseen_rows(data, str(tmp_path / "bundle"), gone)
        assert found.sides.tolist() == sides.tolist() and found.notes == []
        assert found.side == "test" and found.rows.tolist() == [14, 15, 16, 17]
        assert np.flatnonzero(found.learned).tolist() == list(range(14))

    def test_without_it_the_recipe_splits(self, tmp_path):
        data = fake_set(40)
        one = bundle({"data.fractions": (0.5, 0.5, 0.0), "seed": 3}, manifest="here")
        found = unseen_rows(data, str(tmp_path / "bundle"), one)
        assert (
            found.sides.tolist()
            == split_files.assign_split(data.table, one.recipe.data, 3).tolist()
        )
        assert found.side == "val" and len(found.rows) == 20
        assert found.learned.tolist() == (found.sides == "train").tolist()


class TestOtherSets:
    def test_what_the_run_knows_is_left_out_and_counted(self, tmp_path):
        """Ten photographs were added to the folder: the others are still those it learned."""
        old = {f"h{n}": "train" if n < 6 else "val" for n in range(8)} | {"h8": "test", "": "train"}
        found = unseen_rows(
            fake_set(20), run_manifest(tmp_path / "run", old), bundle(manifest="before")
        )
        assert found.side == "all" and found.rows.tolist() == list(range(8, 20))
        assert np.flatnonzero(found.learned).tolist() == list(range(8))
        note, caution = found.notes
        assert caution == BY_BYTES
        assert note.startswith("8 of 20 photographs are left out")

    def test_patients_of_near_duplicates_are_left_out(self, tmp_path):
        """i0 is known; i3 is its near-duplicate, and i2 the other eye of i3's patient."""
        data = with_twins(fake_set(6), ["i0", "", "", "i0", "", ""])
        place = run_manifest(tmp_path / "run", {"h0": "train"})
        assert unseen_rows(data, place, bundle(manifest="there")).rows.tolist() == [4, 5]

    def test_of_unknown_patients_each_photograph_is_known_by_itself(self, tmp_path):
        data = fake_set(6)
        data.table = data.table.set_column(1, "patient_id", pa.array([""] * 6))
        place = run_manifest(tmp_path / "run", {"h0": "train", "h3": "val"})
        assert unseen_rows(data, place, bundle(manifest="there")).rows.tolist() == [1, 2, 4, 5]

    def test_a_set_of_three_needs_no_split(self, tmp_path):
        found = unseen_rows(
            fake_set(3), run_manifest(tmp_path / "run", {"x": "train"}), bundle(manifest="there")
        )
        assert found.rows.tolist() == [0, 1, 2] and found.notes == [BY_BYTES]

    def test_that_a_run_cannot_be_asked_is_noted(self, tmp_path):
        place = str(tmp_path / "bundle")
        found = unseen_rows(fake_set(20), place, bundle(manifest="there"))
        assert len(found.rows) == 20
        note, _ = found.notes
        assert place in note and "no manifest.parquet" in note

    def test_a_mean_knows_what_its_members_know(self, tmp_path):
        members = [
            run_manifest(tmp_path / "a", {"h0": "train"}),
            run_manifest(tmp_path / "b", {"h5": "val"}),
        ]
        mean = bundle(manifest="there", members=members)
        found = unseen_rows(fake_set(8), str(tmp_path / "mean" / "bundle"), mean)
        assert found.rows.tolist() == [2, 3, 6, 7]
        note, _ = found.notes
        assert note.startswith("4 of 8")

    def test_a_start_from_drawings_knows_none(self, tmp_path):
        drawn = bundle(pretrained="on drawn photographs", key="k")
        found = unseen_rows(fake_set(20), str(tmp_path / "bundle"), drawn)
        assert found.side == "all" and len(found.rows) == 20
        (note,) = found.notes
        assert "pretrained on drawn photographs" in note


@pytest.mark.parametrize(
    "changes",
    [{"data.size": 128}, {"data.preprocess": "resize"}, {"data.preprocess_args": {"clip": 0.9}}],
    ids=lambda changes: next(iter(changes)),
)
def test_other_pixels_are_refused(changes):
    trained = Recipe()
    require_pixels("x/bundle", trained.data, override(trained, {"data.source": "aptos"}).data)
    (key,) = changes
    with pytest.raises(InputError, match=rf"x/bundle was trained with {key}="):
        require_pixels("x/bundle", trained.data, override(trained, changes).data)
