"""A paper's table beside the measured one: figures, differences, what is decided, what it cost."""

from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from fundusray import files
from fundusray.harmless import escaped_markdown
from fundusray.metrics import METRICS
from fundusray.reports import html, published_figures, sentences, training_repeats
from fundusray.reports.comparisons import comparison_count_text, comparisons, decided_differences
from fundusray.reports.number_text import (
    DASH,
    change_text,
    duration_text,
    estimate_text,
    interval_text,
    is_finite_number,
    number_text,
    printable_text,
    signed_text,
)
from fundusray.reports.training_repeats import verdict_subject
from fundusray.reports.trials import (
    MeasuredTrial,
    PageFacts,
    ReportTrial,
    baseline_of,
    measure_trials,
)

TABLE_METRICS = ("accuracy", "balanced_accuracy", "kappa")
ReportSection = tuple[str, list[str], list[list[str]]]
"""A further table: its title, the names of its columns, its rows as text."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row of the table."""

    name: str
    """The recipe's, in full."""
    trial: ReportTrial
    start: str = ""
    """What it started from, in words."""
    cores: float = 0.0
    """CPU cores that its workers held."""
    gpus: float = 0.0
    workers: int = 1
    trainings: int = 1
    """How many there were; the trial's seconds are the mean of them."""


@dataclass(frozen=True, kw_only=True)
class DifferenceText:
    """Everything a table says besides its rows."""

    title: str
    about: PageFacts
    notes: list[str] = field(default_factory=list)
    """Sentences on the rows: scale, same losses, weights."""
    orientation: bool = False
    """The rows are not what was published: its figures are no target, they stand by for
    orientation."""
    hourly: float = 0.0
    """Price of an hour of one worker; 0: not given."""
    panel: dict[str, Any] = field(default_factory=dict)
    """Row -> what its loss and sampling do to each class."""
    examples: str = ""
    """Location of a sheet of photographs."""


def row_cost(line: Line, hourly: float) -> dict[str, float | None]:
    """core_hours or gpu_hours of all trainings of a row, and money where there is a price; None
    without."""
    seconds = line.trial.seconds * line.trainings
    hours = seconds / 3600 if is_finite_number(seconds) else 0.0
    return {
        "core_hours": hours * line.cores if not line.gpus else None,
        "gpu_hours": hours * line.gpus if line.gpus else None,
        "money": hours * line.workers * hourly if hourly else None,
    }


def write_paper_table(
    folder: str, lines: list[Line], told: DifferenceText, page: bool = True
) -> dict[str, str]:
    """Writes table.md, table.csv, table.json and, with `page`, report.html; where they are.

    Raises:
        FileNotFoundError: a line's predictions, or the sheet of examples, are not there.
    """
    ranked = measure_trials([line.trial for line in lines])
    by_trial = {id(m.trial): m for m in ranked}
    ordered = [by_trial[id(line.trial)] for line in lines]
    compared = comparisons(ordered)
    keys = published_figures.further_keys([line.trial for line in lines])
    rows = [
        _row(line, m, told, compared) | published_figures.further_columns(m, keys)
        for line, m in zip(lines, ordered, strict=True)
    ]
    own = _own_notes(lines, ordered, compared, told)
    notes = list(dict.fromkeys([*own, *sentences.table_notes(ordered, told.about)]))
    place = {name: files.join(folder, f"table.{name}") for name in ("md", "csv", "json")}
    extra = [*_beside(ordered), *difference_sections(compared, told.panel)]
    text = markdown_table(lines, ordered, told, notes, extra)
    files.write_bytes(place["md"], text.encode())
    files.write_csv(place["csv"], rows)
    whole = {"title": told.title, "rows": rows, "comparisons": compared, "notes": notes}
    files.write_json(place["json"], whole | {"panel": told.panel})
    places = {"table": place["md"], "csv": place["csv"], "json": place["json"]}
    if page:
        sheet = files.read_bytes(told.examples) if told.examples else b""
        # The page itself adds what is said of any leaderboard.
        beside = [*own, *told.about.get("notes", [])]
        about: Any = told.about | {"title": told.title, "notes": beside}
        places["report"] = files.join(folder, "report.html")
        whole_page = html.report_page(ranked, {}, about, sheet)
        head, end, rest = whole_page.partition("</main>")
        assert end, "the page's template has a main part"
        whole_page = head + "".join(map(_as_html, extra)) + end + rest
        files.write_bytes(places["report"], whole_page.encode())
    return places


def _row(
    line: Line, measured: MeasuredTrial, told: DifferenceText, compared: list[dict[str, Any]]
) -> dict[str, Any]:
    """A row as plain values; None where there is no figure."""
    trial, summary = line.trial, measured.summary
    row: dict[str, Any] = {"row": line.name, "status": trial.status, "start": line.start}
    row |= {key: summary.get(key) for key in ("n", "num_patients", "num_unknown")}
    for metric in METRICS:
        row |= {f"{metric}{end}": summary.get(f"{metric}{end}") for end in ("", "_low", "_high")}
    row["majority_accuracy"] = summary.get("majority_accuracy")
    mine = {entry["metric"]: entry for entry in compared if entry["row"] == trial.method}
    for metric in METRICS:
        entry = mine.get(metric, {})
        row |= {f"{metric}_{key}": entry.get(key) for key in ("difference", "verdict", "holm")}
        row[f"{metric}_seed_sd"] = summary.get(f"{metric}_seed_sd")
    row |= {"repeats": summary.get("repeats", 1) if summary else 0, "precision": trial.precision}
    row["about"] = mine["kappa"]["about"] if mine else None
    row["weight_ratio"] = trial.weight_ratio if is_finite_number(trial.weight_ratio) else None
    row |= {"epochs": trial.epochs_run, "best_epoch": trial.best_epoch, "batch": trial.batch}
    row["held_out_epochs"] = ", ".join(map(str, trial.held_out_epochs))
    row |= {"optimistic": trial.optimistic, "start_chosen": trial.start_chosen}
    row |= {"seconds": trial.seconds} | row_cost(line, told.hourly)
    row |= {f"paper_{metric}": trial.published.get(metric) for metric in TABLE_METRICS}
    row["paper_time"] = trial.published.get("time")
    row |= {"reason": printable_text(trial.reason), "bundle": trial.bundle}
    return row | {"predictions": trial.predictions}


def markdown_table(
    lines: list[Line],
    measured: list[MeasuredTrial],
    told: DifferenceText,
    notes: list[str],
    extra: list[ReportSection],
) -> str:
    """What was measured beside what was published, then the other sections and the notes."""
    heads = ["row", "start", "class weights", "accuracy", "balanced accuracy", "kappa"]
    of = training_repeats.verdict_subject(training_repeats.compared_trainings(measured))
    heads += [f"kappa, difference to baseline (verdict on the {of})", "epochs", "time", "cost"]
    heads += [f"paper{', for orientation' * told.orientation}: accuracy, balanced, kappa, time"]
    majority = sorted({m.summary["majority_accuracy"] for m in measured if m.summary})
    said = [f"{sentences.size_text(measured)}, {sentences.rows_named(measured)} rows"]
    said += [f"majority baseline accuracy {number_text(value)}" for value in majority]
    said += [escaped_markdown(sentences.independence_note(measured, told.about))]
    said += [
        escaped_markdown(sentences.split_text(told.about)),
        training_repeats.networks_caption(measured),
    ]
    text = [
        f"# {escaped_markdown(told.title)}",
        "",
        "; ".join(part for part in said if part) + ".",
        "",
    ]
    text += [_line(heads), _line(["---"] * len(heads))]
    base = baseline_of(measured)
    for line, m in zip(lines, measured, strict=True):
        text.append(_line(_cells(line, m, m is base, told.hourly)))
    text += ["", *(f"- {escaped_markdown(note)}" for note in notes)]
    for title, names, rows in extra:
        text += ["", f"## {title}", "", _line(names), _line(["---"] * len(names))]
        # An interval is in brackets of our own.
        text += [_line([c if c[:1] == "[" else escaped_markdown(c) for c in row]) for row in rows]
    return "\n".join(text) + "\n"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cells(line: Line, measured: MeasuredTrial, is_baseline: bool, hourly: float) -> list[str]:
    trial, summary = line.trial, measured.summary
    name = f"{escaped_markdown(trial.method)} {training_repeats.name_marks(measured)}".strip()
    name += (
        f" ({training_repeats.finished_count_text(measured)})" if trial.repeats and summary else ""
    )
    figures = [estimate_text(summary, metric) if summary else "" for metric in TABLE_METRICS]
    kappa = measured.versus.get("kappa")
    difference = "baseline" if is_baseline else ""
    if kappa:
        difference = f"{change_text(kappa)}, {kappa['verdict']}"
    if not summary:
        reason = f": {trial.reason}" if trial.reason else ""
        difference = escaped_markdown(f"{trial.status}{reason}".replace("\n", " "))
    ratio = trial.weight_ratio
    weights = f"1 to {number_text(ratio, 2)}" if is_finite_number(ratio) and ratio != 1 else "equal"
    weights = weights if summary else ""
    epochs = f"{trial.epochs_run}: {training_repeats.epochs_text(trial)}"
    spent = [epochs, duration_text(trial.seconds), _cost(line, hourly)] if summary else [""] * 3
    shown = ["", ""] if trial.status == "published" else [escaped_markdown(line.start), weights]
    return [name, *shown, *figures, difference, *spent, _paper(trial)]


def _cost(line: Line, hourly: float) -> str:
    spent = row_cost(line, hourly)
    parts = [
        f"{number_text(spent[key], 2)} {unit}"
        for key, unit in (("core_hours", "core h"), ("gpu_hours", "GPU h"), ("money", "to pay"))
        if spent[key] is not None
    ]
    return ", ".join(parts)


def _paper(trial: ReportTrial) -> str:
    """What the paper prints; figures it has beyond the table's columns by their name."""
    figures = trial.published
    parts = [number_text(figures.get(metric)) for metric in TABLE_METRICS]
    if figures.get("time"):
        parts.append(escaped_markdown(duration_text(figures["time"])))
    others = [
        f"{escaped_markdown(key.replace('_', ' '))} {number_text(value)}"
        for key, value in figures.items()
        if key not in TABLE_METRICS and is_finite_number(value)
    ]
    return ", ".join(parts + others) if figures else DASH


def _beside(measured: list[MeasuredTrial]) -> list[ReportSection]:
    """The paper's further figures, and how far trainings of one method lie apart."""
    found: list[ReportSection] = []
    if rows := published_figures.further_figures(measured):
        found.append(("Further figures of the paper", published_figures.HEADS, rows))
    if rows := training_repeats.seed_spread_rows(measured):
        heads = ["row", "trainings", *(metric.replace("_", " ") for metric in METRICS)]
        found.append(("Standard deviation over trainings", heads, rows))
    return found


def difference_sections(
    compared: list[dict[str, Any]], panel: dict[str, Any]
) -> list[ReportSection]:
    """The differences to the baseline, and what each row's loss and sampling do; as text."""
    found: list[ReportSection] = []
    if compared:
        of = verdict_subject(min(row["repeats"] for row in compared))
        heads = ["row", "metric", "paper", "here", "95 % interval", f"verdict on the {of}"]
        heads += ["after Holm"]
        rows = []
        for row in compared:
            name = row["row"] + " ‡" * row["flattered"]
            cells = [name, row["metric"].replace("_", " "), signed_text(row["paper"])]
            cells += [signed_text(row["difference"]), interval_text(row["low"], row["high"])]
            rows.append([*cells, row["verdict"], row["holm"], row["claim"] or DASH])
        found.append(("Differences to the baseline", [*heads, "the paper's direction is"], rows))
    if panel:
        heads = ["row", "loss", "sampling", "class weights", "images shown in an epoch"]
        heads += ["different ones", "worth", "share of the gradient"]
        rows = []
        for name, p in panel.items():
            cells = [name, p["loss"], p["sampling"], _each(p["weights"], 3)]
            cells += [_each(p["images"], 0), _each(p["distinct"], 0)]
            rows.append([*cells, f"{p['effective_epoch']:,.0f}", _each(p["gradient_prior"], 3)])
        found.append(("What loss and sampling do to each class", heads, rows))
    return found


def _each(values: list[float], digits: int) -> str:
    return " / ".join(f"{value:,.{digits}f}" for value in values)


def _as_html(section: ReportSection) -> Markup:
    """A section of the page; every cell is escaped."""
    title, heads, rows = section
    cells = Markup("").join(
        Markup("<tr>{}</tr>\n").format(Markup("").join(map(Markup("<td>{}</td>").format, row)))
        for row in [[printable_text(cell) for cell in row] for row in rows]
    )
    names = Markup("").join(map(Markup('<th scope="col">{}</th>').format, heads))
    return Markup(
        '<section>\n<h2>{}</h2>\n<div class="scroll"><table>\n'
        "<thead><tr>{}</tr></thead>\n<tbody>\n{}</tbody>\n</table></div>\n</section>\n"
    ).format(title, names, cells)


def _own_notes(
    lines: list[Line],
    measured: list[MeasuredTrial],
    compared: list[dict[str, Any]],
    told: DifferenceText,
) -> list[str]:
    """What a reader must know of this table, beside what is said of any leaderboard."""
    found = [
        *told.notes,
        *decided_differences(compared),
        *comparison_count_text(compared),
        *published_figures.published_notes([line.trial for line in lines]),
        _spent(lines),
    ]
    return [note for note in dict.fromkeys(found) if note]


def _spent(lines: list[Line]) -> str:
    each = [line.trial.seconds * line.trainings for line in lines]
    seconds = sum(spent for spent in each if is_finite_number(spent))
    if not seconds:
        return ""
    return (
        f"Training took {duration_text(seconds)} in all, the sum of the rows' wall clock times; "
        f"cost is "
        "time by what a row's workers held. A paper's times are on its own "
        "hardware and at its own scale."
    )
