"""One page that holds everything: no script, no link out, images inside, every value escaped."""

import base64
from importlib import resources
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from fundusray.metrics import METRICS
from fundusray.reports import figures, robustness_curves, sentences, training_repeats
from fundusray.reports.definitions import definitions
from fundusray.reports.number_text import (
    bounds_text,
    count_text,
    duration_text,
    estimate_text,
    interval_around,
    is_finite_number,
    number_text,
    patients_text,
    printable_text,
    signed_text,
)
from fundusray.reports.selection import validation_named
from fundusray.reports.trials import (
    MeasuredTrial,
    PageFacts,
    baseline_first,
    baseline_of,
    chosen_of,
    is_search,
)

SKIPPED = ("image_id", "where", "reason")
SKIPPED_SHOWN = 100
SYMBOLS = {"better": "▲", "worse": "▼", "undecided": "◇"}


def report_page(
    measured: list[MeasuredTrial], study: dict[str, Any], about: PageFacts, examples: bytes
) -> str:
    """The report as HTML, for one trial or many; what `about` and `study` lack is left out."""
    num_classes = next((len(m.confusion) for m in measured if m.confusion is not None), 0)
    classes = sentences.class_names(about, num_classes)
    values = {
        "title": about.get("title") or "Training report",
        "command": about.get("command", ""),
        "heads": _heads(about),
        "headline": sentences.headline_sentences(measured, about),
        "tiles": _tiles(measured),
        "rows": [_row(m, baseline_of(measured)) for m in measured],
        "classes": classes,
        "caption": _caption(measured, about),
        "over": training_repeats.intervals_over(measured),
        "recalls": [_recalls(m, num_classes) for m in baseline_first(measured)],
        "notes": sentences.table_notes(measured, about),
        "definitions": definitions(measured, about),
        "figures": _figures(measured, study, classes),
        "importance_note": study.get("importance_note", ""),
        "examples": embedded_image(examples) if examples else "",
        "data": _data(about),
        "facts": _facts(about),
        "single": len(measured) == 1,
        "unit": training_repeats.interval_unit(*(m.summary for m in measured)),
        "order": sentences.order_note(measured),
        "validation": validation_named(measured) if is_search(measured) else "",
    }
    return rendered_page("page.html", values)


def rendered_page(template: str, values: dict[str, Any]) -> str:
    """A template of this package with its values, escaped, in the style that all pages share."""
    folder = resources.files("fundusray.reports")
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = Markup(folder.joinpath("page.css").read_text("utf-8"))
    text = folder.joinpath(template).read_text("utf-8")
    return environment.from_string(text).render(values | {"style": style})


def _finalize(value: Any) -> Any:
    """What is printed for a value: control characters become visible, markup of ours stays."""
    return value if isinstance(value, Markup) else printable_text(str(value))


def embedded_image(content: bytes) -> Markup:
    """A picture as a data URI."""
    # Base64 has no character that HTML reads as its own.
    kind = "jpeg" if content.startswith(b"\xff\xd8") else "png"
    return Markup(f"data:image/{kind};base64,{base64.b64encode(content).decode()}")


def _caption(measured: list[MeasuredTrial], about: PageFacts) -> str:
    """What the leaderboard is measured on, in one line."""
    parts = [f"{sentences.size_text(measured)}, {sentences.rows_named(measured)} rows"]
    parts += [sentences.independence_note(measured, about), sentences.split_text(about)]
    parts += [training_repeats.networks_caption(measured)]
    majority = {m.summary["majority_accuracy"] for m in measured if m.summary}
    if len(majority) == 1:
        parts.append(f"majority baseline accuracy {number_text(majority.pop())}")
    return "; ".join(part for part in parts if part) + "."


def _tiles(measured: list[MeasuredTrial]) -> list[tuple[str, str, str]]:
    """(label, figure, what is under it) of the boxes on top."""
    chosen = chosen_of(measured)
    best = chosen or next((m for m in measured if is_finite_number(m.kappa)), None)
    if best is None or not is_finite_number(best.kappa):
        return []
    s = best.summary
    label = "Kappa, chosen trial" if chosen else "Kappa, highest"
    label = label if len(measured) > 1 else "Kappa"
    tiles = [
        (label, number_text(s["kappa"], 2), bounds_text(s, "kappa", 2)),
        (
            "Accuracy",
            number_text(s["accuracy"], 2),
            f"majority baseline {number_text(s['majority_accuracy'], 2)}",
        ),
        (
            "Balanced accuracy",
            number_text(s["balanced_accuracy"], 2),
            bounds_text(s, "balanced_accuracy", 2),
        ),
    ]
    if kappa := best.versus.get("kappa"):
        said = f"{_sure(kappa, 2)} {kappa['verdict']}"
        tiles.append(("Kappa, difference to baseline", signed_text(kappa["difference"], 2), said))
    tiles.append(("Measured on", count_text(s["n"], "eye"), patients_text(s)))
    return tiles


def _sure(difference: dict[str, Any], digits: int = 3) -> str:
    return interval_around(difference["difference"], difference["low"], difference["high"], digits)


def _heads(about: PageFacts) -> list[str]:
    """What the columns of the metrics are called."""
    titles = {name: METRICS.facts(name).title for name in METRICS}
    titles["auc_referable"] = sentences.auc_name(about)
    return [title[:1].upper() + title[1:] for title in titles.values()]


def _row(measured: MeasuredTrial, base: MeasuredTrial | None) -> dict[str, Any]:
    """One line of the leaderboard, as text."""
    trial, summary, published = measured.trial, measured.summary, measured.trial.published
    cells = []
    for name in METRICS:
        paper = published.get(name)
        sure = bounds_text(summary, name)
        cells.append(
            (
                number_text(summary.get(name)),
                sure,
                number_text(paper) if is_finite_number(paper) else "",
            )
        )
    kappa = measured.versus.get("kappa", {})
    return {
        "trial": trial,
        "measured": bool(summary),
        "is_baseline": measured is base,
        "validation": number_text(trial.validation),
        "settings": _settings(measured),
        "cells": cells,
        "time": duration_text(trial.seconds),
        "paper_time": duration_text(published["time"]) if published.get("time") else "",
        "difference": signed_text(kappa["difference"]) if kappa else "",
        "difference_interval": _sure(kappa) if kappa else "",
        "verdict": kappa.get("verdict", ""),
        "symbol": SYMBOLS.get(kappa.get("verdict", ""), ""),
        "mark": training_repeats.name_marks(measured),
    }


def _settings(measured: MeasuredTrial) -> str:
    trial = measured.trial
    parts = [trial.loss, f"{trial.sampler} sampling", f"batch {trial.batch}"]
    if is_finite_number(trial.weight_ratio) and trial.weight_ratio != 1:
        parts.append(f"class weights 1 to {number_text(trial.weight_ratio, 2)}")
    if trial.epochs_asked:
        ran = f"{trial.epochs_run} of {count_text(trial.epochs_asked, 'epoch')}"
        parts.append(ran + (f", {training_repeats.epochs_text(trial)}" if measured.summary else ""))
    elif trial.best_epoch:
        parts.append(f"epoch {trial.best_epoch}")
    if trial.repeats and measured.summary:
        parts.append(training_repeats.finished_count_text(measured))
    return " · ".join(parts)


def _recalls(measured: MeasuredTrial, num_classes: int) -> tuple[str, list[tuple[str, str]]]:
    summary = measured.summary
    names = [f"recall_{k}" for k in range(num_classes)]
    return measured.trial.method, [
        (number_text(summary.get(n), 2), bounds_text(summary, n, 2)) for n in names
    ]


def _figures(
    measured: list[MeasuredTrial], study: dict[str, Any], classes: list[str]
) -> dict[str, list[tuple[Markup, str]]]:
    """Section -> [(data URI, text for those who do not see it)]."""
    drawn = {
        "forest": _forest(measured),
        "confusion": [_confusion(m, classes) for m in baseline_first(measured)],
        "curves": _curves(measured),
        "search": _search(study),
    }
    return {
        name: [(embedded_image(png), alt) for png, alt in parts] for name, parts in drawn.items()
    }


def _forest(measured: list[MeasuredTrial]) -> list[tuple[bytes, str]]:
    shown = [m for m in measured if is_finite_number(m.kappa)]
    if len(shown) < 2:
        return []
    base = baseline_of(measured)
    lines = [
        figures.IntervalLine(
            name=m.trial.method,
            kappa=m.kappa,
            low=m.summary["kappa_low"],
            high=m.summary["kappa_high"],
            difference=m.versus.get("kappa", {}),
            paper=m.trial.published.get("kappa"),
            baseline=m is base,
        )
        for m in shown
    ]
    said = "; ".join(f"{m.trial.method} {estimate_text(m.summary, 'kappa', 2)}" for m in shown)
    return [(figures.interval_plot(lines), f"Kappa and 95 % interval of each trial: {said}.")]


def _confusion(measured: MeasuredTrial, classes: list[str]) -> tuple[bytes, str]:
    matrix = measured.confusion
    totals = np.maximum(matrix.sum(axis=1), 1)
    recalls = zip(classes, np.diag(matrix) / totals, strict=True)
    said = ", ".join(f"{name} {share:.0%}" for name, share in recalls)
    alt = f"Confusion matrix of {measured.trial.method}, share of each class found: {said}."
    return figures.confusion_plot(matrix, classes, measured.trial.method), alt


def _curves(measured: list[MeasuredTrial]) -> list[tuple[bytes, str]]:
    """One panel pair per trial, all on one range of the metric where they chose by the same."""
    shown = [m for m in [*baseline_first(measured), *measured] if m.trial.history]
    shown = list({id(m): m for m in shown}.values())
    drawn = []
    for m in shown:
        trial = m.trial
        metric = trial.selected_by.removeprefix("val_")
        same = [o.trial for o in shown if o.trial.selected_by == trial.selected_by]
        values = [row.get(f"val_{metric}") for o in same for row in o.history]
        values = [value for value in values if is_finite_number(value)]
        room = 0.06 * (max(values) - min(values)) + 0.01 if values else 0.0
        span = (min(values) - room, max(values) + room) if values else None
        others = [o.history for o in same if o is not trial]
        png = figures.training_curves(
            trial.history, metric, trial.best_epoch, trial.method, span, others
        )
        alt = (
            f"Training loss and validation {metric.replace('_', ' ')} of {trial.method} over "
            f"{count_text(len(trial.history), 'epoch')}; best epoch {trial.best_epoch}."
        )
        drawn.append((png, alt))
    return drawn


def _search(study: dict[str, Any]) -> list[tuple[bytes, str]]:
    drawn = []
    history, shares = study.get("history") or [], study.get("importance") or {}
    if history:
        values = [row["value"] for row in history if is_finite_number(row.get("value"))]
        best = number_text(max(values, default=None))
        alt = f"Value of {count_text(len(history), 'trial')} of the search in order; best {best}."
        drawn.append((figures.search_history(history), alt))
    if shares:
        said = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
        drawn.append((figures.importance_plot(shares), f"Importance of each setting: {said}."))
    reached, objectives = study.get("reached") or [], study.get("objectives") or []
    if reached:
        front = [row["method"] for row in reached if row["front"]]
        alt = (
            f"Validation {' against '.join(name.replace('_', ' ') for name in objectives[:2])} of "
            f"{count_text(len(reached), 'trial')}; on the front: {', '.join(front)}."
        )
        drawn.insert(0, (robustness_curves.pareto_plot(reached, objectives), alt))
    return drawn


def _data(about: PageFacts) -> dict[str, Any]:
    """The data section: split rows, what was kept, the first of what was set aside."""
    splits = []
    for name, split in about.get("splits", {}).items():
        total = max(sum(split.get("counts") or [0]), 1)
        counts = [(f"{c:,}", f"{c / total:.1%}") for c in split.get("counts") or []]
        sizes = [f"{split[k]:,}" if split.get(k) else "–" for k in ("n", "patients")]
        splits.append((name, sizes, counts))
    prepared = about.get("prepared", {})
    skipped = list(prepared.get("skipped") or [])
    shown = skipped[:SKIPPED_SHOWN]
    return {
        "splits": splits,
        "classes": [str(c) for c in about.get("classes") or []],
        "kept": count_text(prepared["kept"], "photograph") if "kept" in prepared else "",
        "repaired": prepared.get("repaired"),
        "skipped": [[str(row.get(key, "")) for key in SKIPPED] for row in shown],
        "num_skipped": len(skipped),
        "ungradable": prepared.get("ungradable", 0),
        "unlabelled": prepared.get("unlabelled", 0),
        "untaken": list(prepared.get("untaken") or []),
    }


def _facts(about: PageFacts) -> list[tuple[str, str]]:
    """(label, value) of how the result was made, for who wants to make it again."""
    labels = {
        "recipe": "Recipe",
        "source": "Data source",
        "preprocess": "Preprocessing",
        "model": "Model",
        "mode": "Mode",
        "seed": "Seed",
        "resources": "Resources",
        "versions": "Versions",
    }
    facts = []
    for key, label in labels.items():
        value = about.get(key)
        if isinstance(value, dict):
            value = ", ".join(f"{name} {item}" for name, item in value.items())
        if value not in (None, ""):
            facts.append((label, str(value)))
    return facts
