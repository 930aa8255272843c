"""The job that stores a copy of a data set: damaged as by a bad camera, or changed along the
gradients of a network that segments."""

from dataclasses import replace
from typing import Any

import numpy as np

from fundusray import files
from fundusray.cluster.derive import derive_set
from fundusray.cluster.derive_with_network import (
    Deriving,
    check_deriving,
    derive_with_network,
    receipts_of,
)
from fundusray.command import Command
from fundusray.conditions import CorruptionCondition, Enhancement, parse_condition
from fundusray.config import Recipe
from fundusray.data.prepared.prepared_set import open_set
from fundusray.errors import InputError
from fundusray.jobs.command_to_recipe import prepared_of, print_recipe, recipe_of
from fundusray.jobs.deriving_summary import change_figures, change_sentences, receipt_rows
from fundusray.jobs.evaluating import asked_recipe
from fundusray.models.bundle import Bundle, load_bundle
from fundusray.models.load_weights import bundle_folder, weights_digest
from fundusray.registry import unknown_name
from fundusray.runs.provenance import unseen_rows

ROWS = "derive.rows"
ALL, TRAIN = "all", "train"


def derive(asked: Command) -> dict[str, Any]:
    """Prepares photographs, changes each once as `condition=` says and stores them; with the same
    command again, what is there is given."""
    text = asked.changes.get("condition", "")
    if not text:
        raise InputError(
            'derive needs what to do to the photographs: "condition=wu(level=1-4)" or '
            '"condition=motion_blur(level=2)"; with a network that segments also '
            '"condition=layered(eps=1/100, steps=100)" or "condition=selective(eps=1/100)"'
        )
    condition = parse_condition(text)
    if isinstance(condition, Enhancement):
        return _derived_with_network(asked, condition)
    if isinstance(condition, CorruptionCondition):
        return _damaged(asked, condition)
    raise InputError(
        f"condition={condition}: a stored copy is of damaged photographs, e.g. wu(level=1-4), or "
        "of what a network that segments makes of them, layered(eps=1/100) or "
        "selective(eps=1/100); under an attack, which is made for one network, they are looked at "
        "by jobs/attack.py"
    )


def _damaged(asked: Command, condition: CorruptionCondition) -> dict[str, Any]:
    """A copy as a bad camera takes it."""
    left = {key: value for key, value in asked.changes.items() if key != "condition"}
    if ROWS in left:
        raise InputError(f"{ROWS}: damage is of all photographs; leave it out")
    for word in asked.words:
        if files.exists(files.join(bundle_folder(word), "recipe.json")):
            raise InputError(
                f"condition={condition}: damage knows no network; give the name of a recipe, or "
                f"none, in place of {word}"
            )
    recipe = recipe_of(replace(asked, changes=left), "demo")
    if asked.show:
        return print_recipe(recipe)
    # What is stored is damaged already; training on it damages it no further.
    recipe = replace(recipe, data=replace(recipe.data, corrupt=""))
    frames = prepared_of(recipe, trains=False, frames=True)
    folder = derive_set(frames, recipe.data, condition, recipe.run.storage)
    num = len(open_set(folder))
    print(f"derived set: {num:,} photographs under {condition}; {folder}")
    print(f"train on both: data.mix={folder}")
    return {"status": "finished", "prepared": folder, "condition": str(condition), "rows": num}


def _derived_with_network(asked: Command, condition: Enhancement) -> dict[str, Any]:
    """A copy that a network's gradients made, with the receipts as a table."""
    if len(asked.words) != 1:
        raise InputError(
            f"condition={condition} is made with a network that segments; give its bundle: python "
            f'jobs/derive.py <run folder>/bundle "condition={condition}" data.encoding=raw'
        )
    place = bundle_folder(asked.words[0])
    bundle = load_bundle(place)
    side = asked.changes.get(ROWS, ALL)
    if side not in (ALL, TRAIN):
        raise unknown_name(ROWS, side, (ALL, TRAIN))
    changes = {key: value for key, value in asked.changes.items() if key != ROWS}
    recipe = asked_recipe(place, bundle.recipe, changes)
    recipe = replace(recipe, data=replace(recipe.data, corrupt="", judge_corrupt="", mix=""))
    if asked.show:
        return print_recipe(recipe)
    prepared = prepared_of(recipe, trains=False)
    check_deriving(open_set(prepared), place, bundle)
    rows = None if side == ALL else _learned_rows(prepared, place, bundle)
    deriving = Deriving(condition, place, weights_digest(place), rows)
    folder = derive_with_network(
        prepared, recipe.data, deriving, recipe.run.storage, recipe.cluster.cpus
    )
    return {"status": "finished", "prepared": folder, "condition": str(condition)} | _told(
        folder, recipe, bundle, condition
    )


def _learned_rows(prepared: str, place: str, bundle: Bundle) -> np.ndarray:
    """The rows of the side that a network learned from.

    Raises:
        InputError: it learned from another set.
    """
    sides = unseen_rows(open_set(prepared), place, bundle).sides
    rows = np.flatnonzero(sides == "train")
    if not len(rows):
        raise InputError(
            f"{ROWS}=train: {place} was trained on other photographs than these; leave {ROWS} out, "
            "and all are changed"
        )
    return rows


def _told(folder: str, recipe: Recipe, bundle: Bundle, condition: Enhancement) -> dict[str, Any]:
    """What was done, printed and written as a table."""
    receipts = receipts_of(open_set(folder))
    table = files.join(folder, "receipts.csv")
    files.write_csv(table, receipt_rows(receipts, bundle.classes))
    figures = change_figures(receipts, bundle.classes)
    print(f"derived set: {len(receipts):,} photographs, {condition}; {folder}")
    for line in change_sentences(figures):
        print(f"  {line}")
    print(f"receipts: {table}")
    print(f"train on both: data.encoding=raw data.mix={folder}")
    return {"receipts": table, "rows": len(receipts)} | figures
