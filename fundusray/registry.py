"""Names to functions: a dict with a decorator and an error that offers the nearest name."""

import difflib
from collections.abc import Callable, Iterable
from typing import TypeVar

from fundusray.errors import InputError

T = TypeVar("T")


def unknown_name(kind: str, given: str, known: Iterable[str]) -> InputError:
    """An error that names what was given, the nearest known name and all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return InputError(f"no {kind} named {given!r}{hint} (have: {', '.join(known)})")


class Registry(dict[str, T]):
    """A dict of named functions; `kind` is the word its errors use."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that enters a function under `name`; a second one of a name is a bug."""

        def enter(function: T) -> T:
            assert name not in self, f"{self.kind}: {name!r} is entered twice"
            self[name] = function
            return function

        return enter

    def find(self, name: str) -> T:
        """The function of that name.

        Raises:
            InputError: there is none; the nearest name is offered.
        """
        if name not in self:
            raise unknown_name(self.kind, name, self)
        return self[name]
