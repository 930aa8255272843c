"""Maps of a bundle toward two classes, and their correlation, photograph by photograph, over the
cluster."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor

from fundusray import files
from fundusray.cluster.class_matching import in_classes_of
from fundusray.cluster.evaluate import CLEAN, named_rows, rows_of_units
from fundusray.cluster.runtime.pool import is_whole
from fundusray.cluster.runtime.units import Unit, unit_key
from fundusray.data.prepared.prepared_set import open_set
from fundusray.errors import InputError
from fundusray.models.bundle import load_bundle
from fundusray.models.load_weights import weights_digest
from fundusray.saliency import MapMethod, MapProblem, explainable
from fundusray.saliency.symmetry import symmetry_maps
from fundusray.training.evaluator import Evaluator

CHUNK = 8
"""Photographs of one work unit; each costs hundreds of passes."""
MAP_SIDE = 128
"""Pixels of the side of a stored map, at most; larger ones are averaged."""


@dataclass(frozen=True)
class SymmetryPlan:
    """Which maps are held against each other."""

    first: int
    second: int | None
    """None: the class that the network answers."""
    method: MapMethod = field(default_factory=lambda: MapMethod("lesion_detection"))
    layers: tuple[tuple[str, str], ...] = ()
    """"early" and "last", each with its path in the model."""

    @property
    def text(self) -> str:
        """All that decides the rows of a network, for keys."""
        second = "predicted" if self.second is None else self.second
        return f"symmetry(first={self.first}, second={second}, method={self.method})"


def symmetry_location(
    bundle: str,
    prepared: str,
    rows: np.ndarray,
    plan: SymmetryPlan,
    folder: str,
    cpus: int = 0,
) -> str:
    """Where in `folder` it stands how maps of some rows go together; it is found out unless it is
    there and whole. Broken off, the same call goes on with the work left.

    A line for each photograph: image_id, patient_id, target, method, prediction, first_class,
    second_class, pearson, spearman, side (of what follows), first_map and second_map (lists of
    side * side numbers, of pixels that are means), picture (side * side * 3 bytes, as the network
    sees it).

    Raises:
        InputError: no row.
    """
    if not len(rows):
        raise InputError(f"no row of {prepared} is there to be looked at")
    weights, data = weights_digest(bundle), open_set(prepared)
    data = in_classes_of(data, bundle, load_bundle(bundle))
    key = files.hash_json([weights, files.base_name(prepared), rows.tolist(), plan.text], 8)
    location = files.join(folder, f"symmetry-{key}.parquet")
    if is_whole(location):
        return location
    parts = files.join(folder, f"parts-{key}")
    units = [
        Unit(unit_key(weights, chunk.tolist(), plan.text), (plan, chunk), len(chunk))
        for chunk in (rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK))
    ]
    place = (bundle, weights, prepared)
    table = rows_of_units("comparing maps", symmetry_rows, units, place, parts, cpus)
    said = {"method": [plan.text] * table.num_rows}
    files.write_table(location, named_rows(data, table.sort_by("row"), said))
    files.remove(parts)
    return location


def symmetry_rows(evaluator: Evaluator, plan: SymmetryPlan, rows: np.ndarray) -> pa.Table:
    """Of a work unit's photographs row and what `symmetry_location` says of each."""
    parts = []
    with explainable(evaluator.model) as model:
        for batch in evaluator.batches(rows, CLEAN):
            if not batch.valid.any():
                continue
            image, row = batch.image[batch.valid].float(), batch.row[batch.valid]
            with torch.autocast(image.device.type, enabled=False), torch.no_grad():
                answer = model(image).argmax(dim=1)
                problem = MapProblem(model, image, answer, row, dict(plan.layers))
                pair = (plan.first, plan.second)
                maps = symmetry_maps(problem, pair, plan.method.name, plan.method.keywords)
            side = min(image.shape[-1], MAP_SIDE)
            columns = {"row": row.cpu().numpy(), "prediction": answer.cpu().numpy()}
            columns |= maps.columns() | {"side": np.full(len(row), side)}
            columns["first_map"] = list(_stored(maps.first, side))
            columns["second_map"] = list(_stored(maps.second, side))
            levels = (_pooled(image, side) * 255).round().clamp(0, 255).byte()
            columns["picture"] = [one.tobytes() for one in levels.permute(0, 2, 3, 1).cpu().numpy()]
            parts.append(pa.table(columns))
    return pa.concat_tables(parts)


def _pooled(values: Tensor, side: int) -> Tensor:
    return F.adaptive_avg_pool2d(values, side)


def _stored(values: Tensor, side: int) -> np.ndarray:
    """Maps [B, 1, S, S] as [B, side * side]."""
    return _pooled(values, side).flatten(1).cpu().numpy().astype(np.float32)
