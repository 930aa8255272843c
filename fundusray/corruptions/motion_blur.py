"""Motion blur: the eye moves while the shutter is open.

A pixel becomes the mean of those on a straight line through it. The eye moves and the camera's
aperture does not, so the circle's edge stays sharp and black does not run into the fundus: of a
line, only what lies on the fundus counts, and what lies outside stays as it is.

The line is made of shifted copies of the image in whole pixels. Copies are added by doubling: two
neighbours, then two such pairs, then two such fours, so that 59 copies are 10 additions. Each
doubling's step is rounded by itself, hence points lie within about a pixel of the straight line.
Two more at its ends count in part, so that a length need not be whole.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fundusray.corruptions.fundus_area import seen_area, smooth_area
from fundusray.corruptions.registry import CORRUPTIONS, Parameters

FITTING = 128
"""Copies whose sum an int16 holds."""

Shift = tuple[int, int]
"""Rows down and columns to the right."""


class Line(NamedTuple):
    """A line of pixels through the origin."""

    steps: list[Shift]
    """From the first to the second half of 2, 4, 8, ... neighbours."""
    runs: list[tuple[int, Shift]]
    """(n, first) of runs of 2^n neighbours, of which the line is made; n grows."""
    ends: list[Shift]
    share: float
    """By which the two at the ends count."""

    @property
    def whole(self) -> list[Shift]:
        """The points that count fully."""
        points = []
        for size, first in self.runs:
            run = [first]
            for down, right in self.steps[:size]:
                run += [(point[0] + down, point[1] + right) for point in run]
            points += run
        return points


def line_of(length: float, angle: float) -> Line:
    """The line of `length` pixels at `angle` degrees, from the horizontal towards the bottom.

    A line of no length is the origin alone.
    """
    across, down = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    steep = abs(down) > abs(across)
    slope = across / down if steep else down / across
    half = length * max(abs(across), abs(down)) / 2
    num = math.floor(half)

    def shift(step: int) -> Shift:
        aside = round(step * slope)
        return (step, aside) if steep else (aside, step)

    count, start, runs = 2 * num + 1, -num, []
    sizes = range(count.bit_length())
    for size in sizes:
        if count >> size & 1:
            runs.append((size, shift(start)))
            start += 1 << size
    steps = [shift(1 << size) for size in sizes[:-1]]
    return Line(steps, runs, [shift(-num - 1), shift(num + 1)], half - num)


def smooth_motion(image: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
    """Images float [B, 3, S, S] in [0, 1], blurred along lines of `length` and `angle` [B].

    Values are the means over whole pixels, whose gradient by the line is 0 nearly everywhere; the
    gradient is that of a line of points between pixels (a straight-through estimate).
    """
    side, seen = image.shape[-1], smooth_area(image).to(image.dtype)
    layers = torch.cat([image * seen, seen], 1)
    pairs = zip(parameters["length"].tolist(), parameters["angle"].tolist(), strict=True)
    lines = [line_of(length * side, angle) for length, angle in pairs]
    exact = torch.cat([_exact_sum(layers[i : i + 1], line) for i, line in enumerate(lines)])
    near = _mean_along(layers, parameters, max(len(line.whole) for line in lines) + 2)
    exact, near = (total[:, :3] / total[:, 3:].clamp_min(1e-6) for total in (exact, near))
    blurred = exact + (near - near.detach())
    return blurred * seen + image * (1 - seen)


def _exact_sum(layers: Tensor, line: Line) -> Tensor:
    """Weighted sums along a line, float [1, C, S, S], of what lies within the image."""
    reach = max(abs(part) for shift in line.whole + line.ends for part in shift)
    padded, side = F.pad(layers, (reach,) * 4), layers.shape[-1]
    total = torch.zeros_like(layers)
    for shift in line.whole + line.ends:
        top, left = reach + shift[0], reach + shift[1]
        share = line.share if shift in line.ends else 1.0
        total = total + padded[:, :, top : top + side, left : left + side] * share
    return total


def _mean_along(layers: Tensor, parameters: Mapping[str, Tensor], num: int) -> Tensor:
    """The mean of `num` points of each line, read between pixels, float [B, C, S, S]."""
    side, angle = layers.shape[-1], torch.deg2rad(parameters["angle"])
    place = (torch.arange(side, device=layers.device, dtype=layers.dtype) + 0.5) * 2 / side - 1
    total = torch.zeros_like(layers)
    for point in range(num):
        # From one end of the line to the other; the square is 2 wide.
        away = 2 * parameters["length"] * ((point + 0.5) / num - 0.5)
        x = place[None, None, :] + (away * angle.cos())[:, None, None]
        y = place[None, :, None] + (away * angle.sin())[:, None, None]
        grid = torch.stack(torch.broadcast_tensors(x, y), -1)
        total = total + F.grid_sample(layers, grid, align_corners=False)
    return total / num


@CORRUPTIONS.register(
    "motion_blur",
    title="motion blur",
    source="one of the four of Wu (2020), section 4; model and levels ours",
    levels=(
        {"length": (0.0095, 0.014), "angle": (0, 180)},
        {"length": (0.019, 0.025), "angle": (0, 180)},
        {"length": (0.038, 0.050), "angle": (0, 180)},
        {"length": (0.100, 0.130), "angle": (0, 180)},
    ),
    smooth=smooth_motion,
)
def motion_blur(image: Tensor, parameters: Sequence[Parameters]) -> Tensor:
    """The mean along a line of `length` sides at `angle` degrees from the horizontal."""
    seen = seen_area(image).byte()
    side = image.shape[-1]
    result = torch.empty_like(image, memory_format=torch.contiguous_format)
    for place, each in enumerate(parameters):
        line = line_of(each["length"] * side, each["angle"])
        _blur(result[place], image[place].contiguous(), seen[place, 0], line)
    return result


def _blur(result: Tensor, image: Tensor, seen: Tensor, line: Line) -> None:
    """Blurs an image uint8 [3, S, S] into `result` where the fundus is seen, uint8 [S, S] of 0 and
    1; one colour after the other, so that what is worked on stays in a core's cache."""
    sums, mask = _LineSums(seen, line), seen.neg()
    # How much of each line lies on the fundus. A pixel that is not seen may have none of it.
    share = sums.of(seen).clamp_min_(1).float().reciprocal_()
    mean, masked, blurred = (torch.empty_like(like) for like in (share, seen, seen))
    for colour, into in zip(image, result, strict=True):
        total = sums.of(torch.mul(colour, seen, out=masked))
        mean.copy_(total).mul_(share).add_(0.5)
        # By way of whole numbers: so the conversion is several times as fast.
        blurred.copy_(total.copy_(mean))
        # Where the mask is 255 the blurred value, where it is 0 the image's own.
        blurred.bitwise_xor_(colour).bitwise_and_(mask)
        torch.bitwise_xor(colour, blurred, out=into)


class _LineSums:
    """Sums along a line of layers uint8 [S, S].

    A neighbour is at the same distance in memory from every pixel, and two copies are added as two
    long vectors, which is several times as fast as row by row. Where that runs over a row's end the
    sum means nothing and is never read: beside the layer there is room for the line's whole reach.
    """

    def __init__(self, like: Tensor, line: Line) -> None:
        points, self._side = line.whole + line.ends, like.shape[-1]
        self._down, self._right = (max(abs(each[axis]) for each in points) for axis in (0, 1))
        num = len(line.whole) + 2
        number = torch.int16 if num <= FITTING else torch.int32
        # The two ends count in part, by whole numbers as large as the sums leave room for.
        self._weight = min(torch.iinfo(number).max // (255 * num), 256)
        self._part = round(line.share * self._weight)
        shape = self._side + 2 * self._down, self._side + 2 * self._right
        self._padded = like.new_zeros(shape, dtype=number)
        self._layer = self._moved(self._padded, (0, 0))
        self._ends = [self._moved(self._padded, shift) for shift in line.ends]
        self._total = torch.empty_like(self._layer, memory_format=torch.contiguous_format)
        self._additions = list(self._planned(line))

    def of(self, layer: Tensor) -> Tensor:
        """A multiple of the layer's sums along the line, the same one for all layers; whole numbers
        [S, S] that the next call overwrites."""
        self._layer.copy_(layer)
        torch.add(*self._ends, out=self._total).mul_(self._part)
        for one, other, out in self._additions:
            torch.add(one, other, alpha=self._weight if out is self._total else 1, out=out)
        return self._total

    def _planned(self, line: Line) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(one, other, where their sum goes), in order."""
        sums, runs, width = self._padded, dict(line.runs), self._padded.shape[-1]
        spare = [torch.empty_like(sums), torch.empty_like(sums)]
        for size in range(len(line.steps) + 1):
            if size in runs:
                yield self._total, self._moved(sums, runs[size]), self._total
            if size < len(line.steps):
                down, right = line.steps[size]
                away, out = down * width + right, spare[size % 2]
                here = slice(max(0, -away), sums.numel() - max(0, away))
                there = slice(max(0, away), sums.numel() - max(0, -away))
                yield sums.view(-1)[here], sums.view(-1)[there], out.view(-1)[here]
                sums = out

    def _moved(self, padded: Tensor, shift: Shift) -> Tensor:
        """The pixels that lie by `shift` from those of the layer."""
        top, left = self._down + shift[0], self._right + shift[1]
        return padded[top : top + self._side, left : left + self._side]
