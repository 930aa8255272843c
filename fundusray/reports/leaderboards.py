"""Leaderboards and single results: as rows, as files, as a page."""

import math
from typing import Any

import pyarrow as pa

from fundusray import files
from fundusray.errors import InputError
from fundusray.harmless import escaped_markdown
from fundusray.metrics import METRICS
from fundusray.reports import html, sentences, training_repeats
from fundusray.reports.number_text import (
    change_text,
    duration_text,
    estimate_text,
    is_finite_number,
    number_text,
    printable_text,
)
from fundusray.reports.selection import validation_named
from fundusray.reports.trials import (
    MeasuredTrial,
    PageFacts,
    ReportTrial,
    baseline_of,
    is_search,
    measure_trials,
)

__all__ = ["PageFacts", "ReportTrial", "columns", "leaderboard", "write_run", "write_search"]

FIRST = ("method", "loss", "sampler", "n")
LAST = ("majority_accuracy", "seconds", "bundle", "predictions")
COMPARED = ("kappa", "balanced_accuracy")
TEXTS = {"method", "loss", "sampler", "bundle", "predictions", "status", "reason", "paper_time"}
TEXTS |= {"leak", "validation_metric", "held_out_epochs", "precision"}
TRUTHS = {"optimistic", "chosen", "start_chosen"}
INTEGERS = {"n", "num_patients", "num_unknown", "batch", "epochs", "best_epoch", "repeats"}


def columns() -> list[str]:
    """The first columns of every leaderboard, in this order; more may follow."""
    figures = [f"{metric}{end}" for metric in METRICS for end in ("", "_low", "_high")]
    return [*FIRST, *figures, *LAST]


def leaderboard(trials: list[ReportTrial]) -> list[dict[str, Any]]:
    """One row per trial, best kappa first, failed last; None where there is no figure.

    The order is that of the rows the figures are of; which trial a search chose, on validation
    rows, the column `chosen` says.

    Raises:
        FileNotFoundError: a trial names predictions that are not there.
    """
    return _rows(measure_trials(trials))


def _rows(measured: list[MeasuredTrial]) -> list[dict[str, Any]]:
    base = baseline_of(measured)
    return [_row(m, m is base) for m in measured]


def _row(measured: MeasuredTrial, is_baseline: bool) -> dict[str, Any]:
    trial, published = measured.trial, measured.trial.published
    row: dict[str, Any] = dict.fromkeys(columns())
    row |= {key: value for key, value in measured.summary.items() if key in row}
    for key in ("method", "loss", "sampler", "bundle", "predictions"):
        row[key] = printable_text(getattr(trial, key))
    row |= {"seconds": _finite(trial.seconds), "batch": trial.batch, "status": trial.status}
    row |= {"epochs": trial.epochs_run, "best_epoch": trial.best_epoch}
    row["held_out_epochs"] = ", ".join(map(str, trial.held_out_epochs))
    row |= {"start_chosen": trial.start_chosen, "repeats": measured.summary.get("repeats", 1)}
    row["precision"] = trial.precision
    row["kappa_seed_sd"] = measured.summary.get("kappa_seed_sd")
    row["weight_ratio"] = _finite(trial.weight_ratio)
    for metric in COMPARED:
        found = measured.versus.get(metric, {})
        row[f"{metric}_vs_baseline"] = found.get("difference")
        row[f"{metric}_vs_baseline_low"] = found.get("low")
        row[f"{metric}_vs_baseline_high"] = found.get("high")
        row[f"{metric}_verdict"] = "baseline" if is_baseline else found.get("verdict")
    for metric in ("accuracy", "balanced_accuracy", "kappa"):
        row[f"paper_{metric}"] = _finite(published.get(metric))
    row["paper_time"] = duration_text(published["time"]) if published.get("time") else None
    row |= {key: measured.summary.get(key) for key in ("num_patients", "num_unknown")}
    row |= {"chosen": trial.chosen, "validation": _finite(trial.validation)}
    row["validation_metric"] = trial.selected_by if is_finite_number(trial.validation) else None
    return row | {"optimistic": trial.optimistic, "reason": printable_text(trial.reason)}


def _finite(value: Any) -> float | None:
    return float(value) if is_finite_number(value) else None


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    """The rows with a type per column that does not depend on which cells are empty."""

    def kind(name: str) -> pa.DataType:
        if name in TEXTS or name.endswith("_verdict"):
            return pa.string()
        if name in TRUTHS:
            return pa.bool_()
        return pa.int64() if name in INTEGERS else pa.float64()

    return pa.Table.from_pylist(rows, schema=pa.schema([(n, kind(n)) for n in rows[0]]))


def markdown_table(measured: list[MeasuredTrial], about: PageFacts) -> str:
    """The leaderboard in the shape of Wu's Table 5, with intervals, verdicts and notes."""
    title = escaped_markdown(str(about.get("title") or "Leaderboard"))
    majority = sorted({m.summary["majority_accuracy"] for m in measured if m.summary})
    said = [f"{sentences.size_text(measured)}, {sentences.rows_named(measured)} rows"]
    said += [f"majority baseline accuracy {number_text(m)}" for m in majority]
    said += [escaped_markdown(sentences.independence_note(measured, about))]
    said += [
        escaped_markdown(sentences.split_text(about)),
        training_repeats.networks_caption(measured),
    ]
    heads = ["method", "batch", "accuracy", "balanced accuracy", "kappa", "time"]
    heads += ["difference in kappa to the baseline", "paper: accuracy, balanced, kappa, time"]
    lines = [f"# {title}", "", "; ".join(part for part in said if part) + ".", ""]
    if order := sentences.order_note(measured):
        lines += [escaped_markdown(order), ""]
    rules = ["---"] + ["---:"] * 5 + ["---"] * 2
    if is_search(measured):
        heads.insert(2, validation_named(measured))
        rules.insert(2, "---:")
    lines += [_line(heads), _line(rules)]
    base = baseline_of(measured)
    for m in measured:
        cells = _cells(m, m is base)
        if is_search(measured):
            cells.insert(2, number_text(m.trial.validation))
        lines.append(_line(cells))
    notes = [f"- {_note(note)}" for note in sentences.table_notes(measured, about)]
    return "\n".join([*lines, "", *notes]).rstrip() + "\n"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _note(note: str) -> str:
    return escaped_markdown(note)


def _cells(measured: MeasuredTrial, is_baseline: bool) -> list[str]:
    trial, summary = measured.trial, measured.summary
    name = f"{escaped_markdown(trial.method)} {training_repeats.name_marks(measured)}".strip()
    name = f"**{name}** (chosen)" if trial.chosen else name
    figures = [
        estimate_text(summary, m) if summary else ""
        for m in ("accuracy", "balanced_accuracy", "kappa")
    ]
    kappa = measured.versus.get("kappa")
    if is_baseline:
        difference = "baseline"
    elif kappa:
        difference = f"{change_text(kappa)}, {kappa['verdict']}"
    else:
        difference = trial.status if not summary else ""
    return [
        name,
        str(trial.batch),
        *figures,
        duration_text(trial.seconds),
        difference,
        _paper(trial),
    ]


def _paper(trial: ReportTrial) -> str:
    published = trial.published
    parts = [number_text(published.get(m)) for m in ("accuracy", "balanced_accuracy", "kappa")]
    if published.get("time"):
        parts.append(escaped_markdown(duration_text(published["time"])))
    return "paper: " + ", ".join(parts) if published else ""


def write_search(
    folder: str,
    trials: list[ReportTrial],
    study: dict[str, Any],
    about: PageFacts,
    examples: str | None = None,
) -> dict[str, str]:
    """Writes leaderboard.parquet, .csv, .md and report.html; returns where two of them are.

    Args:
        folder: a local folder or URI.
        trials: every trial of the search, failed ones too.
        study: `history`, rows of number, value, state, method; `importance`, dotted setting ->
            share, or empty with an `importance_note` that says why.
        about: what the page says around the figures.
        examples: the location of a sheet of photographs, PNG or JPEG.

    Returns:
        {"report": location of report.html, "leaderboard": location of leaderboard.csv}.

    Raises:
        InputError: there is no trial.
        FileNotFoundError: a trial names predictions, or `examples` a sheet, that is not there.
    """
    if not trials:
        raise InputError("a report needs at least one trial, got none; run the search first")
    measured = measure_trials(trials)
    leak = printable_text(about.get("leak", ""))
    rows = [row | {"leak": leak} for row in _rows(measured)]
    files.write_table(files.join(folder, "leaderboard.parquet"), _table(rows))
    table = files.join(folder, "leaderboard.csv")
    files.write_csv(table, rows)
    text = markdown_table(measured, about)
    files.write_bytes(files.join(folder, "leaderboard.md"), text.encode())
    return {"report": _write_page(folder, measured, study, about, examples), "leaderboard": table}


def write_run(
    folder: str, trial: ReportTrial, about: PageFacts, examples: str | None = None
) -> dict[str, str]:
    """Writes report.html and metrics.json of one training; returns where they are.

    Raises:
        FileNotFoundError: the trial names predictions, or `examples` a sheet, that is not there.
    """
    measured = measure_trials([trial])
    location = files.join(folder, "metrics.json")
    facts = {
        "leak": about.get("leak", ""),
        "patients": sentences.independence_note(measured, about),
    }
    files.write_json(location, _result(measured[0]) | facts)
    return {"report": _write_page(folder, measured, {}, about, examples), "metrics": location}


def _result(measured: MeasuredTrial) -> dict[str, Any]:
    """What metrics.json holds: how the training went, every figure, the confusion matrix."""
    trial = measured.trial
    kept = ("method", "loss", "sampler", "batch", "status", "reason", "epochs_run", "epochs_asked")
    kept += ("best_epoch", "selected_by", "optimistic", "seconds", "weight_ratio", "overrides")
    kept += ("published", "bundle", "predictions", "held_out_epochs", "start_chosen")
    facts = {key: getattr(trial, key) for key in kept}
    facts = {
        k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in facts.items()
    }
    matrix = measured.confusion
    return facts | measured.summary | {"confusion": None if matrix is None else matrix.tolist()}


def _write_page(
    folder: str,
    measured: list[MeasuredTrial],
    study: dict[str, Any],
    about: PageFacts,
    examples: str | None,
) -> str:
    sheet = files.read_bytes(examples) if examples else b""
    location = files.join(folder, "report.html")
    files.write_bytes(location, html.report_page(measured, study, about, sheet).encode())
    return location
