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

BAND = 64
"""Rows that are worked on at once, so that they stay in a core's cache."""
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
    seen = seen_area(image)
    side = image.shape[-1]
    result = torch.empty_like(image)
    for place, each in enumerate(parameters):
        line = line_of(each["length"] * side, each["angle"])
        result[place] = _blurred(image[place].contiguous(), seen[place], line)
    return result


def _blurred(image: Tensor, seen: Tensor, line: Line) -> Tensor:
    """One image uint8 [3, S, S], blurred where the fundus is seen, bool [1, S, S]."""
    side, whole = image.shape[-1], line.whole
    down, right = (max(abs(each[axis]) for each in whole + line.ends) for axis in (0, 1))
    # The fourth layer counts how much of each line lies on the fundus.
    layers = torch.cat([image & seen.byte().mul_(255), seen.byte()])
    unseen, counted = image ^ layers[:3], seen.float()
    number = torch.int16 if len(whole) + 2 <= FITTING else torch.int32
    # The two ends count in part, by whole numbers as large as the sums leave room for.
    weight = min(torch.iinfo(number).max // (255 * (len(whole) + 2)), 256)
    rows = min(BAND, side)
    band = layers.new_zeros(4, rows + 2 * down, side + 2 * right, dtype=number)
    inner = band[:, :, right : right + side]
    total = layers.new_empty(4, rows, side, dtype=number)
    additions = list(_additions(band, total, (down, right), line))
    ends = [_moved(band, shift, (down, right), total) for shift in line.ends]
    mean, result = total.new_empty(3, rows, side, dtype=torch.float32), torch.empty_like(image)
    for top in [*range(0, side - rows, rows), side - rows]:
        first, last = max(0, top - down), min(side, top + rows + down)
        if last - first < band.shape[1]:
            band.zero_()
        inner[:, first - top + down : last - top + down] = layers[:, first:last]
        torch.add(*ends, out=total).mul_(round(line.share * weight))
        for one, other, out in additions:
            torch.add(one, other, alpha=weight if out is total else 1, out=out)
        # A pixel that is not seen may have a line that is not seen either.
        share = total[3:].clamp_min_(1).float().reciprocal_().mul_(counted[:, top : top + rows])
        result[:, top : top + rows] = mean.copy_(total[:3]).mul_(share).add_(0.5)
    return result.bitwise_or_(unseen)


def _additions(
    band: Tensor, total: Tensor, reach: Shift, line: Line
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(one, other, where their sum goes), in order: adds to `total` the band's points on a line."""
    sums, runs = band, dict(line.runs)
    spare = [torch.empty_like(band), torch.empty_like(band)]
    for size in range(len(line.steps) + 1):
        if size in runs:
            yield total, _moved(sums, runs[size], reach, total), total
        if size < len(line.steps):
            into, source = _overlap(line.steps[size], band.shape)
            out = spare[size % 2]
            yield sums[into], sums[source], out[into]
            sums = out


def _moved(band: Tensor, shift: Shift, reach: Shift, like: Tensor) -> Tensor:
    """The band's pixels that lie by `shift` from those of `like`."""
    top, left = reach[0] + shift[0], reach[1] + shift[1]
    return band[:, top : top + like.shape[1], left : left + like.shape[2]]


def _overlap(step: Shift, shape: Sequence[int]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Places of layers that have a neighbour `step` further, and those neighbours. The others are
    never read."""
    into, source = [slice(None)], [slice(None)]
    for along, length in zip(step, shape[1:], strict=True):
        into.append(slice(max(0, -along), length - max(0, along)))
        source.append(slice(max(0, along), length - max(0, -along)))
    return tuple(into), tuple(source)
