"""The recipe: everything that decides a result, as one frozen value of sections.

Each field's docstring is its help; `__post_init__` refuses what cannot be.
"""

from fundusray.settings.learning import (
    FLIPS,
    Adversarial,
    Loss,
    Model,
    Sampling,
    Train,
    is_published,
)
from fundusray.settings.photographs import Data
from fundusray.settings.places import Cluster, Results, Tune
from fundusray.settings.recipe import Recipe
from fundusray.settings.segmentation import Segmentation

__all__ = [
    "FLIPS",
    "Adversarial",
    "Cluster",
    "Data",
    "Loss",
    "Model",
    "Recipe",
    "Results",
    "Sampling",
    "Segmentation",
    "Train",
    "Tune",
    "is_published",
]
