"""The condition under which a network is evaluated, as a value with a text form.

    clean                            the photographs as they are
    pgd(eps=2/255, steps=20)         attacked, within a budget that has a unit; any of ATTACKS
    autoattack(eps=2/255)
    segpgd(eps=2/255, steps=20)      attacked where each pixel has a class; any of
                                     SEGMENTATION_ATTACKS
    light_leakage(level=1-4)         damaged as by a bad camera, before the light is evened
    worst_case(of=light_leakage, level=2, draws=8, steps=5)
    layered(eps=1/100, steps=100)    changed class by class to be learned from, of a segmentation
    selective(eps=1/100, search=greedy)

`parse_condition(text)` gives the value and `str(value)` the shortest text that gives it again, so
that texts can be compared and hashed. A further attack is an entry of `attacks.ATTACKS` or of
`attacks.segmentation.SEGMENTATION_ATTACKS`; another condition is a function from its arguments to a
frozen value, entered under its name in CONDITIONS; the value says what becomes of images
(`Condition`).
"""

from fundusray.conditions.attack import AttackCondition
from fundusray.conditions.clean import Clean
from fundusray.conditions.columns import with_condition
from fundusray.conditions.condition import CONDITIONS, Condition
from fundusray.conditions.corruption import CorruptionCondition
from fundusray.conditions.enhancement import Enhancement, Layered, Selective
from fundusray.conditions.segmentation_attack import SegmentationAttack, require_attack_of_task
from fundusray.conditions.task_conditions import require_condition_of_task
from fundusray.conditions.text import (
    parse_attacks,
    parse_attacks_of_any_task,
    parse_condition,
)
from fundusray.conditions.worst_case import WorstCase

__all__ = [
    "CONDITIONS",
    "AttackCondition",
    "Clean",
    "Condition",
    "CorruptionCondition",
    "Enhancement",
    "Layered",
    "SegmentationAttack",
    "Selective",
    "WorstCase",
    "parse_attacks",
    "parse_attacks_of_any_task",
    "parse_condition",
    "require_attack_of_task",
    "require_condition_of_task",
    "with_condition",
]
