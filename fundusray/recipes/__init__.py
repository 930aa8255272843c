"""Recipes by name: every row of the papers' tables, and our own."""

import math
from typing import Any

from fundusray.config import Recipe, override
from fundusray.phases import stretched
from fundusray.recipes import demo, kon, li, wu, yu
from fundusray.recipes.rows import OURS, RECIPES

__all__ = [
    "OURS",
    "PRESETS",
    "RECIPES",
    "demo",
    "find",
    "kon",
    "li",
    "names",
    "published",
    "smoke",
    "wu",
    "yu",
]

PRESETS: dict[str, dict[str, Any]] = {
    "madry_quickstart": kon.QUICK_START,
    "ngc_resnet50": yu.NGC,
}
"""Changes by name that any recipe can be given: preset=madry_quickstart."""


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
    # A batch of about 8 that the workers can share evenly, two images each at least.
    batch = 2 * recipe.cluster.most * math.ceil(4 / recipe.cluster.most)
    # The auxiliary head of inception needs a larger map than 64 pixels leave it, Yu's crop 256.
    size = 96 if recipe.model.name.startswith("inception") else 64
    size = 256 if recipe.data.augment in ("yu", "ngc") else size
    return override(
        recipe,
        {
            "data.source": "synthetic",
            "data.root": "",
            "data.keywords": "",
            "data.num_images": max(40, 2 * batch),
            "data.size": size,
            "model.weights": "",
            "model.init_from": "",
            "train.phases": stretched(recipe.train.phases, lambda n: 1, lambda n: 2),
            "adversarial.steps": min(recipe.adversarial.steps, 2),
            "adversarial.judge_steps": 2,
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
