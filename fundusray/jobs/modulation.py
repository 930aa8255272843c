"""The job that compares targeted modulation with other maps on photographs new to a network."""

import shlex
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from fundusray import files
from fundusray.attacks.budget import NORMS, parse_eps
from fundusray.cluster.attack import attacked_sample
from fundusray.cluster.class_matching import in_classes_of
from fundusray.cluster.evaluate import predictions_location
from fundusray.cluster.modulation import modulation_location
from fundusray.command import Command
from fundusray.config import Recipe
from fundusray.data.prepared.prepared_set import open_set
from fundusray.errors import InputError
from fundusray.jobs.attacking import photographs_asked
from fundusray.jobs.class_of_text import class_of_text
from fundusray.jobs.command_to_recipe import own_number, print_recipe
from fundusray.jobs.evaluating import NewPhotographs, asked_recipe, new_photographs
from fundusray.jobs.looks import record_look
from fundusray.jobs.method_notes import permuted_note
from fundusray.metrics import figure_summary
from fundusray.metrics.regions import (
    correlation_figures,
    enrichment_claim,
    reached_figures,
    region_figures,
)
from fundusray.models.bundle import Bundle, load_bundle
from fundusray.models.load_weights import bundle_folder, weights_digest
from fundusray.registry import unknown_name
from fundusray.reports.evaluation_page import evaluation_page
from fundusray.reports.modulation_page import (
    ModulationFacts,
    ModulationFigures,
    accuracy_sentence,
    better_than_majority,
    difference_text,
    modulation_page,
    modulation_sheet,
    table_rows,
)
from fundusray.reports.number_text import estimate_text, number_text
from fundusray.runs.check_segmentation import require_label
from fundusray.runs.provenance import require_pixels, unseen_rows
from fundusray.saliency import parse_methods
from fundusray.saliency.targeted_modulation import NOWHERE
from fundusray.training.modulation import MODULATION, ModulationPlan, read_pictures

OWN = ("eps", "norm", "steps", "goal", "method", "null", "modulation.rows", "modulation.pictures")
"""What this job takes beside the settings of a recipe."""
ROWS = 100
PICTURES = 8
BUDGETS = "0.25unit01|0.5unit01|1unit01|2unit01|3unit01"
METHODS = ("grad_cam", "occlusion", "integrated_gradients")
"""Maps beside targeted modulation unless told otherwise; Kon (2024, section 6) names the first
two."""


class Compared(NamedTuple):
    """What is compared on which photographs."""

    plan: ModulationPlan
    rows: np.ndarray
    null: str
    """The bundle that learned permuted labels; empty: none."""


def modulation(asked: Command) -> dict[str, Any]:
    """Modulates photographs that are new to a bundle towards another class, and holds where they
    change against other maps, regions of the retina, and a network with nothing to learn."""
    if len(asked.words) != 1:
        raise InputError("give one bundle: python jobs/modulation.py <run folder>/bundle")
    plan, num = asked_plan(asked), photographs_asked(asked.changes, "modulation.rows", ROWS)
    pictures = photographs_asked(asked.changes, "modulation.pictures", PICTURES)
    place = bundle_folder(asked.words[0])
    bundle = load_bundle(place)
    require_label(bundle.recipe, place)
    plan = replace(plan, goal=_goal(asked.changes.get("goal", ""), bundle.classes))
    changes = {key: value for key, value in asked.changes.items() if key not in OWN}
    recipe = asked_recipe(place, bundle.recipe, changes)
    null = bundle_folder(asked.changes["null"]) if asked.changes.get("null") else ""
    if null:
        _require_null(null, bundle, recipe)
    if asked.show:
        return print_recipe(recipe)
    new = new_photographs(recipe, place, bundle)
    judged = new.judged.rows
    rows = attacked_sample(_new_to_both(new, null), num, recipe.split_seed)
    plan = replace(plan, pictured=frozenset(rows[:pictures].tolist()))
    compared = Compared(plan, rows, null)
    nulls = weights_digest(null) if null else ""
    key = [weights_digest(place), nulls, files.base_name(new.prepared), rows.tolist(), plan.text]
    folder = files.join(recipe.run.storage, f"{recipe.name}-modulation-{files.hash_json(key, 8)}")
    cpus = recipe.cluster.cpus
    seen = predictions_location(place, new.prepared, judged, folder, cpus=cpus)
    looked = {"predictions": seen, "reported_split": new.judged.side}
    looks = record_look(new.opened.info["manifest"], looked, recipe.run.storage, folder)
    location = modulation_location(place, new.prepared, rows, plan, folder, cpus)
    by_null = None
    if null:
        bare = replace(plan, pictured=frozenset())
        by_null = files.read_table(
            modulation_location(null, new.prepared, rows, bare, folder, cpus)
        )
    notes = [*_notes(compared, recipe, len(judged)), *new.judged.notes, *looks.notes]
    result = _written(folder, location, by_null, compared, (asked, recipe, new, seen, notes))
    start = {"status": "finished", "folder": folder, "bundle": place, "null": null}
    return start | result | looks.result


def asked_plan(asked: Command) -> ModulationPlan:
    """What is asked of each photograph; the goal is not read yet.

    Raises:
        InputError: budgets without unit or that do not ascend, another norm, or unknown maps.
    """
    changes = asked.changes
    norm = changes.get("norm", NORMS[1])
    if norm not in NORMS:
        raise unknown_name("norm", norm, NORMS)
    if norm != NORMS[1] and "eps" not in changes:
        raise InputError(f'norm={norm}: give its budgets as well: "eps=1/255|2/255|4/255"')
    budgets = tuple(part.strip() for part in changes.get("eps", BUDGETS).split("|"))
    lengths = [parse_eps(text, norm, "eps") for text in budgets]
    if lengths != sorted(set(lengths)):
        raise InputError(f"eps={changes['eps']}: budgets that ascend, each once")
    steps, _ = own_number(asked, "steps", "20", 1000)
    methods = parse_methods(changes.get("method", ",".join(METHODS)))
    if any(method.name == MODULATION for method in methods):
        raise InputError(
            f"method: the maps beside {MODULATION}, which eps, norm and steps describe"
        )
    return ModulationPlan(budgets, norm, steps, methods=methods)


def _goal(text: str, classes: tuple[str, ...]) -> int:
    """The class that is led to, by its name or its number; NOWHERE where none is named.

    Raises:
        InputError: there is no such class.
    """
    if not text:
        return NOWHERE
    return class_of_text("goal", text, classes)


def _require_null(null: str, bundle: Bundle, recipe: Recipe) -> None:
    """Refuses a null that learned true labels, other classes or other pixels.

    Raises:
        InputError: which, and what to do.
    """
    theirs = load_bundle(null)
    if not theirs.recipe.data.permute_labels:
        raise InputError(
            f"null={null} learned true labels; train the same recipe once more with "
            "data.permute_labels=true and give its bundle"
        )
    if tuple(theirs.classes) != tuple(bundle.classes):
        raise InputError(
            f"null={null} knows the classes {list(theirs.classes)}, the network "
            f"{list(bundle.classes)}; train it with the network's own recipe"
        )
    require_pixels(null, theirs.recipe.data, recipe.data)


def _new_to_both(new: NewPhotographs, null: str) -> np.ndarray:
    """Rows that are new to the network and to the null.

    Raises:
        InputError: there is none.
    """
    if not null:
        return new.judged.rows
    opened = load_bundle(null)
    theirs = unseen_rows(in_classes_of(open_set(new.prepared), null, opened), null, opened)
    rows = np.intersect1d(new.judged.rows, theirs.rows)
    if not len(rows):
        raise InputError(
            f"null={null} was trained on all photographs that are new to the network; train it "
            "under the network's own split (data.split_file=<its run>/split.csv)"
        )
    return rows


def _notes(compared: Compared, recipe: Recipe, judged: int) -> list[str]:
    plan, notes = compared.plan, [permuted_note(recipe)]
    if len(compared.rows) < judged:
        notes.append(
            f"{len(compared.rows):,} of {judged:,} photographs were explained, chosen by the seed "
            "of the split; modulation.rows=0 explains all"
        )
    notes.append(
        f"targeted modulation: PGD, {plan.steps} steps, {plan.norm}; its map is of "
        f"{plan.budgets[-1]}"
    )
    notes.append("regions that have no mask are estimated from the photograph (docs/regions.md)")
    return [note for note in notes if note]


def _written(
    folder: str,
    location: str,
    by_null: pa.Table | None,
    compared: Compared,
    about: tuple[Command, Recipe, NewPhotographs, str, list[str]],
) -> dict[str, Any]:
    """Writes figures, sheet and page, and prints what came of it; where they are."""
    asked, recipe, new, seen, notes = about
    rows, accuracy = files.read_table(location), figure_summary(files.read_table(seen))
    figures = ModulationFigures(
        region_figures(rows, by_null),
        correlation_figures(rows),
        reached_figures(rows, compared.plan.budgets),
    )
    claim = enrichment_claim(figures.regions, MODULATION, better_than_majority(accuracy))
    words = [*asked.words, *(f"{key}={value}" for key, value in asked.changes.items())]
    command = f"python jobs/modulation.py {' '.join(map(shlex.quote, words))}"
    facts = ModulationFacts(recipe.name, new.opened.classes, tuple(notes), command, accuracy, claim)
    ends = {
        name: files.join(folder, file)
        for name, file in {
            "table": "regions.csv",
            "correlations": "correlations.csv",
            "reached": "reached.csv",
            "sheet": "sheet.png",
            "report": "report.html",
        }.items()
    }
    files.write_csv(ends["table"], table_rows(figures.regions))
    files.write_csv(ends["reached"], list(figures.reached))
    # Of one map alone there is no pair; the file then holds its head.
    pairs = figures.correlations or [{"first": MODULATION, "second": "", "n": 0}]
    files.write_csv(ends["correlations"], list(pairs))
    sheet = modulation_sheet(_pictured(rows, new.opened.classes))
    files.write_bytes(ends["sheet"], sheet)
    page = modulation_page(facts, figures, sheet)
    files.write_bytes(ends["report"], evaluation_page(page).encode())
    _print(figures, facts)
    for name, place in ({"rows": location} | ends).items():
        print(f"{name}: {place}")
    last = figures.reached[-1]
    measured = {"n": last["n"], "reached_rate": last["reached_rate"], "h12": claim}
    measured |= {name: accuracy[name] for name in ("accuracy", "majority_accuracy")}
    return {"rows": location} | ends | measured


def _pictured(rows: pa.Table, classes: tuple[str, ...]) -> list[tuple[str, dict[str, np.ndarray]]]:
    found = []
    names = ("image_id", "target", "prediction", "goal", "pictures")
    for one in rows.select(names).to_pylist():
        if one["pictures"]:
            true, answer, goal = (classes[one[key]] for key in ("target", "prediction", "goal"))
            words = f"{one['image_id']}: {true}, answered {answer}, led to {goal}"
            found.append((words, read_pictures(one["pictures"])))
    return found


def _print(figures: ModulationFigures, facts: ModulationFacts) -> None:
    print(f"{facts.name}: {accuracy_sentence(facts.accuracy)}")
    for row in figures.reached:
        print(f"  within {row['eps']}: goal reached {estimate_text(dict(row), 'reached_rate')}")
    for row in figures.regions:
        null = row["against_null"]
        beside = f"; against the null {difference_text(null)}" if null else ""
        print(
            f"  {row['method']}, {row['region'].replace('_', ' ')}: "
            f"{estimate_text(dict(row), 'share')} of the energy on {number_text(row['area'])} of "
            f"the area (n {row['n']:,}){beside}"
        )
    for row in figures.correlations:
        both = f"{row['first']} and {row['second']}"
        print(f"  rank correlation of {both}: {estimate_text(dict(row), 'correlation')}")
    print(f"energy on disc and vessels: {facts.claim['verdict']} ({facts.claim['why']})")
    for note in facts.notes:
        print(f"note: {note}")
