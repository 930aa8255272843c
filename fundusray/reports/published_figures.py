"""A paper's further figures beside measured ones of the same kind, and under the paper's names."""

from collections.abc import Sequence
from typing import Any

from fundusray.reports.number_text import DASH, estimate_text, listed_text, number_text
from fundusray.reports.trials import MeasuredTrial, ReportTrial

UNSTATED = "kappa_of_unstated_kind"
"""Key of a kappa of which the paper does not say whether it is weighted."""
SWAPPED = "swapped"
"""Key of the figures, with commas, that the paper prints under each other's name."""
KINDS = {"sensitivity": "sensitivity", "specificity": "specificity", UNSTATED: "cohen_kappa"}
"""Published key -> the measured metric that stands beside it."""
WORDS = {
    "sensitivity": "sensitivity, any disease",
    "specificity": "specificity, any disease",
    "cohen_kappa": "kappa, unweighted",
    "kappa": "kappa, quadratic",
    UNSTATED: "kappa, kind not stated",
}
HEADS = ["row", "figure", "the paper's name for it", "paper", "here"]


def further_keys(trials: Sequence[ReportTrial]) -> list[str]:
    """The published keys beyond a table's columns for which something is measured."""
    return [key for key in KINDS if any(key in trial.published for trial in trials)]


def further_figures(measured: Sequence[MeasuredTrial]) -> list[list[str]]:
    """Rows under HEADS of the further figures of the paper, as text."""
    found = []
    for m in measured:
        published = m.trial.published
        for key in further_keys([m.trial]):
            metric = KINDS[key]
            cells = [WORDS[metric], _name(key, published), number_text(published[key])]
            found.append([m.trial.method, *cells, _here(m, metric)])
            if key == UNSTATED:
                found.append([m.trial.method, WORDS["kappa"], DASH, DASH, _here(m, "kappa")])
    return found


def further_columns(measured: MeasuredTrial, keys: Sequence[str]) -> dict[str, Any]:
    """The same as columns of a table: measured with its interval, and `paper_<key>`."""
    row: dict[str, Any] = {}
    for key in keys:
        metric = KINDS[key]
        row |= {metric + end: measured.summary.get(metric + end) for end in ("", "_low", "_high")}
        row[f"paper_{key}"] = measured.trial.published.get(key)
    return row


def published_notes(trials: Sequence[ReportTrial]) -> list[str]:
    """What a reader must know of the paper's names for its figures."""
    found = []
    swapped = {trial.published[SWAPPED] for trial in trials if SWAPPED in trial.published}
    for names in sorted(swapped):
        words = listed_text([name.strip() for name in names.split(",")])
        found.append(
            f"The paper prints {words} under each other's name: with the shares of its grades they "
            "cannot be what they are called. Here each stands under its own name, of any disease "
            "against none; the paper's names are given as aliases."
        )
    if any(UNSTATED in trial.published for trial in trials):
        found.append(
            "The paper does not say which kappa it gives: it stands beside the unweighted one and "
            "not in the column of quadratic kappa, and no difference in it is judged."
        )
    return found


def _name(key: str, published: dict[str, Any]) -> str:
    names = [name.strip() for name in str(published.get(SWAPPED, "")).split(",") if name.strip()]
    if key in names and len(names) == 2:
        return f"“{names[1 - names.index(key)]}” (alias)"
    return WORDS[key] if key == UNSTATED else key


def _here(measured: MeasuredTrial, metric: str) -> str:
    return estimate_text(measured.summary, metric) if measured.summary else ""
