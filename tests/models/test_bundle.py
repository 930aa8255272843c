"""Bundles: what is saved is what is loaded, or it is refused."""

import os
import random

import pytest
import safetensors.torch
import torch

from fundusray import config, files
from fundusray.config import override
from fundusray.errors import InputError
from fundusray.models import MODELS, build_model
from fundusray.models.bundle import (
    DamagedError,
    library_versions,
    load_bundle,
    model_card,
    read_about,
    read_recipe,
    save_bundle,
    write_verified,
)

CLASSES = ("none", "mild", "moderate", "severe", "proliferative")
SUMMARY = {
    "n": 80,
    "num_patients": 40,
    "majority_accuracy": 0.5,
    "accuracy": 0.81,
    "accuracy_low": 0.7,
    "accuracy_high": 0.9,
    "kappa": None,
    "kappa_low": None,
    "kappa_high": None,
}
INFO = {"counts": [9, 8, 7, 6, 5], "epoch": 3, "test": SUMMARY}


def recipe_of(name="efficientnet_b0", **settings):
    return config.Recipe(name="tiny", model=config.Model(name=name, **settings), seed=4)


def read(path):
    with open(path, "rb") as stream:
        return stream.read()


@pytest.fixture
def saved(tmp_path):
    recipe = recipe_of(mean=(0.4, 0.5, 0.6))
    model = build_model(recipe.model, 5, 7)
    model.train()(torch.rand(4, 3, 32, 32))  # moves the batch statistics
    folder = str(tmp_path / "bundle")
    save_bundle(folder, model.state_dict(), recipe, CLASSES, INFO)
    return folder, model, recipe


def test_comes_back_as_saved(saved):
    folder, model, recipe = saved
    bundle = load_bundle(folder)
    assert (bundle.recipe, bundle.classes, bundle.info) == (recipe, CLASSES, INFO)
    assert not bundle.model.training
    state = bundle.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    image = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(bundle.model(image), model.eval()(image))


@pytest.mark.parametrize("name", ["resnet18", "inception_v3"])
def test_every_kind_of_network(name, tmp_path):
    assert name in MODELS
    model = build_model(config.Model(name=name), 2, 0)
    save_bundle(str(tmp_path / "b"), model.state_dict(), recipe_of(name), ("no", "yes"), {})
    assert load_bundle(str(tmp_path / "b")).model.net.fc.out_features == 2


def test_layout_and_time_leave_no_trace_in_the_bytes(saved, tmp_path):
    folder, model, recipe = saved
    turned = model.to(memory_format=torch.channels_last).state_dict()
    save_bundle(str(tmp_path / "again"), turned, recipe, CLASSES, INFO)
    names = sorted(os.listdir(folder))
    assert names == ["MANIFEST.json", "card.md", "model.safetensors", "recipe.json"]
    for name in names:
        first = read(os.path.join(folder, name))
        assert first == (tmp_path / "again" / name).read_bytes()


def test_works_under_a_uri(saved, tmp_path):
    _, model, recipe = saved
    where = f"file://{tmp_path}/remote"
    save_bundle(where, model.state_dict(), recipe, CLASSES, INFO)
    assert load_bundle(where).info == INFO


def test_a_start_that_is_gone_does_not_matter(saved, tmp_path):
    _, model, _ = saved
    recipe = recipe_of(weights=str(tmp_path / "gone.pth"))
    save_bundle(str(tmp_path / "b"), model.state_dict(), recipe, CLASSES, {})
    assert load_bundle(str(tmp_path / "b")).recipe == recipe


def test_a_flipped_bit_is_refused(saved):
    folder, _, _ = saved
    rng = random.Random(0)
    for name in ("model.safetensors", "recipe.json", "card.md"):
        path = os.path.join(folder, name)
        whole = read(path)
        for _ in range(5):
            broken = bytearray(whole)
            broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
            with open(path, "wb") as stream:
                stream.write(broken)
            with pytest.raises(DamagedError, match=name):
                load_bundle(folder)
        with open(path, "wb") as stream:
            stream.write(whole)


def test_no_folder_and_no_bundle_are_told_apart(tmp_path):
    with pytest.raises(InputError, match="no bundle at"):
        load_bundle(str(tmp_path / "nowhere"))
    write_verified(str(tmp_path / "other"), {"a": b"1"}, {})
    with pytest.raises(InputError, match="no bundle"):
        load_bundle(str(tmp_path / "other"))
    os.makedirs(tmp_path / "empty")
    with pytest.raises(DamagedError, match=r"MANIFEST\.json: missing"):
        load_bundle(str(tmp_path / "empty"))


def test_weights_of_another_network_are_refused(saved, tmp_path):
    _, model, _ = saved
    save_bundle(str(tmp_path / "b"), model.state_dict(), recipe_of("resnet18"), CLASSES, {})
    with pytest.raises(InputError, match="do not fit resnet18"):
        load_bundle(str(tmp_path / "b"))


def test_card_tells_data_counts_intervals_and_limits(saved):
    text = files.read_bytes(files.join(saved[0], "card.md")).decode()
    for part in (
        "# tiny",
        "synthetic, graham at 256 px",
        "none 9, mild 8",
        "seed 4",
        "| accuracy | 0.8100 | 0.7000 | 0.9000 |",
        "| kappa | - | - | - |",
        "80 images of 40 patients",
        "Not a medical device",
        f"torch {library_versions()['torch']}",
    ):
        assert part in text


def test_card_tells_what_decided_the_split():
    given = override(recipe_of(), {"data.split_file": "mine.csv"})
    assert "split by data.split_file\n" in model_card(given, CLASSES, {})
    assert "split by patient\n" in model_card(recipe_of(), CLASSES, {})


def test_card_tells_that_patients_are_unknown():
    unknown = "patients unknown: images are counted as independent"
    measured = {"accuracy": 0.5, "n": 13, "num_patients": 0, "num_unknown": 13}
    text = model_card(recipe_of(), CLASSES, {"patients": unknown, "test": measured})
    assert f"- P{unknown[1:]}\n" in text and "split by patient\n" not in text
    assert "split by patient where one is known, near-duplicates together\n" in text
    assert "13 images of 0 patients, 13 of them of unknown patients, each counted alone;" in text


def test_card_text_cannot_become_markup(saved, tmp_path):
    _, model, recipe = saved
    classes = ("<script>", "a|b", "c\n# d", "\x1b[31m", "e")
    save_bundle(str(tmp_path / "b"), model.state_dict(), recipe, classes, {"note": "<img>\n"})
    text = (tmp_path / "b" / "card.md").read_text()
    assert "<" not in text and "\n# d" not in text and "\x1b" not in text


def test_safetensors_alone_hold_the_normalisation(saved):
    tensors = safetensors.torch.load(files.read_bytes(files.join(saved[0], "model.safetensors")))
    assert tensors["mean"].flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])


def test_it_goes_where_its_storage_goes(tmp_path):
    """Starts and members in the storage are found where they are now, others where they were."""
    old, new = tmp_path / "old", tmp_path / "new"
    start, outside = str(old / "first-1" / "bundle"), str(tmp_path / "weights.pth")
    data = config.Data(split_file=str(old / "table-2" / "split.csv"), root="/photographs")
    model = config.Model(name="resnet18", init_from=start)
    recipe = config.Recipe(model=model, data=data, run=config.Results(storage=str(old)))
    built = build_model(config.Model(name="resnet18"), 5, 7)
    info = {"members": [start, "/elsewhere/bundle"]}
    folder = str(old / "second-3" / "bundle")
    save_bundle(folder, built.state_dict(), recipe, CLASSES, info)
    assert load_bundle(folder).recipe == recipe and load_bundle(folder).info == info
    for name in ("recipe.json", "card.md", "MANIFEST.json"):
        assert str(old).encode() not in read(f"{folder}/{name}")
    os.rename(old, new)
    place = str(new / "second-3" / "bundle")
    moved, about = read_recipe(place), read_about(place)
    assert moved == load_bundle(place).recipe and about == load_bundle(place).info
    assert moved.model.init_from == str(new / "first-1" / "bundle")
    assert moved.data.split_file == str(new / "table-2" / "split.csv")
    assert (moved.data.root, moved.run.storage) == ("/photographs", str(new))
    assert about["members"] == [moved.model.init_from, "/elsewhere/bundle"]
    kept = override(recipe, {"model.init_from": "", "model.weights": outside})
    save_bundle(place, built.state_dict(), kept, CLASSES, {})
    assert read_recipe(place).model.weights == outside


@pytest.mark.parametrize("name", ["recipe.json", "MANIFEST.json"])
def test_damage_is_seen_where_the_weights_are_not_read(saved, name):
    folder, _, _ = saved
    content = read(f"{folder}/{name}")
    with open(f"{folder}/{name}", "wb") as stream:
        stream.write(content[:60] + bytes([content[60] ^ 1]) + content[61:])
    with pytest.raises(DamagedError, match=name):
        read_recipe(folder)
