"""Accuracy against the budget of an attack, and the probability of a class against the step of a
counterfactual, with intervals, as pictures."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from fundusray.reports.figures import BLUE, GREEN, INK, MUTED, ORANGE, blank_figure, figure_style
from fundusray.reports.number_text import shortened_text

COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9")
LEVELS = 255


@figure_style
def robustness_curves(curves: dict[str, Sequence[dict[str, Any]]], unit: str) -> Figure:
    """Robust accuracy against eps, of one or several networks or attacks.

    Args:
        curves: name -> rows of `metrics.robustness.attack_figures`; eps 0 is the clean accuracy.
        unit: of eps on the axis: "levels of 255" for linf, "L2, pixels in [0, 1]" for l2.
    """
    figure = blank_figure(6.4, 3.6)
    axes = figure.add_subplot()
    scale = LEVELS if unit.startswith("levels") else 1
    for place, (name, rows) in enumerate(curves.items()):
        colour = COLOURS[place % len(COLOURS)]
        first = rows[0]
        points = [(0.0, *(first[f"clean_accuracy{end}"] for end in ("", "_low", "_high")))]
        points += [
            (row["eps"] * scale, *(row[f"robust_accuracy{end}"] for end in ("", "_low", "_high")))
            for row in rows
        ]
        axes.plot(
            [p[0] for p in points],
            [p[1] for p in points],
            "o-",
            color=colour,
            linewidth=1.5,
            markersize=4.5,
            label=shortened_text(name, 40),
        )
        known = [p for p in points if p[2] is not None and p[3] is not None]
        axes.vlines([p[0] for p in known], [p[2] for p in known], [p[3] for p in known], colour)
    majority = next(iter(curves.values()))[0]["majority_accuracy"]
    axes.axhline(majority, color=MUTED, linestyle="--", linewidth=1)
    axes.text(
        1.0, majority, " always the most frequent class", transform=axes.get_yaxis_transform(),
        va="center", color=MUTED, fontsize=7.5,
    )  # fmt: skip
    axes.set_xlabel(f"budget eps ({unit})")
    axes.set_ylabel("right, and still right under attack")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylim(-0.02, 1.02)
    axes.grid(axis="y")
    axes.legend(frameon=False, loc="upper right")
    return figure


@figure_style
def pareto_plot(reached: Sequence[dict[str, Any]], objectives: Sequence[str]) -> Figure:
    """What each trial of a search reached in its first two objectives; the front, joined.

    Args:
        reached: rows of number, method, front and a value of each objective.
    """
    figure = blank_figure(6.0, 4.0)
    axes = figure.add_subplot()
    across, up = objectives[:2]
    front = sorted((row for row in reached if row["front"]), key=lambda row: row[across])
    others = [row for row in reached if not row["front"]]
    places = [[row[name] for row in others] for name in (across, up)]
    axes.plot(*places, "o", color=MUTED, alpha=0.7, markersize=4.5, label="beaten in all")
    places = [[row[name] for row in front] for name in (across, up)]
    axes.plot(*places, "o-", color=BLUE, linewidth=1.2, markersize=6, label="front")
    for row in front:
        axes.annotate(
            f"{row['number'] + 1} {shortened_text(row['method'], 28)}",
            (row[across], row[up]),
            textcoords="offset points",
            xytext=(5, 4),
            fontsize=7,
            color=INK,
        )
    axes.margins(0.12)
    # Shares and kappas are seldom below 0, and equal ones would otherwise be drawn amid nothing.
    for values, bound in ((across, axes.set_xlim), (up, axes.set_ylim)):
        reach = [row[values] for row in reached]
        if min(reach) >= 0:
            most = max(max(reach), 0.01)
            bound(-0.05 * most, 1.15 * most)
    axes.set_xlabel(f"validation {across.replace('_', ' ')}")
    axes.set_ylabel(f"validation {up.replace('_', ' ')}")
    axes.set_title("what was traded for what")
    axes.grid()
    axes.legend(frameon=False, loc="best")
    return figure


@figure_style
def probability_curves(curves: Mapping[str, Sequence[dict[str, Any]]]) -> Figure:
    """The probability of a class against the step toward it, network by network, side by side.

    Args:
        curves: network -> rows of `metrics.counterfactuals.probability_curve`.
    """
    figure = blank_figure(max(4.2, 3.1 * len(curves)), 3.2)
    every = np.atleast_1d(figure.subplots(1, len(curves), sharey=True))
    for axes, (name, points) in zip(every, curves.items(), strict=True):
        methods = dict.fromkeys(row["method"] for row in points)
        for method, colour in zip(methods, COLOURS, strict=False):
            own = [row for row in points if row["method"] == method]
            line = [row for row in own if row["levels"] and row["probability"] is not None]
            levels = [row["levels"] for row in line]
            axes.plot(levels, [row["probability"] for row in line], color=colour,
                      linewidth=1.5, label=method.replace("_", " "))  # fmt: skip
            sure = [row for row in line if row["probability_low"] is not None]
            ends = [[row[f"probability{e}"] for row in sure] for e in ("_low", "_high")]
            axes.fill_between([r["levels"] for r in sure], *ends, color=colour, alpha=0.15)
        start = points[0]["probability"]
        if start is not None:
            axes.axhline(start, color=MUTED, linestyle="--", linewidth=1, label="as they are")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_title(shortened_text(name, 34))
        axes.set_ylim(-0.02, 1.02)
        axes.grid(axis="y")
    every[0].set_ylabel("probability of the class")
    every[0].yaxis.set_major_formatter(PercentFormatter(1.0))
    figure.supxlabel("step of the pixel that moves most (levels of 255)", fontsize=8.5)
    figure.legend(*every[0].get_legend_handles_labels(), frameon=False, ncols=3,
                  loc="outside upper right")  # fmt: skip
    return figure
