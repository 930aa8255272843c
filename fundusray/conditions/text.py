"""From a text to a condition."""

import re

from fundusray.conditions.condition import CONDITIONS, Arguments, Condition
from fundusray.errors import InputError

EXAMPLE = "clean or pgd(eps=2/255, steps=20)"
CALL = re.compile(r"\s*([A-Za-z]\w*)\s*(?:\(([^()]*)\))?\s*", re.ASCII)


def parse_condition(text: str) -> Condition:
    """The condition that a text names; spaces do not matter.

    Raises:
        InputError: it is no such text, or an unknown name, argument or value; what would be right.
    """
    call = CALL.fullmatch(text)
    if call is None:
        raise InputError(f"condition={text}: one condition is written {EXAMPLE}")
    name, given = call[1], dict[str, str]()
    reader = CONDITIONS.find(name)
    for pair in filter(None, (part.strip() for part in (call[2] or "").split(","))):
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or not value:
            raise InputError(
                f"condition={text}: {pair!r} is no argument; write name=value, as in {EXAMPLE}"
            )
        if key in given:
            raise InputError(f"condition={text}: {key} is given twice")
        given[key] = value
    arguments = Arguments(name, given)
    condition = reader(arguments)
    arguments.require_none_left()
    return condition
