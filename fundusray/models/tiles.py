"""Networks of square images over photographs of any size: tile by tile, the tiles blended.

What is blended are probabilities, and not logits. A network knows its logits only up to a number
that is the same for all classes of a pixel, and a tile that is very sure of what it sees half of
would outvote its neighbour by any margin; means of probabilities are probabilities again, are never
surer than the surest tile, and are what the figures of a segmentation are computed from.

Where two tiles overlap, the weight goes over from one to the other as a squared sine, and it is 0
in the outer quarter of the overlap: there a network sees least of what lies around a pixel. So a
network whose answer depends on what lies within a quarter of the overlap gives by tiles just what
it gives of the whole image. At the border of the image nothing fades.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fundusray.errors import InputError
from fundusray.settings.segmentation import MOST_OVERLAP

Predict = Callable[[Tensor], Tensor]
"""Images float [B, 3, S, S] in [0, 1] -> logits [B, C, S, S]."""

RIM = 0.25
"""Share of an overlap at either end in which the nearer tile does not count."""
LEAST_SIDE = 8
BATCH = 4
SMALLEST = 1e-30
"""Of a probability before its logarithm is taken: above it float32 has full precision."""


@dataclass(frozen=True)
class TilePlan:
    """How an image is cut into tiles.

    Raises:
        InputError: a side or an overlap that cannot be.
    """

    side: int = 512
    """Of a tile, pixels; the network has to take it."""
    overlap: float = 0.25
    """Share of a tile's side that its neighbour sees as well, at least."""

    def __post_init__(self) -> None:
        if self.side < LEAST_SIDE:
            raise InputError(f"tiles of {self.side} pixels; {LEAST_SIDE} a side at least")
        if not 0 <= self.overlap <= MOST_OVERLAP:
            raise InputError(
                f"an overlap of {self.overlap:g}; give a share of a tile's side from 0 to "
                f"{MOST_OVERLAP:g}, e.g. 0.25"
            )

    @property
    def shared(self) -> int:
        """Pixels that neighbouring tiles share at least."""
        return min(round(self.overlap * self.side), self.side - 1)

    def starts(self, length: int) -> list[int]:
        """Where the tiles of an axis begin; they cover it, the last one is moved inwards."""
        last = max(length - self.side, 0)
        return [*range(0, last, self.side - self.shared), last]

    def weights(self, length: int) -> np.ndarray:
        """What each tile of an axis counts at each of its pixels, float32 [N, side]; the sum of all
        tiles is 1 at each pixel of the axis."""
        starts = np.array(self.starts(length))
        raw = np.array([self._faded(start, length) for start in starts])
        places = starts[:, None] + np.arange(self.side)
        total = np.zeros(max(length, self.side))
        np.add.at(total, places, raw)
        return (raw / total[places]).astype(np.float32)

    def _faded(self, start: int, length: int) -> np.ndarray:
        """A tile's own weight, float64 [side], before it is divided by the sum of all."""
        inwards = np.arange(self.side) + 0.5
        rim, whole = RIM * self.shared, np.ones(self.side)
        ramp = np.clip((inwards - rim) / max(self.shared - 2 * rim, 1e-9), 0, 1)
        fade = np.sin(np.pi / 2 * ramp) ** 2 if self.shared else whole
        # The border of the image is nobody's neighbour.
        left = fade if start > 0 else whole
        right = fade[::-1] if start + self.side < length else whole
        return left * right


def tiled_bands(
    predict: Predict, image: np.ndarray, plan: TilePlan, batch: int = BATCH
) -> Iterator[tuple[int, np.ndarray]]:
    """The class probabilities of an image, band by band from top to bottom.

    No more than two rows of tiles are held, however high the image is. An image smaller than a tile
    is continued below and to the right by its mirror image, and what that adds is cut off again.
    Tiles reach the network on the CPU; whoever has another device brings them there in `predict`.

    Args:
        predict: in evaluation mode.
        image: uint8 [H, W, 3], RGB.
        batch: tiles that go through the network at a time.

    Yields:
        (first row, float32 [C, rows, W]); all rows of the image, once.
    """
    height, width = image.shape[:2]
    tops, lefts = plan.starts(height), plan.starts(width)
    down, across = plan.weights(height), plan.weights(width)
    held: np.ndarray | None = None
    for number, top in enumerate(tops):
        for some in _chunks(range(len(lefts)), batch):
            tiles = [_tile(image, top, lefts[place], plan.side) for place in some]
            with torch.inference_mode():
                found = _probabilities(predict(_as_images(np.stack(tiles)))).cpu().numpy()
            if held is None:
                held = np.zeros((found.shape[1], plan.side, max(width, plan.side)), np.float32)
            for place, values in zip(some, found, strict=True):
                end = lefts[place] + plan.side
                weight = down[number][:, None] * across[place]
                held[:, :, lefts[place] : end] += values * weight
        following = tops[number + 1] if number + 1 < len(tops) else height
        done, left = following - top, None
        if following < height:
            left = np.zeros_like(held)
            left[:, : plan.side - done] = held[:, done:]
        yield top, held[:, :done, :width]
        held = left


def tiled_logits(predict: Predict, image: Tensor, plan: TilePlan, batch: int = BATCH) -> Tensor:
    """The logarithms of the blended probabilities of whole images: logits whose softmax they are.

    An image that is one tile, or less, goes through as it is. Gradients reach the image, so what is
    attacked is what is judged; every tile's part of the graph is then held at once.

    Args:
        image: float [B, 3, H, W] in [0, 1].
        batch: tiles that go through the network at a time.

    Returns:
        float32 [B, C, H, W].
    """
    height, width = image.shape[-2:]
    padded = _continued(image, plan.side)
    places = [
        (row, top, column, left)
        for row, top in enumerate(plan.starts(height))
        for column, left in enumerate(plan.starts(width))
    ]
    if len(places) == 1:
        parts = [predict(some).float() for some in padded.split(batch)]
        return F.log_softmax(torch.cat(parts)[..., :height, :width], dim=1)
    down, across = (
        torch.from_numpy(plan.weights(side)).to(image.device) for side in (height, width)
    )
    images = []
    for one in padded:
        total: Tensor | None = None
        for some in _chunks(places, batch):
            tiles = [one[:, t : t + plan.side, x : x + plan.side] for _, t, _, x in some]
            found = _probabilities(predict(torch.stack(tiles)))
            if total is None:
                total = found.new_zeros((found.shape[1], *one.shape[-2:]))
            for (row, top, column, left), values in zip(some, found, strict=True):
                weight = down[row][:, None] * across[column]
                total[:, top : top + plan.side, left : left + plan.side] += values * weight
        images.append(total)
    return torch.stack(images)[..., :height, :width].clamp_min(SMALLEST).log()


def _probabilities(logits: Tensor) -> Tensor:
    return torch.softmax(logits.float(), dim=1)


def _tile(image: np.ndarray, top: int, left: int, side: int) -> np.ndarray:
    """uint8 [side, side, 3] of the image, mirrored where it ends."""
    tile = image[top : top + side, left : left + side]
    if tile.shape[:2] == (side, side):
        return tile
    rows, columns = (_mirrored(length, side) for length in tile.shape[:2])
    return tile[np.ix_(rows, columns)]


def _continued(image: Tensor, side: int) -> Tensor:
    """The images [B, 3, H, W] with sides of a tile at least, mirrored where they end."""
    for axis in (-2, -1):
        length = image.shape[axis]
        if length < side:
            index = torch.from_numpy(_mirrored(length, side)).to(image.device)
            image = image.index_select(axis, index)
    return image


def _mirrored(length: int, side: int) -> np.ndarray:
    """Which of `length` pixels stands at each of at least `side`, int64: the border is not
    repeated, and what is narrower than the tile goes to and fro."""
    return np.pad(np.arange(length), (0, max(side - length, 0)), mode="reflect")


def _as_images(tiles: np.ndarray) -> Tensor:
    """float32 [B, 3, S, S] in [0, 1] of uint8 [B, S, S, 3]."""
    return torch.from_numpy(tiles).permute(0, 3, 1, 2).float().div_(255).contiguous()


def _chunks(items: Sequence[Any], batch: int) -> list[Any]:
    """The items in parts of at most `batch`."""
    return [items[start : start + batch] for start in range(0, len(items), batch)]
