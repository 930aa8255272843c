"""What a run is called: its folder's name tells what, its key exactly what."""

from fundusray import files
from fundusray.config import Recipe, override
from fundusray.settings.deciding import SCHEMA, deciding


def run_key(
    recipe: Recipe, *, photographs: str, pixels: int, split: str, start: str, copies: str = ""
) -> str:
    """The digest of everything that decides a run's result.

    Of the recipe, the settings that are not their defaults, so that a setting which is added later
    changes no key; what is left at its default is held by the schema's number.

    Args:
        photographs: of the prepared set, `info["manifest"]`: its rows and what is in their files.
        pixels: version of the preprocessing.
        split: digest of who is on which side.
        start: digest of the weights it begins with.
        copies: digests of the sets that data.mix names, in their order; empty without one.
    """
    parts = {
        "schema": SCHEMA,
        "settings": deciding(recipe),
        "photographs": photographs,
        "pixels": pixels,
        "split": split,
        "start": start,
    }
    return files.hash_json(parts | ({"copies": copies} if copies else {}), 16)


def run_folder(recipe: Recipe, key: str, storage: str) -> str:
    """Where the run of that key lives."""
    return files.join(storage, f"{recipe.run.name or recipe.name}-{key[:8]}")


def with_training_seed(recipe: Recipe, repeat: int) -> Recipe:
    """The recipe of the training of that number, from 0: another seed of training on the split of
    the first."""
    if not repeat:
        return recipe
    return override(recipe, {"seed": recipe.seed + repeat, "data.split_seed": recipe.split_seed})
