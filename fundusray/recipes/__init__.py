"""Recipes by name: every row of the papers' tables, and our own."""

import math
from typing import Any

from fundusray.config import Recipe, override
from fundusray.phases import stretched_phases
from fundusray.recipes.rows import PRESETS, RECIPES, description
from fundusray.registry import import_folder

__all__ = [
    "PRESETS",
    "QUOTED",
    "RECIPES",
    "as_published",
    "description",
    "find_recipe",
    "published_figures",
    "recipe_names",
    "smoke_recipe",
]

QUOTED = "reference_only"
"""Key of a row's published figures that are another work's: they are shown and not run."""


def find_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        InputError: there is none; the nearest name is offered.
    """
    return RECIPES.find(name)()


def recipe_names() -> list[str]:
    """Every recipe's name, sorted."""
    return sorted(RECIPES)


def smoke_recipe(recipe: Recipe) -> Recipe:
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
            "train.phases": stretched_phases(recipe.train.phases, lambda n: 1, lambda n: 2),
            "adversarial.steps": min(recipe.adversarial.steps, 2),
            "adversarial.judge_steps": 2,
            "train.epochs": 1,
            "train.batch": batch,
            "tune.trials": 2,
            "tune.grace": 1,
        },
    )


def as_published(recipe: Recipe, row: Recipe) -> bool:
    """Whether a recipe is a paper's row in what its figures rest on: photographs and what is
    learned of them, their size and preprocessing, network and start, loss, sampling, attack and
    length. Where it is not, the paper's figures are for orientation at most."""
    return _rests_on(recipe) == _rests_on(row)


def _rests_on(recipe: Recipe) -> tuple[Any, ...]:
    data, model, train, attack = recipe.data, recipe.model, recipe.train, recipe.adversarial
    photographs = (data.source, data.target, data.keywords, data.mix)
    photographs += (data.corrupt, data.corrupt_share, data.corrupt_fresh)
    classes = (data.classes, data.map, data.ungradable)
    pixels = (data.size, data.preprocess, data.preprocess_args)
    network = (model.name, model.hidden, model.output, model.dropout)
    start = (bool(model.init_from), bool(model.weights or model.init_from))
    length = (train.phases, 0 if train.phases else train.epochs)
    attacked = (attack.method, attack.norm, attack.eps)
    learned = (network, start, recipe.loss, recipe.sampling, length, attacked)
    return photographs, classes, pixels, learned


def published_figures(recipe: Recipe) -> dict[str, Any]:
    """The figures of the paper's row that a recipe is (`as_published`), its own name's first; {}
    where it is none, as one that was shrunk or is of other photographs."""
    for name in sorted(RECIPES, key=lambda name: (name != recipe.name, name)):
        row = find_recipe(name)
        if RECIPES.facts(name).conditions:
            continue
        if row.published and QUOTED not in row.published and as_published(recipe, row):
            return row.published
    return {}


import_folder(__name__, __path__)
