"""A universal perturbation of a bundle, learned by one worker and judged over the cluster."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from fundusray import files
from fundusray.attacks import Budget
from fundusray.attacks.universal import UniversalPerturbation
from fundusray.cluster.class_matching import in_classes_of
from fundusray.cluster.evaluate import CLEAN, named_rows, rows_of_units
from fundusray.cluster.runtime.pool import is_whole
from fundusray.cluster.runtime.units import Unit, unit_key
from fundusray.conditions.attack_keywords import length_text
from fundusray.data.prepared.prepared_set import PreparedSet, open_set
from fundusray.errors import InputError
from fundusray.models.bundle import load_bundle
from fundusray.models.load_weights import weights_digest
from fundusray.training.evaluator import Evaluator

CHUNK = 128
"""Judged rows of one unit; each costs four passes."""


@dataclass(frozen=True)
class UniversalPlan:
    """What is learned how from which rows."""

    budget: Budget
    """Its steps are passes over the rows."""
    rows: tuple[int, ...]
    """It is learned from, in this order."""
    goal: int | None = None
    """The class that all images shall be taken for; None: any but the network's own answer."""
    seed: int = 0

    @property
    def name(self) -> str:
        """The attack without its budget, which is a column of its own."""
        goal = "" if self.goal is None else f", goal={self.goal}"
        return f"universal(passes={self.budget.steps}{goal}, seed={self.seed})"

    @property
    def text(self) -> str:
        """All that decides the perturbation of a network, for keys."""
        norm = self.budget.norm
        eps, step = (length_text(each, norm) for each in (self.budget.eps, self.budget.step))
        return f"{self.name} eps={eps} norm={norm} step={step} {files.hash_json(self.rows, 16)}"


def learned_location(
    bundle: str, prepared: str, plan: UniversalPlan, folder: str, cpus: int = 0
) -> str:
    """Where in `folder` the perturbation is; it is learned unless it is there and whole. One batch
    follows from the one before, so one worker learns it.

    Raises:
        InputError: no row to learn from, or a goal that the network does not know.
    """
    if not plan.rows:
        raise InputError(f"no row of {prepared} is there to learn a perturbation from")
    weights, key = weights_digest(bundle), _key(bundle, prepared, plan)
    location = files.join(folder, f"universal-{key}.parquet")
    if is_whole(location):
        return location
    parts = files.join(folder, f"learning-{key}")
    units = [Unit(unit_key(weights, plan.text), (plan,), len(plan.rows))]
    table = rows_of_units("learning", _learned, units, (bundle, weights, prepared), parts, cpus)
    files.write_table(location, table)
    files.remove(parts)
    return location


def read_perturbation(location: str) -> UniversalPerturbation:
    """What `learned_location` wrote."""
    table = files.read_table(location)
    size = table["size"][0].as_py()
    values = np.array(table["perturbation"][0].values.to_numpy(), np.float32)
    rows = np.array(table["rows"][0].values.to_numpy(), np.int64)
    return UniversalPerturbation(
        torch.from_numpy(values).view(-1, size, size), torch.from_numpy(rows)
    )


def universal_location(
    bundle: str,
    prepared: str,
    rows: np.ndarray,
    plan: UniversalPlan,
    folder: str,
    cpus: int = 0,
) -> str:
    """Where in `folder` it stands what a learned perturbation makes of some rows; it is found out
    unless it is there and whole. Broken off, the same call goes on with the units left.

    Columns: image_id, patient_id, target, condition, attack, norm, eps, clean_prediction,
    prediction, success, changed, linf, l2, and noise_prediction, the answer where noise of the
    same length is added; lengths where pixels are in [0, 1].

    Raises:
        InputError: as `learned_location`, no row to judge by, or one that was learned from.
    """
    if not len(rows):
        raise InputError(f"no row of {prepared} is there to judge a perturbation by")
    learned = learned_location(bundle, prepared, plan, folder, cpus)
    weights, data = weights_digest(bundle), open_set(prepared)
    data = in_classes_of(data, bundle, load_bundle(bundle))
    made = files.sha256_file(learned)[:16]
    key = files.hash_json([_key(bundle, prepared, plan), made, rows.tolist()], 8)
    location = files.join(folder, f"attacked-{key}.parquet")
    if is_whole(location):
        return location
    parts = files.join(folder, f"parts-{key}")
    units = [
        Unit(unit_key(weights, made, chunk.tolist()), (plan, learned, chunk), len(chunk))
        for chunk in (rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK))
    ]
    table = rows_of_units("judging", _judged, units, (bundle, weights, prepared), parts, cpus)
    num, norm = table.num_rows, plan.budget.norm
    said = {"condition": [str(CLEAN)] * num, "attack": [plan.name] * num, "norm": [norm] * num}
    table = _with_success(table.sort_by("row"), data, plan.budget.eps)
    files.write_table(location, named_rows(data, table, said))
    files.remove(parts)
    return location


def _with_success(rows: pa.Table, data: PreparedSet, eps: float) -> pa.Table:
    """Rows with their budget and with what counts as success: the answer was right and is wrong;
    `changed`: it is another one."""
    target = data.targets()[rows["row"].to_numpy()]
    clean, now = (rows[name].to_numpy() for name in ("clean_prediction", "prediction"))
    columns = {
        "eps": np.full(len(target), eps),
        "success": (clean == target) & (now != target),
        "changed": now != clean,
    }
    for name, values in columns.items():
        rows = rows.append_column(name, pa.array(values))
    return rows


def _key(bundle: str, prepared: str, plan: UniversalPlan) -> str:
    return files.hash_json([weights_digest(bundle), files.base_name(prepared), plan.text], 8)


def _learned(evaluator: Evaluator, plan: UniversalPlan) -> pa.Table:
    """One row: the perturbation's numbers, the side of its images, and which rows it is of."""
    learned = evaluator.universal(
        np.array(plan.rows, np.int64), plan.budget, plan.goal, plan.seed, CLEAN
    )
    return pa.table(
        {
            "perturbation": [learned.perturbation.flatten().numpy()],
            "size": [learned.perturbation.shape[-1]],
            "rows": [learned.row.numpy()],
        }
    )


def _judged(evaluator: Evaluator, plan: UniversalPlan, learned: str, rows: np.ndarray) -> pa.Table:
    """Of a unit's rows what the perturbation makes of them."""
    perturbation = read_perturbation(learned)
    columns = evaluator.under_universal(rows, perturbation, plan.budget, plan.seed, CLEAN)
    return pa.table({name: pa.array(values) for name, values in columns.items()})
