"""Keywords of registered functions, checked by what their signature says.

    def focal(logits, target, *, counts, gamma: Annotated[float, AtLeast(0)] = 2.0): ...

A plain `float` is any finite number, `bool` true or false, `str` any text; what may be only some of
these says so beside the type.
"""

import inspect
import math
import re
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from fundusray.errors import InputError
from fundusray.registry import nearest, unknown_name

NUMBER = re.compile(r"[-+.0-9e]{1,24}")
"""What a number is written with."""


class Check(Protocol):
    """What a keyword has to be."""

    need: str
    """In words, behind "needs"."""

    def fits(self, value: Any) -> bool: ...


def is_number(value: Any) -> bool:
    """Whether a value is a finite number, and no truth value."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value)


@dataclass(frozen=True)
class AtLeast:
    """A number of at least `low`."""

    low: float

    @property
    def need(self) -> str:
        return f"a number of at least {self.low:g}"

    def fits(self, value: Any) -> bool:
        return is_number(value) and value >= self.low


@dataclass(frozen=True)
class Above:
    """A number above `low`."""

    low: float

    @property
    def need(self) -> str:
        return f"a number above {self.low:g}"

    def fits(self, value: Any) -> bool:
        return is_number(value) and value > self.low


@dataclass(frozen=True)
class Within:
    """A number from `low` to `high`; ends "[)" leave the upper one out, "(]" the lower, "()"
    both."""

    low: float
    high: float
    ends: str = "[]"

    @property
    def need(self) -> str:
        return f"a number in {self.ends[0]}{self.low:g}, {self.high:g}{self.ends[1]}"

    def fits(self, value: Any) -> bool:
        if not is_number(value) or not self.low <= value <= self.high:
            return False
        outside = {self.low} if self.ends[0] == "(" else set()
        return value not in outside | ({self.high} if self.ends[1] == ")" else set())


class OneOf:
    """One of some texts."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.need = " or ".join(names)

    def fits(self, value: Any) -> bool:
        return value in self.names


@dataclass(frozen=True)
class _OfType:
    need: str
    test: Callable[[Any], bool]

    def fits(self, value: Any) -> bool:
        return self.test(value)


_TYPES: dict[Any, Check] = {
    float: _OfType("a number", is_number),
    int: _OfType("a whole number", lambda value: is_number(value) and value == int(value)),
    bool: _OfType("true or false", lambda value: isinstance(value, bool)),
    str: _OfType("a text", lambda value: isinstance(value, str)),
}


class _Whole:
    """A whole number that is also what another check says."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self.need = check.need.replace("a number", "a whole number")

    def fits(self, value: Any) -> bool:
        return _TYPES[int].fits(value) and self._check.fits(value)


def keywords(function: Callable[..., Any], passed: frozenset[str]) -> dict[str, Check | None]:
    """A function's keywords and what each has to be; None of one whose type says nothing.

    Args:
        passed: parameters that the caller gives, which nobody else can.
    """
    hints = typing.get_type_hints(function, include_extras=True)
    own = [name for name in inspect.signature(function).parameters if name not in passed]
    return {name: _check(hints.get(name)) for name in own}


def check_of(function: Callable[..., Any], key: str) -> Check | None:
    """What one keyword has to be; None of one whose type says nothing."""
    return keywords(function, frozenset())[key]


def _check(hint: Any) -> Check | None:
    kind = _TYPES.get(getattr(hint, "__origin__", hint))
    for extra in getattr(hint, "__metadata__", ()):
        if hasattr(extra, "fits") and hasattr(extra, "need"):
            return _Whole(extra) if kind is _TYPES[int] else extra
    return kind


def default_values(function: Callable[..., Any], passed: frozenset[str]) -> dict[str, Any]:
    """A function's keywords that have a default, with it."""
    parts = inspect.signature(function).parameters
    return {
        name: part.default
        for name, part in parts.items()
        if name not in passed and part.default is not part.empty
    }


def value_of_text(text: str, function: Callable[..., Any], key: str) -> Any:
    """A keyword's value as people write it, by the type in the function's signature; the text
    itself where it is none such, which `check_keywords` then refuses."""
    hint = typing.get_type_hints(function)[key]
    if hint is bool:
        return {"true": True, "false": False}.get(text, text)
    if hint not in (int, float) or not NUMBER.fullmatch(text):
        return text
    try:
        return hint(text)
    except ValueError:
        return text


def check_keywords(
    setting: str, kind: str, function: Callable[..., Any], passed: frozenset[str], args: dict
) -> None:
    """Refuses keywords that a function does not have, and values that it does not take.

    Args:
        setting: what the keywords are called in a recipe, e.g. `loss.args`.
        kind: what an unknown one is no name of, e.g. `argument of loss focal`.

    Raises:
        InputError: what was given and what would be right; of names the nearest.
    """
    known = keywords(function, passed)
    for key, value in args.items():
        if key not in known:
            raise unknown_name(kind, key, known)
        check = known[key]
        if check is None or check.fits(value):
            continue
        text = isinstance(check, OneOf) and isinstance(value, str)
        hint = nearest(value, check.names) if text else ""
        raise InputError(f"{setting}.{key}: needs {check.need}, got {value!r:.80}{hint}")


def signature(name: str, function: Callable[..., Any], passed: frozenset[str]) -> str:
    """A function as it is written with its keywords' defaults: `focal(gamma=2)`."""
    own = [
        _written(p) for p in inspect.signature(function).parameters.values() if p.name not in passed
    ]
    return f"{name}({', '.join(own)})" if own else name


def _written(part: inspect.Parameter) -> str:
    star = "*" if part.kind is part.VAR_POSITIONAL else ""
    value = f"{part.default:g}" if isinstance(part.default, float) else str(part.default)
    return star + part.name + ("" if part.default is part.empty else f"={value}")
