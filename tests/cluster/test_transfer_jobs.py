"""Two networks judge each other's images; one change for all photographs: end to end, and what
cannot be is refused before anything is attacked."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fundusray import files
from fundusray.cluster.train import train_recipe
from fundusray.config import Recipe, override
from fundusray.data.prepared.prepared_set import open_set
from fundusray.errors import InputError
from fundusray.jobs.transferring import require_same_input
from fundusray.jobs.universal import learning_rows
from fundusray.models.bundle import load_bundle
from fundusray.models.load_weights import weights_digest
from fundusray.runs.joined_networks import rows_unseen_by_all
from fundusray.runs.provenance import UnseenRows, unseen_rows

pytestmark = pytest.mark.ray

ROW = ("image_id", "patient_id", "target", "condition", "attack", "norm", "eps", "clean_prediction",
       "prediction", "success", "changed", "linf", "l2")  # fmt: skip
ATTACK = "attack=pgd(eps=2/255|8/255, steps=3)"


def table_of(place: str) -> list[dict[str, str]]:
    with open(place, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def other(
    small: Recipe, prepared: str, unbroken: dict, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """A network that learned from other photographs than `unbroken`: of the same test side, its
    train side is half of the other's, which leaves the rest out."""
    table = open_set(prepared).table
    place = Path(unbroken["bundle"]).parent / "split.csv"
    rows = table_of(str(place))
    train = [row for row in rows if row["split"] == "train"]
    patient = dict(zip(*(table[n].to_pylist() for n in ("image_id", "patient_id")), strict=True))
    known = sorted({patient[row["image_id"]] for row in train})
    gone = set(known[: len(known) // 2])
    kept = [row | ({"split": "none"} if patient[row["image_id"]] in gone else {}) for row in rows]
    folder = tmp_path_factory.mktemp("other")
    with open(folder / "split.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(kept)
    changes = {"seed": 1, "data.split_seed": 0, "data.split_file": str(folder / "split.csv")}
    recipe = override(small, changes | {"train.epochs": 1})
    return train_recipe(recipe, prepared, str(folder / "run"))["bundle"]


def test_two_networks_judge_each_others_images(
    run, unbroken: dict, other: str, prepared: str, storage: str
) -> None:
    first = unbroken["bundle"]
    common = (ATTACK, "attack.rows=8", f"run.storage={storage}")
    code, result, text = run("transfer.py", first, other, *common)
    assert code == 0, text
    rows = table_of(result["table"])
    assert len(rows) == 2 * 2 * 2 and result["n"] == 8 and result["status"] == "finished"
    opened = open_set(prepared)
    places = [first, other]
    new = rows_unseen_by_all(opened, places, [load_bundle(place) for place in places])
    known = set(np.array(opened.image_ids())[new.rows])
    seen = [files.read_table(place) for place in result["rows"]]
    assert len(seen) == 4 and {one.num_rows for one in seen} == {16}
    assert len({tuple(one["image_id"].to_pylist()) for one in seen}) == 1
    assert set(seen[0]["image_id"].to_pylist()) <= known
    # What the second learned from, the first did, too, and half of the other way round.
    shared = {(row["surrogate"], row["target"]): float(row["shared_rows"]) for row in rows}
    names = list(dict.fromkeys(row["surrogate"] for row in rows))
    assert shared[names[1], names[0]] == 1 and shared[names[0], names[0]] == 1
    assert 0 < shared[names[0], names[1]] < 1
    for row in rows:
        assert (row["surrogate_start"], row["surrogate_architecture"]) == (
            "random", "timm/test_resnet",
        )  # fmt: skip
    # The matrix's figures are those of the rows.
    for place, (one, target) in zip(result["rows"], shared, strict=True):
        table = files.read_table(place)
        eps, success, clean, target_class = (
            np.array(table[n].to_pylist()) for n in ("eps", "success", "clean_prediction", "target")
        )
        right = (clean == target_class)[eps == eps.max()]
        (row,) = [
            r for r in rows
            if (r["surrogate"], r["target"], float(r["eps"])) == (one, target, eps.max())
        ]  # fmt: skip
        assert float(row["clean_accuracy"]) == pytest.approx(right.mean())
        assert right.any()
        share = success[eps == eps.max()][right].mean()
        assert float(row["success_rate"]) == pytest.approx(share)
    page = Path(result["report"]).read_text()
    assert "judged by" in page and "<script" not in page and "other trainings" in page
    assert result["differences"] == []  # the two pairs have all in common that there is to ask
    kinds = {(row["fact"], row["kind"]) for row in table_of(result["groups"])}
    assert ("start", "others, or random") in kinds and ("architecture", "the same") in kinds

    # The same again attacks nothing; nor does another order of the networks.
    before = {place: Path(place).stat().st_mtime_ns for place in result["rows"]}
    code, again, text = run("transfer.py", other, first, *common)
    assert code == 0 and sorted(again["rows"]) == sorted(result["rows"]), text
    assert {place: Path(place).stat().st_mtime_ns for place in again["rows"]} == before


def test_one_change_for_all_photographs(run, unbroken: dict, prepared: str, storage: str) -> None:
    asked = ("eps=16/255", "goal=2", "passes=3", "universal.rows=16", f"run.storage={storage}")
    code, result, text = run("universal.py", unbroken["bundle"], *asked)
    assert code == 0, text
    seen = pq.read_table(result["rows"])
    assert set(ROW) <= set(seen.column_names) and "noise_prediction" in seen.column_names
    perturbation = np.load(result["perturbation"])
    assert perturbation.shape == (3, 32, 32) and perturbation.dtype == np.float32
    assert 0 < np.abs(perturbation).max() <= 16 / 255 + 1e-6
    assert (seen["linf"].to_numpy() <= 16 / 255 + 1e-6).all()
    assert (seen["linf"].to_numpy() > 0).all()
    # Judged by the test side, all of it, and by nothing else.
    opened, bundle = open_set(prepared), load_bundle(unbroken["bundle"])
    judged = unseen_rows(opened, unbroken["bundle"], bundle)
    assert judged.side == "test"
    ids = np.array(opened.image_ids())
    assert sorted(seen["image_id"].to_pylist()) == sorted(ids[judged.rows])
    changed = seen["prediction"].to_numpy() != seen["clean_prediction"].to_numpy()
    assert changed.tolist() == seen["changed"].to_pylist()
    assert result["changed_rate"] == pytest.approx(changed.mean())
    assert result["goal_rate"] == pytest.approx((seen["prediction"].to_numpy() == 2).mean())
    assert [row["added"] for row in table_of(result["table"])] == [
        "as they are", "noise", "universal",
    ]  # fmt: skip
    assert Path(result["picture"]).read_bytes().startswith(b"\x89PNG")
    page = Path(result["report"]).read_text()
    assert "noise of the same length" in page and "<script" not in page
    stamp = Path(result["rows"]).stat().st_mtime_ns
    code, again, _ = run("universal.py", unbroken["bundle"], *asked)
    assert code == 0 and again["rows"] == result["rows"]
    assert Path(again["rows"]).stat().st_mtime_ns == stamp


def test_of_other_photographs_no_patient_is_on_both_sides(prepared: str) -> None:
    opened = open_set(prepared)
    every = UnseenRows(np.full(len(opened), "all"), "all", [])
    learn, rows, _ = learning_rows(opened, every, seed=0)
    patients = np.array(opened.patients())
    assert sorted([*learn, *rows]) == list(range(len(opened)))
    assert len(learn) and len(rows) and not set(patients[learn]) & set(patients[rows])


def test_networks_that_cannot_be_shown_one_image_are_refused(unbroken: dict) -> None:
    bundle, digest = load_bundle(unbroken["bundle"]), weights_digest(unbroken["bundle"])
    places = ["one", "another"]
    for changes, told in (
        ({"data.size": 64}, "one has data.size=32, another has data.size=64"),
        ({"data.preprocess": "resize"}, "data.preprocess=graham, another has data.preprocess=resi"),
        ({"data.view": "resize(16)"}, "another has data.view=resize"),
    ):
        second = replace(bundle, recipe=override(bundle.recipe, changes))
        with pytest.raises(InputError, match=told.replace("(", r"\(")):
            require_same_input(places, [bundle, second], [digest, "b"])
    second = replace(bundle, classes=tuple(reversed(bundle.classes)))
    with pytest.raises(InputError, match="one has classes="):
        require_same_input(places, [bundle, second], [digest, "b"])
    with pytest.raises(InputError, match="one and another are the same network"):
        require_same_input(places, [bundle, bundle], [digest, digest])
    require_same_input(places, [bundle, bundle], [digest, "b"])


def test_where_no_photograph_is_new_to_all_that_is_said(
    unbroken: dict, prepared: str, tmp_path: Path
) -> None:
    """The second network was trained on what the first one was tested on."""
    opened, bundle = open_set(prepared), load_bundle(unbroken["bundle"])
    table = opened.table
    sides = unseen_rows(opened, unbroken["bundle"], bundle).sides
    turned = np.where(sides == "test", "train", np.where(sides == "train", "test", sides))
    column = table.schema.get_field_index("split")
    table = table.set_column(column, "split", [turned.tolist()])
    files.write_table(str(tmp_path / "manifest.parquet"), table)
    places = [unbroken["bundle"], str(tmp_path / "bundle")]
    with pytest.raises(InputError, match="none of 48 photographs is new to all of these networks"):
        rows_unseen_by_all(opened, places, [bundle, bundle])
    assert rows_unseen_by_all(opened, places[:1], [bundle]).side == "test"
