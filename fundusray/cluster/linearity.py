"""The units of a bundle's layer along a sweep of each photograph's gradient, over the cluster."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from fundusray import files
from fundusray.cluster.class_matching import in_classes_of
from fundusray.cluster.evaluate import CLEAN, named_rows, rows_of_units
from fundusray.cluster.runtime.pool import is_whole
from fundusray.cluster.runtime.units import Unit, unit_key
from fundusray.data.prepared.prepared_set import open_set
from fundusray.errors import InputError
from fundusray.models.bundle import load_bundle
from fundusray.models.load_weights import weights_digest
from fundusray.saliency import MapProblem, explainable
from fundusray.saliency.linearity import DOUBLINGS, STEPS, GradientSweep, unit_sweep
from fundusray.saliency.path_integral import Line
from fundusray.training.evaluator import Evaluator

CHUNK = 8
"""Photographs of one work unit; each costs hundreds of passes through what lies behind the layer.
"""
UNITS = 64
"""Units of an image that are kept: those with the largest attributions; 0: all."""


@dataclass(frozen=True)
class LinearityPlan:
    """What is swept how."""

    path: str
    """Of the layer in the model."""
    target: int | None = None
    """The class that is explained; None: what the network answers of the photograph."""
    output: str = "logit"
    doublings: int = DOUBLINGS
    steps: int = STEPS
    units: int = UNITS

    @property
    def text(self) -> str:
        """All that decides the rows of a network, for keys."""
        target = "predicted" if self.target is None else self.target
        return (
            f"linearity(layer={self.path}, target={target}, output={self.output}, "
            f"doublings={self.doublings}, steps={self.steps}, units={self.units})"
        )

    @property
    def sweep(self) -> GradientSweep:
        """The same as the torch part takes it."""
        return GradientSweep(self.path, self.doublings, Line(self.steps), self.output)


def linearity_location(
    bundle: str, prepared: str, rows: np.ndarray, plan: LinearityPlan, folder: str, cpus: int = 0
) -> str:
    """Where in `folder` it stands what units are given along the sweeps of some rows; it is found
    out unless it is there and whole. Broken off, the same call goes on with the work left.

    A line for each photograph and unit: image_id, patient_id, target, method, explained (the
    class), unit, and lists over the steps, the photograph itself first: c, moved, output,
    attribution, difference, gradient; see `saliency.linearity.UnitSweep`.

    Raises:
        InputError: no row.
    """
    if not len(rows):
        raise InputError(f"no row of {prepared} is there to be looked at")
    weights, data = weights_digest(bundle), open_set(prepared)
    data = in_classes_of(data, bundle, load_bundle(bundle))
    key = files.hash_json([weights, files.base_name(prepared), rows.tolist(), plan.text], 8)
    location = files.join(folder, f"linearity-{key}.parquet")
    if is_whole(location):
        return location
    parts = files.join(folder, f"parts-{key}")
    units = [
        Unit(unit_key(weights, chunk.tolist(), plan.text), (plan, chunk), len(chunk))
        for chunk in (rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK))
    ]
    table = rows_of_units("sweeping", swept_rows, units, (bundle, weights, prepared), parts, cpus)
    table = table.sort_by([("row", "ascending"), ("rank", "ascending")])
    named = named_rows(data, table, {"method": [plan.text] * table.num_rows})
    files.write_table(location, named)
    files.remove(parts)
    return location


def swept_rows(evaluator: Evaluator, plan: LinearityPlan, rows: np.ndarray) -> pa.Table:
    """Of a work unit's photographs: row, explained, rank (of the unit among those of its image),
    unit, and the lists."""
    parts = []
    with explainable(evaluator.model) as model:
        for batch in evaluator.batches(rows, CLEAN):
            if not batch.valid.any():
                continue
            image, row = batch.image[batch.valid].float(), batch.row[batch.valid]
            with torch.autocast(image.device.type, enabled=False), torch.no_grad():
                if plan.target is None:
                    target = model(image).argmax(dim=1)
                else:
                    target = torch.full_like(row, plan.target)
                problem = MapProblem(model, image, target, row, {})
                columns = unit_sweep(problem, plan.sweep).columns(plan.units)
            place = np.array(columns.pop("place"))
            kept = len(place) // len(row)
            named = {
                "row": row.cpu().numpy()[place],
                "explained": target.cpu().numpy()[place],
                "rank": np.tile(np.arange(kept), len(row)),
            }
            parts.append(pa.table(named | columns))
    return pa.concat_tables(parts)
