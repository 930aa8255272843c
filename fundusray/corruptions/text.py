"""A corruption as a value with a text form: `light_leakage(level=1-4)`."""

import re
from dataclasses import dataclass

from fundusray.corruptions.registry import CORRUPTIONS, MIXTURES
from fundusray.errors import InputError
from fundusray.registry import unknown_name

EXAMPLE = "light_leakage(level=1-4) or wu(level=2)"
CALL = re.compile(r"\s*([A-Za-z]\w*)\s*(?:\(([^()]*)\))?\s*", re.ASCII)
LEVEL = re.compile(r"([0-9]{1,3})(?:\s*-\s*([0-9]{1,3}))?")


@dataclass(frozen=True)
class Corruption:
    """A corruption or a mixture, and the levels of which each image draws one."""

    name: str
    lowest: int
    highest: int

    @property
    def kinds(self) -> tuple[str, ...]:
        """The corruptions of which an image draws one."""
        return MIXTURES.get(self.name, (self.name,))

    def __str__(self) -> str:
        levels = str(self.lowest)
        if self.highest > self.lowest:
            levels += f"-{self.highest}"
        return f"{self.name}(level={levels})"


def num_levels(name: str) -> int:
    """How many levels a corruption, or every one of a mixture, has."""
    kinds = MIXTURES.get(name, (name,))
    return min(len(CORRUPTIONS.facts(kind).levels) for kind in kinds)


def parse_corruption(text: str) -> Corruption:
    """The corruption that a text names; all its levels where none is given. Spaces do not matter.

    Raises:
        InputError: it is no such text, or an unknown name, argument or level; what would be right.
    """
    call = CALL.fullmatch(text)
    if call is None:
        raise InputError(f"corruption {text!r}: one corruption is written {EXAMPLE}")
    name = call[1]
    if name not in CORRUPTIONS and name not in MIXTURES:
        raise unknown_name("corruption", name, [*CORRUPTIONS, *MIXTURES])
    level: str | None = None
    for pair in filter(None, (part.strip() for part in (call[2] or "").split(","))):
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or not value:
            raise InputError(f"corruption {text!r}: {pair!r} is no argument; write as in {EXAMPLE}")
        if key != "level":
            raise unknown_name(f"argument of {name}", key, ["level"])
        if level is not None:
            raise InputError(f"corruption {text!r}: level is given twice")
        level = value
    return _with_levels(name, level)


def _with_levels(name: str, level: str | None) -> Corruption:
    num = num_levels(name)
    if level is None:
        return Corruption(name, 1, num)
    match = LEVEL.fullmatch(level)
    if match is None:
        raise InputError(f"level of {name}: one level or a range, 2 or 1-{num}, got {level!r}")
    lowest = int(match[1])
    highest = int(match[2] or match[1])
    if not 1 <= lowest <= highest <= num:
        raise InputError(f"level of {name}: from 1 to {num}, the lower one first, got {level!r}")
    return Corruption(name, lowest, highest)
