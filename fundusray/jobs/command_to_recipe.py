"""What every job begins with: from the command line to a recipe and its prepared set."""

import sys
from dataclasses import replace
from typing import Any

from fundusray import config, recipes
from fundusray.cluster import prepare as cluster_prepare
from fundusray.cluster.runtime import start as cluster_start
from fundusray.cluster.runtime.demand import require_room, require_writable
from fundusray.command import Command, with_absolute_places
from fundusray.config import Recipe, override
from fundusray.data.manifest.contract import SOURCES
from fundusray.data.manifest.recognise import find_root, source_of
from fundusray.errors import InputError
from fundusray.runs.check import check


def recipe_of(asked: Command, default: str) -> Recipe:
    """The recipe a command line asks for, `default` where it names none.

    Raises:
        InputError: two names, an unknown one, or settings that cannot be.
    """
    if len(asked.words) > 1:
        raise InputError(f"one recipe name at most, got {' '.join(asked.words)}")
    recipe = recipes.find_recipe(asked.words[0] if asked.words else default)
    if asked.smoke:
        recipe = recipes.smoke_recipe(recipe)
    changes = expanded_changes(asked.changes)
    if recipe.data.keywords and "data.keywords" in changes.keys() - asked.changes.keys():
        _say_dropped(recipe, changes)
    recipe = override(recipe, changes)
    # What would run can be seen before there are any data.
    return recipe if asked.show else with_absolute_places(recipe, cluster_start.in_submitted_job())


def expanded_changes(changes: dict[str, str]) -> dict[str, Any]:
    """The changes with `preset=<name>` and `data=<folder>` spelled out; what is given singly wins.

    Raises:
        InputError: an unknown preset, or a folder that is not there or of no known layout.
    """
    single = {key: value for key, value in changes.items() if key not in ("preset", "data")}
    several: dict[str, Any] = {}
    if "preset" in changes:
        several |= recipes.PRESETS.find(changes["preset"])
    if "data" in changes:
        root = find_root(changes["data"])
        source = source_of(root)
        several |= {"data.source": source, "data.root": root}
        if not SOURCES.facts(source).keywords:
            several["data.keywords"] = ""
    return several | single


def _say_dropped(recipe: Recipe, changes: dict[str, Any]) -> None:
    source = changes.get("data.source", recipe.data.source)
    print(
        f"{recipe.name}: data.keywords={recipe.data.keywords!r} is dropped, all photographs of "
        f"{source} are kept",
        file=sys.stderr,
        flush=True,
    )


def print_recipe(recipe: Recipe) -> dict[str, Any]:
    """Prints the recipe; the job's result."""
    print(config.to_json(recipe))
    return {"status": "shown", "recipe": recipe.name}


def prepared_of(recipe: Recipe, trains: bool = True, frames: bool = False) -> str:
    """Checks the recipe, joins or starts the cluster; the folder of the prepared set.

    Args:
        trains: False: a network that is there is only asked, by as many workers as there is room.
        frames: of the photographs before their light is evened, for what is damaged before it.

    Raises:
        InputError: the recipe cannot run, or its storage or this machine does not suffice.
    """
    check(recipe, learns=trains)
    require_writable(recipe.run.storage)
    cluster_start.start_ray()
    if trains:
        require_room(recipe)
    return cluster_prepare.prepare_set(recipe, recipe.run.storage, frames)


def own_number(asked: Command, name: str, default: str, most: int) -> tuple[int, Command]:
    """A whole number that is a job's own (`repeats=3`), and the rest of the command.

    Raises:
        InputError: it is none, or more than `most`.
    """
    changes = dict(asked.changes)
    given = changes.pop(name, default)
    if not given.isdigit() or not 1 <= int(given) <= most:
        raise InputError(f"{name}: a number from 1 to {most}, got {given!r}")
    return int(given), replace(asked, changes=changes)
