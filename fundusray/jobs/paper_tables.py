"""The job that makes a paper's table: every row run or reused, shown beside the published one."""

import time
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from fundusray import config, files, recipes
from fundusray.cluster.papers import run_table, table_rows
from fundusray.cluster.papers.run_table import RowOutcome
from fundusray.cluster.papers.table_rows import TableRow
from fundusray.cluster.runtime import start as cluster_start
from fundusray.cluster.runtime.demand import require_room, require_writable
from fundusray.command import Command, with_absolute_places
from fundusray.conditions import parse_attacks, parse_condition, require_condition_of_task
from fundusray.errors import InputError
from fundusray.harmless import file_name_slug
from fundusray.jobs import paper_notes as words
from fundusray.jobs import training
from fundusray.jobs.condition_tables import ConditionTable, condition_table
from fundusray.jobs.looks import Looks, record_look
from fundusray.jobs.table_options import TableOptions, table_options
from fundusray.models.bundle import read_recipe
from fundusray.registry import unknown_name
from fundusray.reports import paper_table as paper_report
from fundusray.reports.number_text import count_text, duration_text
from fundusray.reports.paper_table import DifferenceText, Line
from fundusray.reports.trials import ReportTrial
from fundusray.runs.split_of_run import OpenSets
from fundusray.tasks import is_segmentation


def table(asked: Command) -> dict[str, Any]:
    """Runs every row of a paper's table and writes it beside the published one."""
    if not asked.words:
        return list_tables()
    wishes = table_options(asked)
    names = table_rows.rows_of(wishes.table, wishes.rows)
    _refuse_scheme(wishes.table, names)
    submitted = cluster_start.in_submitted_job()
    places = (
        (lambda recipe: recipe)
        if asked.show
        else (lambda recipe: with_absolute_places(recipe, submitted))
    )
    rows = table_rows.plan_rows(names, wishes.scale, wishes.changes, wishes.starts, places)
    if not any(row.runs for row in rows):
        raise InputError(f"{wishes.table}: the chosen rows are published figures only, none runs")
    conditions = _conditions(rows, wishes)
    if asked.show:
        return _shown(rows, wishes.repeats)
    base = baseline_of(rows, wishes)
    storage = next(row.recipe.run.storage for row in rows if row.name == base)
    require_writable(storage)
    cluster_start.start_ray()
    for row in rows:
        if row.runs and not row.refused:
            require_room(row.recipe)
    slug = file_name_slug(wishes.condition)
    title = f"{wishes.table}-{wishes.scale.name}" + (f"-{slug}" if slug else "")
    folder = table_rows.table_folder(title, rows, storage, wishes.repeats)
    files.sweep(folder)
    sets, opened = run_table.prepared_sets(rows, storage), OpenSets()
    rows = run_table.capped_rows(rows, sets, opened, wishes.scale.images, folder)
    rows = run_table.one_precision(rows, sets, opened, storage)
    told = _told(rows, sets, opened, wishes, base, folder)
    print(f"{told.title}\n{folder}", flush=True)
    looks: dict[str, Looks] = {}
    made = TableCommand(rows, base, folder, told, wishes, looks, opened)
    outcomes: dict[tuple[str, int], RowOutcome] = {}
    trainings = table_rows.repeated_rows(rows, wishes.repeats)
    total, due = sum(row.runs for row in trainings), 0.0

    def tell(outcome: RowOutcome) -> None:
        nonlocal due
        outcomes[outcome.row.key] = outcome
        if outcome.result:
            manifest = opened.at(outcome.prepared).info["manifest"]
            record_look(manifest, outcome.result, storage, folder, looks)
        print(f"training {len(outcomes)} of {total}: {_said(outcome)}", flush=True)
        # The table so far, for who looks in before the last row is done; of many eyes and
        # trainings it takes its time, which is to be a small part of all.
        if not conditions and (began := time.monotonic()) >= due:
            made.write(outcomes, page=False)
            due = time.monotonic() + 10 * (time.monotonic() - began)

    run_table.run_table(trainings, sets, opened, storage, wishes.at_once, tell)
    before = max((one.earlier for one in looks.values()), default=0)
    about = {"patients": told.about["patients"] or "known"} | Looks(before).result
    if not conditions:
        return _ended(list(outcomes.values()), folder, made.write(outcomes, page=True)) | about
    done = [outcomes[row.key] for row in trainings if row.key in outcomes]
    return _finished(done, folder, made.under(conditions, done, storage)) | about


@dataclass(frozen=True)
class TableCommand:
    """A table under way."""

    rows: list[TableRow]
    base: str
    folder: str
    told: DifferenceText
    wishes: TableOptions
    looks: dict[str, Looks]
    """Of its test rows; see `looking`."""
    opened: OpenSets

    def under(
        self, conditions: tuple[str, ...], done: list[RowOutcome], storage: str
    ) -> dict[str, str]:
        """Writes what is left of its networks under conditions; where its files are."""
        cpus, notes = self.rows[0].recipe.cluster.cpus, tuple(self.told.notes)
        asked = ConditionTable(
            self.told.title, conditions, self.base, notes, storage, self.folder, cpus
        )
        return condition_table(done, asked)

    def write(self, outcomes: dict[tuple[str, int], RowOutcome], page: bool) -> dict[str, str]:
        """Writes it as far as it is done; where its files are."""
        done = list(outcomes.values())
        notes = [*self.told.notes, *words.robust_notes(done), *words.constant_rows(done)]
        notes += [note for one in self.looks.values() for note in one.notes]
        lines = [
            _line(
                row,
                [outcomes.get((row.name, repeat)) for repeat in range(self.wishes.repeats)],
                row.name == self.base,
                self.wishes.table,
                self.opened,
            )
            for row in self.rows
        ]
        return paper_report.write_paper_table(
            self.folder, lines, replace(self.told, notes=notes), page
        )


def _conditions(rows: list[TableRow], wishes: TableOptions) -> tuple[str, ...]:
    """Under which the networks of a table are looked at; none: as they are.

    Raises:
        InputError: more than one training of a row.
    """
    found = recipes.RECIPES.facts(rows[0].name).conditions
    conditions = (wishes.condition,) if wishes.condition else found
    if conditions and wishes.repeats > 1:
        raise InputError(
            "repeats: a table of networks under a condition is of one training of each row; leave "
            "repeats out"
        )
    for text in conditions:
        if "|" in text:
            parse_attacks(text)
        else:
            require_condition_of_task(parse_condition(text), segmentation=False)
    return conditions


def _told(
    rows: list[TableRow],
    sets: dict[str, str],
    opened: OpenSets,
    wishes: TableOptions,
    base: str,
    folder: str,
) -> DifferenceText:
    """What stands around the rows. The baseline's data speak for all."""
    recipe = next(row.recipe for row in rows if row.name == base)
    splits = {
        row.name: opened.split(sets[row.name], row.recipe) for row in rows if row.name in sets
    }
    start = opened.start(sets[base], recipe.model)
    notes = words.notes_of(rows, wishes.scale, wishes.starts, base)
    return DifferenceText(
        title=words.title_of(wishes.table, rows, splits, wishes.scale, wishes.changes),
        about=training.about_of(recipe, splits[base], start, "", ""),
        notes=[*notes, *words.same_loss_notes(rows, splits, wishes.table)],
        orientation=words.for_orientation(rows),
        hourly=wishes.hourly,
        panel=words.class_effects_of_rows(rows, splits, wishes.table),
        examples=training.examples_of(recipe, splits[base].prepared, folder),
    )


def _refuse_scheme(table: str, names: list[str]) -> None:
    """Refuses rows of the scheme that a job of its own runs."""
    if any(map(_of_scheme, names)):
        raise InputError(
            f"{table}: its models learn what the first one's gradients made, so one command "
            "trains them in turn: python jobs/segmentation_scheme.py data.root=<folder>"
        )


def _of_scheme(name: str) -> bool:
    """Whether a row is of the scheme that a job of its own runs."""
    return is_segmentation(recipes.find_recipe(name))


def list_tables() -> dict[str, Any]:
    """Prints every table with its rows; the job's result."""
    found = table_rows.tables_by_name()
    for name, rows in sorted(found.items()):
        made = "; by jobs/segmentation_scheme.py" if any(map(_of_scheme, rows)) else ""
        print(f"{name} ({words.title_words(name)}{made})")
        for row in rows:
            print(f"  {row.removeprefix(name + '.')}")
    print("python jobs/table.py <table> scale=small data.source=<source> data.root=<folder>")
    return {"status": "shown", "tables": found}


def baseline_of(rows: list[TableRow], wishes: TableOptions) -> str:
    """The row the others are measured against: as asked, the one called baseline, or the first.

    Raises:
        InputError: an unknown row, or one that is not run.
    """
    able = [row.name for row in rows if row.runs and not row.refused]
    if wishes.baseline:
        asked = f"{wishes.table}.{wishes.baseline.removeprefix(wishes.table + '.')}"
        if asked not in able:
            raise unknown_name("baseline", wishes.baseline, able)
        return asked
    return next((name for name in able if name.endswith(".baseline")), able[0])


def _shown(rows: list[TableRow], repeats: int) -> dict[str, Any]:
    for row in rows:
        seed, split = row.recipe.seed, row.recipe.split_seed
        seeds = ", ".join(str(seed + repeat) for repeat in range(repeats))
        often = f" ({repeats} trainings, seeds {seeds}, on the split of seed {split})"
        start = f" (starts from {row.parent})" if row.parent else ""
        why = row.refused or ("" if row.runs else "published figures only, not run")
        start += often if repeats > 1 and not why else ""
        print(f"{row.name}{start}: {why or config.to_json(row.recipe)}")
    return {"status": "shown", "rows": [row.name for row in rows], "repeats": repeats}


def _said(outcome: RowOutcome) -> str:
    """One line on a finished row."""
    if outcome.reason:
        return f"{outcome.row.label}: failed: {outcome.reason}"
    metrics = outcome.result["metrics"]
    paper_kappa = outcome.row.published.published.get("kappa")
    beside = f" (paper {paper_kappa})" if paper_kappa is not None else ""
    return (
        f"{outcome.row.label}: kappa {training.interval_text(metrics, 'kappa')}{beside} on "
        f"{count_text(metrics['n'], 'eye')}, {duration_text(outcome.result['seconds'])}"
    )


def _line(
    row: TableRow, outcomes: list[RowOutcome | None], baseline: bool, table: str, opened: OpenSets
) -> Line:
    """A row as the report wants it; one that is not done yet is there, too.

    Args:
        outcomes: of each of its trainings; None while it is waited for.
    """
    method = row.name.removeprefix(f"{table}.")
    done = [outcome for outcome in outcomes if outcome is not None and outcome.result]
    if not done:
        trial = _unmeasured(row, outcomes[0], method)
        return Line(name=row.name, trial=trial, start=words.start_text(row))
    outcome, results = done[0], [outcome.result for outcome in done]
    # As it was run, perhaps by an earlier command with other workers.
    ran = read_recipe(outcome.result["bundle"])
    recipe = replace(outcome.recipe, cluster=ran.cluster, train=ran.train)
    split = opened.split(outcome.prepared, recipe)
    trial = training.trial_of(recipe, split, outcome.result, method)
    places = [one.result.get("predictions", "") if one else "" for one in outcomes]
    trial = replace(
        trial,
        baseline=baseline,
        published=_figures(row),
        repeats=tuple(places) if len(places) > 1 else (),
        seconds=fmean(result["seconds"] for result in results),
    )
    return Line(
        name=row.name,
        trial=trial,
        start=words.start_text(row),
        cores=outcome.result["workers"] * outcome.result["cpus"],
        gpus=outcome.result["workers"] * outcome.result["gpus"],
        workers=outcome.result["workers"],
        trainings=len(done),
    )


def _unmeasured(row: TableRow, outcome: RowOutcome | None, method: str) -> ReportTrial:
    """A row without figures: failed, still waiting, or published only."""
    status, reason = "waiting", "not run yet"
    if outcome is not None:
        status, reason = "failed", outcome.reason
    elif not row.runs:
        status, reason = "published", "figures of another work"
    recipe = row.recipe
    return ReportTrial(
        method=method,
        loss=recipe.loss.name,
        sampler=recipe.sampling.name,
        batch=recipe.train.batch,
        epochs_run=0,
        epochs_asked=recipe.train.epochs,
        best_epoch=0,
        selected_by=recipe.train.select,
        optimistic=False,
        seconds=0.0,
        weight_ratio=float("nan"),
        published=_figures(row),
        status=status,
        reason=reason,
    )


def _figures(row: TableRow) -> dict[str, Any]:
    published = row.published.published
    return {key: value for key, value in published.items() if key != recipes.QUOTED}


def _ended(outcomes: list[RowOutcome], folder: str, places: dict[str, str]) -> dict[str, Any]:
    """Prints the table and where the files are; the job's result."""
    print(files.read_bytes(places["table"]).decode())
    for name, place in places.items():
        print(f"{name}: {place}")
    return _finished(outcomes, folder, places)


def _finished(outcomes: list[RowOutcome], folder: str, places: dict[str, str]) -> dict[str, Any]:
    """The job's result: which trainings failed, and where the files are."""
    failed = {outcome.row.label: outcome.reason for outcome in outcomes if outcome.reason}
    names = {outcome.row.name for outcome in outcomes}
    result: dict[str, Any] = {"status": "finished", "folder": folder, "rows": len(names)}
    result |= {"repeats": len(outcomes) // max(len(names), 1)}
    # Where there is no test side the figures are of these two epochs of each training.
    halved = {
        outcome.row.label: epochs
        for outcome in outcomes
        if (epochs := outcome.result.get("held_out_epochs"))
    }
    result |= {"held_out_epochs": halved} if halved else {}
    if failed:
        listing_of = ", ".join(failed)
        reason = f"{len(failed)} of {count_text(len(outcomes), 'training')} failed: {listing_of}"
        result |= {"status": "failed", "code": 1, "reason": reason, "failed": failed}
    return result | places
