"""Which photographs are led to which class by counterfactuals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fundusray.cluster.counterfactuals import CounterfactualPlan
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.errors import InputError
from fundusray.harmless import printable_text
from fundusray.registry import unknown_name
from fundusray.runs.provenance import UnseenRows
from fundusray.saliency.counterfactuals import Sweep

NEXT = "next"
"""A photograph's own class plus one."""
LEAST = 10
"""Photographs of each network below which the paper's question is not asked."""


@dataclass(frozen=True)
class Question:
    """Which photographs are led to which class."""

    goal: int | None = None
    """The class they are led to; None: the one after their own."""
    answer: int | None = None
    """What the network takes them for; None: anything but the class they are led to."""
    target: int | None = None
    """Their own class; None: any."""

    def goals(self, targets: np.ndarray, num_classes: int) -> np.ndarray:
        """The class that each photograph is led to, [N]; -1 where there is none."""
        if self.goal is None:
            goals = np.where(targets + 1 < num_classes, targets + 1, -1)
        else:
            goals = np.full(len(targets), self.goal)
        return goals if self.target is None else np.where(targets == self.target, goals, -1)

    def taking_part(self, goals: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """Which photographs [N] of a network's answers [N] are led anywhere: none that it takes
        for that class already."""
        part = (goals >= 0) & (predictions != goals)
        return part if self.answer is None else part & (predictions == self.answer)

    def text(self, classes: Sequence[str]) -> str:
        """In words."""
        own, answer, goal = (
            None if number is None else printable_text(classes[number])
            for number in (self.target, self.answer, self.goal)
        )
        whose = f"photographs of class {own}" if own else "photographs"
        taken = f" taken for {answer}" if answer else " not taken for it already"
        return f"{whose}{taken}, led to {f'class {goal}' if goal else 'the class after their own'}"


PAPER = Question(goal=1, answer=0, target=1)
"""Li et al.: true class 1, taken for 0, led to 1."""


@dataclass(frozen=True)
class Chosen:
    """The photographs that are changed."""

    question: Question
    rows: np.ndarray
    goals: np.ndarray
    """Of each row the class it is led to."""
    predictions: np.ndarray
    """[networks, rows] what each network takes them for."""
    notes: list[str]

    def plan(self, network: int, sweep: Sweep) -> CounterfactualPlan:
        """Those that take part with one network."""
        part = self.question.taking_part(self.goals, self.predictions[network])
        return CounterfactualPlan(
            tuple(self.rows[part].tolist()), tuple(self.goals[part].tolist()), sweep
        )


def asked_question(
    target: str, source: str, classes: Sequence[str], ordered: bool
) -> Question | None:
    """The question of `target=` and `from=`; None where neither is given: the paper's, or where too
    few photographs are of it, the next class.

    Raises:
        InputError: there is no such class, the two are one, or there is no order that would say
            which class is the next.
    """
    if target == NEXT and not ordered:
        raise InputError(
            f"target={NEXT} needs classes in their order, which is not known of "
            f"{', '.join(classes)}; give the class to lead to: target=<class>"
        )
    if not target and not source:
        return None
    answer = _class_of("from", source, classes) if source else None
    goal = None if target in ("", NEXT) else _class_of("target", target, classes)
    if not target and not ordered:
        raise InputError("from= leads to no class by itself; give one: target=<class>")
    if goal is not None and goal == answer:
        raise InputError(f"from={source} and target={target} are one class; nothing is to be led")
    return Question(goal, answer)


def _class_of(key: str, text: str, classes: Sequence[str]) -> int:
    """A class by its name or its number."""
    if text in classes:
        return list(classes).index(text)
    if text.isdecimal() and text.isascii() and int(text) < len(classes):
        return int(text)
    raise unknown_name(key, text, classes)


def chosen_rows(part: np.ndarray, num: int, seed: int) -> np.ndarray:
    """Places of at most `num` photographs (0: all), sorted: those that take part with most
    networks first, among equals by the seed.

    Args:
        part: bool [networks, N].
    """
    count = part.sum(axis=0)
    places = np.random.default_rng(seed).permutation(part.shape[1])
    places = places[np.argsort(-count[places], kind="stable")]
    places = places[count[places] > 0]
    return np.sort(places[:num] if num else places)


def chosen_photographs(
    question: Question | None,
    data: PreparedSet,
    judged: UnseenRows,
    predictions: np.ndarray,
    sample: tuple[int, int],
) -> Chosen:
    """The photographs that a question is about; without one of the paper's, or where too few are of
    that, those that are led to the next class.

    Args:
        predictions: [networks, judged rows].
        sample: at most so many (0: all), and the seed that chooses them.

    Raises:
        InputError: there is none.
    """
    targets, notes = data.targets()[judged.rows], list[str]()
    if question is None:
        question, notes = usual_question(data, targets, predictions)
    goals = question.goals(targets, len(data.classes))
    part = np.stack([question.taking_part(goals, one) for one in predictions])
    places = chosen_rows(part, *sample)
    if not len(places):
        raise InputError(
            f"there are no {question.text(data.classes)}, among {len(targets):,} that are new to "
            "every network; give another class (target=), or other photographs (data=<folder>)"
        )
    there = int(part.any(axis=0).sum())
    if len(places) < there:
        notes.append(
            f"{len(places):,} of {there:,} such photographs were changed, those that take part "
            "with most networks first, then by the seed of the split; counterfactuals.rows=0 "
            "changes all"
        )
    if not part[:, places].all():
        notes.append(
            "a photograph takes no part with a network that takes it for that class already"
        )
    return Chosen(question, judged.rows[places], goals[places], predictions[:, places], notes)


def usual_question(
    data: PreparedSet, targets: np.ndarray, predictions: np.ndarray
) -> tuple[Question, list[str]]:
    """(the paper's question, or where too few photographs are of it the next class; why).

    Raises:
        InputError: too few, and no order of the classes.
    """
    goals = PAPER.goals(targets, len(data.classes))
    few = min(int(PAPER.taking_part(goals, one).sum()) for one in predictions)
    if few >= LEAST:
        return PAPER, []
    first, second = data.classes[:2]
    counted = f"{few:,} photographs of class {second} are taken for {first}"
    if not data.ordered and len(data.classes) > 2:
        raise InputError(
            f"{counted}, too few to be judged by, and without an order of the classes none is the "
            "next; give target=<class>"
        )
    return Question(), [
        f"{counted} by the network with the fewest, which is below {LEAST}: instead of those, as "
        "in the paper, any photographs are led to the class after their own"
    ]
