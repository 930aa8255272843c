"""The page of a paper's table under a condition: damage, or an attack at its budgets."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from fundusray.reports.attack_page import DEFINITIONS, budget_text
from fundusray.reports.evaluation_page import EvaluationPage, PageTable
from fundusray.reports.number_text import change_text, estimate_text, number_text, people_text

VERDICTS = ("accuracy_vs_baseline", "changed_vs_baseline")


def condition_page(
    title: str, rows: Sequence[dict[str, Any]], notes: Sequence[str]
) -> EvaluationPage:
    """The page of rows of `jobs.condition_tables`, a table for each condition and budget."""
    tables = []
    for (condition, eps), group in groupby(rows, key=lambda r: (r["condition"], r.get("eps"))):
        part = list(group)
        make = _damage_table if eps is None else _attack_table
        tables.append(make(condition, part))
    decided = [row for row in rows if _verdict(row) in ("better", "worse")]
    compared = [row for row in rows if _verdict(row) not in (None, "baseline")]
    summary = [
        f"{len(decided)} of {len(compared)} differences to the baseline are decided, "
        f"{len(compared) - len(decided)} are within what chance alone does."
    ]
    return EvaluationPage(
        title=title,
        caption=f"{people_text(rows[0], 'image')}, {rows[0]['side']} rows.",
        summary=summary,
        tables=tables,
        notes=[*notes, *DEFINITIONS],
    )


def _verdict(row: dict[str, Any]) -> str | None:
    return next((row[f"{v}_verdict"] for v in VERDICTS if f"{v}_verdict" in row), None)


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


def _damage_table(condition: str, rows: Sequence[dict[str, Any]]) -> PageTable:
    head = ["row", "accuracy", "paper", "drop", "paper", "balanced accuracy", "paper", "kappa",
            "paper", "accuracy to baseline", "kappa to baseline"]  # fmt: skip
    cells = []
    for row in rows:
        lost = {"difference": row["accuracy_drop"]}
        lost |= {end: row[f"accuracy_drop_{end}"] for end in ("low", "high")}
        drops = [change_text(lost), number_text(row["paper_accuracy_drop"])]
        line = [row["row"], estimate_text(row, "accuracy"), number_text(row["paper_accuracy"])]
        line += drops
        for figure in ("balanced_accuracy", "kappa"):
            line += [estimate_text(row, figure), number_text(row[f"paper_{figure}"])]
        versus = [_versus(row, f"{figure}_vs_baseline") for figure in ("accuracy", "kappa")]
        cells.append(line + versus)
    return PageTable(f"Under {condition}", _caption(rows[0]), head, cells)


def _attack_table(condition: str, rows: Sequence[dict[str, Any]]) -> PageTable:
    head = ["row", "changed", "paper", "success", "robust accuracy", "clean accuracy",
            "changed to baseline"]  # fmt: skip
    cells = [
        [
            row["row"],
            estimate_text(row, "changed_rate"),
            number_text(row["paper_changed_rate"]),
            *(estimate_text(row, name) for name in
              ("success_rate", "robust_accuracy", "clean_accuracy")),
            _versus(row, "changed_vs_baseline"),
        ]
        for row in rows
    ]  # fmt: skip
    first = rows[0]
    title = f"{condition}: eps {budget_text(first['eps'], first['norm'])} ({first['norm']})"
    return PageTable(title, _caption(first), head, cells)
