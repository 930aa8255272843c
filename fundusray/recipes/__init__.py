"""Recipes by name: every row of the papers' tables, and our own."""

import math
from typing import Any

from fundusray.config import Recipe, override
from fundusray.recipes import demo, wu, yu
from fundusray.recipes.rows import RECIPES

__all__ = ["RECIPES", "demo", "find", "names", "published", "smoke", "wu", "yu"]


def find(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        InputError: there is none; the nearest name is offered.
    """
    return RECIPES.find(name)()


def names() -> list[str]:
    """Every recipe's name, sorted."""
    return sorted(RECIPES)


def smoke(recipe: Recipe) -> Recipe:
    """The recipe shrunk to seconds on a CPU: drawn photographs, small images, one epoch, random
    start, two trials. What else it asks for, its loss and sampling above all, stays."""
    # A batch of about 8 that the workers can share evenly.
    batch = recipe.cluster.most * math.ceil(8 / recipe.cluster.most)
    # The auxiliary head of inception needs a larger map than 64 pixels leave it, Yu's crop 256.
    size = 96 if recipe.model.name.startswith("inception") else 64
    size = 256 if recipe.data.augment == "yu" else size
    return override(
        recipe,
        {
            "data.source": "synthetic",
            "data.root": "",
            "data.num_images": 40,
            "data.size": size,
            "model.weights": "",
            "train.epochs": 1,
            "train.batch": batch,
            "tune.trials": 2,
            "tune.grace": 1,
        },
    )


def published(recipe: Recipe) -> dict[str, Any]:
    """The figures of the row of Wu's Table 5 with the same loss, sampling and dropout, or {}."""
    asked = (recipe.loss, recipe.sampling.name, recipe.model.dropout)
    for name in names():
        if name.startswith("wu.table5.") and not name.endswith("restart"):
            row = find(name)
            if (row.loss, row.sampling.name, row.model.dropout) == asked:
                return row.published
    return {}
