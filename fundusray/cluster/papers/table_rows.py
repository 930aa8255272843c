"""The rows of a paper's table, by name and settled: what each is as published, and as it is run."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from typing import Any

from fundusray import files, recipes
from fundusray.cluster.papers.scales import Scale, require_start, scaled_recipe, start_of_row
from fundusray.config import Recipe, is_published, override
from fundusray.errors import InputError
from fundusray.registry import unknown_name
from fundusray.runs.check import check
from fundusray.runs.identity import with_training_seed
from fundusray.settings.deciding import SCHEMA, deciding


@dataclass(frozen=True)
class TableRow:
    """A row of a table, settled."""

    name: str
    published: Recipe
    """As the paper has it."""
    recipe: Recipe
    """As it is run; of a row that starts from another, `model.init_from` is filled in later."""
    parent: str = ""
    """The row from whose trained network it starts."""
    refused: str = ""
    """Why it cannot be run; empty where it can."""
    repeat: int = 0
    """Which training of the row this is, from 0."""

    @property
    def runs(self) -> bool:
        """Whether it is to be trained at all: not another work's figures."""
        return not self.published.published.get(recipes.QUOTED)

    @property
    def label(self) -> str:
        """Its name, and which training of it this is."""
        return self.name + (f", training {self.repeat + 1}" if self.repeat else "")

    @property
    def key(self) -> tuple[str, int]:
        return self.name, self.repeat


def tables_by_name() -> dict[str, list[str]]:
    """Every table's name -> its rows, in the papers' order."""
    found: dict[str, list[str]] = {}
    for name in recipes.RECIPES:
        table, _, row = name.rpartition(".")
        if table and row:
            found.setdefault(table, []).append(name)
    return found


def rows_of(table: str, chosen: str = "") -> list[str]:
    """The names of a table's rows, or of those `chosen`: names or patterns with commas between.

    A table is a whole beginning of recipe names: `wu.table5`, `yu`.

    Raises:
        InputError: no such table or row; the nearest is named.
    """
    names = [name for name in recipes.RECIPES if name.startswith(f"{table}.")]
    if not table or not names:
        raise unknown_name("table", table, tables_by_name())
    short = {name: name.removeprefix(f"{table}.") for name in names}
    wanted = [word.strip().removeprefix(f"{table}.") for word in chosen.split(",") if word.strip()]
    for word in wanted:
        if not any(fnmatch(row, word) for row in short.values()):
            raise unknown_name(f"row of {table}", word, short.values())
    return [n for n in names if not wanted or any(fnmatch(short[n], word) for word in wanted)]


def plan_rows(
    names: list[str],
    scale: Scale,
    changes: dict[str, str],
    starts: dict[str, str],
    settle: Callable[[Recipe], Recipe],
) -> list[TableRow]:
    """The rows of a table, in the paper's order, and those they start from.

    Args:
        changes: dotted settings for every row; they win over the scale.
        starts: of `starts_of`; in place of published ImageNet weights.
        settle: makes a recipe's places absolute.

    Raises:
        InputError: settings that no row can have.
    """
    wanted, more = set(names), set(names)
    while more := {_parent(name) for name in more} - wanted - {""}:
        wanted |= more
    names = [name for name in recipes.RECIPES if name in wanted]
    largest = max(recipes.find_recipe(name).data.size for name in names)
    if scale.network:
        require_start(map(recipes.find_recipe, names), scale, starts)
    rows, errors = [], []
    for name in names:
        row = TableRow(name, recipes.find_recipe(name), recipes.find_recipe(name), _parent(name))
        if row.runs:
            try:
                row = replace(row, recipe=_settled(row, scale, largest, changes, starts, settle))
                check(row.recipe)
            except InputError as error:
                row = replace(row, refused=str(error))
                errors.append(error)
        rows.append(row)
    if errors and len(errors) == sum(row.runs for row in rows):
        raise errors[0]
    return rows


def _parent(name: str) -> str:
    start = recipes.find_recipe(name).model.init_from
    return start if start in recipes.RECIPES else ""


def _settled(
    row: TableRow,
    scale: Scale,
    largest: int,
    changes: dict[str, str],
    starts: dict[str, str],
    settle: Callable[[Recipe], Recipe],
) -> Recipe:
    """The recipe of a row as it is run."""
    recipe = row.published
    if row.parent:
        bare = {"model.init_from": "", "model.weights": ""}
        recipe = override(
            scaled_recipe(recipe, replace(Scale(), network=scale.network), largest), bare
        )
        changes = {k: v for k, v in changes.items() if k not in ("model.weights",)}
    if "model.name" in changes:  # whose smallest side counts
        recipe = override(recipe, {"model.name": changes["model.name"]})
    recipe = override(scaled_recipe(recipe, scale, largest), changes)
    if is_published(recipe.model.weights) and "model.weights" not in changes:
        start = start_of_row(recipe.model.name, scale, starts)
        if scale.network or not is_published(start):
            recipe = override(recipe, {"model.weights": start})
    return settle(recipe)


def table_folder(title: str, rows: list[TableRow], storage: str, trainings: int = 1) -> str:
    """Where a table's files go: its name tells which, its hash from what exactly."""
    parts = [[row.name, row.parent, deciding(row.recipe), row.recipe.model.weights] for row in rows]
    places = [[row.recipe.data.root, row.recipe.data.split_file] for row in rows]
    # What is in the storage counts by where it is in there: the storage may be moved.
    parts, places = (_from(storage, found) for found in (parts, places))
    often = [trainings] if trainings > 1 else []
    key = files.hash_json([SCHEMA, parts, places, *often], 8)
    return files.join(storage, f"{title}-{key}")


def _from(storage: str, value: Any) -> Any:
    """The value with its places in the storage as seen from there."""
    if isinstance(value, list):
        return [_from(storage, part) for part in value]
    return files.relative(value, storage, storage) if isinstance(value, str) else value


def repeated_rows(rows: list[TableRow], trainings: int) -> list[TableRow]:
    """Every row so many times, with training seeds seed, seed + 1, ... on the split of the first;
    what starts from a row starts from its training of the same number."""
    return [
        replace(row, recipe=with_training_seed(row.recipe, repeat), repeat=repeat)
        if repeat
        else row
        for repeat in range(trainings)
        for row in rows
    ]
