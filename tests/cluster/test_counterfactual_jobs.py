"""Counterfactuals of two networks and of their mean, end to end."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fundusray import files
from fundusray.cluster.train import train_recipe
from fundusray.config import Recipe, override
from fundusray.data.prepared.prepared_set import open_set
from fundusray.metrics.counterfactuals import METHODS
from fundusray.models.load_weights import weights_digest
from fundusray.runs.joined_networks import open_network, rows_unseen_by_all

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def other(
    small: Recipe, prepared: str, unbroken: dict, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """A network of another seed under the same split as `unbroken`."""
    split = str(Path(unbroken["bundle"]).parent / "split.csv")
    changes = {"seed": 1, "data.split_seed": 0, "data.split_file": split, "train.epochs": 1}
    folder = tmp_path_factory.mktemp("other")
    return train_recipe(override(small, changes), prepared, str(folder / "run"))["bundle"]


def test_two_networks_and_their_mean(
    run, unbroken: dict, other: str, prepared: str, storage: str
) -> None:
    first = unbroken["bundle"]
    joined = f"{first}+{other}"
    asked = (first, other, joined, "counterfactuals.rows=5", "counterfactuals.steps=3")
    common = ("target=next", f"run.storage={storage}")
    code, result, text = run("counterfactuals.py", *asked, *common)
    assert code == 0, text
    rows = files.read_table(result["rows"])
    names = list(dict.fromkeys(rows["network"].to_pylist()))
    assert set(names) == set(result["h9"]) and 1 <= len(names) <= 3
    chosen = files.read_table(result["photographs"])
    assert 0 < chosen.num_rows <= 5
    # New to both members, and led to the class after their own.
    opened, bundle = open_set(prepared), open_network(joined)
    new = rows_unseen_by_all(opened, [joined], [bundle])
    assert set(chosen["image_id"].to_pylist()) <= set(np.array(opened.image_ids())[new.rows])
    assert (chosen["goal"].to_numpy() == chosen["target"].to_numpy() + 1).all()
    assert set(rows["method"].to_pylist()) == {"", *METHODS}
    known = dict(zip(chosen["image_id"].to_pylist(), chosen["goal"].to_pylist(), strict=True))
    assert {*rows["image_id"].to_pylist()} <= set(known)
    for image_id, goal in zip(*(rows[n].to_pylist() for n in ("image_id", "goal")), strict=True):
        assert known[image_id] == goal
    clean = rows.filter(np.array(rows["kind"].to_pylist()) == "original")
    assert not np.array(clean["reached"].to_pylist()).any()
    for verdict in result["h9"].values():
        assert verdict["verdict"] in ("supported", "not supported", "undecided")
    with Image.open(result["sheet"]) as sheet:
        assert sheet.format == "PNG"
    page = Path(result["report"]).read_text()
    assert "What it takes" in page and "<script" not in page
    stamp = Path(result["rows"]).parent.parent
    made = {p: p.stat().st_mtime_ns for p in stamp.glob("counterfactual-rows-*/*.parquet")}
    assert made

    # The same again makes no counterfactual anew.
    code, again, text = run("counterfactuals.py", *asked, *common)
    assert code == 0 and again["folder"] == result["folder"], text
    assert again["test_rows_looked_at_before"] >= 1
    now = {p: p.stat().st_mtime_ns for p in stamp.glob("counterfactual-rows-*/*.parquet")}
    assert now == made


def test_a_mean_is_evaluated_as_one_network(run, unbroken: dict, other: str, storage: str) -> None:
    """By the pool that evaluates any network; the digest that keys its rows is of both."""
    joined = f"{unbroken['bundle']}+{other}"
    assert weights_digest(joined) not in (weights_digest(unbroken["bundle"]), weights_digest(other))
    asked = (joined, "target=0", "counterfactuals.rows=3", "counterfactuals.steps=2")
    code, result, text = run("counterfactuals.py", *asked, f"run.storage={storage}")
    assert code == 0, text
    rows = files.read_table(result["rows"])
    assert set(rows["goal"].to_pylist()) == {0} and "networks" not in result
