"""Changing a recipe, and carrying it as JSON.

A recipe is changed in one language only, dotted keys (`loss.args.gamma=3`): on the command line,
by a search and in tables. `override` is the one door for all of them.
"""

import dataclasses
import json
import math
import types
import typing
from collections.abc import Callable
from typing import Any

import fundusray
from fundusray.errors import InputError
from fundusray.registry import unknown_name
from fundusray.settings import (
    Adversarial,
    Cluster,
    Data,
    Loss,
    Model,
    Recipe,
    Results,
    Sampling,
    Segmentation,
    Train,
    Tune,
    is_published,
)
from fundusray.settings.need import require

__all__ = [
    "Adversarial",
    "Cluster",
    "Data",
    "Loss",
    "Model",
    "Recipe",
    "Results",
    "Sampling",
    "Segmentation",
    "Train",
    "Tune",
    "from_json",
    "is_published",
    "override",
    "setting_names",
    "stored_recipe",
    "to_json",
    "with_places",
]


STARTS = ("weights", "init_from")
"""Settings of a model of which one at most says where it starts."""


def override(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """The recipe with dotted keys changed; strings are converted by the field's type.

    Another `loss.name` empties `loss.args` first, so that a focal gamma never reaches another loss;
    so do another `data.preprocess` with `data.preprocess_args` and another `sampling.name` with
    `sampling.quotas`. A start that is given, `model.weights` or `model.init_from`, is in place of
    the recipe's other one.

    Raises:
        InputError: an unknown key (the nearest is named) or a value of the wrong type.
    """
    new_loss = changes.get("loss.name")
    if new_loss is not None and new_loss != recipe.loss.name:
        loss = dataclasses.replace(recipe.loss, name=str(new_loss), args={})
        recipe = dataclasses.replace(recipe, loss=loss)
    new_preprocess = changes.get("data.preprocess")
    if new_preprocess is not None and new_preprocess != recipe.data.preprocess:
        data = dataclasses.replace(recipe.data, preprocess_args={})
        recipe = dataclasses.replace(recipe, data=data)
    new_sampling = changes.get("sampling.name")
    if new_sampling is not None and new_sampling != recipe.sampling.name:
        recipe = dataclasses.replace(recipe, sampling=Sampling(name=new_sampling))
    for start, other in (STARTS, STARTS[::-1]):
        if changes.get(f"model.{start}") and f"model.{other}" not in changes:
            model = dataclasses.replace(recipe.model, **{other: ""})
            recipe = dataclasses.replace(recipe, model=model)
    # All keys of a section change together, so that settings which constrain each other
    # (three fractions, say) are checked only once they are all there.
    tree: dict[str, Any] = {}
    for key, value in changes.items():
        node = tree
        *parents, leaf = key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise unknown_name("setting", key, setting_names(recipe))
        node[leaf] = value
    return _replace(recipe, tree, "", recipe)


def _replace(node: Any, tree: dict[str, Any], prefix: str, recipe: Recipe) -> Any:
    hints = typing.get_type_hints(type(node))
    new: dict[str, Any] = {}
    for key, value in tree.items():
        dotted = prefix + key
        if key not in hints or dotted == "published":
            raise unknown_name("setting", dotted, setting_names(recipe))
        current = getattr(node, key)
        if dataclasses.is_dataclass(current):
            if not isinstance(value, dict):
                raise unknown_name("setting", dotted, setting_names(recipe))
            new[key] = _replace(current, value, dotted + ".", recipe)
        elif isinstance(current, dict):
            if not isinstance(value, dict):
                raise InputError(f"{dotted}: give {dotted}.<name>=<value>, got {value!r}")
            if nested := [name for name, v in value.items() if isinstance(v, dict)]:
                inner = next(iter(value[nested[0]]))
                raise InputError(
                    f"{dotted}.{nested[0]}.{inner}: a name with a dot cannot be given; of "
                    f"data.map write {nested[0]}_{inner}"
                )
            # Names of columns stay text, be it "1".
            convert = str if hints[key] == dict[str, str] else _loose
            new[key] = current | {name: convert(v) for name, v in value.items()}
        elif isinstance(value, dict):
            raise unknown_name("setting", f"{dotted}.{next(iter(value))}", setting_names(recipe))
        else:
            new[key] = _convert(value, hints[key], dotted)
    return dataclasses.replace(node, **new)


def _loose(value: Any) -> Any:
    """A keyword of a loss: a bool, a number, a tuple of numbers, or else the text itself."""
    if not isinstance(value, str):
        return tuple(value) if isinstance(value, list) else value
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    try:
        if "," in value:
            return tuple(float(part) for part in value.strip("()[] ").split(",") if part.strip())
        return float(value)
    except ValueError:
        return value


def _convert(value: Any, hint: Any, setting: str) -> Any:
    """`value` as the field's type.

    Raises:
        InputError: it cannot be.
    """
    try:
        if hint is bool:
            if isinstance(value, bool):
                return value
            return {"true": True, "false": False}[str(value).lower()]
        if hint is int:
            if isinstance(value, bool):
                raise ValueError
            if setting == "train.batch" and value == "auto":
                return 0
            number = int(value) if isinstance(value, int) or str(value).isdigit() else float(value)
            if number != int(number):
                raise ValueError
            return int(number)
        if hint is float and not isinstance(value, bool):
            number = float(value)
            if not math.isfinite(number):
                raise ValueError
            return number
        if hint is str and isinstance(value, str):
            return value
        if isinstance(hint, types.GenericAlias) and typing.get_origin(hint) is tuple:
            parts = value.strip("()[] ").split(",") if isinstance(value, str) else value
            parts = [parts] if isinstance(parts, (int, float)) else parts
            kind = typing.get_args(hint)[0]
            return tuple(_convert(part, kind, setting) for part in parts if str(part).strip())
    except (ValueError, KeyError, TypeError, OverflowError):
        pass
    kind = getattr(hint, "__name__", str(hint)) if hint is not bool else "true or false"
    raise InputError(f"{setting}: needs {kind}, got {value!r}")


def setting_names(recipe: Recipe) -> list[str]:
    """Every dotted key of a recipe."""

    def walk(node: Any, prefix: str) -> list[str]:
        keys: list[str] = []
        for entry in dataclasses.fields(node):
            value = getattr(node, entry.name)
            if dataclasses.is_dataclass(value):
                keys += walk(value, f"{prefix}{entry.name}.")
            elif isinstance(value, dict):
                keys += [f"{prefix}{entry.name}.<name>"] if prefix else []
            else:
                keys.append(prefix + entry.name)
        return keys

    return walk(recipe, "")


def to_json(recipe: Recipe) -> str:
    """The recipe as JSON with sorted keys; `from_json` gives back an equal recipe."""
    return json.dumps(dataclasses.asdict(recipe), sort_keys=True, indent=1)


def from_json(text: str) -> Recipe:
    """The recipe a JSON text holds.

    Raises:
        InputError: not JSON, too large, an unknown or doubled key, or a wrong value.
    """
    if len(text) > 1_000_000:
        raise InputError(f"a recipe is at most 1,000,000 characters, got {len(text):,}")
    try:
        tree = json.loads(text, object_pairs_hook=_unique)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"recipe is not JSON: {error}") from error
    if not isinstance(tree, dict):
        raise InputError(f"a recipe is a JSON object, got {type(tree).__name__}")
    published = tree.pop("published", {})
    require(isinstance(published, dict), "published", "figures by name", published)
    return dataclasses.replace(_replace(Recipe(), tree, "", Recipe()), published=published)


def stored_recipe(text: str, place: str) -> Recipe:
    """The recipe that a run, a bundle or a search keeps at `place`.

    Settings that are newer than it have their defaults.

    Raises:
        InputError: it holds settings or values that this version does not have.
    """
    try:
        return from_json(text)
    except InputError as error:
        raise InputError(
            f"{place} was made by another version of fundusray, with settings that this one "
            f"({fundusray.__version__}) does not have: {error}; use the version that made it, or "
            "train anew"
        ) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in pairs:
        if key in tree:
            raise InputError(f"recipe names {key!r} twice")
        tree[key] = value
    return tree


PLACE_SETTINGS = {
    "data": ("root", "split_file", "id_key", "mix"),
    "model": ("weights", "init_from"),
    "run": ("storage",),
}
"""Settings that name files and folders."""


def with_places(recipe: Recipe, change: Callable[[str], str]) -> Recipe:
    """The recipe with every place changed, each of several roots and sets of copies by itself."""
    several = "," in recipe.data.source
    sections = {}
    for section, names in PLACE_SETTINGS.items():
        node = getattr(recipe, section)
        found = {name: getattr(node, name) for name in names}
        changed = {
            name: ",".join(map(change, place.split(",")))
            if name == "mix" or (name == "root" and several)
            else change(place)
            for name, place in found.items()
        }
        sections[section] = dataclasses.replace(node, **changed)
    return dataclasses.replace(recipe, **sections)
