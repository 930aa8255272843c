"""Names to functions with their facts, and an error that offers the nearest name."""

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from fundusray import plugins
from fundusray.errors import InputError

T = TypeVar("T")


def unknown_name(kind: str, given: str, known: Iterable[str]) -> InputError:
    """An error that names what was given, the nearest known name and all of them."""
    known = sorted(known)
    return InputError(
        f"no {kind} named {given!r}{nearest(given, known)} (have: {', '.join(known)})"
    )


def nearest(given: str, known: Iterable[str]) -> str:
    """`; did you mean 'focal'?`, or nothing where no known name is like the given one."""
    near = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def import_folder(package: str, path: Iterable[str], but: tuple[str, ...] = ()) -> None:
    """Imports every module of a package, so that what is registered in a new file is there.

    Args:
        package, path: `__name__` and `__path__` of the package, which calls this in its __init__.
        but: modules that are imported by whoever needs them.
    """
    for module in pkgutil.iter_modules(path):
        if module.name not in but:
            importlib.import_module(f"{package}.{module.name}")


class Registry(Mapping[str, T]):
    """Named functions in the order of their entry, each with facts of one kind.

    `kind` is the word that errors use; `facts` the dataclass that holds what is told beside a
    function's name. Plugins are read before names are listed, and where a name is not there; so a
    registry is not listed while a module is imported.
    """

    def __init__(self, kind: str, facts: type | None = None) -> None:
        self.kind = kind
        self._facts_kind = facts
        self._entries: dict[str, T] = {}
        self._facts: dict[str, Any] = {}

    def register(self, name: str, **facts: Any) -> Callable[[T], T]:
        """A decorator that enters a function under `name` with its facts; a second one of a name
        is a bug, as is a fact that this registry does not keep."""
        made = self._facts_kind(**facts) if self._facts_kind else None
        assert made is not None or not facts, f"{self.kind}: keeps no facts, got {sorted(facts)}"

        def enter(function: T) -> T:
            assert name not in self._entries, f"{self.kind}: {name!r} is entered twice"
            self._entries[name], self._facts[name] = function, made
            return function

        return enter

    def find(self, name: str) -> T:
        """The function of that name.

        Raises:
            InputError: there is none; the nearest name is offered.
        """
        if name not in self:
            raise unknown_name(self.kind, name, self)
        return self._entries[name]

    def facts(self, name: str) -> Any:
        """What was told beside the name: the dataclass that the registry was made with.

        Raises:
            InputError: there is no such name; the nearest is offered.
        """
        self.find(name)
        return self._facts[name]

    def __contains__(self, name: object) -> bool:
        if name not in self._entries:
            plugins.load_plugins()
        return name in self._entries

    def __getitem__(self, name: str) -> T:
        if name not in self:
            raise KeyError(name)
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        plugins.load_plugins()
        return iter(dict(self._entries))

    def __len__(self) -> int:
        plugins.load_plugins()
        return len(self._entries)
