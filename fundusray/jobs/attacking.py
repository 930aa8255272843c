"""The job that attacks a trained network on photographs that are new to it."""

import shlex
from typing import Any

import pyarrow as pa

from fundusray import files
from fundusray.attacks import ATTACKS
from fundusray.attacks.masking import masking_warnings
from fundusray.cluster.attack import AttackPlan, ascending, attack_bundle, attacked_sample
from fundusray.cluster.segmentation_attack import attack_segmentations
from fundusray.command import Command
from fundusray.conditions import (
    Clean,
    CorruptionCondition,
    WorstCase,
    parse_attacks_of_any_task,
    parse_condition,
    require_attack_of_task,
)
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.errors import InputError
from fundusray.jobs.command_to_recipe import print_recipe
from fundusray.jobs.evaluating import asked_recipe, new_photographs
from fundusray.jobs.looks import record_look
from fundusray.jobs.segmentation_attacking import write_segmentation_attack
from fundusray.metrics.robustness import attack_figures
from fundusray.models.bundle import load_bundle
from fundusray.models.load_weights import bundle_folder, weights_digest
from fundusray.reports.attack_page import attack_page, budget_text
from fundusray.reports.evaluation_page import evaluation_page
from fundusray.reports.number_text import estimate_text, people_text
from fundusray.runs.check_segmentation import require_label
from fundusray.runs.provenance import UnseenRows
from fundusray.tasks import is_segmentation

OWN = ("attack", "attack.rows", "condition", "surrogate")
"""What this job takes beside the settings of a recipe."""
ROWS = 240
"""Photographs that are attacked unless told otherwise, as many as Wu 2020 attacked; 0: all."""


def attack(asked: Command) -> dict[str, Any]:
    """Attacks a bundle on its own test rows, or on all other photographs it does not know."""
    if len(asked.words) != 1:
        raise InputError("give one bundle: python jobs/attack.py <run folder>/bundle attack=...")
    plan, num = _asked_plan(asked.changes)
    place = bundle_folder(asked.words[0])
    bundle = load_bundle(place)
    segments = is_segmentation(bundle.recipe)
    require_attack_of_task(plan.attacks[0], segments)
    if segments and plan.surrogate:
        raise InputError(
            f"surrogate={plan.surrogate}: images are transferred between networks that give a "
            "class to a whole image; a segmentation is attacked along its own gradients"
        )
    if plan.surrogate:
        require_label(load_bundle(plan.surrogate).recipe, plan.surrogate)
    changes = {key: value for key, value in asked.changes.items() if key not in OWN}
    recipe = asked_recipe(place, bundle.recipe, changes)
    if asked.show:
        return print_recipe(recipe)
    damaged = isinstance(plan.condition, CorruptionCondition)
    prepared, opened, judged = new_photographs(recipe, place, bundle, frames=damaged)
    if not segments:
        require_attack_order(plan, opened)
    rows = attacked_sample(judged.rows, num, recipe.split_seed)
    key = files.hash_json(
        [weights_digest(place), files.base_name(prepared), rows.tolist(), plan.text], 8
    )
    folder = files.join(recipe.run.storage, f"{recipe.name}-attack-{key}")
    attacked = attack_segmentations if segments else attack_bundle
    location = attacked(place, prepared, rows, plan, folder, recipe.cluster.cpus)
    table = files.read_table(location)
    seen = {"predictions": location, "reported_split": judged.side}
    looks = record_look(opened.info["manifest"], seen, recipe.run.storage, folder)
    signs = [] if segments else masked(table)
    notes = [*_notes(plan, judged, len(rows)), *signs, *looks.notes]
    written = write_segmentation_attack if segments else write_attack
    title, command = f"{recipe.name} under attack", _command(asked)
    told = written(folder, table, opened.classes, title, notes, command)
    return {
        "status": "finished",
        "folder": folder,
        "bundle": place,
        "prepared": prepared,
        "rows": location,
        "condition": str(plan.condition),
        "reported_split": judged.side,
    } | (told | looks.result)


def _asked_plan(changes: dict[str, str]) -> tuple[AttackPlan, int]:
    """(what is attacked how, how many photographs are).

    Raises:
        InputError: no attack, or settings that cannot be.
    """
    if "attack" not in changes:
        raise InputError(
            'give the attack: "attack=pgd(eps=2/255, steps=20)", or several budgets: '
            '"attack=autoattack(eps=1/255|2/255)"; of a segmentation "attack=segpgd(eps=2/255)"'
        )
    attacks = ascending(parse_attacks_of_any_task(changes["attack"]))
    condition = parse_condition(changes.get("condition", "clean"))
    camera = isinstance(condition, Clean | CorruptionCondition)
    if not camera or isinstance(condition, WorstCase):
        raise InputError(
            f"condition={condition}: the photographs that are attacked are clean or damaged "
            '("condition=motion_blur(level=2)"); an attack stands in attack='
        )
    num = photographs_asked(changes, "attack.rows", ROWS)
    surrogate = changes.get("surrogate", "")
    return AttackPlan(attacks, condition, surrogate and bundle_folder(surrogate)), num


def photographs_asked(changes: dict[str, str], key: str, default: int) -> int:
    """How many photographs a job is to look at; 0: all.

    Raises:
        InputError: it is no such number.
    """
    text = changes.get(key, str(default))
    if not (text.isdecimal() and text.isascii() and len(text) < 10):
        raise InputError(f"{key}: a number of photographs, or 0 for all, got {text!r}")
    return int(text)


def require_attack_order(plan: AttackPlan, prepared: PreparedSet) -> None:
    """Refuses an attack that needs the order of the classes where it is not known.

    Raises:
        InputError: which, and what to do.
    """
    name = plan.attacks[0].name
    if ATTACKS.facts(name).needs_order and not prepared.ordered and len(prepared.classes) > 2:
        raise InputError(
            f"attack={name} needs classes in their order, which is not known of "
            f"{', '.join(prepared.classes)}; give it (data.classes=<all of them, the worst last>)"
        )


def _notes(plan: AttackPlan, judged: UnseenRows, num: int) -> list[str]:
    """What was attacked and what was not."""
    notes = list(judged.notes)
    if num < len(judged.rows):
        notes.append(
            f"{num:,} of {len(judged.rows):,} photographs were attacked, chosen by the seed of the "
            "split; attack.rows=0 attacks all"
        )
    if str(plan.condition) != "clean":
        notes.append(f"the photographs that were attacked are damaged: {plan.condition}")
    if plan.surrogate:
        notes.append(
            f"the gradients are those of another network, {plan.surrogate}; success is found by "
            "the attacked one (a transfer attack)"
        )
    if judged.side == "val":
        notes.append("the validation photographs that chose the network's epoch: optimistic")
    return notes


def masked(table: pa.Table) -> list[str]:
    """Signs that gradients are masked, under the largest budget of a table of attacked rows."""
    eps = table["eps"].to_numpy()
    largest = table.filter(pa.array(eps == eps.max()))
    columns = (largest[n].to_pylist() for n in ("stage", "zero_gradients", "probabilities"))
    name = largest["attack"][0].as_py().partition("(")[0]
    return masking_warnings([name], *columns)


def _command(asked: Command) -> str:
    """What was typed."""
    words = [*asked.words, *(f"{key}={value}" for key, value in asked.changes.items())]
    return f"python jobs/attack.py {' '.join(map(shlex.quote, words))}"


def write_attack(
    folder: str,
    table: pa.Table,
    classes: tuple[str, ...],
    title: str,
    notes: list[str],
    command: str,
) -> dict[str, Any]:
    """Writes the figures and the page of an attack, and prints what came of it; where they are."""
    figures = attack_figures(table)
    place, page = files.join(folder, "robustness.csv"), files.join(folder, "report.html")
    files.write_csv(place, figures)
    made = attack_page(title, figures, classes, notes, command)
    files.write_bytes(page, evaluation_page(made).encode())
    first = figures[0]
    print(f"{first['attack']}, {first['norm']}, on {people_text(first, 'image')}")
    print(f"  clean accuracy {estimate_text(first, 'clean_accuracy')}")
    for row in figures:
        print(
            f"  eps {budget_text(row['eps'], row['norm'])}: robust accuracy "
            f"{estimate_text(row, 'robust_accuracy')}, success "
            f"{estimate_text(row, 'success_rate')}, changed {estimate_text(row, 'changed_rate')}"
        )
    print(f"  always the most frequent class: {first['majority_accuracy']:.3f}")
    for note in notes:
        print(f"note: {note}")
    print(f"table: {place}\nreport: {page}")
    last = figures[-1]
    return {
        "table": place,
        "report": page,
        "n": first["n"],
        "attack": first["attack"],
        "clean_accuracy": first["clean_accuracy"],
        "robust_accuracy": last["robust_accuracy"],
        "majority_accuracy": first["majority_accuracy"],
    }
