"""A bundle gives the figures its training reported, by one worker or several; predictions are of
the very weights, set, rows and condition."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from fundusray import files
from fundusray.cluster import evaluate as judging
from fundusray.cluster import prepare
from fundusray.cluster.evaluate import evaluate_bundle, opened_evaluator, predictions_location
from fundusray.conditions import Clean, Condition, parse_condition
from fundusray.config import Model, Recipe, override
from fundusray.data.prepared.prepared_set import open_set
from fundusray.errors import InputError
from fundusray.models import build_model
from fundusray.models.bundle import load_bundle, save_bundle
from fundusray.models.load_weights import weights_digest
from fundusray.runs.provenance import UnseenRows, unseen_rows
from fundusray.tasks import Columns
from fundusray.tasks.classification import logits_of, with_logits

CLASSES = tuple("abcde")


def saved(folder: str, seed: int) -> str:
    """A bundle that no run made."""
    recipe = Recipe(model=Model(name="resnet18"))
    save_bundle(folder, build_model(recipe.model, 5, seed).state_dict(), recipe, CLASSES, {})
    return folder


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The rows of every spreading over the cluster, which is not made."""
    calls: list[list[int]] = []

    def spread(
        bundle: str, prepared: str, rows: np.ndarray, condition: Condition, parts: str, cpus: int
    ) -> tuple[np.ndarray, Columns]:
        calls.append(rows.tolist())
        return rows, with_logits({}, np.full((len(rows), 5), len(calls), float))

    names = [f"i{n}" for n in range(9)]
    fake = lambda folder: SimpleNamespace(  # noqa: E731
        folder=folder,
        info={"manifest": "here"},
        classes=CLASSES,
        ordered=True,
        image_ids=lambda: names,
        patients=lambda: names,
        targets=lambda: np.arange(9) % 5,
    )
    monkeypatch.setattr(judging, "_spread", spread)
    monkeypatch.setattr(judging, "open_set", fake)
    return calls


def test_predictions_are_of_these_weights_set_rows_and_condition(asked, tmp_path) -> None:
    """A bundle that its training goes on to improve keeps its place; so does a set its name."""
    folder, bundle = str(tmp_path), saved(str(tmp_path / "bundle"), 0)
    few, more = np.arange(3), np.arange(5)
    first = predictions_location(bundle, "prepared/a-32-1", few, folder)
    assert predictions_location(bundle, "prepared/a-32-1", few, folder) == first and len(asked) == 1
    assert files.read_table(first)["logit_0"].to_pylist() == [1.0] * 3
    others = [
        predictions_location(bundle, "prepared/a-32-1", more, folder),
        predictions_location(bundle, "prepared/a-64-2", few, folder),
        predictions_location(
            bundle, "prepared/a-32-1", few, folder, parse_condition("fgsm(eps=2/255)")
        ),
        predictions_location(saved(bundle, 1), "prepared/a-32-1", few, folder),
    ]
    assert len({first, *others}) == len(asked) == 5
    assert files.read_table(others[3])["logit_0"].to_pylist() == [5.0] * 3
    said = [files.read_table(place)["condition"][0].as_py() for place in (first, others[2])]
    assert said == ["clean", "fgsm(eps=2/255)"]


def test_damaged_predictions_are_made_again(asked, tmp_path, capsys) -> None:
    bundle, few = saved(str(tmp_path / "bundle"), 0), np.arange(3)
    place = predictions_location(bundle, "prepared/a", few, str(tmp_path))
    content = (tmp_path / files.base_name(place)).read_bytes()
    for damage in (content[:99] + bytes([content[99] ^ 1]) + content[100:], b""):
        files.write_bytes(place, damage)
        assert predictions_location(bundle, "prepared/a", few, str(tmp_path)) == place
        assert files.read_table(place).num_rows == 3
        assert f"{place}: " in (said := capsys.readouterr().err) and "made again" in said
    assert len(asked) == 3


def test_a_bundle_that_changes_meanwhile_is_not_mixed_up(tmp_path) -> None:
    """Whoever opens it later, be it for the last unit, opens the weights that were asked for."""
    bundle = saved(str(tmp_path / "bundle"), 0)
    weights = weights_digest(bundle)
    saved(bundle, 1)
    with pytest.raises(InputError, match="written anew while it predicted"):
        opened_evaluator(bundle, weights, "prepared/a", 1, False)


def test_no_new_row_is_refused(tmp_path) -> None:
    known = UnseenRows(np.array(["known"] * 4), "all", [])
    with pytest.raises(InputError, match="none of the 4 photographs is new to x/bundle"):
        evaluate_bundle("x/bundle", known, "prepared/a", str(tmp_path))


@pytest.mark.ray
def test_a_bundle_repeats_its_own_test_figures(
    unbroken: dict, small: Recipe, prepared: str, tmp_path
) -> None:
    place = unbroken["bundle"]
    own = unseen_rows(open_set(prepared), place, load_bundle(place))
    again = evaluate_bundle(place, own, prepared, str(tmp_path))
    assert again["reported_split"] == "test"
    ours, theirs = pq.read_table(again["predictions"]), pq.read_table(unbroken["predictions"])
    assert ours["image_id"] == theirs["image_id"]
    for k in range(5):
        left, right = ours[f"logit_{k}"].to_numpy(), theirs[f"logit_{k}"].to_numpy()
        np.testing.assert_allclose(left, right, atol=1e-4)


@pytest.mark.ray
def test_other_photographs_are_judged_whole(
    unbroken: dict, small: Recipe, storage: str, tmp_path
) -> None:
    other = override(small, {"seed": 5, "data.num_images": 20})
    folder = prepare.prepare_set(other, storage)
    place, opened = unbroken["bundle"], open_set(folder)
    whole = unseen_rows(opened, place, load_bundle(place))
    result = evaluate_bundle(place, whole, folder, str(tmp_path))
    assert result["reported_split"] == "all"
    assert result["metrics"]["n"] == len(opened.table) == 20


@pytest.mark.ray
def test_a_worker_has_the_right_answers_in_the_classes_of_the_network(
    unbroken: dict, small: Recipe, prepared: str, storage: str
) -> None:
    """An attack has to know what is wrong; here classes stand in another order."""
    place, own = unbroken["bundle"], open_set(prepared)
    turned = override(small, {"data.classes": tuple(reversed(own.classes))})
    folder = prepare.prepare_set(turned, storage)
    assert open_set(folder).targets().tolist() != own.targets().tolist()
    evaluator = opened_evaluator(place, weights_digest(place), folder, 1, False)
    assert evaluator.prepared.targets().tolist() == own.targets().tolist()


@pytest.mark.ray
def test_photographs_among_others_that_were_trained_on_are_left_out(
    unbroken: dict, prepared: str, tmp_path
) -> None:
    """As if ten had been added to the folder: another manifest, most photographs the same."""
    place, opened = unbroken["bundle"], open_set(prepared)
    added = replace(opened, info=opened.info | {"manifest": "another"})
    found = unseen_rows(added, place, load_bundle(place))
    own = unseen_rows(opened, place, load_bundle(place))
    assert found.side == "all" and found.rows.tolist() == own.rows.tolist()
    assert evaluate_bundle(place, found, prepared, str(tmp_path))["metrics"]["n"] == len(own.rows)


def columns(place: str) -> dict[str, np.ndarray]:
    table = files.read_table(place)
    return {name: table[name].to_numpy() for name in table.column_names}


@pytest.mark.ray
def test_under_an_attack_rows_say_how_far_and_whether(
    unbroken: dict, prepared: str, tmp_path
) -> None:
    place, rows = unbroken["bundle"], np.arange(36)
    attack = parse_condition("pgd(eps=64/255, steps=4)")
    attacked = columns(predictions_location(place, prepared, rows, str(tmp_path), attack))
    assert set(attacked["condition"]) == {"pgd(eps=64/255, steps=4)"}
    clean = columns(predictions_location(place, prepared, rows, str(tmp_path)))
    assert "linf" not in clean
    before, after = (
        np.stack([c[f"logit_{k}"] for k in range(5)], axis=1).argmax(axis=1)
        for c in (clean, attacked)
    )
    assert attacked["clean_prediction"].tolist() == before.tolist()
    right = before == attacked["target"]
    assert attacked["success"].tolist() == (right & (after != attacked["target"])).tolist()
    assert (attacked["linf"][right] > 0).all() and (attacked["linf"][~right] == 0).all()
    assert attacked["linf"].max() <= 64 / 255 + 1e-6 and (attacked["l2"][right] > 0).all()


@pytest.mark.ray
def test_an_evaluation_goes_on_with_the_units_that_are_left(
    unbroken: dict, prepared: str, tmp_path, capfd: pytest.CaptureFixture
) -> None:
    """Two units of an attack's rows; as a kill leaves it, the first one is done and whole."""
    bundle, rows = unbroken["bundle"], np.arange(40)
    attack = parse_condition("pgd(eps=4/255, steps=4)")
    whole = predictions_location(bundle, prepared, rows, str(tmp_path / "whole"), attack)
    folder = tmp_path / "broken"
    key = files.base_name(whole).removeprefix("predictions-").removesuffix(".parquet")
    evaluator = opened_evaluator(bundle, weights_digest(bundle), prepared, 1, False)
    part = judging._part(evaluator, attack, rows[: judging.CHUNK // attack.passes])
    unit = judging.units_of(weights_digest(bundle), rows, attack)[0]
    files.write_table(str(folder / f"parts-{key}" / f"{unit.key}.parquet"), part)
    capfd.readouterr()
    again = predictions_location(bundle, prepared, rows, str(folder), attack)
    assert f"predicting: {len(rows) - unit.rows}/" in capfd.readouterr().err
    assert [path.name for path in folder.iterdir()] == [files.base_name(whole)]
    ours, theirs = columns(again), columns(whole)
    assert ours["image_id"].tolist() == theirs["image_id"].tolist()
    assert ours["success"].tolist() == theirs["success"].tolist()


@pytest.mark.ray
def test_rows_do_not_depend_on_their_company(unbroken: dict, prepared: str) -> None:
    rows = np.arange(12)
    bundle = unbroken["bundle"]
    evaluator = opened_evaluator(bundle, weights_digest(bundle), prepared, 1, False)
    whole = evaluator.predictions(rows, Clean())
    halves = [evaluator.predictions(part, Clean()) for part in (rows[:5], rows[5:])]
    assert whole[0].tolist() == rows.tolist()
    joined = np.concatenate([logits_of(half[1]) for half in halves])
    np.testing.assert_allclose(joined, logits_of(whole[1]), atol=1e-4)
    assert whole[1]["target"].tolist() == open_set(prepared).targets()[rows].tolist()
