"""The job that learns one change for all photographs and judges it on others."""

import io
import shlex
from typing import Any

import numpy as np

from fundusray import files
from fundusray.attacks import Budget, parse_eps
from fundusray.attacks.budget import NORMS
from fundusray.cluster.attack import attacked_sample
from fundusray.cluster.universal import (
    UniversalPlan,
    learned_location,
    read_perturbation,
    universal_location,
)
from fundusray.command import Command
from fundusray.config import Recipe
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.data.split.assign_sides import halves
from fundusray.errors import InputError
from fundusray.jobs.attacking import photographs_asked
from fundusray.jobs.class_of_text import class_of_text
from fundusray.jobs.command_to_recipe import own_number, print_recipe
from fundusray.jobs.evaluating import asked_recipe, new_photographs
from fundusray.jobs.looks import record_look
from fundusray.metrics.universal import more_than_noise, universal_figures
from fundusray.models.bundle import load_bundle
from fundusray.models.load_weights import bundle_folder, weights_digest
from fundusray.registry import unknown_name
from fundusray.reports.evaluation_page import evaluation_page
from fundusray.reports.number_text import estimate_text, people_text
from fundusray.reports.universal_page import (
    UniversalFacts,
    difference_text,
    perturbation_picture,
    universal_page,
)
from fundusray.runs.check_segmentation import require_label
from fundusray.runs.provenance import UnseenRows

OWN = ("eps", "norm", "goal", "passes", "universal.rows")
"""What this job takes beside the settings of a recipe."""
ROWS = 500
"""Photographs that a perturbation is learned from unless told otherwise; 0: all."""
PASSES = 10
MOST_PASSES = 1000
STEPS = 4
"""Steps that lead from nothing to the border of the budget."""


def universal(asked: Command) -> dict[str, Any]:
    """Learns one perturbation on the rows a bundle was trained on and judges it on its test rows;
    of other photographs, on those of one half of the patients, and on the other half."""
    if len(asked.words) != 1:
        raise InputError("give one bundle: python jobs/universal.py <run folder>/bundle eps=4/255")
    budget, num = _asked_budget(asked), photographs_asked(asked.changes, "universal.rows", ROWS)
    place = bundle_folder(asked.words[0])
    bundle = load_bundle(place)
    require_label(bundle.recipe, place)
    goal = _goal(asked.changes.get("goal", ""), bundle.classes)
    changes = {key: value for key, value in asked.changes.items() if key not in OWN}
    recipe = asked_recipe(place, bundle.recipe, changes)
    if asked.show:
        return print_recipe(recipe)
    prepared, opened, judged = new_photographs(recipe, place, bundle)
    learn, rows, notes = learning_rows(opened, judged, recipe.split_seed)
    some = attacked_sample(learn, num, recipe.split_seed)
    # Not in the order of the set, which may be that of its classes: a batch is to hold several.
    order = np.random.default_rng(recipe.seed).permutation(len(some))
    plan = UniversalPlan(budget, tuple(some[order].tolist()), goal, recipe.seed)
    key = [weights_digest(place), files.base_name(prepared), rows.tolist(), plan.text]
    folder = files.join(recipe.run.storage, f"{recipe.name}-universal-{files.hash_json(key, 8)}")
    location = universal_location(place, prepared, rows, plan, folder, recipe.cluster.cpus)
    seen = {"predictions": location, "reported_split": judged.side}
    looks = record_look(opened.info["manifest"], seen, recipe.run.storage, folder)
    told = f"learned from {len(some):,} of {len(learn):,} photographs"
    notes = [*judged.notes, f"{told} {notes}", *looks.notes]
    learned = learned_location(place, prepared, plan, folder, recipe.cluster.cpus)
    result = _written(folder, (location, learned), plan, _facts(asked, recipe, opened, notes))
    start = {"status": "finished", "folder": folder, "bundle": place, "rows": location}
    return start | result | looks.result


def learning_rows(
    prepared: PreparedSet, judged: UnseenRows, seed: int
) -> tuple[np.ndarray, np.ndarray, str]:
    """(rows that a perturbation is learned from, rows that it is judged by, which these are). No
    patient is among both, as far as patients are known."""
    if judged.side == "all":
        half = halves(prepared.table, judged.rows, seed)
        first, second = (judged.rows[half == one] for one in (0, 1))
        return first, second, "of one half of the patients, judged by the other half"
    learned = np.flatnonzero(judged.sides == "train")
    return learned, judged.rows, f"of its own training, judged by its {judged.side} photographs"


def _asked_budget(asked: Command) -> Budget:
    """How far the perturbation may go, in which steps; `steps` are passes.

    Raises:
        InputError: no budget or one without its unit, another norm, or no number of passes.
    """
    changes = asked.changes
    if "eps" not in changes:
        raise InputError("give the budget with its unit: eps=4/255")
    norm = changes.get("norm", NORMS[0])
    if norm not in NORMS:
        raise unknown_name("norm", norm, NORMS)
    eps = parse_eps(changes["eps"], norm, "eps")
    passes, _ = own_number(asked, "passes", str(PASSES), MOST_PASSES)
    return Budget(norm, eps, eps / STEPS, passes)


def _goal(text: str, classes: tuple[str, ...]) -> int | None:
    """The class that is meant, by its name or its number; None where none is.

    Raises:
        InputError: there is no such class.
    """
    if not text:
        return None
    return class_of_text("goal", text, classes)


def _facts(asked: Command, recipe: Recipe, opened: PreparedSet, notes: list[str]) -> UniversalFacts:
    words = [*asked.words, *(f"{key}={value}" for key, value in asked.changes.items())]
    command = f"python jobs/universal.py {' '.join(map(shlex.quote, words))}"
    return UniversalFacts(recipe.name, opened.classes, tuple(notes), command)


def _written(
    folder: str, places: tuple[str, str], plan: UniversalPlan, facts: UniversalFacts
) -> dict[str, Any]:
    """Writes the figures, the perturbation, its picture and the page, and prints what came of it;
    where they are."""
    rows, learned = files.read_table(places[0]), read_perturbation(places[1])
    figures = universal_figures(rows, plan.goal)
    differences = more_than_noise(rows, plan.goal)
    norm, eps = plan.budget.norm, plan.budget.eps
    said = {"attack": plan.name, "norm": norm, "eps": eps}
    table, page, array, picture = (
        files.join(folder, name)
        for name in ("universal.csv", "report.html", "perturbation.npy", "perturbation.png")
    )
    files.write_csv(table, [said | row for row in figures])
    sink = io.BytesIO()
    np.save(sink, learned.perturbation.numpy())
    files.write_bytes(array, sink.getvalue())
    drawn = perturbation_picture(learned.perturbation.numpy())
    files.write_bytes(picture, drawn)
    made = universal_page(facts, [said | row for row in figures], differences, plan.goal, drawn)
    files.write_bytes(page, evaluation_page(made).encode())
    print(f"{plan.name}, {norm}, on {people_text(figures[0], 'image')}")
    for row in figures:
        goal = "" if plan.goal is None else f", goal {estimate_text(row, 'goal_rate')}"
        print(
            f"  {row['added']}: accuracy {estimate_text(row, 'accuracy')}, changed "
            f"{estimate_text(row, 'changed_rate')}{goal}"
        )
    for name, difference in differences.items():
        print(f"  {name.replace('_', ' ')}, more than noise: {difference_text(difference)}")
    print(f"  always the most frequent class: {figures[0]['majority_accuracy']:.3f}")
    for note in facts.notes:
        print(f"note: {note}")
    print(f"perturbation: {array}\npicture: {picture}\ntable: {table}\nreport: {page}")
    last = figures[-1]
    rates = {name: last[name] for name in ("changed_rate", "goal_rate") if name in last}
    ends = {"perturbation": array, "picture": picture, "table": table, "report": page}
    return ends | {"n": last["n"], "noise_changed_rate": figures[1]["changed_rate"]} | rates
