"""How often images made with one network's gradients fool another one, and what goes with it:
the architecture, the weights that both began with, the photographs that both learned from."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from fundusray.metrics.robustness import attack_figures, share_difference, share_interval

NOT_SHARED = ("random", "several")
"""Starts that no two networks have in common, whatever they are called."""
SHARES = ("clean_accuracy", "success_rate", "changed_rate")
ENDS = ("", "_low", "_high")
EASE = {"better": "easier", "worse": "harder", "undecided": "undecided"}


@dataclass(frozen=True)
class TransferNetwork:
    """What is said of a network beside its answers."""

    name: str
    """Of its own in a matrix."""
    architecture: str
    start: str
    """What it began with: random, published weights or a file by name, another network's run."""


@dataclass(frozen=True)
class TransferPair:
    """One network's images, judged by another one, or by itself."""

    surrogate: TransferNetwork
    """Whose gradients were followed."""
    target: TransferNetwork
    """Whose answers count."""
    shared_rows: float | None
    """Share of the photographs the surrogate learned from that the target learned from, too; None
    where that is not known."""
    rows: pa.Table
    """Attacked rows, one for each image and budget, see `robustness.attack_figures`."""

    @property
    def own(self) -> bool:
        """Whether the network is attacked by its own gradients."""
        return self.surrogate == self.target


@dataclass(frozen=True)
class _Question:
    """By what pairs are told apart."""

    fact: str
    count: str
    """What the number of pairs of which it is true is called."""
    yes: str
    no: str
    answer: Callable[[TransferPair], bool | None]
    """None: not known of this pair."""


def _same_start(pair: TransferPair) -> bool:
    start = pair.surrogate.start
    return start == pair.target.start and start not in NOT_SHARED


QUESTIONS = (
    _Question("start", "same_start", "the same weights", "others, or random", _same_start),
    _Question(
        "architecture", "same_architecture", "the same", "another",
        lambda pair: pair.surrogate.architecture == pair.target.architecture,
    ),
    _Question(
        "training photographs", "shared_photographs", "shared", "none shared",
        lambda pair: None if pair.shared_rows is None else pair.shared_rows > 0,
    ),
)  # fmt: skip


def transfer_rows(pairs: Sequence[TransferPair]) -> list[dict[str, Any]]:
    """A row for each pair and budget: surrogate, target, architecture and start of both,
    shared_rows, attack, norm, eps, n, num_patients, majority_accuracy, and with _low and _high
    clean_accuracy (the target's), success_rate (made wrong, of those the target is right of) and
    changed_rate (answered otherwise than before, of all)."""
    return [
        {
            "surrogate": pair.surrogate.name,
            "target": pair.target.name,
            "surrogate_architecture": pair.surrogate.architecture,
            "target_architecture": pair.target.architecture,
            "surrogate_start": pair.surrogate.start,
            "target_start": pair.target.start,
            "shared_rows": pair.shared_rows,
            **{name: row[name] for name in ("attack", "norm", "eps", "n", "num_patients")},
            **{f"{name}{end}": row[f"{name}{end}"] for name in SHARES for end in ENDS},
            "majority_accuracy": row["majority_accuracy"],
        }
        for pair in pairs
        for row in attack_figures(pair.rows)
    ]


def transfer_groups(pairs: Sequence[TransferPair], eps: float) -> list[dict[str, Any]]:
    """Success of transfer, off the diagonal and at one budget, by what a pair has in common.

    A row for each fact and answer that occurs: fact, kind, pairs, same_start, same_architecture and
    shared_photographs (how many of these pairs, so that what goes together is seen), n (images the
    target was right of, over all pairs), num_patients, success_rate with _low and _high.

    Pairs look at the same photographs. So their rows are pooled and the patient is the unit: all
    answers to one patient's images, whatever the pair, stand or fall together. Such an interval
    holds for these networks on other patients; of other networks it says nothing.
    """
    others = [pair for pair in pairs if not pair.own]
    found = []
    for question, answer, group in _groups(others):
        pooled = _Pooled.of(group, eps)
        share = share_interval(pooled.success, pooled.counted, pooled.patients)
        counts = {each.count: sum(bool(each.answer(pair)) for pair in group) for each in QUESTIONS}
        found.append(
            {
                "fact": question.fact,
                "kind": question.yes if answer else question.no,
                "pairs": len(group),
                **counts,
                "n": int(pooled.counted.sum()),
                "num_patients": len(np.unique(pooled.patients[pooled.counted])),
                "success_rate": share["value"],
                "success_rate_low": share["low"],
                "success_rate_high": share["high"],
            }
        )
    return found


def transfer_differences(pairs: Sequence[TransferPair], eps: float) -> list[dict[str, Any]]:
    """For each fact of which both answers occur: fact, first, second, and the difference of the
    success of transfer, first - second, with low, high, p, why, and verdict ("easier", "harder"
    or "undecided"), see `transfer_groups`.

    Both shares are of the same photographs' patients, so that a patient whose images are easy for
    every network does not count for either side.
    """
    others = [pair for pair in pairs if not pair.own]
    found = []
    for question in QUESTIONS:
        answers = [question.answer(pair) for pair in others]
        groups = [
            [pair for pair, given in zip(others, answers, strict=True) if given is answer]
            for answer in (True, False)
        ]
        if not all(groups):
            continue
        sides = [_Pooled.of(group, eps) for group in groups]
        if not all(side.counted.any() for side in sides):
            continue
        first, second = sides
        none = [np.zeros(len(side.success), bool) for side in sides]
        difference = share_difference(
            np.concatenate([first.success, none[1]]),
            np.concatenate([none[0], second.success]),
            np.concatenate([first.patients, second.patients]),
            among=(
                np.concatenate([first.counted, none[1]]),
                np.concatenate([none[0], second.counted]),
            ),
        )
        difference["verdict"] = EASE[difference["verdict"]]
        found.append(
            {"fact": question.fact, "first": question.yes, "second": question.no} | difference
        )
    return found


def _groups(
    pairs: Sequence[TransferPair],
) -> Iterator[tuple[_Question, bool, list[TransferPair]]]:
    """The pairs with each answer to each question, of those that occur."""
    for question in QUESTIONS:
        for answer in (True, False):
            group = [pair for pair in pairs if question.answer(pair) is answer]
            if group:
                yield question, answer, group


@dataclass(frozen=True)
class _Pooled:
    """Rows of several pairs at one budget, one behind the other."""

    success: np.ndarray
    """bool [N]"""
    counted: np.ndarray
    """bool [N]: what the target is right of, and the attack is about."""
    patients: np.ndarray
    """[N] names; of an unknown patient the photograph's, which is the same in every pair."""

    @staticmethod
    def of(pairs: Sequence[TransferPair], eps: float) -> "_Pooled":
        table = pa.concat_tables([pair.rows for pair in pairs], promote_options="default")
        table = table.filter(pa.array(table["eps"].to_numpy() == eps))
        right = table["target"].to_numpy() == table["clean_prediction"].to_numpy()
        if "concerned" in table.column_names:
            right = right & table["concerned"].to_numpy(zero_copy_only=False)
        names = zip(table["patient_id"].to_pylist(), table["image_id"].to_pylist(), strict=True)
        return _Pooled(
            table["success"].to_numpy(zero_copy_only=False),
            right,
            np.array([patient or f"\0{image}" for patient, image in names], dtype=object),
        )
