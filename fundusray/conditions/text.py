"""From a text to a condition."""

import re
from collections.abc import Callable
from typing import Any

from fundusray.attacks import ATTACKS
from fundusray.attacks.segmentation import SEGMENTATION_ATTACKS
from fundusray.conditions.attack import AttackCondition, attack_condition
from fundusray.conditions.condition import CONDITIONS, Arguments, Condition
from fundusray.conditions.corruption import corruption_condition
from fundusray.conditions.segmentation_attack import (
    SegmentationAttack,
    require_attack_of_task,
    segmentation_attack,
)
from fundusray.corruptions import CORRUPTIONS, MIXTURES
from fundusray.errors import InputError
from fundusray.registry import unknown_name

EXAMPLE = "clean, pgd(eps=2/255, steps=20) or motion_blur(level=1-4)"
CALL = re.compile(r"\s*([A-Za-z]\w*)\s*(?:\(([^()]*)\))?\s*", re.ASCII)
EPS = re.compile(r"(\beps\s*=)([^,()]*)", re.ASCII)


def parse_attacks(text: str) -> list[AttackCondition]:
    """The attack that a text names at each of its budgets, e.g. `pgd(eps=1/255|2/255, steps=20)`.

    Raises:
        InputError: it is no such text, or names what is no attack on classes of whole images.
    """
    found = parse_attacks_of_any_task(text)
    require_attack_of_task(found[0], segmentation=False)
    return [one for one in found if isinstance(one, AttackCondition)]


def parse_attacks_of_any_task(text: str) -> list[AttackCondition] | list[SegmentationAttack]:
    """The same where it is not known yet what the network answers, e.g. of
    `segpgd(eps=1/255|2/255, steps=20)`: attacks of one kind.

    Raises:
        InputError: it is no such text, or names what is no attack.
    """
    given = EPS.search(text)
    budgets = given[2].split("|") if given else []
    texts = [EPS.sub(lambda m, eps=eps: m[1] + eps.strip(), text) for eps in budgets] or [text]
    found = [parse_condition(each) for each in texts]
    if not isinstance(found[0], AttackCondition | SegmentationAttack):
        raise InputError(
            f"attack={text}: {found[0]} is no attack; one is pgd(eps=2/255, steps=20), or of a "
            "segmentation segpgd(eps=2/255, steps=20)"
        )
    return found


def parse_condition(text: str) -> Condition:
    """The condition that a text names; spaces do not matter.

    Raises:
        InputError: it is no such text, or an unknown name, argument or value; what would be right.
    """
    call = CALL.fullmatch(text)
    if call is None:
        raise InputError(f"condition={text}: one condition is written {EXAMPLE}")
    name, given = call[1], dict[str, str]()
    readers: dict[str, Callable[[Arguments], Any]]
    readers = dict.fromkeys([*CORRUPTIONS, *MIXTURES], corruption_condition)
    readers |= dict.fromkeys(ATTACKS, attack_condition)
    readers |= dict.fromkeys(SEGMENTATION_ATTACKS, segmentation_attack) | dict(CONDITIONS)
    if name not in readers:
        raise unknown_name("condition", name, readers)
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
    condition = readers[name](arguments)
    arguments.require_none_left()
    return condition
