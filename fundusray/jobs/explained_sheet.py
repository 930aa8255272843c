"""A sheet of photographs and their maps, for the page of an explanation."""

from typing import Any

import numpy as np
import pyarrow as pa

from fundusray import files
from fundusray.data.prepared.map_files import read_map
from fundusray.data.prepared.masks import lesion_kinds
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.pipeline.engines.plain import decode_image
from fundusray.reports.contact_sheet import SheetCell, contact_sheet
from fundusray.saliency.overlays import outlined, overlay

MOST_PHOTOGRAPHS = 6
"""Photographs on a sheet, those with the most lesions marked where there are masks."""
SIDE = 224


def explained_sheet(
    folder: str, index: pa.Table, prepared: PreparedSet, networks: tuple[str, ...]
) -> bytes:
    """A PNG: a row for each photograph and network, the image with its lesions outlined, then each
    map over it."""
    rows_of = {name: row for row, name in enumerate(prepared.image_ids())}
    chosen = _chosen(sorted(set(index["image_id"].to_pylist())), prepared, rows_of)
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    columns = ["network", "image_id", "condition", "method", "target", "prediction", "map"]
    for row in index.select(columns).to_pylist():
        found.setdefault((row["image_id"], row["network"]), []).append(row)
    cells = []
    for name in chosen:
        image = prepared_pixels(prepared, rows_of[name])
        for network in networks:
            maps = found.get((name, network), [])
            if not maps:
                continue
            answer = prepared.classes[maps[0]["prediction"]] if prepared.classes else ""
            title = f"{name}, {network}: {answer}"
            marked = outlined(image, marked_lesions(prepared, rows_of[name]))
            line = [SheetCell(marked, title)]
            for one in maps:
                values = read_map(files.join(folder, one["map"]))
                shown = overlay(image, values) if values.shape == image.shape[:2] else image
                condition = "" if one["condition"] == "clean" else f", {one['condition']}"
                line.append(SheetCell(shown, f"{one['method']}{condition}"))
            cells.append(line)
    return contact_sheet(cells, side=SIDE, title="Red speaks for the class, blue against it")


def _chosen(names: list[str], prepared: PreparedSet, rows_of: dict[str, int]) -> list[str]:
    """The photographs with the largest lesions; without masks the first ones."""
    if not prepared.mask_kinds:
        return names[:MOST_PHOTOGRAPHS]
    areas = {name: int(marked_lesions(prepared, rows_of[name]).sum()) for name in names}
    return sorted(names, key=lambda name: -areas[name])[:MOST_PHOTOGRAPHS]


def marked_lesions(prepared: PreparedSet, row: int) -> np.ndarray:
    """Where the mask of any lesion marks a row's image, bool [S, S]."""
    if not prepared.mask_kinds:
        return np.zeros((prepared.size, prepared.size), bool)
    kinds = lesion_kinds(prepared.mask_kinds)
    return prepared.masks(np.array([row]))[0][kinds].any(axis=0)


def prepared_pixels(prepared: PreparedSet, row: int) -> np.ndarray:
    """A row's image as it is stored, uint8 [S, S, 3]."""
    rows = np.array([row])
    if prepared.encoding == "raw":
        return prepared.pixels(rows)[0]
    return decode_image(prepared.encoded(rows)[0], prepared.size)
