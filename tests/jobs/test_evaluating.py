"""The job that evaluates: what it refuses, and what its page says."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from fundusray import files
from fundusray.command import main, parse_command
from fundusray.config import Model, Recipe, override
from fundusray.errors import InputError
from fundusray.jobs import searching, training
from fundusray.jobs.evaluating import changes_of, changes_said, evaluate, page_of
from fundusray.models import build_model
from fundusray.models.bundle import save_bundle
from fundusray.runs.provenance import UnseenRows, start_on
from fundusray.runs.split_of_run import Split
from fundusray.verified import read_verified, write_verified

CLASSES = ("none", "mild", "severe")


def saved(folder):
    """A bundle of the default recipe at 64 px."""
    recipe = override(Recipe(name="loose", model=Model(name="resnet18")), {"data.size": 64})
    save_bundle(str(folder), build_model(recipe.model, 5, 0).state_dict(), recipe, "abcde", {})
    return str(folder)


@pytest.mark.parametrize(
    "change, told",
    [
        ("data.preprocess=resize", "was trained with data.preprocess=graham"),
        ("data.size=32", "was trained with data.size=64"),
        ("data.fractions=0.5,0.2,0.3", "leave data.fractions out"),
        ("data.split=image", "leave data.split out"),
        ("data.split_file=/other.csv", "leave data.split_file out"),
        ("data.split_seed=4", "leave data.split_seed out"),
    ],
)
def test_other_pixels_and_other_splits_are_refused(change, told, tmp_path):
    with pytest.raises(InputError, match=told):
        evaluate(parse_command([saved(tmp_path / "bundle"), change, "show=true"]))


@pytest.mark.parametrize(
    "text, told",
    [
        ("pgt(eps=2/255)", "did you mean 'pgd'"),
        ("pgd(eps=2)", "has no unit"),
        ("clean, pgd(eps=2/255)", "one condition is written"),
    ],
)
def test_bad_conditions_are_refused_before_anything_is_read(text, told):
    with pytest.raises(InputError, match=told):
        evaluate(parse_command(["no/such/bundle", f"condition={text}"]))


def test_what_was_attacked_is_said():
    columns = {"target": [0, 1, 2, 2], "clean_prediction": [0, 1, 2, 0]}
    columns |= {"success": [True, False, True, False], "linf": [2 / 255, 0.001, 0.0, 0.0]}
    told = changes_of(pa.table(columns | {"l2": [0.25, 0.1, 0.0, 0.0]}))
    assert told == {"right": 3, "successes": 2, "linf": 2 / 255, "l2": 0.25}
    (said,) = changes_said("pgd(eps=2/255, steps=20)", told)
    assert "of 3 images that the network is right of as they are, 2 are made wrong (67%)" in said
    assert "the largest change is 2/255 of a pixel, 0.25 of an image" in said
    assert changes_of(pa.table({"target": [0]})) == {} and changes_said("clean", {}) == []


def test_what_agrees_with_the_network_may_be_given(tmp_path, capsys):
    same = ("data.size=64", "data.split=patient", "data.fractions=0.7,0.1,0.2", "seed=5")
    result = evaluate(parse_command([saved(tmp_path / "bundle"), *same, "show=true"]))
    assert result["status"] == "shown"
    assert json.loads(capsys.readouterr().out)["seed"] == 5


def test_a_network_of_another_versions_settings_is_said_to_be_one(tmp_path, capsys):
    """And one that is older than a setting has its default."""
    run = tmp_path / "loose-12345678"
    content, about = read_verified(saved(run / "bundle"))
    recipe = json.loads(content["recipe.json"])
    del recipe["train"]["clip"]
    older = content | {"recipe.json": json.dumps(recipe).encode()}
    write_verified(str(run / "bundle"), older, about)
    assert evaluate(parse_command([str(run), "show=true"]))["status"] == "shown"
    recipe["train"]["warp"] = 1
    later = content | {"recipe.json": json.dumps(recipe).encode()}
    write_verified(str(run / "bundle"), later, about)
    capsys.readouterr()
    assert main("", evaluate, [str(run)]) == 2
    said = capsys.readouterr()
    assert f"{run}/bundle was made by another version of fundusray" in said.err
    assert "no setting named 'train.warp'" in said.err and "Traceback" not in said.err


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """Three photographs of three patients, too few for any split."""
    monkeypatch.setattr(training.cluster_start, "cluster_resources", lambda: {"CPU": 2.0})
    empty = pa.table({name: pa.array([], pa.string()) for name in ("image_id", "where", "reason")})
    files.write_table(str(tmp_path / "skipped.parquet"), empty)
    columns = {"patient_id": list("pqr"), "twin": [""] * 3, "repaired": [False] * 3}
    columns["dataset"] = ["loose"] * 3
    return SimpleNamespace(
        table=pa.table(columns),
        classes=CLASSES,
        ordered=True,
        folder=str(tmp_path),
        info={"num_conflicts": 0},
        targets=lambda: np.array([0, 0, 2]),
        patients=lambda: list("pqr"),
    )


RESULT = {"status": "finished", "reported_split": "all", "best": {"epoch": 3}}


def focal(**changes):
    return override(Recipe(name="loose"), {"loss.name": "class_balanced", **changes})


def test_the_page_of_other_photographs_shows_no_split(opened):
    info = {"manifest": "there", "counts": [90, 8, 2]}
    judged = UnseenRows(np.array(["all", "known", "all"]), "all", ["1 of 3 left out"])
    recipe = override(focal(), {"train.batch": 10, "train.epochs": 7})
    trial, about = page_of(
        recipe, SimpleNamespace(info=info, recipe=recipe), opened, judged, RESULT
    )
    assert {name: part["counts"] for name, part in about["splits"].items()} == {
        "all": [1, 0, 1],
        "known": [1, 0, 0],
    }
    assert about["split"] == about["leak"] == ""
    assert about["notes"][0] == "1 of 3 left out"
    # What the loss did was done on the classes of the training.
    own = training.trial_from(recipe, RESULT, "x", [90, 8, 2], 7)
    assert trial.weight_ratio == own.weight_ratio > 2
    assert (trial.side, trial.epochs_run, trial.epochs_asked) == ("all", 3, 7)


def test_without_the_counts_of_the_training_nothing_is_said_of_its_loss(opened):
    judged = UnseenRows(np.array(["all"] * 3), "all", [])
    drawn = SimpleNamespace(info={"pretrained": "on drawn photographs", "counts": [5, 5, 5]})
    trial, about = page_of(focal(), drawn, opened, judged, RESULT)
    assert about["notes"] == [] and math.isnan(trial.weight_ratio)
    assert about["splits"]["all"]["n"] == 3


def test_the_page_of_its_own_photographs_shows_the_networks_split(opened):
    info = {"manifest": "here", "counts": [60, 30, 10]}
    judged = UnseenRows(np.array(["train", "val", "test"]), "test", [])
    recipe = focal(seed=9)
    result = RESULT | {"reported_split": "test"}
    trial, about = page_of(
        recipe, SimpleNamespace(info=info, recipe=recipe), opened, judged, result
    )
    assert list(about["splits"]) == ["train", "val", "test"]
    assert about["split"] == "split by patient: no patient or near-duplicate is on two sides"
    assert about["patients"] == ""
    assert trial.side == "test" and any("weigh" in note for note in about["notes"])


def about_of(recipe, opened):
    """What the page says around a training with one photograph on each side."""
    split = Split(opened, np.array(["train", "val", "test"]))
    return training.about_of(recipe, split, start_on(recipe.model, opened.table), "", "")


def test_the_page_of_photographs_of_nobody_says_so(opened):
    table = opened.table.set_column(0, "patient_id", pa.array([""] * 3))
    opened.table, opened.patients = table, lambda: [""] * 3
    opened.info["notes"] = ["patients read from names: none"]
    about = about_of(focal(), opened)
    assert about["patients"].startswith("patients unknown: images are counted as independent")
    assert about["split"].startswith("split by image, near-duplicates together: no near-duplicate")
    assert [part["patients"] for part in about["splits"].values()] == [0, 0, 0]
    assert about["notes"] == ["patients read from names: none"]
    file = override(focal(), {"data.split_file": "/x/mine.csv"})
    about = about_of(file, opened)
    assert about["split"].startswith("split by the file mine.csv: no near-duplicate is on two")


def test_a_start_that_cannot_be_asked_is_said(opened, tmp_path):
    start = saved(tmp_path / "gone" / "bundle")
    opened.table = opened.table.append_column("sha256", pa.array(list("xyz")))
    opened.table = opened.table.append_column("image_id", pa.array(list("abc")))
    recipe = focal(**{"model.init_from": start})
    (note,) = about_of(recipe, opened)["notes"]
    assert start in note and "whether some of them are judged here is not known" in note


def test_a_trial_that_was_killed_before_its_first_checkpoint_is_told(tmp_path, monkeypatch):
    """The bundle of an epoch is written before its checkpoint."""
    best = {"epoch": 1, "metric": "val_kappa", "value": 0.5}
    bundle = SimpleNamespace(info={"key": "k", "best": best})
    found = {"status": "finished", "bundle": "b", "metrics": {}}
    monkeypatch.setattr(searching, "load_bundle", lambda place: bundle)
    monkeypatch.setattr(searching, "unseen_rows", lambda *given: None)
    monkeypatch.setattr(
        searching.cluster_evaluate,
        "evaluate_bundle",
        lambda bundle, judged, prepared, folder: found,
    )
    (tmp_path / "checkpoints").mkdir()
    run = SimpleNamespace(prepared=None, set_folder="prepared")
    result = searching._early(run, str(tmp_path))
    assert (result["status"], result["history"], result["best"]) == ("stopped early", [], best)
    assert training.trial_from(Recipe(), result, "x", [1, 1], 4).epochs_run == 1
    # Nor do damaged checkpoints end the report of a search: the network is whole.
    (tmp_path / "checkpoints" / "step-00000003").mkdir()
    result = searching._early(run, str(tmp_path))
    assert (result["status"], result["best"]) == ("stopped early", best)
    assert "no usable checkpoint" in result["reason"]
