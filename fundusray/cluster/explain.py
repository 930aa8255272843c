"""Maps of a bundle for the photographs of a set, spread over the cluster.

Workers write each map as a file of its own and give back a row for it; the rows become the index.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from fundusray import files
from fundusray.cluster.evaluate import CLEAN, rows_of_units
from fundusray.cluster.runtime.pool import is_whole
from fundusray.cluster.runtime.units import Unit, unit_key
from fundusray.conditions import Condition
from fundusray.corruptions.fundus_area import fundus_disc
from fundusray.data.prepared.map_files import write_map
from fundusray.data.prepared.prepared_set import PreparedSet, open_set
from fundusray.errors import InputError
from fundusray.harmless import file_name_slug
from fundusray.metrics.attribution_scores import ScoreSettings, attribution_scores
from fundusray.metrics.lesion_sizes import LesionSizes
from fundusray.metrics.map_agreement import map_similarity
from fundusray.models.load_weights import weights_digest
from fundusray.saliency import MapMethod
from fundusray.saliency.overlays import as_pixels, overlay, png
from fundusray.training.evaluator import Evaluator
from fundusray.training.explaining import ExplainedImage, answers, explained_images

CHUNK = 2048
"""Forward passes of one unit, about; a unit has MOST rows at most."""
MOST = 16
CHECKED = 7
"""Times a map's cost is what it costs with its checks, about."""
SCORE = pa.struct([("lesion", pa.string()), ("score", pa.string()), ("value", pa.float64())])
INDEX = pa.schema(
    [
        ("row", pa.int64()),
        ("condition", pa.string()),
        ("method", pa.string()),
        ("target", pa.int32()),  # the class that is explained
        ("prediction", pa.int32()),  # of the image as it was explained
        ("probability", pa.float64()),  # of the class that is explained
        ("map", pa.string()),  # seen from the folder of the index
        ("overlay", pa.string()),  # the same; "" where none was asked for
        ("gap", pa.float64()),  # completeness gap; null of maps without one
        ("gradients", pa.int64()),
        ("seconds", pa.float64()),
        ("scores", pa.list_(SCORE)),
    ]
)
LABEL = "label"
"""The index's column of the class that the data say; -1 where they say none."""


@dataclass(frozen=True)
class ExplainPlan:
    """Which maps are made of what."""

    methods: tuple[MapMethod, ...]
    target: int | None = None
    """The class that is explained; None: what the network answers of the photograph as it is."""
    conditions: tuple[Condition, ...] = (CLEAN,)
    """Under which photographs are explained."""
    overlays: bool = False
    """Whether pictures are written beside the maps."""
    checks: bool = False
    """Whether every map is also checked without masks, see `saliency.checks`."""

    @property
    def text(self) -> str:
        """All that decides maps, for keys."""
        parts = [[str(one) for one in self.methods], [str(one) for one in self.conditions]]
        return f"{parts} {self.target} {self.overlays} {self.checks}"


def explained_location(
    bundle: str, prepared: str, rows: np.ndarray, plan: ExplainPlan, folder: str, cpus: int = 0
) -> str:
    """Where in `folder` the index of the maps of some rows is; they are made unless they are there
    and whole. Broken off, the same call goes on with the units that are left.

    Columns: those of INDEX but row, and image_id, patient_id, label.

    Raises:
        InputError: no row, a class that the network does not know, or what a map needs.
    """
    if not len(rows):
        raise InputError(f"no row of {prepared} is there to be explained")
    weights, data = weights_digest(bundle), open_set(prepared)
    how = [weights, files.base_name(data.folder), data.info["manifest"], rows.tolist(), plan.text]
    key = files.hash_json(how, 8)
    location = files.join(folder, f"index-{key}.parquet")
    if is_whole(location):
        return location
    parts, units = files.join(folder, f"parts-{key}"), explain_units(weights, data, rows, plan)
    work = partial(_explained, folder, f"maps-{key}")
    table = rows_of_units("explaining", work, units, (bundle, weights, prepared), parts, cpus)
    order = [(name, "ascending") for name in ("row", "condition", "method")]
    files.write_table(location, _named(data, table.sort_by(order)))
    files.remove(parts)
    return location


def explain_units(
    weights: str, data: PreparedSet, rows: np.ndarray, plan: ExplainPlan
) -> list[Unit]:
    """The rows in units of about equal cost; the cut does not depend on the cluster."""
    each = sum(method.passes(data.size) for method in plan.methods) * len(plan.conditions)
    each *= CHECKED if plan.checks else 1
    length = min(MOST, max(1, CHUNK // max(each, 1)))
    chunks = [rows[start : start + length] for start in range(0, len(rows), length)]
    ids = data.image_ids()
    return [
        Unit(
            unit_key(weights, chunk.tolist(), plan.text),
            (plan, chunk),
            len(chunk),
            f"{ids[chunk[0]]} to {ids[chunk[-1]]}",
        )
        for chunk in chunks
    ]


def _named(data: PreparedSet, table: pa.Table) -> pa.Table:
    """The index with whose the photographs are and what the data say of them."""
    which, ids, patients = table["row"].to_numpy(), data.image_ids(), data.patients()
    named = {
        "image_id": [ids[row] for row in which],
        "patient_id": [patients[row] for row in which],
        LABEL: pa.array(data.targets()[which], pa.int32()),
    }
    return pa.table(named | {n: table[n] for n in table.column_names if n != "row"})


def _explained(
    folder: str, maps: str, evaluator: Evaluator, plan: ExplainPlan, rows: np.ndarray
) -> pa.Table:
    """Of a unit's rows the maps, written into `folder`, and a row for each."""
    targets = answers(evaluator.model, evaluator.batches(rows, CLEAN))
    if plan.target is not None:
        targets = dict.fromkeys(targets, plan.target)
    # An image that does not decode has no answer; the loader has set it aside by name.
    there = np.array([row for row in rows.tolist() if row in targets], np.int64)
    found: list[dict[str, Any]] = []
    first: dict[tuple[int, str], np.ndarray] = {}
    for condition in plan.conditions:
        images = explained_images(
            evaluator.model,
            evaluator.batches(there, condition),
            plan.methods,
            targets,
            condition,
            evaluator.layers,
            plan.checks,
        )
        for one in images:
            row = _written(folder, maps, evaluator.prepared, str(condition), plan.overlays, one)
            key = (one.row, str(one.method))
            if key in first:
                row["scores"] += stability_scores(first[key], one.values)
            elif len(plan.conditions) > 1:
                first[key] = one.values
            found.append(row)
    return pa.Table.from_pylist(found, INDEX)


def _written(
    folder: str, maps: str, data: PreparedSet, condition: str, overlays: bool, one: ExplainedImage
) -> dict[str, Any]:
    """The index's row of a map, after its file is written."""
    what = file_name_slug(f"{one.method} {condition}")[:80]
    name = f"{one.row:07d}-{file_name_slug(data.image_ids()[one.row])[:60]}"
    place = f"{maps}/{what}-{files.hash_json([str(one.method), condition], 6)}/{name}"
    # A place in the photograph has a map only where the network saw the whole prepared image.
    whole = one.values.shape[-1] == data.size
    geometry = data.geometry(one.row) if whole else None
    write_map(files.join(folder, f"{place}.npz"), one.values, geometry)
    if overlays:
        picture = overlay(as_pixels(one.image), one.values)
        files.write_bytes(files.join(folder, f"{place}.png"), png(picture))
    scores = mask_scores(data, one.row, one.values) if whole else []
    scores += [{"lesion": "", "score": key, "value": value} for key, value in one.checks.items()]
    return {
        "row": one.row,
        "condition": condition,
        "method": str(one.method),
        "target": one.target,
        "prediction": one.prediction,
        "probability": one.probability,
        "map": f"{place}.npz",
        "overlay": f"{place}.png" if overlays else "",
        "gap": one.gap,
        "gradients": one.gradients,
        "seconds": one.seconds,
        "scores": scores,
    }


def stability_scores(before: np.ndarray, after: np.ndarray) -> list[dict[str, Any]]:
    """How alike the maps [S, S] of a photograph as it is and as it was changed are."""
    similar = map_similarity(before, after)
    return [{"lesion": "", "score": name, "value": value} for name, value in similar.items()]


def mask_scores(data: PreparedSet, row: int, values: np.ndarray) -> list[dict[str, Any]]:
    """The scores of a map [S, S] against the masks that a row has; none where it has none."""
    which = np.array([row])
    having = data.annotated(which)[0] if data.mask_kinds else np.zeros(0, bool)
    if not having.any():
        return []
    planes = data.masks(which)[0]
    masks = {
        kind: mask for kind, mask, kept in zip(data.mask_kinds, planes, having, strict=True) if kept
    }
    scale = data.geometry(row).width / data.size
    settings = ScoreSettings(sizes=LesionSizes(photograph_pixels=scale))
    return attribution_scores(values, masks, fundus=fundus_of(data, row), settings=settings)


def fundus_of(data: PreparedSet, row: int) -> np.ndarray:
    """Where a row's image shows the fundus, bool [S, S]: the disc, as far as its photograph
    reaches."""
    seen = data.seen(np.array([row]))[0]
    inside = np.zeros((data.size, data.size), bool)
    inside[seen.top : seen.bottom, seen.left : seen.right] = True
    return inside & fundus_disc(data.size).numpy()
