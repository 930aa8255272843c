"""How a recipe is entered under its name, with the figures its paper gives for it."""

import dataclasses
import functools
import inspect
from collections.abc import Callable

from fundusray.config import Recipe
from fundusray.registry import Registry

RECIPES: Registry[Callable[[], Recipe]] = Registry("recipe")
"""Full name, e.g. `wu.table5.focal_gamma2`, -> a function that makes the recipe."""

TITLES = {"eyepacs": "EyePACS", "odir": "ODIR", "brset": "BRSET"}
"""What the publishers call the sources that recipes learn from."""


OURS: dict[str, str] = {}
"""Full name -> the values of its recipe that its paper does not state, in words."""


def recipe(name: str, ours: str = "", **published: float | str) -> Callable:
    """A decorator that enters a function under `name`.

    The recipe it returns then bears that name and the paper's figures, and its docstring ends with
    the command, what to expect, and what the paper does not state and is `ours`.
    """
    if ours:
        OURS[name] = ours

    def enter(function: Callable[[], Recipe]) -> Callable[[], Recipe]:
        @functools.wraps(function)
        def named() -> Recipe:
            return dataclasses.replace(function(), name=name, published=dict(published))

        sources = [part for part in function().data.source.split(",") if part != "synthetic"]
        roots = ",".join(f"<folder of {TITLES[source]}>" for source in sources)
        command = f"python jobs/train.py {name}{f' data.root={roots}' if roots else ''}"
        lines = [inspect.cleandoc(function.__doc__ or ""), "", command]
        if published:
            figures = ", ".join(f"{key.replace('_', ' ')} {v}" for key, v in published.items())
            lines.append(f"Expect (paper): {figures}.")
        if ours:
            lines.append(f"Not stated by the paper and ours: {ours}.")
        named.__doc__ = "\n".join(lines)
        return RECIPES.register(name)(named)

    return enter
