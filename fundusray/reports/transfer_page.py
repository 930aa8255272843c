"""Which network's images fool which other one, as a page: a matrix, and what goes with transfer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fundusray.reports.attack_page import budget_text
from fundusray.reports.evaluation_page import EvaluationPage, PageTable
from fundusray.reports.number_text import (
    DASH,
    change_text,
    count_text,
    estimate_text,
    is_finite_number,
    number_text,
    people_text,
)

Row = dict[str, Any]
COUNTED = ("same_start", "same_architecture", "shared_photographs")
"""What pairs have in common, of `transfer_groups`."""

DEFINITIONS = (
    "Success: the target is right of the photograph as it is and wrong of the changed one; its "
    "share is of the photographs the target is right of. On the diagonal a network is attacked "
    "along its own gradients.",
    "The target is asked about the images on the way that fool the surrogate, and about the last "
    "one (keep=any): an attacker who may try several. With pgd(keep=last) the last image alone is "
    "sent, by one who may not; shares are then smaller.",
    "The same weights: both began with published weights of one name (of another architecture "
    "these are other weights, learned from the same public photographs), with the same file, or "
    "with the same earlier network. Two random starts are never the same.",
    "Shared photographs: of those the surrogate learned from, the share the target learned from, "
    "too, by the bytes of their files.",
    "Shares off the diagonal are pooled over pairs. Pairs look at the same photographs, so the "
    "patient is the unit: all answers to one patient's photographs stand or fall together.",
    "Intervals are 95 % and hold for these networks on other patients. Networks are few: of other "
    "trainings an interval over photographs says nothing. What goes with transfer may go with "
    "something else, too: the counts beside each share say what its pairs have in common besides.",
)


@dataclass(frozen=True)
class TransferFacts:
    """What a page says beside figures."""

    learned: dict[str, int | None]
    """Network -> photographs it learned from, by its name in the matrix; None: not known."""
    notes: tuple[str, ...]
    command: str


def transfer_page(
    facts: TransferFacts, rows: Sequence[Row], groups: Sequence[Row], differences: Sequence[Row]
) -> EvaluationPage:
    """The page of a matrix.

    Args:
        rows: of `metrics.transfer.transfer_rows`, at any budgets; those of the largest are shown.
        groups, differences: `metrics.transfer.transfer_groups`, `transfer_differences`.
    """
    largest = max(row["eps"] for row in rows)
    shown = [row for row in rows if row["eps"] == largest]
    first = shown[0]
    eps = f"{first['norm']} {budget_text(largest, first['norm'])}"
    caption = (
        f"{people_text(first, 'image')}, the same for every network; always the most frequent "
        f"class is right of {number_text(first['majority_accuracy'])}."
    )
    tables = [
        _networks(facts, shown, caption),
        _matrix("Success", f"Within {eps}. Rows: whose gradients were followed. {caption}", shown),
        _shared(shown),
        *([_grouped(groups, eps)] if groups else []),
        *([_compared(differences)] if differences else []),
    ]
    return EvaluationPage(
        title=f"What transfers between {len(facts.learned)} networks",
        caption=f"{first['attack']}, {eps}; {people_text(first, 'image')}.",
        summary=[_own_and_others(shown, eps), *map(difference_sentence, differences)],
        tables=tables,
        notes=[*facts.notes, *DEFINITIONS],
        command=facts.command,
    )


def difference_sentence(difference: Row) -> str:
    """What goes with transfer, in a sentence."""
    text = change_text(difference)
    why = f" ({difference['why']})" if difference["why"] else ""
    return (
        f"Success of transfer, {difference['fact']} {difference['first']} against "
        f"{difference['second']}: {text}, {difference['verdict']}{why}."
    )


def _own_and_others(rows: Sequence[Row], eps: str) -> str:
    own = [row["success_rate"] for row in rows if row["surrogate"] == row["target"]]
    others = [row["success_rate"] for row in rows if row["surrogate"] != row["target"]]
    return (
        f"Within {eps} a network is made wrong of {_span(own)} of the photographs it is right of "
        f"along its own gradients, and of {_span(others)} along another's."
    )


def _span(values: Sequence[float | None]) -> str:
    known = [value for value in values if is_finite_number(value)]
    if not known:
        return DASH
    low, high = (number_text(end) for end in (min(known), max(known)))
    return low if low == high else f"{low} to {high}"


def _networks(facts: TransferFacts, rows: Sequence[Row], caption: str) -> PageTable:
    cells = []
    for row in rows:
        if row["surrogate"] == row["target"]:
            num = facts.learned[row["target"]]
            learned = "not known" if num is None else f"{num:,}"
            about = [row["target_architecture"], row["target_start"], learned]
            cells.append([row["target"], *about, estimate_text(row, "clean_accuracy")])
    head = ["network", "architecture", "began with", "photographs learned", "clean accuracy"]
    return PageTable("Networks", f"{caption} Shares with 95 % intervals.", head, cells)


def _matrix(title: str, caption: str, rows: Sequence[Row]) -> PageTable:
    names = list(dict.fromkeys(row["target"] for row in rows))
    cell = {
        (row["surrogate"], row["target"]): estimate_text(row, "success_rate", 2) for row in rows
    }
    cells = [[one, *(cell[one, other] for other in names)] for one in names]
    return PageTable(title, caption, ["gradients of", *(f"judged by {n}" for n in names)], cells)


def _shared(rows: Sequence[Row]) -> PageTable:
    names = list(dict.fromkeys(row["target"] for row in rows))
    cell = {(row["surrogate"], row["target"]): number_text(row["shared_rows"], 2) for row in rows}
    cells = [[one, *(cell[one, other] for other in names)] for one in names]
    caption = "Share of the photographs the row's network learned from that the column's did, too."
    return PageTable("Training photographs in common", caption, ["of", *names], cells)


def _grouped(groups: Sequence[Row], eps: str) -> PageTable:
    head = ["pairs with", "pairs", "same start", "same architecture", "shared photographs",
            "judged", "success"]  # fmt: skip
    cells = [
        [
            f"{row['fact']}: {row['kind']}",
            *(str(row[name]) for name in ("pairs", *COUNTED)),
            f"{count_text(row['n'], 'image')} of {count_text(row['num_patients'], 'patient')}",
            estimate_text(row, "success_rate"),
        ]
        for row in groups
    ]
    caption = f"Within {eps}, off the diagonal. A photograph is judged once for each pair."
    return PageTable("What goes with transfer", caption, head, cells)


def _compared(differences: Sequence[Row]) -> PageTable:
    cells = [
        [
            f"{row['fact']}: {row['first']}, against {row['second']}",
            change_text(row),
            number_text(row["p"]),
            row["verdict"],
        ]
        for row in differences
    ]
    caption = "Differences of the shares above; of the same patients' photographs."
    return PageTable("Differences", caption, ["", "success", "p", "transfer is"], cells)
