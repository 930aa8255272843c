"""Which settings decide a result, and what of a recipe is not its default: what names are made of.

A run is found again by a digest of its settings. Defaults are left out of it, so that a setting
which is added tomorrow, with a default that does what is done today, orphans nothing. Defaults are
therefore part of the contract: where the default of a setting that decides changes, or what a value
means, SCHEMA goes up (`tests/runs/defaults.json` holds them). Which settings decide nothing is said
where they stand, in their field's metadata.
"""

import dataclasses
import json
import typing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, Field
from typing import Any

SCHEMA = 1
"""Of names: goes up with a changed default, and with what else a key is made of."""
DECIDES = "decides"
SILENT = {DECIDES: False}
"""Metadata of a setting that decides no result, nor does anything in it where it is a section:
where something runs, what is allowed, a place whose content counts and not its name."""


def deciding_where(condition: Callable[[Any], bool]) -> dict[str, Any]:
    """Metadata of a setting that decides a result only where the recipe is so."""
    return {DECIDES: condition}


def deciding(recipe: Any) -> dict[str, Any]:
    """Dotted key -> value, as JSON has it, of every setting that decides a result and is not its
    default."""
    found = {}
    for key, entry, value in _walk(recipe):
        decides = entry.metadata.get(DECIDES, True)
        if _plain(value, entry.type) != _default(entry) and (decides is True or decides(recipe)):
            found[key] = _plain(value, entry.type)
    return found


def differing(section: Any, names: Iterable[str]) -> dict[str, Any]:
    """Name -> value, as JSON has it, of those settings of a section that are not their default."""
    entries = {entry.name: entry for entry in dataclasses.fields(section)}
    values = {name: _plain(getattr(section, name), entries[name].type) for name in names}
    return {name: value for name, value in values.items() if value != _default(entries[name])}


def defaults(recipe: Any) -> dict[str, Any]:
    """Dotted key -> default, as JSON has it, of every setting that can decide a result."""
    return {key: _default(entry) for key, entry, _ in _walk(recipe)}


def _walk(node: Any, prefix: str = "") -> Iterator[tuple[str, Field, Any]]:
    """(dotted key, field, value) of every setting that can decide."""
    for entry in dataclasses.fields(node):
        value = getattr(node, entry.name)
        if entry.metadata.get(DECIDES, True) is False:
            continue
        if dataclasses.is_dataclass(value):
            yield from _walk(value, f"{prefix}{entry.name}.")
        else:
            yield prefix + entry.name, entry, value


def _default(entry: Field) -> Any:
    value = entry.default if entry.default_factory is MISSING else entry.default_factory()
    return _plain(value, entry.type)


def _plain(value: Any, kind: Any) -> Any:
    """The value as JSON has it, whole numbers of a setting that takes any as what they are to it:
    a recipe that was written and read again is the same one."""
    if kind is float:
        return float(value)
    if typing.get_origin(kind) is tuple:
        return [_plain(part, typing.get_args(kind)[0]) for part in value]
    return json.loads(json.dumps(value))
