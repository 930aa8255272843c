"""Photographs under an attack: its name, its budget, its keywords, its draws.

Every attack of ATTACKS is a condition by its name: `square(eps=2/255, norm=l2, queries=1000)`.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fundusray.attacks import (
    ATTACKS,
    AttackOutcome,
    Budget,
    Length,
    Radius,
    Success,
    check_attack,
    parse_eps,
    run_attack,
    whole_args,
)
from fundusray.conditions.condition import Arguments, Predict
from fundusray.fractions_of_range import scale_of_length
from fundusray.keywords import check_of, value_of_text

ALWAYS_WRITTEN = ("steps", "queries")
"""Keywords that a condition's text has though they are what they are by default: a figure under
attack says little without them."""
CLASSES = 5
"""For which the cost of a condition is reckoned; it is not known what network it will meet."""
DIGITS = 17
"""That tell one float from the next."""


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
        object.__setattr__(self, "args", tuple(self._differing(args)))

    def _searching(self, budget: Budget) -> dict[str, Any]:
        own = whole_args(self.name, {})
        start = "random" if budget.random_start else "image"
        steps = {"steps": budget.steps, "step": budget.step, "start": start}
        return {key: value for key, value in steps.items() if key in own}

    def _differing(self, args: dict[str, Any]) -> Iterable[tuple[str, Any]]:
        usual, whole = whole_args(self.name, {}), whole_args(self.name, args)
        for key, value in whole.items():
            check = check_of(ATTACKS[self.name], key)
            same = isinstance(check, Length) and value == check.usual(self.budget.eps, whole)
            if value != usual[key] and not same:
                yield key, value

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
        for key, value in whole_args(self.name, given).items():
            if key in given or key in ALWAYS_WRITTEN:
                texts[key] = self._text(key, value)
        if self.seed:
            texts["seed"] = str(self.seed)
        written = ", ".join(f"{key}={text}" for key, text in texts.items())
        return f"{self.name}({written})" if written else self.name

    def _text(self, key: str, value: Any) -> str:
        if isinstance(check_of(ATTACKS[self.name], key), Length):
            return length_text(value, self.budget.norm)
        if isinstance(value, float):
            return f"{value:g}" if float(f"{value:g}") == value else repr(value)
        return str(value).lower() if isinstance(value, bool) else str(value)


def attack_condition(given: Arguments) -> AttackCondition:
    """The condition that an attack's name and arguments say.

    Raises:
        InputError: a length without its unit, or what no keyword may be.
    """
    attack, facts = ATTACKS.find(given.name), ATTACKS.facts(given.name)
    norm = given.choice("norm", facts.norms, facts.norms[0])
    eps = given.length("eps", norm, math.inf if facts.nearest else None)
    seed = given.whole("seed", 0, least=0)
    args: dict[str, Any] = {}
    for key in whole_args(given.name, {}):
        text = given.text(key)
        if text is None:
            continue
        if isinstance(check_of(attack, key), Length):
            # A step may be longer than any change that is allowed.
            args[key] = parse_eps(text, "l2", f"{key} of {given.name}")
        else:
            args[key] = value_of_text(text, attack, key)
    given.require_none_left()
    return AttackCondition(given.name, Radius(norm, eps), seed, tuple(args.items()))


def length_text(length: float, norm: str) -> str:
    """The shortest text that gives a length again: 2/255 or 1/100 for linf, 0.5unit01 for l2."""
    scale, unit = 1, "unit01"
    if norm == "linf":
        scale = scale_of_length(length)
        unit = f"/{scale}"
    texts = [f"{length * scale:.{digits}g}{unit}" for digits in range(1, DIGITS + 1)]
    texts = [text for text in texts if "e" not in text]
    exact = (text for text in texts if parse_eps(text, "l2") == length)
    return next(exact, f"{length!r}unit01")
