"""Attacks on classifiers: small changes of an image, within a budget, that raise the loss.

Images are RGB in [0, 1] before and after; a model holds its own normalisation.
"""

from fundusray.attacks.budget import Budget, judging_budget, length_text, parse_eps, training_budget
from fundusray.attacks.gradient import Success, evaluation_mode, fgsm, pgd, pgd_until_fooled
from fundusray.attacks.noise import random_offset

__all__ = [
    "Budget",
    "Success",
    "evaluation_mode",
    "fgsm",
    "judging_budget",
    "length_text",
    "parse_eps",
    "pgd",
    "pgd_until_fooled",
    "random_offset",
    "training_budget",
]
