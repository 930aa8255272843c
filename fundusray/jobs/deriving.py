"""The job that stores a damaged copy of a data set."""

from dataclasses import replace
from typing import Any

from fundusray.cluster.derive import derive_set
from fundusray.command import Command
from fundusray.conditions import CorruptionCondition, parse_condition
from fundusray.data.prepared.prepared_set import open_set
from fundusray.errors import InputError
from fundusray.jobs.command_to_recipe import prepared_of, print_recipe, recipe_of


def derive(asked: Command) -> dict[str, Any]:
    """Prepares the photographs of a recipe, damages each once as `condition=` says and stores them;
    with the same command again, what is there is given."""
    text = asked.changes.get("condition", "")
    if not text:
        raise InputError(
            'derive needs what to do to the photographs: "condition=wu(level=1-4)" or '
            '"condition=motion_blur(level=2)"'
        )
    condition = parse_condition(text)
    if not isinstance(condition, CorruptionCondition):
        raise InputError(
            f"condition={condition}: a stored copy is of damaged photographs, e.g. wu(level=1-4); "
            "under an attack, which is made for one network, they are looked at by jobs/attack.py"
        )
    left = {key: value for key, value in asked.changes.items() if key != "condition"}
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
