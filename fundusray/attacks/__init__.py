"""Attacks on classifiers: small changes of an image, within a budget, that raise the loss.

Images are RGB in [0, 1] before and after; a model holds its own normalisation.
"""

from fundusray.attacks.budget import Budget, judging_budget, parse_eps, shown, training_budget
from fundusray.attacks.gradient import Success, evaluating, fgsm, pgd, pgd_until_fooled
from fundusray.attacks.noise import random_offset

__all__ = [
    "Budget",
    "Success",
    "evaluating",
    "fgsm",
    "judging_budget",
    "parse_eps",
    "pgd",
    "pgd_until_fooled",
    "random_offset",
    "shown",
    "training_budget",
]
