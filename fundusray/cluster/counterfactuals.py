"""Counterfactuals of a network's photographs over the cluster: rows to a table, some of them to
pictures."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from fundusray import files
from fundusray.cluster.class_matching import in_classes_of
from fundusray.cluster.evaluate import CLEAN, named_rows, rows_of_units
from fundusray.cluster.runtime.pool import is_whole
from fundusray.cluster.runtime.units import Unit, unit_key
from fundusray.data.prepared.prepared_set import open_set
from fundusray.errors import InputError
from fundusray.models.load_weights import weights_digest
from fundusray.runs.joined_networks import open_network
from fundusray.saliency.counterfactuals import (
    Sweep,
    counterfactual_columns,
    counterfactual_images,
)
from fundusray.training.evaluator import Evaluator

CHUNK = 8
"""Photographs of one unit; each costs some hundred passes."""
Work = Callable[..., pa.Table]


@dataclass(frozen=True)
class CounterfactualPlan:
    """Which rows of a set are led toward which class, in which steps."""

    rows: tuple[int, ...]
    goals: tuple[int, ...]
    """The class of each row."""
    sweep: Sweep


def counterfactuals_location(
    bundle: str, prepared: str, plan: CounterfactualPlan, folder: str, cpus: int = 0
) -> str:
    """Where in `folder` the rows of a network's counterfactuals are; they are made unless they are
    there and whole. Broken off, the same call goes on with the units left.

    Columns: image_id, patient_id, target (the photograph's class), goal (the class it is led to),
    and those of `saliency.counterfactuals.counterfactual_columns` without place.

    Args:
        bundle: a place, or several with a + between them.

    Raises:
        InputError: no row is left, or the set has classes that the network does not know.
    """
    return _located("counterfactuals", _columns, (bundle, prepared, plan), folder, cpus)


def counterfactual_pictures(
    bundle: str, prepared: str, plan: CounterfactualPlan, folder: str, cpus: int = 0
) -> str:
    """Where in `folder` the images are of which `counterfactuals_location` has the numbers: a row
    for each photograph and method, at the smallest step that reaches the class, or at the last.

    Columns: image_id, patient_id, target, goal, method, levels, reached, prediction, probability,
    size, original and counterfactual (float32 [3 * size * size], pixels in [0, 1]).

    Raises:
        InputError: as `counterfactuals_location`.
    """
    return _located("pictures", _pictures, (bundle, prepared, plan), folder, cpus)


def _located(
    what: str, work: Work, asked: tuple[str, str, CounterfactualPlan], folder: str, cpus: int
) -> str:
    bundle, prepared, plan = asked
    if not plan.rows:
        raise InputError(f"no row of {prepared} is there to make a counterfactual of")
    weights, data = weights_digest(bundle), open_set(prepared)
    data = in_classes_of(data, bundle, open_network(bundle))
    decides = [weights, files.base_name(prepared), plan.rows, plan.goals, plan.sweep.text]
    key = files.hash_json(decides, 8)
    location = files.join(folder, f"{what}-{key}.parquet")
    if is_whole(location):
        return location
    parts = files.join(folder, f"parts-{what}-{key}")
    units = []
    for start in range(0, len(plan.rows), CHUNK):
        some = slice(start, start + CHUNK)
        own = CounterfactualPlan(plan.rows[some], plan.goals[some], plan.sweep)
        unit = unit_key(weights, what, own.rows, own.goals, own.sweep.text)
        units.append(Unit(unit, (own,), len(own.rows)))
    place = (bundle, weights, prepared)
    table = rows_of_units(f"making {what}", work, units, place, parts, cpus)
    # Stable: of a photograph the rows stay in the order of the sweep.
    order = np.argsort(table["row"].to_numpy(), kind="stable")
    files.write_table(location, named_rows(data, table.take(pa.array(order)), {}))
    files.remove(parts)
    return location


def _columns(evaluator: Evaluator, plan: CounterfactualPlan) -> pa.Table:
    """The rows of some photographs; see `counterfactuals_location`."""
    parts = []
    for image, row, goal in _asked(evaluator, plan):
        columns = counterfactual_columns(evaluator.model, image, goal, plan.sweep)
        place = columns.pop("place")
        parts.append(pa.table({"row": row[place], "goal": goal.cpu().numpy()[place]} | columns))
    return pa.concat_tables(parts)


def _pictures(evaluator: Evaluator, plan: CounterfactualPlan) -> pa.Table:
    """The images of some photographs; see `counterfactual_pictures`."""
    parts = []
    for image, row, goal in _asked(evaluator, plan):
        found = counterfactual_images(evaluator.model, image, goal, plan.sweep)
        for method, (changed, measures) in found.items():
            numbers = ("levels", "reached", "prediction", "probability")
            columns = {name: measures[name].cpu().numpy() for name in numbers}
            pictures = {"original": _flat(image), "counterfactual": _flat(changed)}
            said = {"method": [method] * len(row), "size": [image.shape[-1]] * len(row)}
            first = {"row": row, "goal": goal.cpu().numpy()}
            parts.append(pa.table(first | columns | said | pictures))
    return pa.concat_tables(parts)


def _flat(image: Tensor) -> pa.Array:
    return pa.array(list(image.flatten(1).cpu().numpy()), pa.list_(pa.float32()))


def _asked(
    evaluator: Evaluator, plan: CounterfactualPlan
) -> list[tuple[Tensor, np.ndarray, Tensor]]:
    """(images, their rows, the classes they are led to) of each batch."""
    goals, found = dict(zip(plan.rows, plan.goals, strict=True)), []
    for batch in evaluator.batches(np.array(plan.rows), CLEAN):
        if batch.valid.any():
            row = batch.row[batch.valid].cpu().numpy()
            goal = torch.tensor([goals[one] for one in row.tolist()], device=batch.image.device)
            found.append((batch.image[batch.valid], row, goal))
    return found
