"""What a recipe may ask of a loss, checked before anything is built."""

import inspect
import math
from collections.abc import Callable
from typing import Any

from fundusray.errors import InputError
from fundusray.losses.table import LOSSES, OUTPUTS
from fundusray.registry import unknown_name

BASES = ("softmax", "focal", "sigmoid")
"""What class_balanced weighs."""
_GIVEN = {"logits", "target", "counts", "progress", "valid", "batch_counts"}
"""Parameters of a loss that the training passes, not the recipe."""


def _is_number(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value)


def _are_weights(value: Any) -> bool:
    numbers = isinstance(value, (tuple, list)) and all(_is_number(each) for each in value)
    return numbers and (not value or (min(value) >= 0 and max(value) > 0))


_NEEDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "base": (lambda value: isinstance(value, str), " or ".join(BASES)),
    "beta": (lambda value: _is_number(value) and 0 <= value < 1, "a number in [0, 1)"),
    "defer": (lambda value: _is_number(value) and 0 <= value <= 1, "a share in [0, 1]"),
    "divide": (lambda value: value in ("images", "weights"), "images or weights"),
    "gamma": (lambda value: _is_number(value) and value >= 0, "a number of at least 0"),
    "max_margin": (lambda value: _is_number(value) and value >= 0, "a number of at least 0"),
    "normalise": (lambda value: isinstance(value, bool), "true or false"),
    "power": (lambda value: _is_number(value) and value >= 0, "a number of at least 0"),
    "scale": (lambda value: _is_number(value) and value > 0, "a number above 0"),
    "smoothing": (lambda value: _is_number(value) and 0 <= value < 1, "a share in [0, 1)"),
    "weights": (_are_weights, "numbers of at least 0, not all 0"),
}


def check_args(name: str, args: dict[str, Any]) -> None:
    """Checks a loss and its keywords before anything is built.

    Raises:
        InputError: an unknown loss or keyword (the nearest is named), or a value out of range.
    """
    known = set(inspect.signature(LOSSES.find(name)).parameters) - _GIVEN
    for key, value in args.items():
        if key not in known:
            raise unknown_name(f"argument of loss {name}", key, known)
        fits, need = _NEEDS[key]
        if not fits(value):
            raise InputError(f"loss.args.{key}: needs {need}, got {value!r}")
    base = args.get("base", "softmax")
    if base not in BASES:
        raise unknown_name("loss.args.base", base, BASES)
    if "gamma" in args and "base" in known and base != "focal":
        raise InputError(
            f"loss.args.gamma={args['gamma']} has no effect with loss.args.base={base}; "
            f"give loss.args.base=focal, or leave gamma out"
        )


def check_output(name: str, output: str) -> None:
    """Checks that a loss learns from what the network puts out.

    Raises:
        InputError: another model.output is needed; it is named.
    """
    need = (OUTPUTS[name],) if name in OUTPUTS else ("softmax", "binary")
    if output not in need:
        raise InputError(
            f"loss.name={name} learns from model.output={' or '.join(need)}, got {output!r}; "
            f"give model.output={need[0]}, or another loss"
        )
