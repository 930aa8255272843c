"""Counts of pixels by class, and the figures that follow from them."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch.nn.functional as F
from torch import Tensor

Columns = dict[str, np.ndarray]


def pixel_columns(logits: Tensor, target: Tensor) -> Columns:
    """hits, predicted, labelled int64 [B, K] and loss [B] of logits [B, K, H, W]."""
    num = logits.shape[1]
    both = [F.one_hot(part, num).flatten(1, 2) for part in (logits.argmax(1), target)]
    loss = F.cross_entropy(logits, target, reduction="none").mean((1, 2)).double()
    parts = {"hits": (both[0] * both[1]).sum(1), "predicted": both[0].sum(1)}
    parts |= {"labelled": both[1].sum(1), "loss": loss}
    return {name: part.cpu().numpy() for name, part in parts.items()}


def segmentation_figures(columns: Columns, classes: Sequence[str]) -> dict[str, float | None]:
    """loss, pixel_accuracy, dice, miou and dice_<class>, of counts pooled over images."""
    hits, called, true = (columns[n].sum(0) for n in ("hits", "predicted", "labelled"))
    there = true > 0
    dice, iou = 2 * hits / np.maximum(called + true, 1), hits / np.maximum(called + true - hits, 1)
    figures: dict[str, float | None] = {"loss": float(columns["loss"].mean())}
    figures["pixel_accuracy"] = float(hits.sum() / true.sum())
    figures |= {f"dice_{name}": float(value) for name, value in zip(classes, dice, strict=True)}
    figures["dice"] = float(dice[1:][there[1:]].mean()) if there[1:].any() else None
    return figures | {"miou": float(iou[there].mean())}


def segmentation_table(
    image_ids: Sequence[str],
    patient_ids: Sequence[str],
    columns: Columns,
    classes: Sequence[str],
    half: np.ndarray | None = None,
) -> pa.Table:
    """A row for each image."""
    parts: dict[str, pa.Array] = {
        "image_id": pa.array(image_ids, pa.string()),
        "patient_id": pa.array(patient_ids, pa.string()),
    }
    for name, values in columns.items():
        plain = pa.array(values.ravel())
        wide = values.ndim > 1
        parts[name] = pa.FixedSizeListArray.from_arrays(plain, values.shape[1]) if wide else plain
    if half is not None:
        parts["half"] = pa.array(half, pa.int8())
    about = {"task": "segmentation", "classes": json.dumps(list(classes))}
    return pa.table(parts).replace_schema_metadata(about)


def segmentation_columns_of(table: pa.Table) -> Columns:
    """What `segmentation_table` was given."""
    columns = {}
    for name in ("hits", "predicted", "labelled"):
        held = table[name].combine_chunks()
        columns[name] = held.flatten().to_numpy().reshape(len(held), -1)
    return columns | {"loss": table["loss"].to_numpy()}


def is_segmentation_table(table: pa.Table) -> bool:
    """Whether the rows are of a segmentation."""
    return (table.schema.metadata or {}).get(b"task") == b"segmentation"


def segmentation_summary(table: pa.Table) -> dict[str, Any]:
    """n and the figures of a table."""
    classes = json.loads(table.schema.metadata[b"classes"])
    return {"n": table.num_rows} | segmentation_figures(segmentation_columns_of(table), classes)
