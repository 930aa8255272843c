"""Attacks on classifiers: small changes of an image, within a budget, that make a network wrong.

Images are RGB in [0, 1] before and after; a model holds its own normalisation. `gradient` is what
training uses; an attack by which networks are judged is a function in ATTACKS, a file here or a
plugin's, and `run_attack` runs and measures each in the same way.
"""

from fundusray.attacks.ascending_budgets import sweep
from fundusray.attacks.budget import (
    Budget,
    Length,
    Radius,
    judging_budget,
    length_text,
    parse_eps,
    training_budget,
)
from fundusray.attacks.folding import folded
from fundusray.attacks.gradient import Predict, Success, evaluation_mode, pgd
from fundusray.attacks.masking import masking_warnings, rising_robustness
from fundusray.attacks.noise import random_offset
from fundusray.attacks.registry import ATTACKS, AttackFacts, AttackProblem, QueriedNetwork
from fundusray.attacks.run import (
    AttackOutcome,
    attack_success,
    check_attack,
    run_attack,
    whole_args,
)
from fundusray.registry import import_folder

__all__ = [
    "ATTACKS",
    "AttackFacts",
    "AttackOutcome",
    "AttackProblem",
    "Budget",
    "Length",
    "Predict",
    "QueriedNetwork",
    "Radius",
    "Success",
    "attack_success",
    "check_attack",
    "evaluation_mode",
    "folded",
    "judging_budget",
    "length_text",
    "masking_warnings",
    "parse_eps",
    "pgd",
    "random_offset",
    "rising_robustness",
    "run_attack",
    "sweep",
    "training_budget",
    "whole_args",
]

import_folder(__name__, __path__)
