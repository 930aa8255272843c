"""One photograph explained on one sheet, without a cluster."""

import os
import time
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from fundusray import files
from fundusray.cluster.class_matching import order_known
from fundusray.cluster.explain import ExplainPlan
from fundusray.config import Recipe, override
from fundusray.data.photographs.decode import BadImage, decode_photograph
from fundusray.data.prepared.map_files import write_map
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.data.prepared.preprocess import PREPROCESS, preprocess_photograph
from fundusray.data.prepared.stored import Stored
from fundusray.data.prepared.write import CROP, SEEN
from fundusray.errors import InputError
from fundusray.harmless import file_name_slug
from fundusray.models.bundle import Bundle
from fundusray.reports.contact_sheet import SheetCell, contact_sheet
from fundusray.reports.lesion_sheet import LesionPanels, lesion_sheet
from fundusray.saliency.lesion_detection import regions_of_image
from fundusray.saliency.overlays import as_pixels, overlay
from fundusray.tasks import task_of
from fundusray.training.evaluator import Evaluator
from fundusray.training.explaining import ExplainedImage, answers, explained_images

SIDE = 320
"""Pixels of a picture on the sheet."""


def explain_photograph(
    bundle: Bundle, recipe: Recipe, plan: ExplainPlan, place: str
) -> dict[str, Any]:
    """Writes a sheet of a photograph (as taken, as the network sees it, each map over it) and the
    maps beside it; where they are.

    Raises:
        InputError: no such file, no photograph of a fundus, or a condition that is not clean.
    """
    if len(plan.conditions) > 1:
        raise InputError("condition= is for a set of photographs; of one, give a changed file")
    began = time.monotonic()
    taken, prepared = _photograph(recipe, bundle, place)
    gpu = torch.cuda.is_available()
    # What is there already needs no pipeline that starts threads.
    plain = override(recipe, {"data.pipeline": "plain"})
    opened = Bundle(bundle.model, plain, bundle.classes, bundle.info)
    task = task_of(plain, bundle.classes, order_known(bundle))
    evaluator = Evaluator(opened, task, prepared, os.cpu_count() or 1, gpu)
    row = np.zeros(1, np.int64)
    targets = answers(evaluator.model, evaluator.batches(row, plan.conditions[0]))
    if plan.target is not None:
        targets = {0: plan.target}
    found = list(
        explained_images(
            evaluator.model, evaluator.batches(row, plan.conditions[0]), plan.methods, targets,
            plan.conditions[0], evaluator.layers,
        )
    )  # fmt: skip
    name = file_name_slug(files.base_name(place).rpartition(".")[0])[:60] or "photograph"
    digest = prepared.info["manifest"][:8]
    folder = files.join(recipe.run.storage, f"{recipe.name}-explained-{name}-{digest}")
    maps = {}
    for one in found:
        maps[str(one.method)] = files.join(folder, f"{file_name_slug(str(one.method))}.npz")
        whole = one.values.shape[-1] == prepared.size
        write_map(maps[str(one.method)], one.values, prepared.geometry(0) if whole else None)
    sheet = files.join(folder, "sheet.png")
    files.write_bytes(sheet, photograph_sheet(taken, found, bundle.classes, files.base_name(place)))
    places = {"sheet": sheet} | _lesions(evaluator, taken, found, folder)
    first = found[0]
    explained = bundle.classes[first.target]
    print(
        f"{files.base_name(place)}: answer {bundle.classes[first.prediction]}; explained: "
        f"{explained}, probability {first.probability:.3f}"
    )
    for one in found:
        gap = "" if one.gap is None else f", completeness gap {one.gap:.1e}"
        print(f"  {one.method}: {one.seconds:.2f} s{gap}")
    print(f"maps: {folder}")
    for name, location in places.items():
        print(f"{name}: {location}")
    print(f"{time.monotonic() - began:.1f} s")
    return {
        "status": "finished",
        "folder": folder,
        "maps": maps,
        "answer": bundle.classes[first.prediction],
        "target": explained,
        "probability": first.probability,
    } | places


def photograph_sheet(
    taken: np.ndarray, found: list[ExplainedImage], classes: tuple[str, ...], name: str
) -> bytes:
    """A PNG: the photograph uint8 [H, W, 3], the image that the network saw, and the maps of it."""
    seen = as_pixels(found[0].image)
    answer, wanted = classes[found[0].prediction], classes[found[0].target]
    cells = [
        SheetCell(taken, "as taken"),
        SheetCell(seen, f"as the network sees it; answer: {answer}"),
    ]
    for one in found:
        gap = "" if one.gap is None else f", completeness gap {one.gap:.0e}"
        cells.append(SheetCell(overlay(seen, one.values), f"{one.method}{gap}"))
    lines = [cells[start : start + 3] for start in range(0, len(cells), 3)]
    title = f"{name}: red speaks for {wanted} ({found[0].probability:.2f}), blue against it"
    return contact_sheet(lines, side=SIDE, title=title)


def _lesions(
    evaluator: Evaluator, taken: np.ndarray, found: list[ExplainedImage], folder: str
) -> dict[str, str]:
    """Where Li et al.'s sheet of four panels is, of the first map that is theirs; nothing where
    none is."""
    for one in found:
        if one.method.name != "lesion_detection":
            continue
        image = torch.from_numpy(one.image)[None].to(evaluator.device)
        target = torch.tensor([one.target], device=evaluator.device)
        regions = regions_of_image(
            evaluator.model, image, target, dict(one.method.args), evaluator.layers
        )
        values = [each[0, 0].cpu().numpy() for each in (regions.positive, regions.negative)]
        place = files.join(folder, "lesions.png")
        panels = LesionPanels(taken, as_pixels(one.image), values[0], values[1])
        files.write_bytes(place, lesion_sheet([panels], title=str(one.method)))
        return {"lesions": place}
    return {}


def _photograph(recipe: Recipe, bundle: Bundle, place: str) -> tuple[np.ndarray, PreparedSet]:
    """(the photograph uint8 [H, W, 3], a raw prepared set in memory that holds it alone)."""
    data = recipe.data
    if not files.exists(place):
        raise InputError(f"image={place}: no such file; give a JPEG, PNG or TIFF of a fundus")
    content = files.read_bytes(place)
    try:
        decoded = decode_photograph(content, PREPROCESS.find(data.preprocess).min_side(data.size))
        pixels, geometry, seen = preprocess_photograph(data, decoded.pixels)
    except BadImage as error:
        raise InputError(f"image={place}: {error}") from error
    whole = (decoded.height, decoded.width)
    geometry = geometry.scaled(decoded.scale, decoded.margin, whole)
    crop = (geometry.left, geometry.top, geometry.width, geometry.height)
    columns = {
        "image_id": [files.base_name(place)],
        "patient_id": [""],
        "target": pa.array([-1], pa.int32()),
        "masks": pa.array([[]], pa.list_(pa.list_(pa.string()))),
        "height": [decoded.height],
        "width": [decoded.width],
    }
    columns |= dict(zip(CROP, ([value] for value in crop), strict=True))
    columns |= dict(zip(SEEN, ([value] for value in seen), strict=True))
    info = {
        "classes": list(bundle.classes), "ordered": order_known(bundle), "encoding": "raw",
        "fill": PREPROCESS.find(data.preprocess).fill, "size": data.size,
        "preprocess": data.preprocess, "manifest": files.sha256(content),
    }  # fmt: skip
    flat = np.ascontiguousarray(pixels).reshape(-1)
    stored = Stored([flat], np.array([[0, 0, len(flat)]], np.int64))
    return decoded.pixels, PreparedSet(place, info, pa.table(columns), stored)
