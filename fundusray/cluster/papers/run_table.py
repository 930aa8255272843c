"""A paper's table as runs: its rows by name, shrunk to a scale, trained one after the other."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayError

from fundusray import config, files, recipes
from fundusray.cluster.batch_probe import fastest_precision
from fundusray.cluster.papers.scales import (
    Scale,
    require_start,
    scaled_recipe,
    start_of_row,
    with_fewer_images,
)
from fundusray.cluster.prepare import prepare_set
from fundusray.cluster.runtime.start import cpus_each
from fundusray.cluster.runtime.train_workers import MOST_CPUS, worker_gpus
from fundusray.cluster.train import train_recipe
from fundusray.config import Recipe, is_published, override
from fundusray.errors import DiskError, FundusError, InputError
from fundusray.registry import unknown_name
from fundusray.runs.check import check
from fundusray.runs.identity import with_training_seed
from fundusray.runs.split_of_run import OpenSets
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


class RowOutcome(NamedTuple):
    """What became of a row."""

    row: TableRow
    recipe: Recipe
    """As it was trained in the end."""
    prepared: str
    result: dict[str, Any]
    """The run's result.json; empty where it failed."""
    reason: str = ""
    """Why it failed."""


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


def one_precision(
    rows: list[TableRow], sets: dict[str, str], opened: OpenSets, storage: str
) -> list[TableRow]:
    """The rows with one precision, or the difference between two rows could be that.

    Where rows leave it to timing (train.precision=auto), it is the one that a step of the first of
    them is fastest in. A row that asks for one keeps it.
    """
    open_rows = [row for row in rows if row.name in sets and row.recipe.train.precision == "auto"]
    for first in open_rows:
        try:
            split = opened.split(sets[first.name], first.recipe)
            chosen = fastest_precision(first.recipe, split, storage)
        except FundusError:
            # Its batch does not fit, say: it will fail with that reason; the next one is asked.
            continue
        change = {"train.precision": chosen}
        return [
            replace(row, recipe=override(row.recipe, change)) if row in open_rows else row
            for row in rows
        ]
    return rows


def _from(storage: str, value: Any) -> Any:
    """The value with its places in the storage as seen from there."""
    if isinstance(value, list):
        return [_from(storage, part) for part in value]
    return files.relative(value, storage, storage) if isinstance(value, str) else value


def prepared_sets(rows: list[TableRow], storage: str) -> dict[str, str]:
    """Row -> the folder of its prepared set; rows that look at the same pixels share one."""
    made: dict[str, str] = {}
    found = {}
    for row in rows:
        if row.runs and not row.refused:
            same = replace(row.recipe.data, augment="none", view="", split_file="", split_seed=-1)
            looks = deciding(replace(Recipe(), data=same, seed=row.recipe.split_seed))
            key = files.hash_json([looks, same.root])
            if key not in made:
                made[key] = prepare_set(row.recipe, storage)
            found[row.name] = made[key]
    return found


def capped_rows(
    rows: list[TableRow], sets: dict[str, str], opened: OpenSets, images: int, folder: str
) -> list[TableRow]:
    """The rows with a split file that keeps about `images` of their training images: whole
    patients, stratified by grade. Who is judged stays as it is."""
    if not images:
        return rows

    def fewer(recipe: Recipe, prepared: str) -> Recipe:
        return with_fewer_images(recipe, opened.split(prepared, recipe), images, folder)

    return [
        replace(row, recipe=fewer(row.recipe, sets[row.name])) if row.name in sets else row
        for row in rows
    ]


def run_table(
    rows: list[TableRow],
    sets: dict[str, str],
    opened: OpenSets,
    storage: str,
    at_once: int,
    tell: Callable[[RowOutcome], None],
) -> list[RowOutcome]:
    """Trains every row, the first training of all before the second of any, and those that others
    start from before these; what became of them, in the rows' order.

    A row that is done is not trained again; one that fails does not stop the others.

    Args:
        tell: called with each outcome as it comes.

    Raises:
        DiskError: the disk is full, so that no row could go on.
    """
    waiting = [row for row in rows if row.runs]
    waiting.sort(key=lambda row: (row.repeat, bool(row.parent)))
    done: dict[tuple[str, int], RowOutcome] = {}
    running: dict[ray.ObjectRef, RowOutcome] = {}
    task = ray.remote(num_cpus=0, max_retries=0)(_attempt)

    def finish(outcome: RowOutcome, told: dict[str, Any]) -> None:
        if told["code"] == DiskError.exit_code:
            raise DiskError(told["reason"])
        outcome = outcome._replace(result=told["result"], reason=told["reason"])
        done[outcome.row.key] = outcome
        tell(outcome)

    while waiting or running:
        row = next((r for r in waiting if not r.parent or (r.parent, r.repeat) in done), None)
        if row is not None and len(running) < at_once:
            waiting.remove(row)
            outcome, reason = _begun(row, sets, done, at_once)
            arguments = (config.to_json(outcome.recipe), outcome.prepared, storage)
            if reason:
                finish(outcome, _failed(reason))
            elif at_once == 1:
                finish(outcome, _attempt(*arguments, opened))
            else:
                running[task.remote(*arguments)] = outcome
            continue
        (ready,), _ = ray.wait(list(running), num_returns=1)
        finish(running.pop(ready), _got(ready))
    return [done[row.key] for row in rows if row.key in done]


def _begun(
    row: TableRow, sets: dict[str, str], done: dict[tuple[str, int], RowOutcome], at_once: int
) -> tuple[RowOutcome, str]:
    """The row with what it starts from and its share of the CPUs; why it cannot start."""
    recipe, reason = row.recipe, row.refused
    if row.parent and not reason:
        bundle = done[row.parent, row.repeat].result.get("bundle", "")
        reason = "" if bundle else f"the row it starts from, {row.parent}, failed"
        recipe = override(recipe, {"model.init_from": bundle})
    if at_once > 1 and not recipe.cluster.cpus:
        workers = at_once * recipe.cluster.fewest
        cpus = cpus_each(workers, MOST_CPUS, worker_gpus(recipe))
        recipe = override(recipe, {"cluster.cpus": cpus})
    return RowOutcome(row, recipe, sets.get(row.name, ""), {}), reason


def _attempt(
    text: str, prepared: str, storage: str, opened: OpenSets | None = None
) -> dict[str, Any]:
    """One row's training: its result, or why it failed, as plain values."""
    try:
        result = train_recipe(config.from_json(text), prepared, storage, opened)
        return {"result": result, "reason": "", "code": 0}
    except FundusError as error:
        return _failed(str(error), error.exit_code)
    except Exception as error:
        # A fault of ours or of a library: the trace is for whoever mends it, the row says it too.
        traceback.print_exc()
        return _failed(f"{type(error).__name__}: {error}")


def _failed(reason: str, code: int = 1) -> dict[str, Any]:
    return {"result": {}, "reason": reason, "code": code}


def _got(ready: ray.ObjectRef) -> dict[str, Any]:
    try:
        return ray.get(ready)
    except RayError as error:
        return _failed(f"its process died ({type(error).__name__}); give the same command again")
