"""Workers that are killed while they explain photographs: no map is lost, and none is another."""

import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from fundusray import files
from fundusray.cluster import prepare
from fundusray.cluster.evaluate import opened_evaluator, rows_of_units
from fundusray.cluster.explain import ExplainPlan, _explained
from fundusray.cluster.runtime.units import Unit, unit_key
from fundusray.config import override
from fundusray.data.prepared.prepared_set import open_set
from fundusray.models.load_weights import weights_digest
from fundusray.saliency import parse_methods
from tests.chaos.harness import recipe
from tests.chaos.test_attack_units import UNITS, kill_on_the_way, saved
from tests.chaos.test_pool import KILLS

pytestmark = [pytest.mark.ray, pytest.mark.chaos]


def explain_units(weights: str, rows: int) -> list[Unit]:
    """Of each unit one photograph, under a map with keywords of its own."""
    units = []
    for number in range(UNITS):
        text = f"smooth_grad(draws={1 + number // rows}), grad_cam"
        plan, chunk = ExplainPlan(parse_methods(text)), np.array([number % rows])
        units.append(Unit(unit_key(weights, chunk.tolist(), plan.text), (plan, chunk), 1))
    return units


def test_killed_workers_lose_and_change_no_map(cluster: None, tmp_path: Path) -> None:
    small = override(recipe(), {"model.name": "timm/test_resnet", "data.size": 32})
    prepared = prepare.prepare_set(small, str(tmp_path))
    bundle = saved(str(tmp_path / "bundle"), small, open_set(prepared).classes)
    over, killed, parts = threading.Event(), list[int](), tmp_path / "many"
    parts.mkdir()
    thread = threading.Thread(target=kill_on_the_way, args=(parts, over, killed), daemon=True)
    thread.start()
    weights = weights_digest(bundle)
    units = explain_units(weights, len(open_set(prepared)))
    place = (bundle, weights, prepared)
    try:
        work = partial(_explained, str(tmp_path / "two"), "maps")
        rows_of_units("explaining", work, units, place, str(parts), cpus=1)
    finally:
        over.set()
        thread.join()
    assert len(killed) == KILLS, "they were killed while they worked"
    one = opened_evaluator(*place, threads=1, gpu=False)
    for unit in units:
        again = _explained(str(tmp_path / "one"), "maps", one, *unit.arguments)
        made = files.read_table(str(parts / f"{unit.key}.parquet"))
        assert made.drop_columns(["seconds"]).equals(again.drop_columns(["seconds"])), unit.key
        for place_of_map in again["map"].to_pylist():
            pair = [(tmp_path / side / place_of_map).read_bytes() for side in ("one", "two")]
            assert pair[0] == pair[1], place_of_map
    assert len(list(parts.iterdir())) == UNITS, "nothing half written is left"
