"""What the path of a mask says: a file, and which part of what it holds is the mask.

masks/IDRiD_01_MA.tif   marked is what differs from 0
masks/x.png#bit=2       marked is where bit 2 of a pixel is set
masks/x.png#bit=1,5     where any of these bits is set
masks/x.png#index=3     where a pixel is of this class: its grey value, or its palette's index
"""

import re
from typing import NamedTuple

PART = re.compile(r"(.+\.\w+)#(bit|index)=([0-9]{1,5}(?:,[0-9]{1,5})*)", re.IGNORECASE)


class MaskPath(NamedTuple):
    """A mask's path, taken apart."""

    file: str
    """Seen from the root."""
    how: str = ""
    """bit or index where the file holds several masks; else empty."""
    numbers: tuple[int, ...] = ()
    """The bits, or the class indices, that mark the structure."""


def parse_mask_path(path: str) -> MaskPath:
    """The file of a mask, and which part of it is meant."""
    named = PART.fullmatch(path)
    if named is None:
        return MaskPath(path)
    return MaskPath(named[1], named[2].lower(), tuple(map(int, named[3].split(","))))


def mask_part(path: str) -> str:
    """What of a mask's path stands behind its file, `#bit=2`; empty where the file is one mask."""
    return path[len(parse_mask_path(path).file) :]
