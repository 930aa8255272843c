"""Photographs under an attack: its name, its budget, its keywords, its draws.

Every attack of ATTACKS is a condition by its name: `square(eps=2/255, norm=l2, queries=1000)`.
"""

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fundusray.attacks import (
    ATTACKS,
    AttackOutcome,
    Budget,
    Radius,
    Success,
    check_attack,
    run_attack,
    whole_args,
)
from fundusray.conditions.attack_keywords import (
    condition_text,
    differing_keywords,
    keyword_texts,
    length_text,
    read_keywords,
)
from fundusray.conditions.condition import Arguments, Predict

CLASSES = 5
"""For which the cost of a condition is reckoned; it is not known what network it will meet."""


@dataclass(frozen=True)
class AttackCondition:
    """Each image is attacked until the network is wrong of it, or the attack has come to its end.

    Raises:
        InputError: no such attack, norm, budget, keyword or value.
    """

    name: str
    """Of ATTACKS."""
    budget: Radius
    """The steps of training's Budget become keywords of pgd."""
    seed: int = 0
    """What is random is a function of (seed, row)."""
    args: tuple[tuple[str, Any], ...] = ()
    """The attack's keywords that are not what they are by default."""

    def __post_init__(self) -> None:
        args = dict(self.args)
        if isinstance(self.budget, Budget):
            args |= self._searching(self.budget)
            object.__setattr__(self, "budget", Radius(self.budget.norm, self.budget.eps))
        check_attack(self.name, args, self.budget.norm, self.budget.eps)
        attack, usual = ATTACKS[self.name], whole_args(self.name, {})
        kept = differing_keywords(attack, usual, whole_args(self.name, args), self.budget.eps)
        object.__setattr__(self, "args", kept)

    def _searching(self, budget: Budget) -> dict[str, Any]:
        own = whole_args(self.name, {})
        start = "random" if budget.random_start else "image"
        steps = {"steps": budget.steps, "step": budget.step, "start": start}
        return {key: value for key, value in steps.items() if key in own}

    @property
    def eps(self) -> float:
        """How far it may go, where pixels are in [0, 1]."""
        return self.budget.eps

    @property
    def passes(self) -> int:
        """What the attack costs in forward passes; two more see whether it succeeded."""
        args = whole_args(self.name, dict(self.args))
        return 2 + ATTACKS.facts(self.name).passes(args, CLASSES)

    def changed(
        self, predict: Predict, image: Tensor, target: Tensor, row: Tensor, success: Success
    ) -> Tensor:
        """The attacked images, measured to be within the budget and in [0, 1]; those of which the
        network is wrong from the beginning stay as they are (`attacks.run_attack`)."""
        return self.outcome(predict, image, target, row, success).image

    def outcome(
        self,
        predict: Predict,
        image: Tensor,
        target: Tensor,
        row: Tensor,
        success: Success,
        search: Predict | None = None,
        clean: Tensor | None = None,
    ) -> AttackOutcome:
        """All that became of the images; `search` and `clean` as in `attacks.run_attack`."""
        return run_attack(
            self.name, dict(self.args), predict, image, target, row=row, norm=self.budget.norm,
            eps=self.budget.eps, success=success, seed=self.seed, search=search, clean=clean,
        )  # fmt: skip

    def __str__(self) -> str:
        norm, given = self.budget.norm, dict(self.args)
        texts = {}
        if math.isfinite(self.budget.eps):
            texts["eps"] = length_text(self.budget.eps, norm)
        if norm != ATTACKS.facts(self.name).norms[0]:
            texts["norm"] = norm
        texts |= keyword_texts(ATTACKS[self.name], given, whole_args(self.name, given), norm)
        if self.seed:
            texts["seed"] = str(self.seed)
        return condition_text(self.name, texts)


def attack_condition(given: Arguments) -> AttackCondition:
    """The condition that an attack's name and arguments say.

    Raises:
        InputError: a length without its unit, or what no keyword may be.
    """
    attack, facts = ATTACKS.find(given.name), ATTACKS.facts(given.name)
    norm = given.choice("norm", facts.norms, facts.norms[0])
    eps = given.length("eps", norm, math.inf if facts.nearest else None)
    seed = given.whole("seed", 0, least=0)
    args = read_keywords(given, attack, whole_args(given.name, {}))
    given.require_none_left()
    return AttackCondition(given.name, Radius(norm, eps), seed, tuple(args.items()))
