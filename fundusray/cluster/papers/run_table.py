"""A paper's table as runs: its rows' prepared sets and splits, and their trainings."""

import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayError

from fundusray import config, files
from fundusray.cluster.batch_probe import fastest_precision
from fundusray.cluster.papers.scales import with_fewer_images
from fundusray.cluster.papers.table_rows import TableRow
from fundusray.cluster.prepare import prepare_set
from fundusray.cluster.runtime.start import cpus_each
from fundusray.cluster.runtime.train_workers import MOST_CPUS, worker_gpus
from fundusray.cluster.train import train_recipe
from fundusray.config import Recipe, override
from fundusray.data.prepared.frames import stored_data
from fundusray.errors import DiskError, FundusError
from fundusray.runs.split_of_run import OpenSets
from fundusray.settings.deciding import deciding


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


def prepared_sets(rows: list[TableRow], storage: str) -> dict[str, str]:
    """Row -> the folder of its prepared set; rows that look at the same pixels share one."""
    made: dict[str, str] = {}
    found = {}
    for row in rows:
        if row.runs and not row.refused:
            stored = stored_data(row.recipe.data)
            same = replace(
                stored, corrupt="", augment="none", view="", split_file="", split_seed=-1
            )
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
