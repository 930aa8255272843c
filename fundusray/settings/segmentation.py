"""What is particular to networks that say of every pixel what it is."""

from dataclasses import dataclass

from fundusray.settings.need import require

MOST_OVERLAP = 0.75
"""Beyond it the same pixels are gone through more than four times in each direction."""


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """Where data.target names masks: the loss over pixels, and how large pictures are gone
    through."""

    loss: str = "cross_entropy"
    """What is minimised, a sum of losses over pixels: cross_entropy, dice, focal, each with its
    keywords, e.g. "cross_entropy(weights=balanced) + dice" or "focal(gamma=2)"."""
    tile: int = 0
    """Side of the tiles by which a picture is judged, pixels; 0: whole, also where windows of it
    are learned: data.augment="lesion_crop(256)" wants segmentation.tile=256 beside it."""
    overlap: float = 0.25
    """Share of a tile's side that it has in common with the next one."""

    def __post_init__(self) -> None:
        good = self.tile == 0 or self.tile >= 16
        require(good, "segmentation.tile", "0 (whole pictures) or 16 pixels and more", self.tile)
        good = 0 <= self.overlap <= MOST_OVERLAP
        need = f"a share from 0 to {MOST_OVERLAP}"
        require(good, "segmentation.overlap", need, self.overlap)
