"""Both eyes of the judged patients, from a real training's bundle."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fundusray import files
from fundusray.cluster.both_eyes import judge_both_eyes
from fundusray.data.prepared.prepared_set import open_set
from fundusray.errors import InputError
from fundusray.models.bundle import load_bundle
from fundusray.runs.provenance import unseen_rows

pytestmark = pytest.mark.ray


def test_both_eyes_are_judged_beside_one(unbroken: dict, prepared: str, tmp_path: Path) -> None:
    bundle = unbroken["bundle"]
    judged = unseen_rows(open_set(prepared), bundle, load_bundle(bundle))
    found = judge_both_eyes(bundle, judged, prepared, str(tmp_path), "train")
    assert found["fitted_on"] == (judged.sides == "train").sum()
    one, both = found["networks"]
    assert one["n"] == both["n"] == len(judged.rows) >= found["pairs"] > 0
    # The network alone is as its run said.
    assert one["kappa"] == pytest.approx(unbroken["metrics"]["kappa"])
    ids = files.read_table(found["predictions"])["image_id"].to_pylist()
    names = open_set(prepared).image_ids()
    assert sorted(ids) == sorted(names[row] for row in judged.rows)
    stage = files.read_json(found["second_stage"])
    assert len(stage["weights"]) == 10 and np.all(np.diff(stage["thresholds"]) >= 0)
    other = replace(judged, sides=np.full(len(judged.sides), "all"), side="all")
    with pytest.raises(InputError, match=r"fit=train: .* was trained on other photographs"):
        judge_both_eyes(bundle, other, prepared, str(tmp_path), "train")
