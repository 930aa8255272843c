"""What the figures say, in plain words: the summary on top and the notes below a table."""

import re

from fundusray.metrics import METRICS
from fundusray.reports import training_repeats
from fundusray.reports.number_text import (
    change_text,
    count_text,
    duration_text,
    estimate_text,
    is_finite_number,
    listed_text,
    number_text,
    people_text,
    printable_text,
)
from fundusray.reports.selection import choice_sentences, validation_named
from fundusray.reports.trials import MeasuredTrial, PageFacts, baseline_of, chosen_of

SAME_RATIO = 1.05
FEW = 5


def rows_named(measured: list[MeasuredTrial]) -> str:
    """Which rows the figures are measured on: "test", or "validation" where a trial says so; "all"
    of photographs that have no split."""
    sides = {m.trial.side for m in measured}
    if "all" in sides:
        return "all"
    return "validation" if "val" in sides else "test"


def size_text(measured: list[MeasuredTrial]) -> str:
    """`587 eyes of 352 patients`, or that nothing was measured."""
    by_size = sorted((m.summary for m in measured if m.summary), key=lambda s: s["n"])
    parts = list(dict.fromkeys(people_text(summary, "eye") for summary in by_size))
    if not parts:
        return "no eyes measured"
    return " or ".join(parts) + (" (depending on the trial)" if len(parts) > 1 else "")


def split_text(about: PageFacts) -> str:
    """How rows came to their split, and what that means; empty where it is not known."""
    return printable_text(about.get("leak") or about.get("split") or "")


def independence_note(measured: list[MeasuredTrial], about: PageFacts) -> str:
    """That eyes of unknown patients are counted as independent; empty where there are none."""
    if not any(m.summary.get("num_unknown") for m in measured):
        return ""
    return printable_text(about.get("patients") or "patients unknown")


def headline_sentences(measured: list[MeasuredTrial], about: PageFacts) -> list[str]:
    """The page in a few sentences: best, majority, difference to the baseline, what is decided."""
    ranked = [m for m in measured if is_finite_number(m.kappa)]
    if not ranked and any(m.summary for m in measured) and not about.get("ordered", True):
        return _unordered(measured, about)
    if not ranked and any(m.summary for m in measured):
        return [f"Kappa is undefined on {size_text(measured)}: too few eyes, or one grade only."]
    if not ranked:
        return ["No trial has a measured kappa; the reasons stand in the table below."]
    chosen = chosen_of(measured)
    best, base = chosen or ranked[0], baseline_of(measured)
    name = printable_text(best.trial.method)
    opening = f"Highest kappa on these rows: {name}" if len(measured) > 1 else name
    opening = f"Chosen on validation rows: {name}" if chosen else opening
    if not best.summary:
        return [f"{opening}, which has no figures; its reason stands in the table below."]
    kappa = estimate_text(best.summary, "kappa", 2)
    caution = " (the rows the epoch was chosen on: optimistic)" if best.trial.optimistic else ""
    lines = [f"{opening}: kappa {kappa} on {size_text([best])}{caution}."]
    lines += [choice_sentences(best, measured), _majority(best, about)]
    if base is not None and len(ranked) > 1:
        lines += [_difference(best, base), _decided(measured, base)]
    return [line for line in [*lines, _split(about)] if line]


def _unordered(measured: list[MeasuredTrial], about: PageFacts) -> list[str]:
    """The page in a few sentences where the order of the classes is not known."""
    chosen = chosen_of(measured)
    best = chosen if chosen and chosen.summary else next(m for m in measured if m.summary)
    opening = printable_text(best.trial.method)
    if len(measured) > 1:
        opening = f"{'Chosen on validation rows' if best is chosen else 'Highest'}: {opening}"
    caution = " (the rows the epoch was chosen on: optimistic)" if best.trial.optimistic else ""
    balanced = estimate_text(best.summary, "balanced_accuracy", 2)
    said = f"{opening}: balanced accuracy {balanced} on {size_text([best])}{caution}."
    order = "No kappa is given: the order of the classes is not known."
    return [line for line in (said, _majority(best, about), order, _split(about)) if line]


def auc_name(about: PageFacts) -> str:
    """What the AUC is of: grade 2 or worse, or the second of two classes."""
    names = [str(name) for name in about.get("classes") or ()]
    if len(names) == 2:
        return f"AUC, {names[1]}"
    usual = len(names) < 3 or names[2] == "2" or names[2].casefold().startswith("moderate")
    return "AUC, referable" if usual else f"AUC, {names[2]} or worse"


def order_note(measured: list[MeasuredTrial]) -> str:
    """How the rows of a table are ordered, and which one was chosen by what."""
    if len(measured) < 2:
        return ""
    metric = "kappa" if any(is_finite_number(m.kappa) for m in measured) else "balanced accuracy"
    said = f"Highest {metric} on the {rows_named(measured)} rows first."
    chosen = chosen_of(measured)
    if chosen is None:
        return said
    by = validation_named([chosen]).lower()
    return f"{said} Chosen by {by}: {printable_text(chosen.trial.method)}."


def _majority(best: MeasuredTrial, about: PageFacts) -> str:
    majority, low = best.summary["majority_accuracy"], best.summary["accuracy_low"]
    accuracy = best.summary["accuracy"]
    if not is_finite_number(majority) or not is_finite_number(accuracy):
        return ""
    if is_finite_number(low) and low > majority:
        word = "above"
    else:
        word = "not clearly above" if accuracy >= majority else "below"
    always = f"majority baseline accuracy {number_text(majority, 2)}"
    classes = about.get("classes")
    if classes and best.confusion is not None and len(classes) == len(best.confusion):
        most = int(best.confusion.sum(axis=1).argmax())
        always += f" (every eye called “{printable_text(str(classes[most]))}”)"
    return f"Accuracy {estimate_text(best.summary, 'accuracy', 2)}, {word} the {always}."


def _difference(best: MeasuredTrial, base: MeasuredTrial) -> str:
    name = printable_text(base.trial.method)
    if best is base and best.trial.chosen:
        return f"It is the baseline, {name}, itself."
    if best is base:
        return f"No trial has a higher kappa than the baseline, {name}."
    kappa = best.versus.get("kappa")
    if not kappa:
        return f"Not compared with {name}: they were measured on different eyes."
    of = training_repeats.verdict_on([best])
    return f"Difference in kappa to {name}: {change_text(kappa, 2)}, {kappa['verdict']}. {of}"


def _decided(measured: list[MeasuredTrial], base: MeasuredTrial) -> str:
    others = [m for m in measured if m.versus and m is not base]
    parts = []
    for verdict in ("better", "worse"):
        names = [
            printable_text(m.trial.method)
            for m in others
            if m.versus["kappa"]["verdict"] == verdict
        ]
        if names:
            parts.append(
                f"{verdict} than {printable_text(base.trial.method)}: {listed_text(names)}"
            )
    decided = sum(m.versus["kappa"]["verdict"] != "undecided" for m in others)
    if not others:
        return ""
    if not decided:
        return (
            f"None of {count_text(len(others), 'comparison')} in kappa is decided on this "
            f"many eyes."
        )
    parts.append(f"undecided: {len(others) - decided} of {len(others)}")
    text = "; ".join(parts)
    return f"In kappa, {text}. {training_repeats.verdict_on(others)}"


def table_notes(measured: list[MeasuredTrial], about: PageFacts) -> list[str]:
    """What a reader must know to read the table rightly; each note one or two sentences."""
    found = [
        _optimistic(measured),
        _ranked(measured),
        _unbalanced(measured),
        *_stopped(measured),
        *_failed(measured),
        _few_images(measured, about),
        _few_patients(measured, about),
        _no_baseline(measured),
        _different_rows(measured),
        *training_repeats.network_notes(measured),
        _split(about),
    ]
    return [note for note in found if note] + [printable_text(n) for n in about.get("notes", [])]


def _methods(measured: list[MeasuredTrial]) -> str:
    return listed_text([printable_text(m.trial.method) for m in measured])


def _optimistic(measured: list[MeasuredTrial]) -> str:
    marked = [m for m in measured if m.trial.optimistic and m.summary]
    if not marked:
        return ""
    every = len(measured) > 1 and len(marked) == len([m for m in measured if m.summary])
    whom = "all trials" if every else _methods(marked)
    return (
        f"† {whom}: measured on the very validation rows by which the best epoch was chosen, so "
        "the figures are optimistic; set data.fractions with a test share for an unbiased one."
    )


def _ranked(measured: list[MeasuredTrial]) -> str:
    ranked = [m for m in measured if m.summary]
    if len(ranked) < 2:
        return ""
    chosen = chosen_of(ranked)
    if chosen is not None and chosen.trial.side != "val":
        return (
            f"The order of {len(ranked)} trials is measured on the rows it is shown for: the first "
            f"place is partly luck. {printable_text(chosen.trial.method)} was chosen on other "
            f"rows, so "
            "the choice does not flatter its figures. Intervals are not corrected for the number "
            "of comparisons."
        )
    return (
        f"The order of {len(ranked)} trials is measured on the same rows it is shown for: the "
        "first place is partly luck. Intervals are not corrected for the number of comparisons."
    )


def _unbalanced(measured: list[MeasuredTrial]) -> str:
    same = [
        m
        for m in measured
        if m.trial.weighs_cross_entropy
        and is_finite_number(m.trial.weight_ratio)
        and m.trial.weight_ratio < SAME_RATIO
    ]
    if not same:
        return ""
    widest = max(m.trial.weight_ratio for m in same)
    return (
        f"{_methods(same)}: the largest class weight is at most {number_text(widest)} times the "
        "smallest, so on these class counts this loss is the same as cross entropy; "
        "a difference to it has another cause (batch, seed, chance)."
    )


def _stopped(measured: list[MeasuredTrial]) -> list[str]:
    return [
        f"{printable_text(m.trial.method)}: stopped after {m.trial.epochs_run} of "
        f"{count_text(m.trial.epochs_asked, 'epoch')}{_because(m)}; compare it as a shorter "
        f"training."
        for m in measured
        if m.trial.status == "stopped early"
    ]


def _failed(measured: list[MeasuredTrial]) -> list[str]:
    return [
        f"{printable_text(m.trial.method)}: failed after "
        f"{duration_text(m.trial.seconds)}{_because(m)}."
        for m in measured
        if m.trial.status == "failed"
    ]


def _because(measured: MeasuredTrial) -> str:
    return f" ({printable_text(measured.trial.reason)})" if measured.trial.reason else ""


def _few_images(measured: list[MeasuredTrial], about: PageFacts) -> str:
    matrix = next((m.confusion for m in measured if m.confusion is not None), None)
    if matrix is None:
        return ""
    totals = matrix.sum(axis=1).tolist()
    names = class_names(about, len(totals))
    few = [f"{printable_text(n)} ({t})" for n, t in zip(names, totals, strict=True) if t < FEW]
    if not few:
        return ""
    return (
        f"Fewer than {FEW} eyes of {listed_text(few)} are measured: balanced accuracy and the "
        f"recall "
        "of that class rest on almost nothing."
    )


def _few_patients(measured: list[MeasuredTrial], about: PageFacts) -> str:
    """Which figures have no interval, and what they lack."""
    first = next((m for m in measured if m.confusion is not None), None)
    if first is None:
        return ""
    names = class_names(about, len(first.confusion))
    titles = {name: METRICS.facts(name).title for name in METRICS}
    titles |= {f"recall_{k}": f"recall of {name}" for k, name in enumerate(names)}
    lacking: dict[str, list[str]] = {}
    for figure, title in titles.items():
        why = first.summary.get(f"{figure}_why")
        if why and is_finite_number(first.summary.get(figure)):
            for k, name in enumerate(names):
                why = re.sub(rf"\bclass {k}\b", lambda _, name=name: name, why)
            if not first.summary.get("num_patients", 1):  # each image is a unit of its own
                why = why.replace("patient", "image")
            lacking.setdefault(why, []).append(title)
    if not lacking:
        return ""
    parts = [
        f"{printable_text(listed_text(who))} ({printable_text(why)})"
        for why, who in lacking.items()
    ]
    return f"Too few to say how sure: {'; '.join(parts)}."


def class_names(about: PageFacts, num_classes: int) -> list[str]:
    """The names of the classes; their numbers where names are missing or do not fit."""
    names = [str(name) for name in about.get("classes") or ()]
    return names if len(names) == num_classes else [f"class {k}" for k in range(num_classes)]


def _no_baseline(measured: list[MeasuredTrial]) -> str:
    if len(measured) < 2 or baseline_of(measured) is not None:
        return ""
    return "No baseline was measured, so no difference is given."


def _different_rows(measured: list[MeasuredTrial]) -> str:
    base = baseline_of(measured)
    odd = [m for m in measured if base and m is not base and m.summary and not m.versus]
    if not odd:
        return ""
    return f"{_methods(odd)}: measured on other eyes than the baseline, so not compared with it."


def _split(about: PageFacts) -> str:
    return f"{printable_text(about['leak'])}." if about.get("leak") else ""
