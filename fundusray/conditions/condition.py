"""What a condition is, and the registry of those that can be asked for."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from fundusray.attacks import Success, parse_eps
from fundusray.errors import InputError
from fundusray.registry import Registry, unknown_name

Predict = Callable[[Tensor], Tensor]
"""Images [B, 3, S, S] in [0, 1] to class logits [B, K]."""


@runtime_checkable
class Condition(Protocol):
    """A frozen value; `str` of it is its text."""

    @property
    def passes(self) -> int:
        """About how many forward passes an image costs, by which work is cut."""

    def changed(
        self, predict: Predict, image: Tensor, target: Tensor, row: Tensor, success: Success
    ) -> Tensor:
        """What becomes of images [B, 3, S, S] in [0, 1] of these classes [B] and rows [B]; a
        function of the network, the images and their rows alone. `success` tells an attack where
        it may end."""


class Arguments:
    """What stands in a condition's brackets, taken argument by argument."""

    def __init__(self, name: str, given: dict[str, str]) -> None:
        self.name, self._given, self._known = name, dict(given), list[str]()

    def text(self, key: str) -> str | None:
        """The argument as it was given, None where it was not."""
        self._known.append(key)
        return self._given.pop(key, None)

    def length(self, key: str, norm: str, default: float | None = None) -> float:
        """A length with its unit, where pixels are in [0, 1].

        Raises:
            InputError: no unit, no length, or none where one is needed.
        """
        text = self.text(key)
        if text is not None:
            return parse_eps(text, norm, f"{key} of {self.name}")
        if default is None:
            raise InputError(
                f"{self.name} needs {key}, a length with its unit: {self.name}({key}=2/255)"
            )
        return default

    def whole(self, key: str, default: int, least: int = 1) -> int:
        """A whole number from `least` on.

        Raises:
            InputError: it is none.
        """
        text = self.text(key)
        if text is None:
            return default
        if not (text.isdecimal() and text.isascii() and len(text) < 10) or int(text) < least:
            raise InputError(f"{key} of {self.name}: a whole number from {least} on, got {text!r}")
        return int(text)

    def choice(self, key: str, choices: Iterable[str], default: str) -> str:
        """One of some words.

        Raises:
            InputError: another one.
        """
        text = self.text(key)
        if text is not None and text not in choices:
            raise unknown_name(f"{key} of {self.name}", text, choices)
        return default if text is None else text

    def rest(self) -> dict[str, str]:
        """All that nobody has taken so far, as it was given; it is then taken."""
        left, self._given = self._given, {}
        return left

    def require_none_left(self) -> None:
        """Refuses arguments that nobody took.

        Raises:
            InputError: names one, and those that there are.
        """
        for key in self._given:
            if not self._known:
                raise InputError(f"{self.name} takes no arguments, got {key}=")
            raise unknown_name(f"argument of {self.name}", key, self._known)


CONDITIONS: Registry[Callable[[Arguments], Any]] = Registry("condition")
"""Name -> the condition of these arguments."""
