"""An attack's keywords as they stand in a condition: read from its text, written into it."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fundusray.attacks import Length, parse_eps
from fundusray.conditions.condition import Arguments
from fundusray.fractions_of_range import scale_of_length
from fundusray.keywords import check_of, value_of_text

ALWAYS_WRITTEN = ("steps", "queries")
"""Keywords that a condition's text has though they are what they are by default: a figure under
attack says little without them."""
DIGITS = 17
"""That tell one float from the next."""


def read_keywords(
    given: Arguments, attack: Callable[..., Any], names: Iterable[str]
) -> dict[str, Any]:
    """Those of an attack's keywords that are given; a length has its unit.

    Raises:
        InputError: a length without its unit.
    """
    args: dict[str, Any] = {}
    for key in names:
        text = given.text(key)
        if text is None:
            continue
        if isinstance(check_of(attack, key), Length):
            # A step may be longer than any change that is allowed.
            args[key] = parse_eps(text, "l2", f"{key} of {given.name}")
        else:
            args[key] = value_of_text(text, attack, key)
    return args


def differing_keywords(
    attack: Callable[..., Any], usual: Mapping[str, Any], whole: Mapping[str, Any], eps: float
) -> tuple[tuple[str, Any], ...]:
    """Those of an attack's keywords that are not what they are by default; a length that is what
    its 0 stands for is the default, too."""

    def same(key: str, value: Any) -> bool:
        check = check_of(attack, key)
        if isinstance(check, Length) and value == check.usual(eps, whole):
            return True
        return value == usual[key]

    return tuple((key, value) for key, value in whole.items() if not same(key, value))


def keyword_texts(
    attack: Callable[..., Any], given: Mapping[str, Any], whole: Mapping[str, Any], norm: str
) -> dict[str, str]:
    """The keywords that a condition's text has, as they stand in it."""

    def text(key: str, value: Any) -> str:
        if isinstance(check_of(attack, key), Length):
            return length_text(value, norm)
        if isinstance(value, float):
            return f"{value:g}" if float(f"{value:g}") == value else repr(value)
        return str(value).lower() if isinstance(value, bool) else str(value)

    written = {key: value for key, value in whole.items() if key in given or key in ALWAYS_WRITTEN}
    return {key: text(key, value) for key, value in written.items()}


def condition_text(name: str, texts: Mapping[str, str]) -> str:
    """`name(key=text, ...)`, or the name alone."""
    written = ", ".join(f"{key}={text}" for key, text in texts.items())
    return f"{name}({written})" if written else name


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
