"""How far an attack may go: a norm, a radius with its unit, and the steps to get there."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fundusray.errors import InputError
from fundusray.fractions_of_range import LEVELS, fraction_text
from fundusray.keywords import is_number
from fundusray.settings import Adversarial

UNITS = {
    "/255": 1 / LEVELS,
    "px255": 1 / LEVELS,
    "/100": 1 / 100,
    "unit01": 1.0,
    # Half as much on [0, 1]: [-1, 1] is twice as wide.
    "norm": 0.5,
}
"""What a number is followed by, and its worth where pixels are in [0, 1]."""

NORMS = ("linf", "l2")

EXAMPLES = (
    "2/255 or 2px255 (8-bit levels), 1/100 (of black to white), 0.5unit01 (pixels in [0, 1]), "
    "0.1norm (pixels in [-1, 1])"
)

MOVES = 2.5
"""Steps together are this many times the radius (Madry et al. 2018, appendix), so that an image can
go from any place of the budget to any border of it."""
FAST_STEP = 1.25
"""Of the radius: the single step of FGSM from a random start (Wong et al. 2020)."""


@dataclass(frozen=True)
class Radius:
    """How far an attack may go; a length where pixels are in [0, 1]."""

    norm: str
    """linf: no pixel changes by more than eps; l2: the image, all its numbers, by no more."""
    eps: float
    """Infinite where an attack looks for the nearest image that succeeds."""


@dataclass(frozen=True)
class Budget(Radius):
    """An attack's radius and how it searches along gradients."""

    step: float
    steps: int
    random_start: bool = True
    best: bool = False
    """Whether the iterate with the largest loss comes back instead of the last one."""


def usual_step(eps: float, args: Mapping[str, Any]) -> float:
    """The length of each of `steps` steps where none is given."""
    return MOVES * eps / args["steps"]


@dataclass(frozen=True)
class Length:
    """What an attack's keyword has to be that is a length: written with a unit in a condition, a
    number where pixels are in [0, 1] in a call; 0 for the usual one."""

    usual: Callable[[float, Mapping[str, Any]], float]
    """(eps, all keywords) -> the length that 0 stands for."""
    need = "a length of at least 0, pixels in [0, 1]"

    def fits(self, value: Any) -> bool:
        return is_number(value) and value >= 0


def parse_eps(text: str, norm: str, setting: str = "adversarial.eps") -> float:
    """A length where pixels are in [0, 1], of a number and its unit.

    Raises:
        InputError: no unit, an unknown one, a length of 0 or less, or one beyond any image.
    """
    match = re.fullmatch(r"\s*([0-9.]+(?:e-?[0-9]+)?)\s*([a-z/][a-z0-9]*)?\s*", text.lower())
    number = _number(match[1]) if match else math.nan
    if math.isnan(number):
        raise InputError(f"{setting}: a number and its unit, {EXAMPLES}, got {text!r}")
    unit = match[2] if match else None
    if unit is None:
        raise InputError(
            f"{setting}: {text!r} has no unit, which decides by a factor of 255: write "
            f"{number:g}/255 for 8-bit levels, {number:g}unit01 for pixels in [0, 1] or "
            f"{number:g}norm for pixels in [-1, 1]"
        )
    if unit not in UNITS:
        raise InputError(f"{setting}: no unit {unit!r}; {EXAMPLES}, got {text!r}")
    eps = number * UNITS[unit]
    if not 0 < eps < math.inf:
        raise InputError(f"{setting}: a length above 0, got {text!r}")
    if norm == "linf" and eps > 1:
        raise InputError(
            f"{setting}: {text} is {eps * LEVELS:g} levels, more than from black to white; "
            f"8-bit levels are written {number:g}/255"
        )
    return eps


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def length_text(eps: float) -> str:
    """A length where pixels are in [0, 1] as people write it: 2/255, 1/100."""
    return fraction_text(eps)


def training_budget(settings: Adversarial) -> Budget:
    """The attack on training images.

    Steps that are not given are 2.5 eps / steps long; the one step of fast is 1.25 eps, from a
    random start (Wong et al. 2020), and those of free are eps (Shafahi et al. 2019).

    Raises:
        InputError: a length without its unit.
    """
    eps = parse_eps(settings.eps, settings.norm)
    steps = 1 if settings.method in ("fast", "free") else settings.steps
    if settings.step_size:
        # A step may be longer than any change that is allowed: quick starts do that.
        step = parse_eps(settings.step_size, "l2", "adversarial.step_size")
    else:
        step = {"fast": FAST_STEP * eps, "free": eps}.get(settings.method, MOVES * eps / steps)
    best = settings.keep == "best"
    return Budget(settings.norm, eps, step, steps, settings.random_start, best)


def judging_budget(settings: Adversarial) -> Budget:
    """The attack under which robustness is measured: the same radius unless it has one of its own,
    steps of its own.

    It is stronger than training's where `judge_steps` is more than its steps. It always starts at a
    random place and has steps of 2.5 eps / steps, whatever training does.

    Raises:
        InputError: a length without its unit.
    """
    text, setting = settings.eps, "adversarial.eps"
    if settings.judge_eps:
        text, setting = settings.judge_eps, "adversarial.judge_eps"
    eps = parse_eps(text, settings.norm, setting)
    steps = settings.judge_steps
    return Budget(settings.norm, eps, MOVES * eps / steps, steps, random_start=True)
