"""What a finished run says of itself: `result.json`, which vouches for the run's other files.

Its places are kept as seen from the run's folder, so that a storage can be moved or copied; whoever
reads them gets them absolute.
"""

from collections.abc import Callable
from typing import Any

from fundusray import config, files, sealed
from fundusray.config import Recipe
from fundusray.errors import DamagedError
from fundusray.terminal import tell
from fundusray.training.outcome import table_digests

RESULT = "result.json"
PLACES = ("folder", "bundle", "predictions")
"""Keys of a result whose values are places."""
VOUCHED = (
    "predictions.parquet", "attacked.parquet", "manifest.parquet", "split.csv", "recipe.json",
    "mode.json",
)  # fmt: skip
"""What a run leaves beside its result, as far as it has them."""


def write_recipe(folder: str, recipe: Recipe, storage: str) -> None:
    """Writes what a run was asked for, its places in the storage as seen from the run's folder."""
    placed = config.with_places(recipe, lambda place: files.relative(place, folder, storage))
    files.write_bytes(files.join(folder, "recipe.json"), config.to_json(placed).encode())


def write_result(folder: str, result: dict[str, Any]) -> None:
    """Writes a run's result, which vouches for the files that are beside it now."""
    stored = _placed(result, lambda place: files.relative(place, folder, folder))
    files.write_json(files.join(folder, RESULT), stored | {"files": table_digests(folder, VOUCHED)})


def read_result(folder: str) -> dict[str, Any] | None:
    """A run's result; None where it is not finished.

    Raises:
        DamagedError: it is not what was written.
    """
    result, _ = _read(folder)
    return result


def finished_result(folder: str) -> tuple[dict[str, Any] | None, list[str]]:
    """(a run's result where all of it is what was written, else None; what is damaged)."""
    try:
        result, expected = _read(folder)
    except DamagedError as error:
        return None, [str(error)]
    faults = changed_files(folder, expected)
    return (None if faults else result), faults


def _read(folder: str) -> tuple[dict[str, Any] | None, dict[str, str]]:
    """(a run's result, the digests of the files it vouches for)."""
    location = files.join(folder, RESULT)
    if not files.exists(location):
        return None, {}
    result = _placed(files.read_json(location), lambda place: files.resolve(place, folder))
    return result, result.pop("files", {})


def changed_files(folder: str, expected: dict[str, str]) -> list[str]:
    """Which files are missing or not what was written."""
    there = table_digests(folder, expected)
    return [
        f"{files.join(folder, name)}: {sealed.CHANGED if name in there else 'missing'}"
        for name, digest in expected.items()
        if there.get(name) != digest
    ]


def print_damage(faults: list[str]) -> None:
    """Names what is damaged and about to be made again."""
    for fault in faults:
        tell(f"{fault.partition(';')[0]}: made again")


def _placed(value: dict[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """The result with its places changed, those of its parts too."""
    found: dict[str, Any] = {}
    for key, part in value.items():
        if isinstance(part, dict):
            part = _placed(part, change)
        found[key] = change(part) if key in PLACES and isinstance(part, str) else part
    return found
