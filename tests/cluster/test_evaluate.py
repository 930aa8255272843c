"""A bundle gives the figures its training reported, on one task or several; predictions are of the
very weights, set and rows."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from ray.exceptions import RayTaskError

from fundusray import files
from fundusray.cluster import evaluate as judging
from fundusray.cluster import prepare
from fundusray.cluster.evaluate import evaluate, predict_rows, predicted
from fundusray.cluster.unseen import Unseen, unseen
from fundusray.config import Model, Recipe, override
from fundusray.data.shards import open_set
from fundusray.errors import InputError
from fundusray.models import build_model
from fundusray.models.bundle import load_bundle, save_bundle
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

    def spread(bundle: str, prepared: str, rows: np.ndarray) -> tuple[np.ndarray, Columns]:
        calls.append(rows.tolist())
        return rows, with_logits({}, np.full((len(rows), 5), len(calls), float))

    names = [f"i{n}" for n in range(9)]
    fake = SimpleNamespace(
        info={"manifest": "here"},
        classes=CLASSES,
        ordered=True,
        image_ids=lambda: names,
        patients=lambda: names,
        targets=lambda: np.arange(9) % 5,
    )
    monkeypatch.setattr(judging, "_spread", spread)
    monkeypatch.setattr(judging, "open_set", lambda folder: fake)
    return calls


def test_predictions_are_of_these_weights_this_set_and_these_rows(asked, tmp_path) -> None:
    """A bundle that its training goes on to improve keeps its place; so does a set its name."""
    folder, bundle = str(tmp_path), saved(str(tmp_path / "bundle"), 0)
    few, more = np.arange(3), np.arange(5)
    first = predicted(bundle, "prepared/a-32-1", few, folder)
    assert predicted(bundle, "prepared/a-32-1", few, folder) == first and len(asked) == 1
    assert files.read_table(first)["logit_0"].to_pylist() == [1.0] * 3
    others = [
        predicted(bundle, "prepared/a-32-1", more, folder),
        predicted(bundle, "prepared/a-64-2", few, folder),
        predicted(saved(bundle, 1), "prepared/a-32-1", few, folder),
    ]
    assert len({first, *others}) == len(asked) == 4
    assert files.read_table(others[2])["logit_0"].to_pylist() == [4.0] * 3


def test_damaged_predictions_are_made_again(asked, tmp_path, capsys) -> None:
    bundle, few = saved(str(tmp_path / "bundle"), 0), np.arange(3)
    place = predicted(bundle, "prepared/a", few, str(tmp_path))
    content = (tmp_path / files.base_name(place)).read_bytes()
    for damage in (content[:99] + bytes([content[99] ^ 1]) + content[100:], b""):
        files.write_bytes(place, damage)
        assert predicted(bundle, "prepared/a", few, str(tmp_path)) == place
        assert files.read_table(place).num_rows == 3
        assert f"{place}: " in (said := capsys.readouterr().err) and "made again" in said
    assert len(asked) == 3


def test_a_bundle_that_changes_meanwhile_is_not_mixed_up(asked, tmp_path, monkeypatch) -> None:
    bundle = saved(str(tmp_path / "bundle"), 0)
    spread = judging._spread

    def overtaken(place: str, prepared: str, rows: np.ndarray) -> tuple[np.ndarray, Columns]:
        saved(place, 1)
        return spread(place, prepared, rows)

    monkeypatch.setattr(judging, "_spread", overtaken)
    with pytest.raises(InputError, match="written anew while it predicted"):
        predicted(bundle, "prepared/a", np.arange(3), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_no_new_row_is_refused(tmp_path) -> None:
    known = Unseen(np.array(["known"] * 4), "all", [])
    with pytest.raises(InputError, match="none of the 4 photographs is new to x/bundle"):
        evaluate("x/bundle", known, "prepared/a", str(tmp_path))


@pytest.mark.ray
def test_a_bundle_repeats_its_own_test_figures(
    unbroken: dict, small: Recipe, prepared: str, tmp_path
) -> None:
    place = unbroken["bundle"]
    own = unseen(open_set(prepared), place, load_bundle(place))
    again = evaluate(place, own, prepared, str(tmp_path))
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
    other = override(small, {"seed": 5})
    folder = prepare.prepare(other, storage)
    place, opened = unbroken["bundle"], open_set(folder)
    whole = unseen(opened, place, load_bundle(place))
    result = evaluate(place, whole, folder, str(tmp_path))
    assert result["reported_split"] == "all"
    assert result["metrics"]["n"] == len(opened.table) == 48


@pytest.mark.ray
def test_photographs_among_others_that_were_trained_on_are_left_out(
    unbroken: dict, prepared: str, tmp_path
) -> None:
    """As if ten had been added to the folder: another manifest, most photographs the same."""
    place, opened = unbroken["bundle"], open_set(prepared)
    added = replace(opened, info=opened.info | {"manifest": "another"})
    found = unseen(added, place, load_bundle(place))
    own = unseen(opened, place, load_bundle(place))
    assert found.side == "all" and found.rows.tolist() == own.rows.tolist()
    assert evaluate(place, found, prepared, str(tmp_path))["metrics"]["n"] == len(own.rows)


@pytest.mark.ray
def test_what_a_task_refuses_is_told_without_its_trace(prepared: str) -> None:
    with pytest.raises(InputError, match="no bundle at /no/such") as refused:
        judging._spread("/no/such/bundle", prepared, np.arange(3))
    assert not isinstance(refused.value, RayTaskError)


@pytest.mark.ray
def test_rows_do_not_depend_on_their_company(unbroken: dict, prepared: str) -> None:
    rows = np.arange(12)
    whole = predict_rows(unbroken["bundle"], prepared, rows, 1, False)
    halves = [
        predict_rows(unbroken["bundle"], prepared, part, 1, False) for part in (rows[:5], rows[5:])
    ]
    assert whole[0].tolist() == rows.tolist()
    joined = np.concatenate([logits_of(half[1]) for half in halves])
    np.testing.assert_allclose(joined, logits_of(whole[1]), atol=1e-4)
    assert whole[1]["target"].tolist() == open_set(prepared).targets()[rows].tolist()
