"""What is trained how long at which rate, as a text.

`train.phases` is a text of calls joined by +, each `all` or `head` with its length:

    head(epochs=5) + all(epochs=20)                             Yu: the head first, then everything
    all(steps=550) + all(steps=350, lr=0.2) + all(steps=495, lr=0.05)      Li: a rate by mini-batch

`lr` multiplies train.lr, `norm=frozen` keeps the statistics of batch norms as they are. The
schedule runs anew within each phase. A phase that trains other parameters than the one before
begins with a fresh optimiser; one that only changes the rate goes on with the same.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from fundusray.errors import InputError
from fundusray.registry import unknown_name

TRAINABLE = ("all", "head")
NORMS = ("train", "frozen")
KEYS = ("epochs", "steps", "lr", "norm")
EXAMPLE = "head(epochs=5) + all(epochs=20)"


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One part of a training: so many epochs, or so many steps."""

    trainable: str = "all"
    epochs: int = 0
    steps: int = 0
    lr: float = 1.0
    """Multiplies the rate of the recipe."""
    norm: str = "train"
    """train, or frozen: batch norms use and keep the statistics they came with."""


def parse_phases(text: str, epochs: int) -> tuple[Phase, ...]:
    """The phases a text names; all parameters for `epochs` where it is empty.

    Raises:
        InputError: what is wrong with it and what would be right.
    """
    if not text.strip():
        return (Phase(epochs=epochs),)
    return tuple(_phase(part.strip()) for part in re.split(r"(?<=\))\s*\+", text))


def _phase(text: str) -> Phase:
    call = re.fullmatch(r"(\w+)\s*\(([^()]*)\)", text)
    if call is None:
        raise InputError(f"train.phases: {text!r} is no phase; write e.g. {EXAMPLE!r}")
    if call[1] not in TRAINABLE:
        raise unknown_name("phase of train.phases", call[1], TRAINABLE)
    given: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in call[2].split(","))):
        key, _, value = (part.strip() for part in pair.partition("="))
        if key not in KEYS:
            raise unknown_name(f"argument of phase {call[1]}", key, KEYS)
        if key in given:
            raise InputError(f"train.phases: {text!r} gives {key} twice")
        given[key] = value
    norm = given.get("norm", "train")
    if norm not in NORMS:
        raise unknown_name("norm of train.phases", norm, NORMS)
    if ("epochs" in given) == ("steps" in given):
        raise InputError(f"train.phases: {text!r} needs either epochs=<n> or steps=<n>")
    length = {key: _whole(given[key], text) for key in ("epochs", "steps") if key in given}
    return Phase(trainable=call[1], lr=_factor(given.get("lr", "1"), text), norm=norm, **length)


def _whole(value: str, text: str) -> int:
    if not value.isdecimal() or int(value) == 0:
        raise InputError(f"train.phases: {text!r} trains nothing; give a whole number above 0")
    return int(value)


def _factor(value: str, text: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise InputError(f"train.phases: {text!r}: lr is a factor above 0, got {value!r}")
    return number


def stretched_phases(text: str, epochs: Callable[[int], int], steps: Callable[[int], int]) -> str:
    """The text with the length of each phase changed; at least 1 of each."""
    if not text.strip():
        return ""
    told = []
    for phase in parse_phases(text, 1):
        length = f"epochs={max(1, epochs(phase.epochs))}"
        if phase.steps:
            length = f"steps={max(1, steps(phase.steps))}"
        rate = f", lr={str(phase.lr).removesuffix('.0')}" if phase.lr != 1 else ""
        norm = f", norm={phase.norm}" if phase.norm != "train" else ""
        told.append(f"{phase.trainable}({length}{rate}{norm})")
    return " + ".join(told)
