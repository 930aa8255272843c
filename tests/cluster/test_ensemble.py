"""Ensembles: mean answers by hand, rows that no member knows, and the whole on a small cluster."""

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from fundusray import files
from fundusray.cluster.ensemble import PREDICTIONS, WEIGHTS, judged_rows, mean_of_predictions
from fundusray.cluster.train import train_recipe
from fundusray.command import parse_command
from fundusray.config import Model, Recipe, override
from fundusray.data.prepared.prepared_set import open_set
from fundusray.errors import InputError
from fundusray.jobs.ensembles import ensemble, ensemble_text
from fundusray.metrics import predictions_table
from fundusray.models import build_model
from fundusray.models.bundle import load_bundle, save_bundle
from fundusray.runs.split_of_run import split_of
from tests.runs.few import fake_set, run_manifest


def table(logits, ids=("a", "b", "c"), targets=(0, 1, 1)):
    return predictions_table(list(ids), ["p1", "p1", "p2"], np.array(targets), np.array(logits))


def softmax(row):
    parts = [math.exp(x) for x in row]
    return [part / sum(parts) for part in parts]


def rows_of(found):
    return [[row["logit_0"], row["logit_1"]] for row in found.to_pylist()]


class TestMeanOfPredictions:
    def test_by_hand(self):
        """exp(logits) is the mean of the members' softmax."""
        first, second = [[1.0, 0], [0, 2], [5, 5]], [[0.0, 3], [0, 0], [-1, 1]]
        found = mean_of_predictions([table(first), table(second)])
        for row, one, other in zip(rows_of(found), first, second, strict=True):
            mean = [(p + q) / 2 for p, q in zip(softmax(one), softmax(other), strict=True)]
            assert [math.exp(x) for x in row] == pytest.approx(mean, abs=1e-12)
            assert sum(math.exp(x) for x in row) == pytest.approx(1)

    def test_a_shift_of_a_member_does_not_count(self):
        """Two networks whose logits differ by a constant say the same."""
        first = np.array([[1.0, 0], [0, 2], [5, 5]])
        found = mean_of_predictions([table(first), table(first + 100)])
        assert rows_of(found) == pytest.approx(
            np.array(rows_of(mean_of_predictions([table(first), table(first)])))
        )

    def test_sure_members_stay_finite(self):
        found = mean_of_predictions([table([[2000.0, 0]] * 3), table([[2000.0, 0]] * 3)])
        assert rows_of(found) == pytest.approx(np.array([[0.0, -2000.0]] * 3))

    def test_rows_may_come_in_another_order(self):
        first, second = [[1.0, 0], [0, 2], [5, 5]], [[0.0, 3], [0, 0], [-1, 1]]
        straight = mean_of_predictions([table(first), table(second)])
        turned = mean_of_predictions([table(first), table(second).take([2, 0, 1])])
        assert straight.equals(turned)
        assert straight["image_id"].to_pylist() == ["a", "b", "c"]

    @pytest.mark.parametrize(
        "other, what",
        [
            (table(np.zeros((3, 2)), ids=("a", "b", "x")), "image_id differs"),
            (table(np.zeros((3, 2)), targets=(0, 1, 0)), "target differs"),
            (table(np.zeros((3, 2))).slice(0, 2), r"image_id differs \(3 and 2 rows\)"),
            (table(np.zeros((3, 3))), "other classes"),
        ],
    )
    def test_other_rows_are_refused(self, other, what):
        with pytest.raises(InputError, match=what):
            mean_of_predictions([table(np.zeros((3, 2))), other])

    def test_one_table_has_no_mean(self):
        with pytest.raises(InputError, match="two tables"):
            mean_of_predictions([table(np.zeros((3, 2)))])


def member(manifest="here", **changes):
    recipe = override(Recipe(), changes) if changes else Recipe()
    return SimpleNamespace(info={"manifest": manifest}, recipe=recipe)


def split_file(folder, sides):
    """A split file over `fake_set`; letters t, v, e (test) and n (none), one per image."""
    names = {"t": "train", "v": "val", "e": "test", "n": "none"}
    lines = [f"i{n},{names[side]}\n" for n, side in enumerate(sides)]
    (folder / "split.csv").write_text("".join(["image_id,split\n", *lines]))
    return str(folder / "split.csv")


class TestJudgedRows:
    def test_members_of_one_split_are_judged_on_its_test_side(self, tmp_path):
        place = split_file(tmp_path, "ttvveenn" + "t" * 32)
        same = member(**{"data.split_file": place})
        judged = judged_rows(fake_set(), ["x/bundle", "y/bundle"], [same, same])
        assert judged.sides.tolist() == [*["train"] * 4, *["test"] * 2, *[""] * 2, *["train"] * 32]
        assert not judged.optimistic and judged.notes == []

    def test_without_test_rows_it_is_val_and_flatters(self, tmp_path):
        same = member(**{"data.split_file": split_file(tmp_path, "tt" * 19 + "vv")})
        judged = judged_rows(fake_set(), ["x/bundle", "y/bundle"], [same, same])
        assert np.flatnonzero(judged.sides == "test").tolist() == [38, 39]
        assert judged.optimistic

    def test_of_different_splits_only_what_is_new_to_all(self, tmp_path):
        """Two seeds: a row of one's test side may be the other's training row."""
        for name in "ab":
            (tmp_path / name).mkdir()
        first = member(**{"data.split_file": split_file(tmp_path / "a", "tt" * 17 + "vveeee")})
        second = member(
            **{"data.split_file": split_file(tmp_path / "b", "eevv" + "tt" * 16 + "ttee")}
        )
        judged = judged_rows(fake_set(), ["x/bundle", "y/bundle"], [first, second])
        assert np.flatnonzero(judged.sides == "test").tolist() == [38, 39]

    def test_of_other_photographs_what_its_run_knows_is_left_out(self, tmp_path):
        """By the files' hashes; and with a photograph, its patient's other eye."""
        place = run_manifest(
            tmp_path / "run", {"h0": "train", "h5": "val", "h8": "test", "": "train"}
        )
        judged = judged_rows(fake_set(10), [place, place], [member("there"), member("there")])
        assert judged.sides.tolist() == [
            *["train"] * 2,
            *["test"] * 2,
            *["train"] * 2,
            *["test"] * 4,
        ]

    def test_near_duplicates_of_what_is_known_are_left_out(self, tmp_path):
        data = fake_set(6)
        twins = pa.array(["i1", "", "i1", "", "", ""])
        data.table = data.table.set_column(2, "twin", twins)
        place = run_manifest(tmp_path / "run", {"h0": "train"})
        judged = judged_rows(data, [place, place], [member("there"), member("there")])
        assert judged.sides[2] == "train" and judged.sides[4] == "test"

    def test_a_run_that_cannot_be_asked_is_named(self, tmp_path):
        place = str(tmp_path / "gone" / "bundle")
        judged = judged_rows(fake_set(), [place, place], [member("there"), member("there")])
        assert (judged.sides == "test").all()
        assert len(judged.notes) == 2 and place in judged.notes[0]

    def test_nothing_left_is_refused(self, tmp_path):
        place = run_manifest(tmp_path / "run", {f"h{n}": "train" for n in range(40)})
        with pytest.raises(InputError, match="no row of these photographs is new"):
            judged_rows(fake_set(), [place, place], [member("there"), member("there")])


def trained_nowhere(folder, seed):
    """A bundle that no run made."""
    settings = Model(name="resnet18")
    state = build_model(settings, 5, seed).state_dict()
    recipe = Recipe(name="loose", model=replace(settings, init_from="/gone/bundle"))
    save_bundle(str(folder), state, recipe, list("abcde"), {"manifest": "there"})
    return str(folder)


class TestJob:
    @pytest.mark.parametrize("words", [[], ["a/bundle"], ["a/bundle", "a/bundle"]])
    def test_needs_two_different_bundles(self, words):
        with pytest.raises(InputError, match=r"two different bundles.*jobs/ensemble.py"):
            ensemble(parse_command(words))

    def test_shows_what_it_would_judge_by(self, tmp_path, capsys):
        """The first bundle's recipe; what that once started from need not be there."""
        words = [trained_nowhere(tmp_path / str(seed), seed) for seed in (0, 1)]
        result = ensemble(parse_command([*words, "show=true", f"run.storage={tmp_path}"]))
        assert result["status"] == "shown"
        assert json.loads(capsys.readouterr().out)["model"]["init_from"] == ""

    def test_a_figure_that_is_not_defined_is_said_to_be(self):
        row = {"network": "a", "n": 4, "num_patients": 2, "majority_accuracy": 1.0}
        figures = ("accuracy", "balanced_accuracy", "kappa", "auc_referable")
        networks = [row | {name: None for name in figures}]
        lost = {"network": "a", "against": "b", "metric": "kappa", "difference": None}
        kept = lost | {"metric": "accuracy", "difference": 0.25, "verdict": "undecided", "why": ""}
        found = {"networks": networks, "notes": ["look out"], "optimistic": True}
        text = ensemble_text(found | {"differences": [lost, kept | {"low": -0.5, "high": 0.75}]})
        assert "a - b, kappa: not defined on these images" in text
        assert "a - b, accuracy: +0.250 [-0.500, +0.750] undecided" in text
        assert "note: look out" in text and "optimistic" in text


@pytest.mark.ray
def test_members_and_ensembles_on_the_same_rows(
    unbroken: dict,
    small: Recipe,
    prepared: str,
    storage: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two rates under one split; the mean of weights and of answers beside them, in pairs."""
    split = files.join(unbroken["folder"], "split.csv")
    second = override(small, {"train.lr": 3e-4, "data.split_file": split})
    runs = [unbroken, train_recipe(second, prepared, storage)]
    result = ensemble(parse_command([*(run["bundle"] for run in runs), f"run.storage={storage}"]))
    assert result["status"] == "finished" and result["prepared"] == prepared
    found = files.read_json(files.join(result["folder"], "ensemble.json"))
    names = [row["network"] for row in found["networks"]]
    assert names[2:] == [WEIGHTS, PREDICTIONS] and len(set(names)) == 4
    assert {row["n"] for row in found["networks"]} == {runs[0]["metrics"]["n"]}
    assert len(found["differences"]) == 5 * 4 and found["notes"] == []
    for row, run in zip(found["networks"], runs, strict=False):
        assert row["accuracy"] == run["metrics"]["accuracy"]
    mean = load_bundle(result["bundle"])
    assert mean.info["manifest"] == open_set(prepared).info["manifest"]
    sides = split_of(open_set(prepared), mean.recipe).rows
    assert len(sides["test"]) == runs[0]["metrics"]["n"] and not len(sides["val"])
    members = [files.read_table(row["predictions"]) for row in found["networks"][:2]]
    assert files.read_table(result["predictions"]).equals(mean_of_predictions(members))
    page = Path(result["report"]).read_text()
    assert all(name in page for name in names) and "new to every member" in page
    text = capsys.readouterr().out
    assert "always the majority class" in text and "undecided" in text
