"""The job that segments photographs of any size with a trained network."""

import shlex
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fundusray import files
from fundusray.cluster.runtime.demand import require_writable
from fundusray.cluster.runtime.start import in_submitted_job, start_ray
from fundusray.cluster.segment import SEGMENTED, Drawing, photograph_files, segmented_rows
from fundusray.command import Command, with_absolute_places
from fundusray.config import Recipe, override
from fundusray.data.reading.folders import bad_path, is_photograph, list_folder
from fundusray.errors import BadInputsError, InputError
from fundusray.harmless import printable_text
from fundusray.jobs.command_to_recipe import print_recipe
from fundusray.models.load_weights import weights_digest
from fundusray.models.tiles import TilePlan
from fundusray.pipeline.augment.augmentation import view_text
from fundusray.registry import unknown_name
from fundusray.reports.evaluation_page import evaluation_page
from fundusray.reports.segmentation_sheets import class_colours
from fundusray.reports.segmented_page import MOST_SHEETS, SegmentedFacts, segmented_page
from fundusray.reports.segmented_sheet import segmented_sheet
from fundusray.runs.joined_networks import network_place, open_network
from fundusray.tasks import is_segmentation
from fundusray.training.segmented_photograph import SegmentedPhotograph, SegmentPlan

OWN = ("segment.tile", "segment.overlap", "segment.scale")
SHARED = ("run.storage", "cluster.cpus")
"""Settings of a recipe that mean something here: all else is the network's own."""


def segment(asked: Command) -> dict[str, Any]:
    """Class maps of photographs in their own pixels, areas as CSV, sheets and a page."""
    if len(asked.words) < 2:
        raise InputError(
            "give a bundle and photographs: python jobs/segment.py <run folder>/bundle eye.jpg "
            "/data/eyes"
        )
    here = _own_recipe(asked)
    place = network_place(asked.words[0])
    bundle = open_network(place)
    if not is_segmentation(bundle.recipe):
        raise InputError(
            f"{place} gives one label of a photograph ({bundle.recipe.data.target}); segment with "
            "a network of data.target=lesions or vessels"
        )
    plan = asked_plan(asked.changes, bundle.recipe)
    if asked.show:
        return print_recipe(bundle.recipe)
    if view := _moving_view(bundle.recipe):
        raise InputError(
            f"{place} is judged with data.view={view}, so what it sees is not where the photograph "
            "has it; segment with a network that sees whole prepared photographs"
        )
    photographs = photograph_files(photograph_places(asked.words[1:]))
    require_writable(here.run.storage)
    key = files.hash_json([weights_digest(place), plan.text], 8)
    folder = files.join(here.run.storage, f"{bundle.recipe.name}-segmented-{key}")
    start_ray()
    drawing = Drawing(palette(bundle.classes), sheet_of)
    rows = segmented_rows(place, photographs, plan, folder, drawing, here.cluster.cpus)
    if not any(row["status"] == SEGMENTED for row in rows):
        raise BadInputsError(
            f"none of {len(rows):,} photographs could be segmented; the first, {rows[0]['image']}: "
            f"{rows[0]['reason']}"
        )
    how = (
        f"Prepared at {'their own' if plan.scale == 'photograph' else 'the network’s'} scale, "
        f"tiles of {plan.tiles.side} pixels that overlap by {plan.tiles.overlap:.0%} at least."
    )
    facts = SegmentedFacts(bundle.recipe.name, bundle.classes, how, (), _command(asked))
    names = files.hash_json([[one.sha256, one.path] for one in photographs], 8)
    return _told(folder, names, rows, facts)


def asked_plan(changes: dict[str, str], trained: Recipe) -> SegmentPlan:
    """How photographs are segmented; tiles are as large, and overlap as much, as those the network
    was judged by, or as the whole images it was trained on, unless the command says otherwise.

    Raises:
        InputError: no number, or one that cannot be.
    """
    own = trained.segmentation
    side = changes.get("segment.tile", str(own.tile or trained.data.size))
    if not side.isdigit():
        raise InputError(f"segment.tile: pixels of a tile's side, e.g. 512, got {side!r}")
    overlap = changes.get("segment.overlap", str(own.overlap))
    try:
        share = float(overlap)
    except ValueError:
        raise InputError(
            f"segment.overlap: a share of a tile's side, e.g. 0.25, got {overlap!r}"
        ) from None
    scale = changes.get("segment.scale", SegmentPlan.scale)
    return SegmentPlan(TilePlan(int(side), share), scale)


def photograph_places(words: Sequence[str]) -> list[tuple[str, str]]:
    """(folder, file name) of each photograph that is meant: a file, or all in a folder, not those
    in folders below it; each once, in order.

    Raises:
        InputError: there is no such file or folder, a folder without photographs, or, in a
            submitted job, a relative place.
    """
    found: dict[tuple[str, str], None] = {}
    for word in words:
        if in_submitted_job() and not files.is_uri(word) and not word.startswith(("/", "~")):
            raise InputError(
                f"{word}: a submitted job runs in a copy of your folder on the cluster; give an "
                "absolute path or a URI that every node can read"
            )
        place = files.absolute(word)
        if files.is_dir(place):
            found |= dict.fromkeys(_in_folder(place))
            continue
        if not files.exists(place):
            raise InputError(f"{word}: no such file or folder; give photographs of a fundus")
        folder, _, name = place.rpartition("/")
        if why := bad_path(name):
            raise InputError(f"{word}: {why}")
        found[folder or "/", name] = None
    return list(found)


def _in_folder(place: str) -> Iterable[tuple[str, str]]:
    listing = list_folder(place)
    names = sorted(name for name in listing.files if is_photograph(name) and not bad_path(name))
    if not names:
        below = ", ".join(map(repr, listing.folders[:3]))
        cure = f"; it holds folders ({below}): give one of them" if below else ""
        raise InputError(f"{place}: no photograph in this folder{cure}")
    return [(place, name) for name in names]


def sheet_of(made: SegmentedPhotograph, classes: tuple[str, ...], name: str) -> bytes:
    """The sheet of a photograph, PNG."""
    note = f" ({made.note})" if made.note else ""
    title = f"{name}, {made.classes.shape[1]} x {made.classes.shape[0]} pixels{note}"
    colours = np.array(palette(classes), np.uint8)
    return segmented_sheet(made.pixels, made.classes, classes, colours, made.areas, title)


def palette(classes: Sequence[str]) -> tuple[tuple[int, int, int], ...]:
    """The colours of the classes, the background's black first: those of every sheet."""
    return (0, 0, 0), *class_colours(classes)


def area_rows(rows: Sequence[dict[str, Any]], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Lines of the table of areas: image, status, reason, sides, the fundus in pixels, and of each
    class its pixels and their share of the fundus; empty where a photograph was refused."""
    lines = []
    for row in rows:
        areas = row["areas"] or [None] * len(classes)
        whole = sum(row["areas"]) or None
        line = {name: row[name] for name in ("image", "sha256", "status", "reason")}
        line |= {"width": row["width"], "height": row["height"], "fundus_pixels": whole}
        for name, area in zip(classes, areas, strict=True):
            line[f"pixels_{name}"] = area
            line[f"share_{name}"] = None if area is None else area / whole
        lines.append(line | {name: row[name] for name in ("class_map", "sheet")})
    return lines


def _told(
    folder: str, names: str, rows: Sequence[dict[str, Any]], facts: SegmentedFacts
) -> dict[str, Any]:
    """Writes table and page, and prints what came of it; where they are."""
    areas = files.join(folder, f"areas-{names}.csv")
    report = files.join(folder, f"report-{names}.html")
    files.write_csv(areas, area_rows(rows, facts.classes))
    done = [row for row in rows if row["status"] == SEGMENTED]
    most = sorted(done, key=lambda row: -sum(row["areas"][1:]))[:MOST_SHEETS]
    sheets = [(row["image"], files.read_bytes(files.join(folder, row["sheet"]))) for row in most]
    page = evaluation_page(segmented_page(facts, rows, sheets))
    files.write_bytes(report, page.encode())
    for row in rows:
        name = printable_text(row["image"])
        if row["status"] != SEGMENTED:
            print(f"refused: {name} ({printable_text(row['reason'])})")
            continue
        whole = sum(row["areas"])
        shares = zip(facts.classes[1:], row["areas"][1:], strict=True)
        print(f"{name}: " + ", ".join(f"{kind} {area / whole:.3%}" for kind, area in shares))
    print(f"class maps and sheets: {folder}\nareas: {areas}\nreport: {report}")
    counts = {"n": len(done), "refused": len(rows) - len(done)}
    return {"status": "finished", "folder": folder, "areas": areas, "report": report} | counts


def _own_recipe(asked: Command) -> Recipe:
    """What of the command is not the network's: where results go, and workers."""
    changes = {key: value for key, value in asked.changes.items() if key not in OWN}
    for key in changes:
        if key not in SHARED:
            raise unknown_name("setting of this job", key, {*OWN, *SHARED})
    return with_absolute_places(override(Recipe(), changes), in_submitted_job())


def _moving_view(recipe: Recipe) -> str:
    """What is done to prepared images before the network judges them; "" where it is nothing."""
    view = view_text(recipe.data)
    return "" if view in ("", "none") else view


def _command(asked: Command) -> str:
    words = [*asked.words, *(f"{key}={value}" for key, value in asked.changes.items())]
    return f"python jobs/segment.py {' '.join(map(shlex.quote, words))}"
