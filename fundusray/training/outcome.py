"""What a training came to, in its folder: `outcome.json`, written last by its workers."""

from collections.abc import Iterable
from typing import Any

from fundusray import files
from fundusray.errors import DamagedError
from fundusray.terminal import tell

OUTCOME = "outcome.json"
TABLES = ("predictions.parquet", "attacked.parquet")


def outcome_of(folder: str, key: str) -> dict[str, Any]:
    """What the workers of a run wrote at its end; {} where they did not, or for another run.

    A damaged one counts as none, and says so.
    """
    location = files.join(folder, OUTCOME)
    if not files.exists(location):
        return {}
    try:
        outcome = files.read_json(location)
    except DamagedError as error:
        tell(f"{str(error).partition(';')[0]}: made again")
        return {}
    return outcome if outcome.get("key") == key else {}


def write_outcome(folder: str, key: str, outcome: dict[str, Any]) -> None:
    """Writes what a run came to, last of all its files, and which tables belong to it."""
    tables = table_digests(folder, TABLES)
    files.write_json(files.join(folder, OUTCOME), outcome | {"key": key, "tables": tables})


def table_digests(folder: str, names: Iterable[str]) -> dict[str, str]:
    """Name -> sha256 of those files that are there."""
    places = {name: files.join(folder, name) for name in names}
    return {name: files.sha256_file(p) for name, p in places.items() if files.exists(p)}
