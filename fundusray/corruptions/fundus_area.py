"""Where a framed photograph shows the fundus, and what is done there and nowhere else."""

from functools import lru_cache

import torch
from torch import Tensor

LIT = 10
"""Levels of 255 that black does not reach, noise of a camera or of a JPEG included."""
PART = 1 << 16
"""Values that are looked up at once, so that they stay in a core's cache."""
STRIP = (3 / 8, 5 / 8)
"""Of the side: the middle strip, where a circle that is cut off straight shows how far it goes."""

SKIP = 8
"""Of the strip's lines one in so many is looked at."""


@lru_cache(16)
def fundus_disc(side: int) -> Tensor:
    """The disc that a framed photograph is the square around, bool [S, S]."""
    square = (torch.arange(side, dtype=torch.float32) - (side - 1) / 2) ** 2
    return square[:, None] + square[None, :] <= (side / 2) ** 2


def seen_area(image: Tensor) -> Tensor:
    """Where images uint8 [B, 3, S, S] show the fundus, bool [B, 1, S, S].

    The disc, down to where the photograph ends: circles are often cut off at the top and bottom. A
    dark place within belongs to it. Of an image that is black all over, the whole disc.
    """
    side = image.shape[-1]
    low, high = (round(end * side) for end in STRIP)
    high = max(high, low + 1)
    seen = fundus_disc(side).to(image.device).repeat(len(image), 1, 1, 1)
    strips = image[:, :, :, low:high:SKIP], image[:, :, low:high:SKIP].transpose(2, 3)
    for axis, strip in zip((1, 2), strips, strict=True):
        lit = (strip.contiguous().amax((1, 3)) > LIT).tolist()
        for place, lines in enumerate(lit):
            if any(lines):
                first, last = lines.index(True), side - lines[::-1].index(True)
                seen[place].narrow(axis, 0, first).zero_()
                seen[place].narrow(axis, last, side - last).zero_()
    return seen


def smooth_area(image: Tensor) -> Tensor:
    """What `seen_area` says of float images in [0, 1]."""
    return seen_area(image.detach().mul(255).add(0.5).clamp(0, 255).byte())


def laid_over(image: Tensor, changed: Tensor, seen: Tensor) -> Tensor:
    """The changed pixels where the fundus is seen, those of the image elsewhere; all uint8."""
    mask = seen.byte().mul_(255)
    return (changed & mask).bitwise_or_(image & ~mask)


def through_table(image: Tensor, table: Tensor, out: Tensor | None = None) -> Tensor:
    """Every value of an image uint8 [..., S, S] looked up in a table of 256, uint8 of its shape; in
    `out` where that is given, which may lie otherwise.

    Values are taken as they lie in memory, so channels last stay so.
    """
    spread = torch.empty_like(image) if out is None else out
    if spread.stride() != image.stride():
        return spread.copy_(through_table(image.contiguous(), table))
    flat, ours = (each.as_strided((each.numel(),), (1,)) for each in (image, spread))
    for part, found in zip(flat.split(PART), ours.split(PART), strict=True):
        torch.index_select(table, 0, part.int(), out=found)
    return spread
