"""The regions of a prepared image: from masks where people drew them, else estimated."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from fundusray.data.regions.fundus import fundus_area
from fundusray.data.regions.landmarks import Circle, find_disc, find_macula
from fundusray.data.regions.vessels import vessel_mask, vessel_response

REGIONS = ("optic_disc", "macula", "vessels", "rest")
"""Every pixel of the fundus is of one of them: of several the first."""
KINDS = {
    "optic_disc": ("optic_disc", "disc"),
    "macula": ("macula",),
    "vessels": ("vessels", "vessels_1", "vessel"),
}
"""Region -> what masks of it are called by the sources."""


def retina_regions(
    image: Tensor, fill: float, eye: str = "", masks: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """REGIONS -> bool [S, S]: parts of the fundus without overlap that are the whole of it.

    What is estimated, and how well: docs/regions.md.

    Args:
        image: [3, S, S] in [0, 1], as it was prepared.
        fill: the value outside the fundus, as the prepared set says it.
        eye: left or right, where it is known.
        masks: kind -> bool [S, S] of masks that were drawn; an empty one counts as none.
    """
    image = image.detach().float().cpu()
    area = fundus_area(image, fill)
    drawn = _drawn_regions(masks or {})
    response = vessel_response(image, area)
    if "optic_disc" in drawn:
        disc = circle_of(drawn["optic_disc"])
    else:
        disc = find_disc(image, area, response)
    estimates = {
        "optic_disc": lambda: disc.mask(*area.mask.shape),
        "macula": lambda: find_macula(image, area, disc, eye).mask(*area.mask.shape),
        "vessels": lambda: vessel_mask(response, area),
        "rest": lambda: area.mask,
    }
    left, regions = area.mask.clone(), {}
    for name in REGIONS:
        whole = drawn[name] if name in drawn else estimates[name]()
        regions[name] = whole & left
        left &= ~whole
    return regions


def circle_of(mask: Tensor) -> Circle:
    """The circle with the centre and the area of a mask, bool [S, S] with any pixel."""
    rows, columns = mask.nonzero(as_tuple=True)
    radius = math.sqrt(len(rows) / math.pi)
    return Circle(float(columns.float().mean()) + 0.5, float(rows.float().mean()) + 0.5, radius)


def _drawn_regions(masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Region -> the mask that people drew of it, where there is one."""
    found: dict[str, Tensor] = {}
    for region, kinds in KINDS.items():
        for kind in kinds:
            if kind in masks and masks[kind].any():
                found.setdefault(region, torch.as_tensor(masks[kind]).bool().cpu())
    return found
