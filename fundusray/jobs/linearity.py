"""The job that asks whether a network's answer is linear in the units of a layer."""

import shlex
from typing import Any

import numpy as np
import pyarrow as pa

from fundusray import files
from fundusray.cluster.attack import attacked_sample
from fundusray.cluster.linearity import LinearityPlan, linearity_location
from fundusray.command import Command
from fundusray.config import Recipe
from fundusray.errors import InputError
from fundusray.jobs.attacking import photographs_asked
from fundusray.jobs.class_of_text import class_of_text
from fundusray.jobs.command_to_recipe import own_number, print_recipe
from fundusray.jobs.evaluating import asked_recipe, new_photographs
from fundusray.jobs.looks import record_look
from fundusray.metrics.linearity import linearity_figures, stacked, step_figures, unit_fits
from fundusray.models import feature_layers
from fundusray.models.bundle import Bundle, load_bundle
from fundusray.models.load_weights import bundle_folder, weights_digest
from fundusray.registry import unknown_name
from fundusray.reports.evaluation_page import evaluation_page
from fundusray.reports.linearity_figures import unit_squares
from fundusray.reports.linearity_page import LinearityFacts, linearity_page, linearity_summary
from fundusray.runs.check_segmentation import require_label
from fundusray.saliency.activations import WHOLE, named_layer
from fundusray.saliency.linearity import DOUBLINGS, require_units
from fundusray.saliency.registry import OUTPUTS

OWN = ("linearity.rows", "layer", "target", "output", "doublings")
"""What this job takes beside the settings of a recipe."""
ROWS = 100
"""Photographs that are looked at unless told otherwise; 0: all."""
MOST_DOUBLINGS = 24
PREDICTED = "predicted"
PICTURES, DRAWN = 3, 16
"""Photographs whose units are drawn, and units of each."""


def linearity(asked: Command) -> dict[str, Any]:
    """Sweeps a bundle's own test rows, or all other photographs it does not know, along their
    gradients, and follows the attributions of a layer's units."""
    if len(asked.words) != 1:
        raise InputError("give one bundle: python jobs/linearity.py <run folder>/bundle layer=...")
    num = photographs_asked(asked.changes, "linearity.rows", ROWS)
    doublings, _ = own_number(asked, "doublings", str(DOUBLINGS), MOST_DOUBLINGS)
    output = asked.changes.get("output", OUTPUTS[0])
    if output not in OUTPUTS:
        raise unknown_name("output", output, OUTPUTS)
    place = bundle_folder(asked.words[0])
    bundle = load_bundle(place)
    require_label(bundle.recipe, place)
    target = class_asked(asked.changes.get("target", PREDICTED), bundle.classes)
    path = unit_layer(bundle, asked.changes.get("layer", ""))
    require_units(bundle.model, path, bundle.recipe.data.size)
    plan = LinearityPlan(path, target, output, doublings)
    changes = {key: value for key, value in asked.changes.items() if key not in OWN}
    recipe = asked_recipe(place, bundle.recipe, changes)
    if asked.show:
        return print_recipe(recipe)
    prepared, opened, judged = new_photographs(recipe, place, bundle)
    rows = attacked_sample(judged.rows, num, recipe.split_seed)
    key = [weights_digest(place), files.base_name(prepared), rows.tolist(), plan.text]
    folder = files.join(recipe.run.storage, f"{recipe.name}-linearity-{files.hash_json(key, 8)}")
    location = linearity_location(place, prepared, rows, plan, folder, recipe.cluster.cpus)
    seen = {"predictions": location, "reported_split": judged.side}
    looks = record_look(opened.info["manifest"], seen, recipe.run.storage, folder)
    notes = [*judged.notes, *_notes(len(rows), len(judged.rows)), *looks.notes]
    facts = _facts(asked, recipe, plan, bundle.classes, notes)
    start = {"status": "finished", "folder": folder, "bundle": place, "rows": location}
    start |= {"layer": facts.layer, "reported_split": judged.side}
    return start | linearity_outcome(folder, files.read_table(location), facts) | looks.result


def class_asked(text: str, classes: tuple[str, ...]) -> int | None:
    """The class that is explained, by its name or its number; None: what the network answers.

    Raises:
        InputError: there is no such class.
    """
    if text == PREDICTED:
        return None
    return class_of_text("target", text, classes, (PREDICTED,))


def unit_layer(bundle: Bundle, name: str) -> str:
    """The path of the layer whose units are followed: the one of that name; where none is named,
    the first fully connected one of the network's own head (model.hidden), else its last feature
    map.

    Raises:
        InputError: no such layer; the network's are listed.
    """
    model = bundle.recipe.model
    if not name and not model.hidden:
        return feature_layers(model.name)["last"]
    return named_layer(bundle.model, name or f"{bundle.model.heads[0]}.0")


def _notes(num: int, all_rows: int) -> list[str]:
    if num == all_rows:
        return []
    return [
        f"{num:,} of {all_rows:,} photographs were looked at, chosen by the seed of the split; "
        "linearity.rows=0 looks at all"
    ]


def _facts(
    asked: Command, recipe: Recipe, plan: LinearityPlan, classes: tuple[str, ...], notes: list[str]
) -> LinearityFacts:
    words = [*asked.words, *(f"{key}={value}" for key, value in asked.changes.items())]
    command = f"python jobs/linearity.py {' '.join(map(shlex.quote, words))}"
    whose = "the network's answer" if plan.target is None else classes[plan.target]
    output = f"the {plan.output} of {whose}"
    return LinearityFacts(recipe.name, plan.path.removeprefix(WHOLE), output, tuple(notes), command)


def linearity_outcome(folder: str, rows: pa.Table, facts: LinearityFacts) -> dict[str, Any]:
    """Writes the figures of units and the page, and prints what came of it; where they are."""
    figures, steps = linearity_figures(rows), step_figures(rows)
    names = ("image_id", "patient_id", "target", "explained", "unit")
    columns = {name: rows[name].to_pylist() for name in names} | {
        name: values.tolist() for name, values in unit_fits(rows).items()
    }
    units = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    table, page = files.join(folder, "units.csv"), files.join(folder, "report.html")
    files.write_csv(table, units)
    made = linearity_page(facts, figures, steps, _pictures(rows))
    files.write_bytes(page, evaluation_page(made).encode())
    for line in linearity_summary(facts, figures):
        print(line)
    for note in facts.notes:
        print(f"note: {note}")
    print(f"table: {table}\nreport: {page}")
    kept = ("n", "r_squared_difference", "r_squared_gradient", "gradient_change", "built")
    ends = {"units": table, "report": page, "verdict": figures["verdict"]}
    return ends | {name: figures[name] for name in kept}


def _pictures(rows: pa.Table) -> list[tuple[str, bytes]]:
    """(photograph, its squares) of the first ones."""
    ids = np.array(rows["image_id"].to_pylist(), dtype=object)
    attribution, units = stacked(rows, "attribution"), rows["unit"].to_numpy()
    pictures = []
    for name in list(dict.fromkeys(ids.tolist()))[:PICTURES]:
        own = np.flatnonzero(ids == name)[:DRAWN]
        pictures.append((name, unit_squares(attribution[own].T, units[own].tolist())))
    return pictures
