"""Figures as PNG bytes, drawn without global state; colours hold for colour-blind readers.

Colours are Okabe and Ito's (2008). Each figure is drawn at about twice the size it has on the
page, so that it stays sharp on a dense screen and in print.
"""

import functools
import io
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from PIL import Image

from fundusray.reports.number_text import change_text, is_finite_number, number_text, shortened_text

INK, MUTED, FAINT = "#1b2430", "#5b6673", "#d5dbe1"
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
SHARES = LinearSegmentedColormap.from_list("shares", ["#ffffff", "#9cc4e4", "#2f7fb8", "#0b3c66"])
VERDICTS = {"better": GREEN, "worse": ORANGE}
DPI = 190
SHEET_BYTES = 600_000
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    # A name with two dollar signs is a name, not a formula.
    "text.parse_math": False,
}


class IntervalLine(NamedTuple):
    """One line of the interval plot."""

    name: str
    kappa: float | None
    low: float | None
    high: float | None
    difference: dict[str, Any]
    """metrics.paired_differences of kappa against the baseline; empty for the baseline."""
    paper: float | None
    baseline: bool


def figure_style(draw: Callable[..., Figure]) -> Callable[..., bytes]:
    """A drawing function that returns PNG bytes: equal input, equal bytes."""

    @functools.wraps(draw)
    def png(*args: Any, **keywords: Any) -> bytes:
        with matplotlib.rc_context(STYLE):
            canvas = FigureCanvasAgg(draw(*args, **keywords))
            canvas.draw()
            return _png(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))

    return png


def _png(picture: Image.Image) -> bytes:
    """The picture in 256 colours, a third of the bytes; no metadata."""
    sink = io.BytesIO()
    picture.quantize(256, dither=Image.Dither.NONE).save(sink, "PNG", optimize=True)
    return sink.getvalue()


def blank_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


@figure_style
def confusion_plot(matrix: np.ndarray, classes: Sequence[str], title: str) -> Figure:
    """Counts and row shares [K, K], true class down, and each class's recall (Wu's Figure 2)."""
    num_classes = len(matrix)
    totals = matrix.sum(axis=1)
    shares = matrix / np.maximum(totals, 1)[:, None]
    recall = np.diag(shares)
    figure = blank_figure(4.1, 3.7)
    axes = figure.add_subplot()
    # The last column stands apart: it is not a class that could be predicted.
    shown = np.column_stack([shares, np.full(num_classes, np.nan), recall])
    axes.imshow(np.ma.masked_invalid(shown), cmap=SHARES, vmin=0, vmax=1, aspect="auto")
    for true in range(num_classes):
        for predicted in range(num_classes):
            share = shares[true, predicted]
            text = f"{int(matrix[true, predicted]):,}\n{share:.0%}"
            _cell(axes, predicted, true, text, share, num_classes)
        text = f"{recall[true]:.2f}" if totals[true] else "–"
        _cell(axes, num_classes + 1, true, text, recall[true], num_classes)
    names = [shortened_text(name, 18) for name in classes]
    columns = [*range(num_classes), num_classes + 1]
    axes.set_xticks(columns, [*names, "recall"], rotation=30, ha="right", rotation_mode="anchor")
    labels = [f"{name}\n{total:,} eyes" for name, total in zip(names, totals, strict=True)]
    axes.set_yticks(range(num_classes), labels)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    figure.suptitle(shortened_text(title, 46), x=0.01, ha="left", fontsize=9.5, fontweight="bold")
    return figure


def _cell(axes: Axes, x: int, y: int, text: str, share: float, num_classes: int) -> None:
    color = "white" if share > 0.5 else INK
    points = 8.5 if num_classes <= 5 else 6.5
    axes.text(x, y, text, ha="center", va="center", color=color, fontsize=points, linespacing=1.15)


@figure_style
def training_curves(
    history: list[dict[str, Any]],
    metric: str,
    best_epoch: int,
    title: str,
    span: tuple[float, float] | None = None,
    others: Sequence[list[dict[str, Any]]] = (),
) -> Figure:
    """Training loss and validation metric by epoch; `others` are drawn faint behind the metric.

    `span` fixes the metric's axis, so that panels side by side compare. The loss has an axis of
    its own in each panel, for two losses' values mean different things.
    """
    figure = blank_figure(4.1, 2.3)
    left, right = figure.subplots(1, 2, gridspec_kw={"wspace": 0.08})
    key = f"val_{metric}"
    left.plot(*_series(history, "train_loss"), color=INK, linewidth=1.3, marker="o", markersize=2)
    left.set_title("training loss", fontweight="normal", fontsize=8.5)
    for other in others:
        right.plot(*_series(other, key), color=FAINT, linewidth=0.9, zorder=1)
    right.plot(*_series(history, key), color=BLUE, linewidth=1.5, marker="o", markersize=2)
    _mark_best(right, history, key, best_epoch)
    if span:
        right.set_ylim(*span)
    right.set_title(f"validation {metric.replace('_', ' ')}", fontweight="normal", fontsize=8.5)
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.grid(axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    figure.suptitle(shortened_text(title, 46), x=0.01, ha="left", fontsize=9.5, fontweight="bold")
    return figure


def _mark_best(axes: Axes, history: list[dict[str, Any]], key: str, best_epoch: int) -> None:
    best = [
        row for row in history if row.get("epoch") == best_epoch and is_finite_number(row.get(key))
    ]
    if best:
        value = best[0][key]
        axes.plot([best_epoch], [value], "o", color=ORANGE, markersize=6, fillstyle="none", mew=1.6)
        said = f"best {number_text(value)}\nepoch {best_epoch}"
        axes.text(0.98, 0.04, said, ha="right", va="bottom", transform=axes.transAxes, color=ORANGE)


def _series(history: list[dict[str, Any]], key: str) -> tuple[list[int], list[float]]:
    rows = [row for row in history if is_finite_number(row.get(key))]
    return [row["epoch"] for row in rows], [row[key] for row in rows]


@figure_style
def interval_plot(estimates: Sequence[IntervalLine]) -> Figure:
    """Kappa with its interval, and its paired difference to the baseline, one line per trial.

    A filled mark is a decided difference, a hollow one is not; a cross is the paper's value.
    """
    compared = any(e.difference for e in estimates)
    figure = blank_figure(9.6 if compared else 6.2, 1.15 + 0.3 * len(estimates))
    panels = figure.subplots(1, 2, sharey=True, width_ratios=[1.35, 1]) if compared else None
    left = panels[0] if compared else figure.add_subplot()
    places = range(len(estimates))
    for place, row in enumerate(estimates):
        _interval(left, place, row.kappa, row.low, row.high, BLUE, filled=True)
        if is_finite_number(row.paper):
            left.plot([row.paper], [place], "x", color=INK, markersize=5.5, mew=1.2, zorder=4)
        if row.baseline:
            left.axvline(row.kappa, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
    left.axvline(0, color=ORANGE, linewidth=0.9, zorder=0)
    left.set_yticks(places, [_named(e) for e in estimates])
    left.set_ylim(len(estimates) - 0.4, -0.6)
    papers = any(is_finite_number(e.paper) for e in estimates)
    left.set_title("kappa" + (", × paper" if papers else ""))
    left.set_xlabel("0: majority baseline, chance     1: perfect")
    if compared:
        _differences(panels[1], estimates)
    for axes in figure.axes:
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    return figure


def _named(estimate: IntervalLine) -> str:
    name = shortened_text(estimate.name)
    return f"{name} (baseline)" if estimate.baseline and "baseline" not in name else name


def _differences(axes: Axes, estimates: Sequence[IntervalLine]) -> None:
    """The right half of the interval plot: trial minus baseline, with the numbers in words."""
    for place, row in enumerate(estimates):
        d = row.difference
        if not d:
            continue
        color = VERDICTS.get(d["verdict"], MUTED)
        filled = d["verdict"] != "undecided"
        _interval(axes, place, d["difference"], d["low"], d["high"], color, filled=filled)
        said = f"{change_text(d)} {d['verdict']}"
        transform = axes.get_yaxis_transform()
        axes.text(1.02, place, said, va="center", transform=transform, fontsize=8, color=color)
    axes.axvline(0, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
    axes.set_title("difference to the baseline")
    axes.set_xlabel("← worse     kappa     better →")
    axes.xaxis.set_major_locator(MaxNLocator(5))


def _interval(
    axes: Axes,
    place: int,
    value: float | None,
    low: float | None,
    high: float | None,
    color: str,
    *,
    filled: bool,
) -> None:
    if is_finite_number(low) and is_finite_number(high):
        axes.plot([low, high], [place, place], color=color, linewidth=1.8, zorder=2)
    if is_finite_number(value):
        face = color if filled else "white"
        axes.plot(
            [value],
            [place],
            "o",
            color=color,
            markerfacecolor=face,
            markersize=6,
            mew=1.4,
            zorder=3,
        )


@figure_style
def search_history(history: list[dict[str, Any]]) -> Figure:
    """The value of each trial of a search, in order, and the best so far (higher is better)."""
    figure = blank_figure(5.6, 2.7)
    axes = figure.add_subplot()
    done = [row for row in history if is_finite_number(row.get("value"))]
    lost = [row for row in history if not is_finite_number(row.get("value"))]
    numbers = [row["number"] for row in done]
    values = [row["value"] for row in done]
    if done:
        best = np.maximum.accumulate(values)
        axes.step(numbers, best, where="post", color=ORANGE, linewidth=1.5, label="best so far")
        axes.plot(numbers, values, "o", color=BLUE, markersize=4.5, label="trial")
    for place, row in enumerate(lost):
        label = "no value" if place == 0 else None
        axes.plot(
            [row["number"]], [0.03], "x", color=MUTED, transform=axes.get_xaxis_transform(),
            label=label,
        )  # fmt: skip
    axes.set_xlabel("trial")
    axes.set_ylabel("validation value")
    axes.set_title("search, trial by trial")
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    axes.grid(axis="y")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


@figure_style
def importance_plot(shares: dict[str, float]) -> Figure:
    """The share of the spread in value that each setting explains, largest on top."""
    ordered = sorted(shares.items(), key=lambda pair: (-pair[1], pair[0]))
    figure = blank_figure(5.6, 1.0 + 0.3 * len(ordered))
    axes = figure.add_subplot()
    places = range(len(ordered))
    axes.barh(places, [share for _, share in ordered], color=BLUE, height=0.62)
    for place, (_, share) in enumerate(ordered):
        axes.text(share + 0.01, place, f"{share:.0%}", va="center")
    axes.set_yticks(places, [shortened_text(name) for name, _ in ordered])
    axes.set_ylim(len(ordered) - 0.4, -0.6)
    axes.set_xlim(0, max([share for _, share in ordered], default=1.0) * 1.15 + 0.02)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_title("which setting mattered")
    axes.tick_params(axis="y", length=0)
    return figure


def examples_sheet(pairs: Sequence[tuple[str, Sequence[np.ndarray]]]) -> bytes:
    """A sheet of photographs: one titled row per pair, images uint8 [H, W, 3] of any size.

    The sheet is drawn smaller until it is below 600 kB, which photographs need in a format
    without loss: fewer colours would draw edges that no retina has. It carries no metadata.
    """
    content = b""
    for tile in (224, 190, 160, 132, 110, 90, 72, 56):
        content = _sheet(pairs, tile)
        if len(content) <= SHEET_BYTES:
            break
    return content


def _sheet(pairs: Sequence[tuple[str, Sequence[np.ndarray]]], tile: int) -> bytes:
    gap, line = 6, 26
    columns = max((len(images) for _, images in pairs), default=0)
    width = max(columns * (tile + gap) + gap, 2 * tile)
    height = max(len(pairs) * (tile + line + gap), line)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width / 100, height / 100), dpi=100)
        for place, (title, _) in enumerate(pairs):
            top = 1 - (place * (tile + line + gap) + line / 2) / height
            figure.text(gap / width, top, shortened_text(title, 72), va="center", fontsize=10)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        sheet = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    for row, (_, images) in enumerate(pairs):
        for column, pixels in enumerate(images):
            picture = Image.fromarray(pixels)
            picture.thumbnail((tile, tile), Image.Resampling.LANCZOS)
            left = gap + column * (tile + gap) + (tile - picture.width) // 2
            top = row * (tile + line + gap) + line + (tile - picture.height) // 2
            sheet.paste(picture, (left, top))
    sink = io.BytesIO()
    sheet.save(sink, "PNG", optimize=True)
    return sink.getvalue()
