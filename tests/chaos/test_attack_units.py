"""Workers that are killed while they attack a network: no row is lost, and none is another one."""

import os
import random
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

from fundusray import files
from fundusray.cluster import prepare
from fundusray.cluster.attack import AttackPlan, _attacked
from fundusray.cluster.evaluate import opened_evaluator, rows_of_units
from fundusray.cluster.runtime.units import Unit, unit_key
from fundusray.conditions import parse_attacks
from fundusray.config import Recipe, override
from fundusray.data.prepared.prepared_set import open_set
from fundusray.models import build_model
from fundusray.models.bundle import save_bundle
from fundusray.models.load_weights import weights_digest
from tests.chaos.harness import recipe
from tests.chaos.test_pool import KILLS, pool_workers

pytestmark = [pytest.mark.ray, pytest.mark.chaos]
UNITS = 1000


def saved(folder: str, small: Recipe, classes: tuple[str, ...]) -> str:
    """A network of the usual kind that nobody trained."""
    save_bundle(folder, build_model(small.model, 5, 0).state_dict(), small, classes, {})
    return folder


def attack_units(weights: str, rows: int) -> list[Unit]:
    """Of each unit one photograph, under an attack with a seed of its own."""
    units = []
    for number in range(UNITS):
        text = f"pgd(eps=4/255, steps=2, seed={number // rows})"
        plan, chunk = AttackPlan(tuple(parse_attacks(text))), np.array([number % rows])
        units.append(Unit(unit_key(weights, chunk.tolist(), plan.text), (plan, chunk), 1))
    return units


def kill_on_the_way(folder: Path, over: threading.Event, killed: list[int]) -> None:
    """Kills a random worker whenever so many more units are done that it comes to KILLS."""
    draw = random.Random(0)
    while len(killed) < KILLS and not over.wait(0.05):
        done = len(list(folder.glob("*.parquet")))
        alive = [pid for pid in pool_workers() if pid not in killed]
        if alive and done >= (len(killed) + 1) * UNITS // (KILLS + 2):
            killed.append(draw.choice(alive))
            os.kill(killed[-1], signal.SIGKILL)


def test_killed_workers_lose_and_change_no_row_of_an_attack(cluster: None, tmp_path: Path) -> None:
    small = override(recipe(), {"model.name": "timm/test_resnet", "data.size": 32})
    prepared = prepare.prepare_set(small, str(tmp_path))
    bundle = saved(str(tmp_path / "bundle"), small, open_set(prepared).classes)
    over, killed, parts = threading.Event(), list[int](), tmp_path / "many"
    parts.mkdir()
    thread = threading.Thread(target=kill_on_the_way, args=(parts, over, killed), daemon=True)
    thread.start()
    weights = weights_digest(bundle)
    units = attack_units(weights, len(open_set(prepared)))
    try:
        place = (bundle, weights, prepared)
        rows_of_units("attacking", _attacked, units, place, str(parts), cpus=1)
    finally:
        over.set()
        thread.join()
    assert len(killed) == KILLS, "they were killed while they worked"
    one = opened_evaluator(*place, threads=1, gpu=False)
    for unit in units:
        assert files.read_table(str(parts / f"{unit.key}.parquet")).equals(
            _attacked(one, *unit.arguments)
        ), unit.key
    assert len(list(parts.iterdir())) == UNITS, "nothing half written is left"
