"""A unit's attribution against c, as squares: large where it is large, green above 0, red below."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from fundusray.reports.figures import GREEN, blank_figure, figure_style

RED = "#D62728"
LARGEST = 150.0
"""Area of the largest square, points squared."""
FIRST = 1.0
"""Levels of 255 that the first c adds to the number that it changes most."""


@figure_style
def unit_squares(attribution: np.ndarray, units: Sequence[int]) -> Figure:
    """Li et al.'s plot of linearity.

    Args:
        attribution: [J, U], of the photograph as it is, then at each c.
        units: [U], their numbers in the layer.
    """
    steps, num = attribution.shape
    figure = blank_figure(6.4, 1.2 + 0.22 * num)
    axes = figure.add_subplot()
    across, up = np.meshgrid(np.arange(steps), np.arange(num), indexing="ij")
    share = np.abs(attribution) / (np.abs(attribution).max() or 1.0)
    colours = np.where(attribution > 0, GREEN, RED)
    axes.scatter(
        across.ravel(), up.ravel(), s=LARGEST * share.ravel(), c=colours.ravel(), marker="s",
        linewidths=0,
    )  # fmt: skip
    texts = ["as it is", *(f"{FIRST * 2**step:g}" for step in range(steps - 1))]
    axes.set_xticks(range(steps), texts)
    axes.set_yticks(range(num), [str(unit) for unit in units])
    axes.set_xlim(-0.6, steps - 0.4)
    axes.set_ylim(num - 0.4, -0.6)
    axes.set_xlabel("c: levels of 255 it adds to the number it changes most")
    axes.set_ylabel("unit")
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    return figure
