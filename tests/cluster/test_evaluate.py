"""A bundle gives the figures its training reported, on one task or several."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from fundusray.cluster import prepare
from fundusray.cluster.evaluate import evaluate, predict_rows
from fundusray.config import Recipe, override
from fundusray.data.shards import open_set

pytestmark = pytest.mark.ray


def test_a_bundle_repeats_its_own_test_figures(
    unbroken: dict, small: Recipe, prepared: str, tmp_path
) -> None:
    again = evaluate(unbroken["bundle"], small, prepared, str(tmp_path))
    assert again["reported_split"] == "test"
    ours, theirs = pq.read_table(again["predictions"]), pq.read_table(unbroken["predictions"])
    assert ours["image_id"] == theirs["image_id"]
    for k in range(5):
        left, right = ours[f"logit_{k}"].to_numpy(), theirs[f"logit_{k}"].to_numpy()
        np.testing.assert_allclose(left, right, atol=1e-4)


def test_other_photographs_are_judged_whole(
    unbroken: dict, small: Recipe, storage: str, tmp_path
) -> None:
    other = override(small, {"seed": 5})
    folder = prepare.prepare(other, storage)
    result = evaluate(unbroken["bundle"], other, folder, str(tmp_path))
    assert result["reported_split"] == "all"
    assert result["metrics"]["n"] == len(open_set(folder).table) == 48


def test_rows_do_not_depend_on_their_company(unbroken: dict, prepared: str) -> None:
    rows = np.arange(12)
    whole = predict_rows(unbroken["bundle"], prepared, rows, 1, False)
    halves = [
        predict_rows(unbroken["bundle"], prepared, part, 1, False) for part in (rows[:5], rows[5:])
    ]
    assert whole[0].tolist() == rows.tolist()
    np.testing.assert_allclose(np.concatenate([h[1] for h in halves]), whole[1], atol=1e-4)
