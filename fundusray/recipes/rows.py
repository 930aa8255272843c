"""How a recipe is entered under its name, with the figures its paper gives for it."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

from fundusray.config import Recipe
from fundusray.registry import Registry
from fundusray.settings.choices import registry


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecipeFacts:
    """What is to be known of a recipe before it is made."""

    ours: str = ""
    """The values that its paper does not state, in words."""
    trained_as: str = ""
    """The recipe whose training this is, where it is one under another condition or name."""
    conditions: tuple[str, ...] = ()
    """Under which the trained network is looked at; none: photographs as they are."""


RECIPES: Registry[Callable[[], Recipe]] = Registry("recipe", RecipeFacts)
"""Full name, e.g. `wu.table5.focal_gamma2`, -> a function that makes the recipe."""
PRESETS: Registry[dict[str, Any]] = Registry("preset")
"""Changes by name that any recipe can be given: preset=madry_quickstart."""


def register_recipe(
    name: str,
    ours: str = "",
    trained_as: str = "",
    conditions: tuple[str, ...] = (),
    **published: float | str,
) -> Callable:
    """A decorator that enters a function under `name`.

    The recipe it returns then bears that name and the paper's figures. With `trained_as` it is the
    training of that recipe, whose name it bears, and the function stays what it was.
    """

    def enter(function: Callable[[], Recipe]) -> Callable[[], Recipe]:
        @functools.wraps(function)
        def named() -> Recipe:
            bears = trained_as or name
            return dataclasses.replace(function(), name=bears, published=dict(published))

        facts = {"ours": ours, "trained_as": trained_as, "conditions": conditions}
        RECIPES.register(name, **facts)(named)
        return function if trained_as else named

    return enter


def description(name: str) -> str:
    """A recipe's docstring, its command, what to expect, and what its paper does not state and is
    ours.

    Raises:
        InputError: there is no such recipe, or no such source as it names.
    """
    function = RECIPES.find(name)
    made, ours = function(), RECIPES.facts(name).ours
    sources = [part for part in made.data.source.split(",") if part != "synthetic"]
    titles = [registry("data.source").facts(source).title for source in sources]
    roots = ",".join(f"<folder of {title}>" for title in titles)
    command = f"python jobs/train.py {name}{f' data.root={roots}' if roots else ''}"
    lines = [inspect.cleandoc(function.__doc__ or ""), "", command]
    if made.published:
        figures = ", ".join(f"{key.replace('_', ' ')} {v}" for key, v in made.published.items())
        lines.append(f"Expect (paper): {figures}.")
    if ours:
        lines.append(f"Not stated by the paper and ours: {ours}.")
    return "\n".join(lines)
