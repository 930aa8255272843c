"""What every section of a recipe checks itself with."""

from typing import Any

from fundusray.errors import InputError


def require(condition: bool, setting: str, need: str, given: Any) -> None:
    """Raises InputError naming the setting, what it needs and what was given."""
    if not condition:
        raise InputError(f"{setting}: {need}, got {given!r}")
