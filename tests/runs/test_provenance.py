"""What a network knows through those it went on from counts as known."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from fundusray import files
from fundusray.config import Model, Recipe, override, to_json
from fundusray.errors import DamagedError
from fundusray.runs.provenance import (
    first_weights,
    learned_photographs,
    rows_known_to,
    start_of,
    start_on,
    unseen_rows,
)
from fundusray.verified import write_verified
from tests.runs.few import fake_set, run_manifest


@pytest.fixture
def bundle(tmp_path):
    """bundle(name, hashes, **settings) -> the place of a run's network, without its weights."""

    def make(name, hashes=None, info=None, **settings):
        place = str(tmp_path / name / "bundle")
        if hashes is None:
            (tmp_path / name).mkdir()
        else:
            assert run_manifest(tmp_path / name, hashes) == place
        changes = {key.replace("__", "."): value for key, value in settings.items()}
        recipe = to_json(override(Recipe(), changes)).encode()
        write_verified(place, {"recipe.json": recipe}, {"info": info or {}})
        return place

    return make


def rows(mask):
    return np.flatnonzero(mask).tolist()


def test_a_network_knows_what_those_before_it_learned(bundle):
    """Patients have two eyes, so that a photograph that is known makes two."""
    first = bundle("first", {"h0": "train", "h2": "val", "h4": "test"})
    second = bundle("second", {"h6": "train"}, model__weights=first)
    third = bundle("third", {"h8": "val"}, model__init_from=second)
    found = rows_known_to(fake_set(20).table, [third])
    assert rows(found.trained) == [0, 1, 6, 7] and rows(found.chosen) == [2, 3, 8, 9]
    assert found.unasked == []


def test_a_mean_has_no_photographs_but_its_members(bundle):
    members = [bundle("a", {"h0": "train"}), bundle("b", {"h4": "train"})]
    mean = bundle("mean", info={"members": members})
    found = rows_known_to(fake_set(8).table, [mean])
    assert rows(found.trained) == [0, 1, 4, 5] and found.unasked == []


def test_drawings_are_nobody_and_what_is_gone_is_named(bundle, tmp_path):
    drawn = bundle("drawn", info={"pretrained": "on drawn photographs"})
    assert rows_known_to(fake_set(8).table, [drawn]).unasked == []
    gone = str(tmp_path / "gone" / "bundle")
    after = bundle("after", {"h0": "train"}, model__init_from=gone)
    found = rows_known_to(fake_set(8).table, [after])
    assert rows(found.trained) == [0, 1] and found.unasked == [gone]


def test_near_duplicates_of_what_a_start_learned_are_known(bundle):
    table = fake_set(6).table
    table = table.set_column(2, "twin", pa.array(["i0", "", "", "i0", "", ""]))
    found = rows_known_to(table, [bundle("run", {"h0": "train"})])
    assert rows(found.trained) == [0, 1, 2, 3]


@pytest.mark.parametrize("weights", ["", "imagenet", "/data/net.pth"])
def test_weights_alone_are_no_start(weights):
    assert start_of(Model(weights=weights)) == ""


def test_a_bundle_may_be_given_by_its_weights_file(bundle):
    place = bundle("run")
    assert start_of(Model(weights=f"{place}/model.safetensors")) == place
    assert start_of(Model(weights=f"{place}/")) == place


def test_a_checkpoint_is_a_start_that_cannot_be_asked(tmp_path):
    place = str(tmp_path / "run" / "checkpoints" / "step-00000003")
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    write_verified(place, {"model.safetensors": b""}, {"key": "k", "step": 3})
    assert rows_known_to(fake_set(4).table, [start_of(Model(weights=place))]).unasked == [place]


def test_rows_that_chose_the_start_are_counted_where_they_are_judged(bundle):
    place, table = bundle("run", {"h0": "train", "h4": "val"}), fake_set(8).table
    model = Model(init_from=place)
    start = start_on(model, table)
    assert start.chosen(np.arange(8)) == 2
    assert start.chosen(np.array([5, 6])) == 1
    assert start.chosen(np.array([0, 6])) == 0
    assert start_on(Model(), table).chosen(np.arange(8)) == 0


class TestStart:
    sides = np.array(["train"] * 4 + ["val"] * 2 + ["test"] * 2)

    def told(self, place):
        return start_on(Model(weights=place), fake_set(8).table).leak(self.sides)

    def test_of_the_same_split_is_no_leak(self, bundle):
        """Not even that both choose their epoch by the same images."""
        same = {f"h{n}": side for n, side in enumerate(self.sides)}
        assert self.told(bundle("run", same)) == ""

    def test_that_learned_what_is_judged_is_told(self, bundle):
        place = bundle("run", {"h5": "train", "h6": "train"})
        told = self.told(place)
        assert told.startswith(f"the start {place} knows 2 of 2 val images and 2 of 2 test images")

    def test_whose_epoch_was_chosen_by_tested_images_is_told(self, bundle):
        assert "knows 2 of 2 test images" in self.told(bundle("run", {"h7": "val"}))

    def test_at_random_knows_nothing(self):
        assert self.told("") == ""


def test_judged_elsewhere_the_photographs_of_its_start_are_left_out(bundle):
    first = bundle("first", {"h0": "train"})
    place = bundle("second", {"h4": "train"}, model__weights=first)
    second = SimpleNamespace(
        info={"manifest": "there"}, recipe=override(Recipe(), {"model.weights": first})
    )
    assert unseen_rows(fake_set(8), place, second).rows.tolist() == [2, 3, 6, 7]


def test_what_a_network_knows_is_found_after_its_storage_moved(bundle, tmp_path):
    """Bundles keep their starts as seen from themselves."""
    storage = tmp_path / "old"
    storage.mkdir()
    first = bundle("old/first", {"h0": "train"})
    second = bundle("old/second", {"h6": "train"}, model__weights=relative(first, "old/second"))
    mean = bundle("old/mean", info={"members": [relative(second, "old/mean")]})
    storage.rename(tmp_path / "new")
    found = rows_known_to(fake_set(20).table, [mean.replace("/old/", "/new/")])
    assert rows(found.trained) == [0, 1, 6, 7] and found.unasked == []


def relative(place, run):
    """As a bundle of that run keeps a place in the same storage."""
    root = place.rpartition("/")[0].rpartition("/")[0]
    return files.relative(place, f"{root}/{run.rpartition('/')[2]}/bundle", root)


def test_a_damaged_manifest_of_a_run_is_refused_by_name(bundle, tmp_path):
    place = bundle("first", {"h0": "train"})
    manifest = tmp_path / "first" / "manifest.parquet"
    content = manifest.read_bytes()
    manifest.write_bytes(content[:50] + bytes([content[50] ^ 1]) + content[51:])
    with pytest.raises(DamagedError, match=r"first/manifest\.parquet: other bytes"):
        rows_known_to(fake_set(8).table, [place])


def test_what_was_learned_is_known_by_the_bytes_of_the_files(bundle, tmp_path):
    first = bundle("first", {"h0": "train", "h2": "val", "h4": "test", "": "train"})
    second = bundle("second", {"h6": "train"}, model__init_from=first)
    assert learned_photographs(first) == {"h0"} and learned_photographs(second) == {"h0", "h6"}
    drawn = bundle("drawn", info={"pretrained": "on drawn photographs"})
    assert learned_photographs(drawn) == set()
    after = bundle("after", {"h0": "train"}, model__init_from=str(tmp_path / "gone" / "bundle"))
    assert learned_photographs(after) is None


def test_what_a_network_began_with(bundle, tmp_path):
    """What a line of networks began with; a random one's own run where others went on from it."""
    plain, known = bundle("plain", {}), bundle("known", {}, model__weights="imagenet/tv2_in1k")
    assert first_weights(plain) == "random" and first_weights(known) == "imagenet/tv2_in1k"
    of_file = bundle("of_file", {}, model__weights=str(tmp_path / "net.pth"))
    assert first_weights(of_file) == "net.pth"
    second = bundle("second", {}, model__init_from=known)
    assert first_weights(second) == "imagenet/tv2_in1k"
    third = bundle("third", {}, model__init_from=bundle("next", {}, model__weights=plain))
    assert first_weights(third) == "plain"
    assert first_weights(bundle("mean", info={"members": [known, second]})) == "imagenet/tv2_in1k"
    assert first_weights(bundle("mixed", info={"members": [known, plain]})) == "several"
    gone = bundle("after", {}, model__init_from=str(tmp_path / "gone" / "bundle"))
    assert first_weights(gone) == "gone"
