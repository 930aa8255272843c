"""Networks with a + between them are opened, hashed and kept from known photographs as one."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from fundusray import config, files
from fundusray.errors import InputError
from fundusray.models import build_model
from fundusray.models.bundle import load_bundle, save_bundle
from fundusray.models.bundle_folders import member_folders
from fundusray.models.load_weights import weights_digest
from fundusray.models.mean_of_networks import MeanOfNetworks
from fundusray.runs.joined_networks import (
    JoinedBundle,
    network_place,
    open_network,
    rows_unseen_by_all,
    single_networks,
)
from tests.runs.few import fake_set, run_manifest

SMALL = config.Recipe(model=config.Model(name="timm/test_resnet"))


def written(folder: Path, seed: int, recipe: config.Recipe = SMALL, classes: str = "abc") -> str:
    model = build_model(recipe.model, len(classes), seed)
    named = replace(recipe, name=f"run{seed}")
    info = {"manifest": "here", "ordered": True}
    save_bundle(str(folder / "bundle"), model.state_dict(), named, list(classes), info)
    return str(folder / "bundle")


def test_two_bundles_answer_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = written(tmp_path / "a", 1), written(tmp_path / "b", 2)
    monkeypatch.chdir(tmp_path)
    for text in (f"{first}+{second}", "a+b", "a/bundle+b/bundle/model.safetensors"):
        assert network_place(text) == f"{first}+{second}"
        opened = open_network(text)
        assert isinstance(opened, JoinedBundle) and opened.folders == (first, second)
        assert isinstance(opened.model, MeanOfNetworks) and not opened.model.training
    assert opened.classes == ("a", "b", "c") and opened.recipe.name == "run1"
    assert opened.info["ordered"] is True and opened.info["members"] == [first, second]
    assert "manifest" not in opened.info
    image = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        mean = sum(load_bundle(one).model(image).softmax(1) for one in (first, second)) / 2
        torch.testing.assert_close(opened.model(image).softmax(1), mean)
    assert [place for place, _ in single_networks("", opened)] == [first, second]


def test_one_bundle_is_opened_as_ever(tmp_path: Path) -> None:
    place = written(tmp_path / "a", 1)
    opened = open_network(str(tmp_path / "a"))
    assert not isinstance(opened, JoinedBundle) and opened.info["manifest"] == "here"
    assert network_place(str(tmp_path / "a")) == place
    assert single_networks(place, opened) == [(place, opened)]


def test_a_name_may_hold_a_plus(tmp_path: Path) -> None:
    whole, other = written(tmp_path / "a+b", 1), written(tmp_path / "c", 2)
    assert member_folders(str(tmp_path / "a+b")) == (whole,)
    assert member_folders(f"{other}+{whole}") == (other, whole)
    assert member_folders(f"{whole}+{other}") == (whole, other)
    # Where the whole text is a bundle, its parts are not looked at.
    written(tmp_path / "a", 3)
    assert member_folders(str(tmp_path / "a+b")) == (whole,)
    weights = tmp_path / "one+two.safetensors"
    weights.write_bytes((tmp_path / "c/bundle/model.safetensors").read_bytes())
    assert weights_digest(str(weights)) == weights_digest(other)


def test_the_digest_is_of_both_in_any_order(tmp_path: Path) -> None:
    places = [written(tmp_path / name, seed) for seed, name in enumerate("abc")]
    single = [weights_digest(place) for place in places]
    joined = weights_digest(f"{places[0]}+{places[1]}")
    others = [weights_digest(f"{places[n]}+{places[2]}") for n in (0, 1)]
    assert len({*single, joined, *others}) == 6
    assert joined == weights_digest(f"{places[1]}+{places[0]}")


def test_networks_that_cannot_be_joined_are_refused(tmp_path: Path) -> None:
    first = written(tmp_path / "a", 1)
    smaller = config.override(SMALL, {"data.size": 64})
    seen = config.override(SMALL, {"data.view": "resize(16)"})
    for name, recipe, classes, message in (
        ("size", smaller, "abc", "data.size=64"),
        ("view", seen, "abc", r"data.view=.*with resize\(16\)"),
        ("classes", SMALL, "abd", r"\['a', 'b', 'c'\].* \['a', 'b', 'd'\]"),
    ):
        second = written(tmp_path / name, 2, recipe, classes)
        with pytest.raises(InputError, match=message):
            open_network(f"{first}+{second}")
    with pytest.raises(InputError, match="are the same network"):
        open_network(f"{first}+{written(tmp_path / 'again', 1)}")
    with pytest.raises(InputError, match=f"no bundle at {tmp_path}/gone"):
        open_network(f"{first}+{tmp_path}/gone")


def test_photographs_are_new_to_every_member(tmp_path: Path) -> None:
    """One learned from this set, and is judged by its test side; one from another, which held the
    photograph of row 16; the third knows nothing of it."""
    data = fake_set(20)
    sides = ["train"] * 8 + ["val"] * 4 + ["test"] * 6 + [""] * 2
    files.write_table(
        str(tmp_path / "manifest.parquet"),
        pa.table({"image_id": data.table["image_id"], "split": sides}),
    )
    own, recipe = str(tmp_path / "bundle"), config.Recipe()
    other = run_manifest(tmp_path / "other", {"h16": "train"})
    places = [own, other, run_manifest(tmp_path / "third", {"z": "val"})]
    bundles = [
        SimpleNamespace(info={"manifest": name}, recipe=recipe) for name in ("here", "b", "c")
    ]
    found = rows_unseen_by_all(data, places, bundles)
    assert found.rows.tolist() == [12, 13, 14, 15] and found.side == "test"
    assert np.flatnonzero(found.learned).tolist() == [*range(12), 16, 17]
    assert any("4 photographs are new to all 3 networks" in note for note in found.notes)
    joined = JoinedBundle(
        model=torch.nn.Identity(), recipe=recipe, classes=("a",), info={},
        folders=tuple(places[:2]), members=tuple(bundles[:2]),
    )  # fmt: skip
    both = rows_unseen_by_all(data, ["+".join(places[:2]), places[2]], [joined, bundles[2]])
    assert both.sides.tolist() == found.sides.tolist()
    alone = rows_unseen_by_all(data, [own], bundles[:1])
    assert alone.rows.tolist() == list(range(12, 18)) and alone.notes == []
    everything = run_manifest(tmp_path / "e", {f"h{n}": "train" for n in range(20)})
    with pytest.raises(InputError, match=r"none of 20 photographs .* \(6 to .*, 0 to "):
        rows_unseen_by_all(data, [own, everything], bundles[:2])
