"""Curves of segmentations: validation loss, free response, precision against recall."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fundusray.reports.figures import BLUE, GREEN, INK, MUTED, ORANGE, blank_figure, figure_style
from fundusray.reports.number_text import count_text, is_finite_number, number_text, shortened_text

COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", INK)
MARKS = "osD^v<>"
ACROSS = 3
"""Panels beside each other."""
Rows = Sequence[dict[str, Any]]


@figure_style
def validation_loss_curves(histories: Mapping[str, Sequence[Rows]]) -> Figure:
    """Validation loss by share of the training of several models (Avramidis et al., Figure 4).

    Models of the scheme train for other numbers of epochs on sets of other sizes; the axis is the
    share of each one's training.

    Args:
        histories: model -> a history for each training of it, rows of epoch and val_loss. The mean
            over trainings is drawn, each of them faint behind it.
    """
    figure = blank_figure(6.4, 3.4)
    axes = figure.add_subplot()
    for place, (name, trainings) in enumerate(histories.items()):
        colour = COLOURS[place % len(COLOURS)]
        curves = [curve for rows in trainings if len(curve := _losses(rows))]
        if not curves:
            continue
        epochs = {len(curve) for curve in curves}
        for curve in curves if len(curves) > 1 else []:
            axes.plot(_shares(len(curve)), curve, color=colour, linewidth=0.8, alpha=0.35)
        mean = np.mean([curve[: min(epochs)] for curve in curves], axis=0)
        label = f"{shortened_text(name, 30)}, {count_text(max(epochs), 'epoch')}"
        axes.plot(
            _shares(max(epochs))[: len(mean)], mean, color=colour, linewidth=1.6,
            marker=MARKS[place % len(MARKS)], markersize=3, label=label,
        )  # fmt: skip
    axes.set_xlabel("share of the training")
    axes.set_ylabel("validation loss")
    axes.set_xlim(0, 1.02)
    axes.grid(axis="y")
    if axes.lines:
        axes.legend(frameon=False)
    return figure


def _losses(rows: Rows) -> np.ndarray:
    values = [row.get("val_loss") for row in rows]
    return np.array([value for value in values if is_finite_number(value)], np.float64)


def _shares(epochs: int) -> np.ndarray:
    return np.arange(1, epochs + 1) / epochs


@figure_style
def froc_curves(curves: Mapping[str, Rows], most: float = 10.0) -> Figure:
    """Sensitivity for lesions against false alarms an image, a panel for each class; what a higher
    threshold reached counts, as in `metrics.segmentation.sensitivity_at`.

    Args:
        curves: name -> rows of `metrics.segmentation.froc`.
        most: false alarms an image that the axis ends with.
    """
    kinds = list(dict.fromkeys(row["class"] for rows in curves.values() for row in rows))
    figure, panels = _panels(len(kinds))
    for axes, kind in zip(panels, kinds, strict=True):
        for place, rows in enumerate(curves.values()):
            axes.plot(
                *_reached(rows, kind),
                color=COLOURS[place % 7],
                marker=MARKS[place % 7],
                markersize=3,
                linewidth=1.2,
            )
        every = [row for rows in curves.values() for row in rows if row["class"] == kind]
        lesions = every[0]["lesions"]
        axes.axvline(1.0, color=MUTED, linewidth=0.8, linestyle="--")
        _panel(axes, f"{kind.replace('_', ' ')} ({count_text(lesions, 'lesion')})")
        axes.set_xlim(-0.02 * most, most)
        axes.xaxis.set_major_locator(MaxNLocator(5))
    _finished(figure, panels, "false alarms an image", "sensitivity", list(curves))
    return figure


def _reached(rows: Rows, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """False alarms and sensitivities of a class from the highest threshold down, neither falling;
    from nothing up."""
    own = [row for row in rows if row["class"] == kind and row["sensitivity"] is not None]
    own.sort(key=lambda row: -row["threshold"])
    points = np.array([(row["false_alarms"], row["sensitivity"]) for row in own]).reshape(-1, 2)
    across, up = np.maximum.accumulate(np.concatenate([np.zeros((1, 2)), points]), axis=0).T
    return across, up


@figure_style
def precision_recall_curves(
    curves: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]],
    chance: Mapping[str, float],
) -> Figure:
    """Precision against recall of pixels, a panel for each class.

    Args:
        curves: name -> class -> (recall, precision), as
            `metrics.segmentation.average_precision.precision_recall` gives them.
        chance: of each class the precision of scores at random, its share of the pixels.
    """
    kinds = list(chance)
    figure, panels = _panels(len(kinds))
    for axes, kind in zip(panels, kinds, strict=True):
        for place, own in enumerate(curves.values()):
            recall, precision = own.get(kind, (np.zeros(0), np.zeros(0)))
            # Between two scores precision is the one reached, as average precision sums it.
            axes.step(recall, precision, where="pre", color=COLOURS[place % 7], linewidth=1.2)
        axes.axhline(chance[kind], color=MUTED, linewidth=0.8, linestyle="--")
        _panel(axes, f"{kind.replace('_', ' ')} (chance {number_text(chance[kind])})")
        axes.set_xlim(-0.02, 1.02)
    _finished(figure, panels, "recall of pixels", "precision", list(curves))
    return figure


def _panels(number: int) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels, ACROSS in a row."""
    across = max(1, min(ACROSS, number))
    down = max(1, -(-number // across))
    figure = blank_figure(2.3 * across + 0.4, 2.1 * down + 0.5)
    panels = list(np.ravel(figure.subplots(down, across, squeeze=False)))
    for spare in panels[number:]:
        spare.set_visible(False)
    return figure, panels[:number]


def _panel(axes: Axes, title: str) -> None:
    axes.set_title(shortened_text(title, 40), fontsize=8.5, fontweight="normal")
    axes.set_ylim(-0.02, 1.02)
    axes.grid()


def _finished(
    figure: Figure, panels: Sequence[Axes], across: str, up: str, names: Sequence[str]
) -> None:
    """Axis labels once, and a legend above all panels."""
    figure.supxlabel(across, fontsize=8.5)
    figure.supylabel(up, fontsize=8.5)
    lines = panels[0].lines[: len(names)] if panels else []
    labels = [shortened_text(name, 40) for name in names]
    figure.legend(lines, labels, loc="outside upper left", ncols=min(len(names), 3), frameon=False)
