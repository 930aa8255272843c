"""What a recipe may ask of a loss, checked before anything is built."""

from typing import Any

from fundusray.errors import InputError
from fundusray.keywords import check_keywords
from fundusray.losses.registry import LOSSES, PASSED


def check_args(name: str, args: dict[str, Any]) -> None:
    """Checks a loss and its keywords before anything is built.

    Raises:
        InputError: an unknown loss or keyword (the nearest is named), or a value out of range.
    """
    kind = f"argument of loss {name}"
    check_keywords("loss.args", kind, LOSSES.find(name), PASSED, args)
    if together := LOSSES.facts(name).check:
        together(args)


def check_output(name: str, output: str) -> None:
    """Checks that a loss learns from what the network puts out.

    Raises:
        InputError: another model.output is needed; it is named.
    """
    own = LOSSES.facts(name).output
    need = (own,) if own else ("softmax", "binary")
    if output not in need:
        raise InputError(
            f"loss.name={name} learns from model.output={' or '.join(need)}, got {output!r}; "
            f"give model.output={need[0]}, or another loss"
        )
