"""The job that holds maps toward two classes against each other."""

import shlex
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from fundusray import files
from fundusray.cluster.attack import attacked_sample
from fundusray.cluster.symmetry import SymmetryPlan, symmetry_location
from fundusray.command import Command
from fundusray.errors import InputError
from fundusray.jobs.attacking import photographs_asked
from fundusray.jobs.command_to_recipe import print_recipe
from fundusray.jobs.evaluating import asked_recipe, new_photographs
from fundusray.jobs.linearity import PREDICTED, class_asked
from fundusray.jobs.looks import record_look
from fundusray.metrics.symmetry import symmetry_figures
from fundusray.models import feature_layers
from fundusray.models.bundle import Bundle, load_bundle
from fundusray.models.load_weights import bundle_folder, weights_digest
from fundusray.reports.evaluation_page import PageFigure, evaluation_page
from fundusray.reports.lesion_sheet import SymmetryPanels, sum_sheet, symmetry_sheet
from fundusray.reports.symmetry_page import SymmetryFacts, symmetry_page, symmetry_summary
from fundusray.runs.check_segmentation import require_label
from fundusray.saliency import MapMethod, parse_methods
from fundusray.saliency.sum_heat_map import SumHeatMap

OWN = ("symmetry.rows", "pair", "method")
"""What this job takes beside the settings of a recipe."""
ROWS = 100
"""Photographs that are looked at unless told otherwise; 0: all."""
METHOD = "lesion_detection"
EXAMPLES = 6
"""Photographs of the sheet."""


def symmetry(asked: Command) -> dict[str, Any]:
    """Maps of a bundle's own test rows, or of all other photographs it does not know, toward two
    classes: how they correlate, and their means over many."""
    if len(asked.words) != 1:
        raise InputError("give one bundle: python jobs/symmetry.py <run folder>/bundle pair=0,4")
    num = photographs_asked(asked.changes, "symmetry.rows", ROWS)
    methods = parse_methods(asked.changes.get("method", METHOD))
    if len(methods) != 1:
        raise InputError(f"method={asked.changes['method']}: give one map")
    place = bundle_folder(asked.words[0])
    bundle = load_bundle(place)
    require_label(bundle.recipe, place)
    plan = _plan(asked.changes.get("pair", ""), bundle, methods[0])
    changes = {key: value for key, value in asked.changes.items() if key not in OWN}
    recipe = asked_recipe(place, bundle.recipe, changes)
    if asked.show:
        return print_recipe(recipe)
    prepared, opened, judged = new_photographs(recipe, place, bundle)
    rows = attacked_sample(judged.rows, num, recipe.split_seed)
    key = [weights_digest(place), files.base_name(prepared), rows.tolist(), plan.text]
    folder = files.join(recipe.run.storage, f"{recipe.name}-symmetry-{files.hash_json(key, 8)}")
    location = symmetry_location(place, prepared, rows, plan, folder, recipe.cluster.cpus)
    seen = {"predictions": location, "reported_split": judged.side}
    looks = record_look(opened.info["manifest"], seen, recipe.run.storage, folder)
    notes = [*judged.notes, *_notes(len(rows), len(judged.rows)), *looks.notes]
    words = [*asked.words, *(f"{key}={value}" for key, value in asked.changes.items())]
    command = f"python jobs/symmetry.py {' '.join(map(shlex.quote, words))}"
    second = "the answer" if plan.second is None else bundle.classes[plan.second]
    pair = (bundle.classes[plan.first], second)
    facts = SymmetryFacts(recipe.name, pair, str(plan.method), tuple(notes), command)
    start = {"status": "finished", "folder": folder, "bundle": place, "rows": location}
    start |= {"reported_split": judged.side}
    outcome = symmetry_outcome(folder, files.read_table(location), facts, bundle.classes)
    return start | outcome | looks.result


def class_pair(text: str, classes: tuple[str, ...]) -> tuple[int, int | None]:
    """The two classes that are compared; "": the first and the last.

    Raises:
        InputError: not two, the same twice, or no such class; or the answer in the first place.
    """
    if not text:
        return 0, len(classes) - 1
    first, comma, second = (part.strip() for part in text.partition(","))
    pair = (class_asked(first, classes), class_asked(second, classes)) if comma else (None, None)
    if pair[0] is None or pair[0] == pair[1]:
        raise InputError(
            f"pair={text}: two classes, e.g. pair=0,{len(classes) - 1}; the second may be what the "
            f"network answers: pair=0,{PREDICTED}"
        )
    return pair[0], pair[1]


def _plan(pair: str, bundle: Bundle, method: MapMethod) -> SymmetryPlan:
    name = bundle.recipe.model.name
    try:
        layers = feature_layers(name)
    except InputError:
        # Maps of pixels need none; one that does refuses in its own words.
        layers = {}
    return SymmetryPlan(*class_pair(pair, bundle.classes), method, tuple(layers.items()))


def _notes(num: int, all_rows: int) -> list[str]:
    if num == all_rows:
        return []
    return [
        f"{num:,} of {all_rows:,} photographs were looked at, chosen by the seed of the split; "
        "symmetry.rows=0 looks at all"
    ]


def symmetry_outcome(
    folder: str, rows: pa.Table, facts: SymmetryFacts, classes: tuple[str, ...]
) -> dict[str, Any]:
    """Writes figures, sheets and the page, and prints what came of it; where they are."""
    figures, target = symmetry_figures(rows), rows["target"].to_numpy()
    by_class = [
        (classes[k], symmetry_figures(rows.filter(pa.array(target == k))))
        for k in np.unique(target)
    ]
    sheets = _sheets(rows, facts, classes)
    names = ("table", "report", "sheet", *(f"sums_{side}" for side in ("first", "second")))
    files_of = ("symmetry.csv", "report.html", "symmetry.png", "sums_first.png", "sums_second.png")
    places = {n: files.join(folder, file) for n, file in zip(names, files_of, strict=True)}
    places = {n: p for n, p in places.items() if n in ("table", "report") or n in sheets}
    for name, figure in sheets.items():
        files.write_bytes(places[name], figure.png)
    files.write_csv(
        places["table"], [{"labelled": n} | f for n, f in [("all", figures), *by_class]]
    )
    made = symmetry_page(facts, figures, by_class, list(sheets.values()))
    files.write_bytes(places["report"], evaluation_page(made).encode())
    for line in symmetry_summary(facts, figures):
        print(line)
    for note in facts.notes:
        print(f"note: {note}")
    for name, place in places.items():
        print(f"{name}: {place}")
    kept = ("n", "undefined", "pearson", "pearson_low", "pearson_high", "spearman", "verdict")
    return places | {name: figures[name] for name in kept}


def _sheets(
    rows: pa.Table, facts: SymmetryFacts, classes: tuple[str, ...]
) -> dict[str, PageFigure]:
    """The sheet of some photographs, and of each of the two maps its means by class."""
    first, second = (_maps(rows, name) for name in ("first_map", "second_map"))
    ids, pearson = rows["image_id"].to_pylist(), rows["pearson"].to_pylist()
    side = first.shape[-1]
    panels = [
        SymmetryPanels(
            np.frombuffer(rows["picture"][place].as_py(), np.uint8).reshape(side, side, 3),
            first[place], second[place], facts.pair, pearson[place], ids[place],
        )
        for place in range(min(EXAMPLES, rows.num_rows))
    ]  # fmt: skip
    said = "Green speaks for the class, red against it; each map has its own scale."
    sheets = {"sheet": PageFigure("Photographs", symmetry_sheet(panels), said)}
    target, answer = (rows[name].to_numpy() for name in ("target", "prediction"))
    right = target == answer
    if not right.any():
        return sheets
    for name, maps, toward in zip(("first", "second"), (first, second), facts.pair, strict=True):
        sums = SumHeatMap()
        sums.add(torch.from_numpy(maps[right])[:, None], torch.from_numpy(target[right]))
        means = {classes[k]: mean.numpy() for k, mean in sums.means().items()}
        counts = {classes[k]: count for k, count in sums.counts.items()}
        said = f"Mean maps toward {toward} of photographs that the network is right of, by class."
        sheets[f"sums_{name}"] = PageFigure(
            f"Sum heat map toward {toward}", sum_sheet(means, counts), said
        )
    return sheets


def _maps(rows: pa.Table, name: str) -> np.ndarray:
    """A column of maps, [N, side, side]."""
    side = rows["side"][0].as_py()
    return np.array(rows[name].to_pylist(), np.float32).reshape(-1, side, side)
