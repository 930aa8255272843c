"""Attacks on a bundle, spread over the cluster: rows to a table, with what was measured of each."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa

from fundusray import files
from fundusray.cluster.class_matching import in_classes_of
from fundusray.cluster.evaluate import CLEAN, named_rows, rows_of_units
from fundusray.cluster.runtime.pool import is_whole
from fundusray.cluster.runtime.units import Unit, unit_key
from fundusray.conditions import AttackCondition, Condition, SegmentationAttack
from fundusray.data.prepared.prepared_set import PreparedSet, open_set
from fundusray.errors import InputError
from fundusray.models.bundle import load_bundle
from fundusray.models.load_weights import weights_digest
from fundusray.training.evaluator import Evaluator

Attack = TypeVar("Attack", AttackCondition, SegmentationAttack)

CHUNK = 4096
"""Forward passes of one unit, about; a unit has LEAST rows at least and MOST at most."""
LEAST, MOST = 16, 256


@dataclass(frozen=True)
class AttackPlan:
    """One attack at its budgets, the smallest first, on what a camera takes."""

    attacks: tuple[AttackCondition, ...] | tuple[SegmentationAttack, ...]
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
    key = attack_key(weights, data, rows, plan)
    location = files.join(folder, f"attacked-{key}.parquet")
    if is_whole(location):
        return location
    parts, units = files.join(folder, f"parts-{key}"), attack_units(weights, rows, plan)
    table = rows_of_units("attacking", _attacked, units, (bundle, weights, prepared), parts, cpus)
    table = table.sort_by([("row", "ascending"), ("eps", "ascending")])
    first, num = plan.attacks[0], table.num_rows
    said = {
        "condition": [str(plan.condition)] * num,
        "attack": [attack_without_eps(first)] * num,
        "norm": [first.budget.norm] * num,
    }
    files.write_table(location, named_rows(data, table, said))
    files.remove(parts)
    return location


def attack_key(weights: str, data: PreparedSet, rows: np.ndarray, plan: AttackPlan) -> str:
    """A hash of all that decides the rows of an attack."""
    how = [weights, files.base_name(data.folder), data.info["manifest"], rows.tolist(), plan.text]
    return files.hash_json(how, 8)


def attack_without_eps(attack: AttackCondition | SegmentationAttack) -> str:
    """The attack's text without its budget, which is a column of its own."""
    name, _, rest = str(attack).partition("(")
    kept = [part for part in rest.rstrip(")").split(", ") if part and not part.startswith("eps=")]
    return f"{name}({', '.join(kept)})" if kept else name


def attack_units(
    weights: str, rows: np.ndarray, plan: AttackPlan, chunk: int = CHUNK, least: int | None = None
) -> list[Unit]:
    """The rows in units of about equal cost; the cut does not depend on the cluster.

    Args:
        chunk: forward passes of one unit, about.
        least: rows of one unit; None: LEAST.
    """
    passes = sum(attack.passes for attack in plan.attacks)
    length = min(MOST, max(LEAST if least is None else least, chunk // max(passes, 1)))
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


def ascending(attacks: Sequence[Attack]) -> tuple[Attack, ...]:
    """The attacks by their budgets, the smallest first.

    Raises:
        InputError: the same budget twice.
    """
    found = tuple(sorted(attacks, key=lambda attack: attack.eps))
    for one, other in itertools.pairwise(found):
        if one.eps == other.eps:
            raise InputError(f"eps is given twice: {one}")
    return found
