"""A paper's table of networks under a condition: what damage or an attack leaves of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fundusray import files
from fundusray.cluster.attack import AttackPlan, ascending, attack_bundle, attacked_sample
from fundusray.cluster.evaluate import predictions_location
from fundusray.cluster.papers.run_table import RowOutcome
from fundusray.cluster.prepare import prepare_set
from fundusray.conditions import Condition, CorruptionCondition, parse_attacks, parse_condition
from fundusray.data.prepared.prepared_set import open_set
from fundusray.jobs.attacking import ROWS, masked
from fundusray.metrics import figure_summary, paired_differences
from fundusray.metrics.robustness import (
    answers_under_attack,
    at_budget,
    attack_figures,
    robustly_right,
    share_difference,
)
from fundusray.models.bundle import load_bundle
from fundusray.reports.condition_page import condition_page
from fundusray.reports.evaluation_page import evaluation_page
from fundusray.runs.provenance import unseen_rows

FIGURES = ("accuracy", "balanced_accuracy", "kappa")
SHARES = ("clean_accuracy", "robust_accuracy", "success_rate", "changed_rate")
SHARES += ("robust_balanced_accuracy",)
VERSUS = ("changed", "robust_accuracy", "robust_balanced_accuracy")


@dataclass(frozen=True)
class ConditionTable:
    """What a table asks of the networks it trained."""

    title: str
    conditions: tuple[str, ...]
    """Texts: one of a corruption each, or of an attack at one or several budgets."""
    baseline: str
    """The row the others are measured against."""
    notes: tuple[str, ...]
    storage: str
    folder: str
    cpus: int = 0


def condition_table(outcomes: Sequence[RowOutcome], asked: ConditionTable) -> dict[str, str]:
    """Looks at the network of every row under every condition; writes `table.csv` and the page, and
    prints the table; where they are."""
    able = [outcome for outcome in outcomes if outcome.result]
    able.sort(key=lambda outcome: outcome.row.name != asked.baseline)
    rows, notes = [], list(asked.notes)
    for text in asked.conditions:
        attacks = parse_attacks(text) if "eps=" in text.replace(" ", "") else []
        if attacks:
            plan = AttackPlan(ascending(attacks))
            found, signs = _under_attack(able, plan, text, asked)
            notes += signs
        else:
            found = _under_damage(able, parse_condition(text), asked)
        rows += found
    order = {outcome.row.name: place for place, outcome in enumerate(outcomes)}
    texts = [row["condition"] for row in rows]
    rows.sort(
        key=lambda row: (texts.index(row["condition"]), row.get("eps", 0.0), order[row["row"]])
    )
    place, page = files.join(asked.folder, "table.csv"), files.join(asked.folder, "report.html")
    files.write_csv(place, rows)
    made = condition_page(asked.title, rows, notes)
    files.write_bytes(page, evaluation_page(made).encode())
    for table in made.tables:
        print(f"{table.title}\n  {table.caption}")
        for row in table.rows:
            cells = zip(table.head[1:], row[1:], strict=True)
            print(f"  {row[0]}: {'; '.join(f'{name} {cell}' for name, cell in cells)}")
    print(f"table: {place}\nreport: {page}")
    return {"table": place, "report": page}


def _judged(outcome: RowOutcome, prepared: str) -> tuple[str, np.ndarray, str]:
    """(the row's bundle, the rows of a set that it is judged on, their side)."""
    bundle = outcome.result["bundle"]
    unseen = unseen_rows(open_set(prepared), bundle, load_bundle(bundle))
    return bundle, unseen.rows, unseen.side


def _under_damage(
    outcomes: Sequence[RowOutcome], condition: Condition, asked: ConditionTable
) -> list[dict[str, Any]]:
    """A row for each network: its figures on damaged photographs, and what it lost by them."""
    rows: list[dict[str, Any]] = []
    base: pa.Table | None = None
    for outcome in outcomes:
        damaged = isinstance(condition, CorruptionCondition)
        frames = prepare_set(outcome.recipe, asked.storage, frames=damaged)
        bundle, judged, side = _judged(outcome, frames)
        places = [
            predictions_location(bundle, frames, judged, asked.folder, each, asked.cpus)
            for each in (parse_condition("clean"), condition)
        ]
        clean, now = (files.read_table(place) for place in places)
        summary, before = figure_summary(now), figure_summary(clean)
        lost = paired_differences(clean, now)["accuracy"]
        row = {"row": outcome.row.name, "condition": str(condition), "side": side}
        row |= {key: summary[key] for key in ("n", "num_patients", "majority_accuracy")}
        row |= {f"{f}{end}": summary[f"{f}{end}"] for f in FIGURES for end in ("", "_low", "_high")}
        row |= {f"clean_accuracy{e}": before[f"accuracy{e}"] for e in ("", "_low", "_high")}
        row |= _difference("accuracy_drop", lost, verdict=False)
        versus = paired_differences(now, base) if base is not None else {}
        for figure in FIGURES:
            row |= _difference(f"{figure}_vs_baseline", versus.get(figure))
        published = outcome.row.published.published
        row |= {f"paper_{f}": published.get(f) for f in (*FIGURES, "accuracy_drop")}
        rows.append(row | {"bundle": bundle, "predictions": places[1]})
        base = now if base is None else base
    return rows


def _under_attack(
    outcomes: Sequence[RowOutcome], plan: AttackPlan, text: str, asked: ConditionTable
) -> tuple[list[dict[str, Any]], list[str]]:
    """(a row for each network and budget, signs that gradients are masked)."""
    rows: list[dict[str, Any]] = []
    signs: list[str] = []
    base: pa.Table | None = None
    for outcome in outcomes:
        bundle, judged, side = _judged(outcome, outcome.prepared)
        some = attacked_sample(judged, ROWS, outcome.recipe.split_seed)
        location = attack_bundle(bundle, outcome.prepared, some, plan, asked.folder, asked.cpus)
        table = files.read_table(location)
        base = table if base is None else base
        signs += [f"{outcome.row.name}: {sign}" for sign in masked(table)]
        for number, figures in enumerate(attack_figures(table)):
            row = {"row": outcome.row.name, "condition": text, "side": side}
            row |= {key: figures[key] for key in ("norm", "eps", "n", "num_patients")}
            row |= {"majority_accuracy": figures["majority_accuracy"]}
            row |= {f"{s}{e}": figures[f"{s}{e}"] for s in SHARES for e in ("", "_low", "_high")}
            versus = {} if base is table else _versus_baseline(table, base, figures["eps"])
            for name in VERSUS:
                row |= _difference(f"{name}_vs_baseline", versus.get(name))
            published = outcome.row.published.published
            shares = [value for key, value in published.items() if key.startswith("changed_")]
            row["paper_changed_rate"] = shares[number] if number < len(shares) else None
            rows.append(row | {"bundle": bundle, "rows": location})
    return rows, signs


def _versus_baseline(table: pa.Table, base: pa.Table, eps: float) -> dict[str, dict[str, Any]]:
    """Of each of VERSUS the difference to the baseline, of the same images at one budget."""
    ours, theirs = at_budget(table, eps), at_budget(base, eps)
    assert ours["image_id"].equals(theirs["image_id"]), "rows of a table share their photographs"
    patients = np.array(ours["patient_id"].to_pylist(), dtype=object)
    changed = (part["changed"].to_numpy(zero_copy_only=False) for part in (ours, theirs))
    robust = (robustly_right(part) for part in (ours, theirs))
    names = ("target", "clean_prediction", "prediction")
    classes = 1 + max(pc.max(part[name]).as_py() for part in (ours, theirs) for name in names)
    answers = (answers_under_attack(part, classes) for part in (ours, theirs))
    return {
        "changed": share_difference(*changed, patients, higher=False),
        "robust_accuracy": share_difference(*robust, patients),
        "robust_balanced_accuracy": paired_differences(*answers)["balanced_accuracy"],
    }


def _difference(
    name: str, found: dict[str, Any] | None, verdict: bool = True
) -> dict[str, float | str | None]:
    """A difference with its interval as columns; empty ones of the baseline."""
    found = found or {}
    columns = {name: found.get("difference")}
    columns |= {f"{name}_{end}": found.get(end) for end in ("low", "high")}
    return columns | ({f"{name}_verdict": found.get("verdict", "baseline")} if verdict else {})
