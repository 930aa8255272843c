"""From a text to maps: `integrated_gradients(steps=100), grad_cam`."""

import re
from dataclasses import dataclass
from typing import Any

from fundusray.errors import InputError
from fundusray.keywords import value_of_text
from fundusray.registry import unknown_name
from fundusray.saliency.registry import MAPS
from fundusray.saliency.run import check_map, whole_keywords

CALL = re.compile(r"\s*([A-Za-z]\w*)\s*(?:\(([^()]*)\))?\s*(?:,|$)", re.ASCII)
EXAMPLE = "method=integrated_gradients(steps=100),grad_cam"


@dataclass(frozen=True)
class MapMethod:
    """A map with its keywords; `str` gives the text again.

    Raises:
        InputError: no such map, keyword or value.
    """

    name: str
    """Of MAPS."""
    args: tuple[tuple[str, Any], ...] = ()
    """The keywords that are not what they are by default."""

    def __post_init__(self) -> None:
        given = dict(self.args)
        check_map(self.name, given)
        usual = whole_keywords(self.name, {})
        kept = tuple((key, given[key]) for key in usual if given.get(key, usual[key]) != usual[key])
        object.__setattr__(self, "args", kept)

    @property
    def keywords(self) -> dict[str, Any]:
        """All of its keywords."""
        return whole_keywords(self.name, dict(self.args))

    def passes(self, size: int) -> int:
        """Forward passes that an image of this side costs, about."""
        return MAPS.facts(self.name).passes(self.keywords, size)

    def __str__(self) -> str:
        written = ", ".join(f"{key}={_text(value)}" for key, value in self.args)
        return f"{self.name}({written})" if written else self.name


def parse_methods(text: str) -> tuple[MapMethod, ...]:
    """The maps that a text names, separated by commas; spaces do not matter.

    Raises:
        InputError: it is no such text, names nothing, or names the same map twice.
    """
    methods: list[MapMethod] = []
    place = 0
    while place < len(text):
        call = CALL.match(text, place)
        if call is None:
            raise InputError(f"method={text}: maps are written {EXAMPLE}")
        methods.append(_method(call[1], call[2] or ""))
        place = call.end()
    if not methods:
        raise InputError(f"give one or more maps: {EXAMPLE} (have: {', '.join(sorted(MAPS))})")
    for method in methods:
        if methods.count(method) > 1:
            raise InputError(f"method={text}: {method} is given twice")
    return tuple(methods)


def _method(name: str, inside: str) -> MapMethod:
    function, known, args = MAPS.find(name), whole_keywords(name, {}), dict[str, Any]()
    for pair in filter(None, (part.strip() for part in inside.split(","))):
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or key in args:
            raise InputError(f"{name}({inside}): keywords are written key=value, each once")
        if key not in known:
            raise unknown_name(f"keyword of map {name}", key, known)
        args[key] = value_of_text(value, function, key)
    return MapMethod(name, tuple(args.items()))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
