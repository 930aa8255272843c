"""Attacks on a bundle, spread over the cluster: rows to a table, with what was measured of each."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from fundusray import files
from fundusray.cluster.class_matching import in_classes_of
from fundusray.cluster.evaluate import CLEAN, opened_evaluator
from fundusray.cluster.runtime.hands import Workers
from fundusray.cluster.runtime.pool import Pool, is_whole
from fundusray.cluster.runtime.start import cluster_resources, cpus_each
from fundusray.cluster.runtime.train_workers import MOST_CPUS
from fundusray.cluster.runtime.units import Unit, unit_key
from fundusray.conditions import AttackCondition, Condition
from fundusray.data.prepared.prepared_set import open_set
from fundusray.errors import InputError
from fundusray.models.bundle import load_bundle
from fundusray.models.load_weights import weights_digest
from fundusray.training.evaluator import Evaluator

CHUNK = 4096
"""Forward passes of one unit, about; a unit has LEAST rows at least and MOST at most."""
LEAST, MOST = 16, 256


@dataclass(frozen=True)
class AttackPlan:
    """One attack at its budgets, the smallest first, on what a camera takes."""

    attacks: tuple[AttackCondition, ...]
    condition: Condition = CLEAN
    """As which photographs are attacked: clean, or damaged."""
    surrogate: str = ""
    """A bundle whose gradients are followed in place of the attacked one's."""

    @property
    def text(self) -> str:
        """All that decides what becomes of a row, for keys."""
        parts = [*map(str, self.attacks), str(self.condition)]
        return " ".join(parts + ([weights_digest(self.surrogate)] if self.surrogate else []))


def attack_bundle(
    bundle: str, prepared: str, rows: np.ndarray, plan: AttackPlan, folder: str, cpus: int = 0
) -> str:
    """Where in `folder` the rows of an attack are, a row for each image and budget; they are made
    unless they are there and whole. Broken off, the same call goes on with the units left.

    Columns: image_id, patient_id, target, condition, attack, norm, eps, clean_prediction,
    prediction, success, changed, linf, l2, queries, stage; lengths where pixels are in [0, 1].

    Raises:
        InputError: the set has classes that the bundle does not know, or no row is left.
    """
    if not len(rows):
        raise InputError(f"no row of {prepared} is there to be attacked")
    weights, data = weights_digest(bundle), open_set(prepared)
    opened = load_bundle(bundle)
    data = in_classes_of(data, bundle, opened)
    how = [weights, files.base_name(data.folder), data.info["manifest"], rows.tolist(), plan.text]
    key = files.hash_json(how, 8)
    location = files.join(folder, f"attacked-{key}.parquet")
    if is_whole(location):
        return location
    parts = files.join(folder, f"parts-{key}")
    gpu = cluster_resources()["GPU"] > 0
    units = attack_units(weights, rows, plan)
    threads = cpus or cpus_each(len(units), MOST_CPUS, float(gpu))
    holding = partial(opened_evaluator, bundle, weights, prepared, threads, gpu)
    with Pool("attacking", _attacked, Workers(holding, threads, float(gpu)), parts) as pool:
        tables = [files.read_table(place) for _, place in pool.results(units)]
    table = pa.concat_tables(tables).sort_by([("row", "ascending"), ("eps", "ascending")])
    ids, patients, targets = data.image_ids(), data.patients(), data.targets()
    which = table["row"].to_numpy()
    first = plan.attacks[0]
    named = {
        "image_id": [ids[row] for row in which],
        "patient_id": [patients[row] for row in which],
        "target": pa.array(targets[which], pa.int32()),
        "condition": [str(plan.condition)] * len(which),
        "attack": [_without_eps(first)] * len(which),
        "norm": [first.budget.norm] * len(which),
    }
    measured = {name: table[name] for name in table.column_names if name != "row"}
    files.write_table(location, pa.table(named | measured))
    files.remove(parts)
    return location


def _without_eps(attack: AttackCondition) -> str:
    """The attack's text without its budget, which is a column of its own."""
    name, _, rest = str(attack).partition("(")
    kept = [part for part in rest.rstrip(")").split(", ") if part and not part.startswith("eps=")]
    return f"{name}({', '.join(kept)})" if kept else name


def attack_units(weights: str, rows: np.ndarray, plan: AttackPlan) -> list[Unit]:
    """The rows in units of about equal cost; the cut does not depend on the cluster."""
    passes = sum(attack.passes for attack in plan.attacks)
    length = min(MOST, max(LEAST, CHUNK // max(passes, 1)))
    chunks = [rows[start : start + length] for start in range(0, len(rows), length)]
    return [
        Unit(unit_key(weights, chunk.tolist(), plan.text), (plan, chunk), len(chunk))
        for chunk in chunks
    ]


def _attacked(evaluator: Evaluator, plan: AttackPlan, rows: np.ndarray) -> pa.Table:
    """Of a unit's rows at every budget what was measured."""
    surrogate = load_bundle(plan.surrogate) if plan.surrogate else None
    columns = evaluator.attacked(rows, plan.attacks, plan.condition, surrogate)
    return pa.table({name: pa.array(values) for name, values in columns.items()})


def attacked_sample(rows: np.ndarray, num: int, seed: int) -> np.ndarray:
    """So many of some rows, sorted, chosen by a seed; all of them where num is 0 or there are no
    more."""
    if not 0 < num < len(rows):
        return rows
    order = np.random.default_rng(seed).permutation(len(rows))[:num]
    return np.sort(rows[order])


def ascending(attacks: Sequence[AttackCondition]) -> tuple[AttackCondition, ...]:
    """The attacks by their budgets, the smallest first.

    Raises:
        InputError: the same budget twice.
    """
    found = tuple(sorted(attacks, key=lambda attack: attack.budget.eps))
    for one, other in itertools.pairwise(found):
        if one.budget.eps == other.budget.eps:
            raise InputError(f"eps is given twice: {one}")
    return found
