"""The page of a paper's table under a condition: damage, or an attack at its budgets."""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from fundusray.reports.attack_page import DEFINITIONS, budget_text
from fundusray.reports.evaluation_page import EvaluationPage, PageTable
from fundusray.reports.number_text import change_text, estimate_text, number_text, people_text

DAMAGE_DEFINITIONS = (
    "Drop: accuracy on the photographs as they are, less accuracy on the damaged ones, of the same "
    "rows and the same network.",
    "Intervals are 95 %, with patients as units; a difference whose interval holds 0 is undecided.",
)
FIGURES = ("accuracy", "balanced_accuracy", "kappa")
SHARES = (
    ("success", "success_rate"),
    ("robust accuracy", "robust_accuracy"),
    ("robust balanced accuracy", "robust_balanced_accuracy"),
    ("clean accuracy", "clean_accuracy"),
)
PAPER = "paper"
"""The head of a paper's own figures."""


def condition_page(
    title: str, rows: Sequence[dict[str, Any]], notes: Sequence[str]
) -> EvaluationPage:
    """The page of rows of `jobs.condition_tables`, tables for each condition and budget; of a title
    `..., scale small: ...` what stands behind is said below it."""
    tables = []
    for (condition, eps), group in groupby(rows, key=lambda r: (r["condition"], r.get("eps"))):
        make = _damage_table if eps is None else _attack_tables
        tables += make(condition, list(group))
    attacked = any("eps" in row for row in rows)
    name, _, scale = title.partition(", scale ")
    how = f"Scale {scale}. " if scale else ""
    return EvaluationPage(
        title=name,
        caption=f"{how}{people_text(rows[0], 'image')}, {rows[0]['side']} rows.",
        summary=_summary(rows),
        tables=tables,
        notes=[*notes, *(DEFINITIONS if attacked else DAMAGE_DEFINITIONS)],
    )


def _summary(rows: Sequence[dict[str, Any]]) -> list[str]:
    """How many differences to the baseline are decided, and which."""
    verdicts = [
        (row, name.removesuffix("_verdict"))
        for row in rows
        for name, verdict in row.items()
        if name.endswith("_verdict") and verdict not in (None, "baseline")
    ]
    decided = [(row, name) for row, name in verdicts if row[f"{name}_verdict"] != "undecided"]
    lines = [
        f"{len(decided)} of {len(verdicts)} differences to the baseline are decided, "
        f"{len(verdicts) - len(decided)} are within what chance alone does."
    ]
    for row, name in decided:
        eps = f" at eps {budget_text(row['eps'], row['norm'])}" if "eps" in row else ""
        figure = name.removesuffix("_vs_baseline").replace("_", " ")
        lines.append(f"{_short(row)}, {figure}{eps}: {_versus(row, name)}.")
    return lines


def _short(row: dict[str, Any]) -> str:
    """A row's name without its table's."""
    return row["row"].rpartition(".")[2]


def _caption(row: dict[str, Any]) -> str:
    return (
        f"{people_text(row, 'image')}, {row['side']} rows; always the most frequent class is right "
        f"of {number_text(row['majority_accuracy'])}; 95 % intervals, patients as units."
    )


def _versus(row: dict[str, Any], name: str) -> str:
    """The difference to the baseline with its verdict."""
    verdict = row[f"{name}_verdict"]
    if verdict == "baseline":
        return "baseline"
    ends = {"difference": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"]}
    return f"{change_text(ends)} {verdict}"


Column = tuple[str, Callable[[dict[str, Any]], str]]
"""What a column is called, and the cell of a row."""


def _table(title: str, rows: Sequence[dict[str, Any]], columns: Sequence[Column]) -> PageTable:
    """The rows' cells; a paper's column where it has no figure of these rows is left out."""
    kept = [
        (head, cell)
        for head, cell in columns
        if head != PAPER or any(cell(row) != number_text(None) for row in rows)
    ]
    cells = [[_short(row), *(cell(row) for _, cell in kept)] for row in rows]
    return PageTable(title, _caption(rows[0]), ["row", *(head for head, _ in kept)], cells)


def _paper(name: str) -> Column:
    return PAPER, lambda row: number_text(row[f"paper_{name}"])


def _estimate(head: str, name: str) -> Column:
    return head, lambda row: estimate_text(row, name)


def _to_baseline(head: str, name: str) -> Column:
    return f"{head} to baseline", lambda row: _versus(row, f"{name}_vs_baseline")


def _damage_table(condition: str, rows: Sequence[dict[str, Any]]) -> list[PageTable]:
    def drop(row: dict[str, Any]) -> str:
        lost = {end: row[f"accuracy_drop_{end}"] for end in ("low", "high")}
        return change_text({"difference": row["accuracy_drop"]} | lost)

    columns = [_estimate("accuracy", "accuracy"), _paper("accuracy"), ("drop", drop)]
    columns += [_paper("accuracy_drop")]
    for figure in FIGURES[1:]:
        columns += [_estimate(figure.replace("_", " "), figure), _paper(figure)]
    columns += [_to_baseline(figure.replace("_", " "), figure) for figure in FIGURES]
    return [_table(f"Under {condition}", rows, columns)]


def _attack_tables(condition: str, rows: Sequence[dict[str, Any]]) -> list[PageTable]:
    columns = [_estimate("changed", "changed_rate"), _paper("changed_rate")]
    columns += [_estimate(head, name) for head, name in SHARES]
    versus = [_to_baseline("changed", "changed")]
    versus += [_to_baseline(head, name) for head, name in SHARES[1:3]]
    first = rows[0]
    title = f"{condition}: eps {budget_text(first['eps'], first['norm'])} ({first['norm']})"
    tables = [_table(title, rows, columns)]
    return tables + ([_table(f"{title}, to baseline", rows, versus)] if len(rows) > 1 else [])
