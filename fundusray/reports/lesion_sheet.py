"""Attributions in green and red, and the sheets of Li et al.: what speaks for a class is green,
what speaks against it red."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fundusray.reports.contact_sheet import SheetCell, contact_sheet
from fundusray.reports.number_text import count_text, number_text

DARK = (20, 24, 29)
"""Behind a map without a photograph."""
FOR, AGAINST = (64, 224, 96), (240, 64, 56)
DIMMED = 0.45
"""Of its light a photograph keeps behind a map."""
BRIGHTEST = 99.5
"""Percentile of what a map has, by size, that is drawn in full colour; single pixels above it would
leave all others dark."""
SIDE = 320


def colour_scale(*maps: np.ndarray) -> float:
    """The size of attribution that is drawn in full colour, for maps [..., S, S] to be compared."""
    sizes = np.concatenate([np.abs(each[each != 0]).ravel() for each in maps])
    return float(np.percentile(sizes, BRIGHTEST)) if sizes.size else 1.0


def attribution_colours(
    values: np.ndarray, photograph: np.ndarray | None = None, scale: float | None = None
) -> np.ndarray:
    """A map [S, S] as a picture, uint8 [S, S, 3]; its colour is as strong as the root of its size.

    Args:
        photograph: uint8 [S, S, 3] behind it, dimmed; None: on dark.
        scale: `colour_scale`; None: the map's own.
    """
    scale = colour_scale(values) if scale is None else scale
    # The root, so that what is weak is seen beside what is strong.
    share = np.sqrt(np.minimum(np.abs(values) / scale, 1.0))[..., None]
    colour = np.where(values[..., None] > 0, FOR, AGAINST).astype(np.float64)
    ground = np.broadcast_to(np.array(DARK, np.float64), colour.shape)
    if photograph is not None:
        ground = photograph.astype(np.float64) * DIMMED
    return np.rint(share * colour + (1 - share) * ground).astype(np.uint8)


@dataclass(frozen=True)
class LesionPanels:
    """What the four-panel sheet shows of a photograph."""

    original: np.ndarray
    """uint8 [H, W, 3]: as it was taken."""
    prepared: np.ndarray
    """uint8 [S, S, 3]: as the network sees it."""
    positive: np.ndarray
    """[S, S]: the resultant region of the most positive neurons."""
    negative: np.ndarray
    """[S, S]: of the most negative ones."""
    name: str = ""
    """The photograph, and the class that is explained."""


def lesion_sheet(
    panels: Sequence[LesionPanels], *, title: str = "", dimmed: bool = False, side: int = SIDE
) -> bytes:
    """A PNG with two rows of a photograph (Li et al., figure a): as taken and as the network sees
    it; below, the regions of the most positive and of the most negative neurons, on one scale.

    Args:
        dimmed: the regions over the photograph, not on dark.
    """
    rows = []
    for each in panels:
        scale = colour_scale(each.positive, each.negative)
        ground = each.prepared if dimmed else None
        regions = [
            attribution_colours(values, ground, scale) for values in (each.positive, each.negative)
        ]
        name = f"{each.name}: " if each.name else ""
        rows += [
            [
                SheetCell(each.original, f"{name}photograph"),
                SheetCell(each.prepared, "as the network sees it"),
            ],
            [
                SheetCell(regions[0], "most positive neurons: green speaks for the class"),
                SheetCell(regions[1], "most negative neurons: red speaks against it"),
            ],
        ]
    return contact_sheet(rows, side=side, title=title)


@dataclass(frozen=True)
class SymmetryPanels:
    """What the symmetry sheet shows of a photograph."""

    prepared: np.ndarray
    """uint8 [S, S, 3]."""
    first: np.ndarray
    """[S, S]: the map toward the first class."""
    second: np.ndarray
    classes: tuple[str, str]
    """Their names."""
    correlation: float
    """Pearson's, of the two maps."""
    name: str = ""


def symmetry_sheet(
    panels: Sequence[SymmetryPanels], *, title: str = "", dimmed: bool = False, side: int = SIDE
) -> bytes:
    """A PNG with a row of a photograph (Li et al., figure b): as the network sees it, its map
    toward each of two classes, and their correlation. Each map has its own scale, as classes need
    not be explained by numbers of one size."""
    rows = []
    for each in panels:
        ground = each.prepared if dimmed else None
        first, second = (attribution_colours(m, ground) for m in (each.first, each.second))
        # The font of pictures has no minus sign.
        correlation = number_text(each.correlation, 2).replace("\u2212", "-")
        told = f"{each.classes[1]}; correlation {correlation}"
        rows.append(
            [
                SheetCell(each.prepared, each.name or "as the network sees it"),
                SheetCell(first, f"toward {each.classes[0]}"),
                SheetCell(second, f"toward {told}"),
            ]
        )
    return contact_sheet(rows, side=side, title=title)


def sum_sheet(
    means: Mapping[str, np.ndarray], counts: Mapping[str, int], *, title: str = "", side: int = SIDE
) -> bytes:
    """A PNG of mean maps [S, S] over many photographs (Li et al., sum heat map), one by class, on
    one scale.

    Args:
        counts: of each the photographs.
    """
    scale = colour_scale(*means.values())
    row = [
        SheetCell(
            attribution_colours(mean, None, scale), f"{name}, {count_text(counts[name], 'eye')}"
        )
        for name, mean in means.items()
    ]
    return contact_sheet([row], side=side, title=title)
