"""Photographs to squares of one size: find the fundus, bring it to size, even out its light.

Only what a decoded photograph shows is used; how it is rotated, how much of its circle is cut off
and how dark it is do not matter (`center_crop` alone looks at nothing). Every way is a function
`(image uint8 [H, W, 3], size, **its keywords) -> PreparedImage`: the pixels, and where they lie in
the photograph.
"""

import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from fundusray.config import Data
from fundusray.data.photographs.find_fundus import (
    Box,
    Fundus,
    count_diameter,
    find_fundus,
    lit_box,
    without_missing,
)
from fundusray.data.prepared.blur import gaussian_blur
from fundusray.data.prepared.geometry import Geometry
from fundusray.data.prepared.resampling import (
    area_taps,
    bring_to_size,
    gaussian_taps,
    in_square,
    square_grid,
    weighted_means,
)
from fundusray.errors import InputError
from fundusray.registry import Registry, unknown_name

GAIN = 4.0
SIGMA_DIVISOR = 30.0
CLIP = 0.95
GREY = 128
RANGES: dict[str, tuple[float, float]] = {
    "gain": (0.1, 100),
    "divisor": (1, 200),
    "clip": (0.1, 1),
    "denoise": (0.3, 10),
    "value": (1, 255),
}
"""Smallest and largest value of each keyword."""


class PreparedImage(NamedTuple):
    """A photograph, prepared."""

    pixels: np.ndarray
    """uint8 [size, size, 3]."""
    geometry: Geometry
    """Where they lie in the photograph as it was given."""
    seen: Box
    """What of the square the photograph covers."""


class Preprocess(NamedTuple):
    """One way of preparing a photograph."""

    function: Callable[..., PreparedImage]
    """(uint8 [H, W, 3], size, **keywords) -> PreparedImage; raises BadImage."""
    fill: float
    """Value outside the fundus, in [0, 1]: what augmentation moves in from beyond the border."""
    min_side: Callable[[int], int]
    """size -> the smallest side that a scaled decode must leave."""
    version: int
    """Goes up when the function gives other pixels: older prepared sets are then made anew."""
    frame: str | None = ""
    """The preprocessing that gives the photograph in its square as the camera took it, before its
    light is evened: what damage belongs to. Empty: this one; None: there is no such step."""
    finish: Callable[..., np.ndarray] | None = None
    """(uint8 [S, S, 3] of `frame`, what of it is seen, **keywords) -> the pixels of this
    preprocessing; None where the frame is all."""


PREPROCESS: Registry[Preprocess] = Registry("preprocessing")


def smallest_decode_side(size: int) -> int:
    """Smallest side of a scaled decode: a quarter more than the result's.

    A fundus fills most of the smaller side, seldom all of it; it must not have to be enlarged.
    """
    return math.ceil(1.25 * size)


def _register(
    name: str,
    fill: float,
    version: int,
    frame: str | None = "",
    finish: Callable[..., np.ndarray] | None = None,
) -> Callable[[Callable], Callable]:
    """A decorator that enters a function as the preprocessing `name`, as it is."""

    def enter(function: Callable[..., PreparedImage]) -> Callable[..., PreparedImage]:
        entry = Preprocess(function, fill, smallest_decode_side, version, frame, finish)
        PREPROCESS.register(name)(entry)
        return function

    return enter


def _evened(
    square: np.ndarray,
    seen: Box,
    *,
    gain: float = GAIN,
    divisor: float = SIGMA_DIVISOR,
    clip: float = CLIP,
) -> np.ndarray:
    """The square with the light of what is seen evened, half-grey outside `clip` of the radius."""
    part = square[seen.top : seen.bottom, seen.left : seen.right]
    return _in_grey_square(part, seen, len(square), gain, divisor, clip)


def _in_grey_square(
    part: np.ndarray, seen: Box, size: int, gain: float, divisor: float, clip: float
) -> np.ndarray:
    """The part with its light evened, in the square, half-grey outside `clip` of the radius."""
    evened = even_light(part, size / 2 / divisor, gain)
    result = in_square(evened, seen, size, GREY)
    result[_outside(size, clip)] = GREY
    return result


@_register("graham", GREY / 255, 2, "resize", _evened)
def graham(
    image: np.ndarray,
    size: int,
    *,
    gain: float = GAIN,
    divisor: float = SIGMA_DIVISOR,
    clip: float = CLIP,
) -> PreparedImage:
    """B. Graham's colour normalisation (Kaggle 2015; Wu, section 3.1).

    The fundus is scaled to a diameter of `size`, then 4 a - 4 blur(a) + 128 with sigma = radius/30,
    and what lies outside 95 % of the radius is exactly 128. Where a circle is cut off, the blur
    ends (mirrored) at the edge of the photograph, so that no false edge is seen, and what is
    missing is 128.

    Raises:
        BadImage: no fundus.
    """
    square, geometry, seen = resize(image, size)
    evened = _evened(square, seen, gain=gain, divisor=divisor, clip=clip)
    return PreparedImage(evened, geometry, seen)


def _square_around(image: np.ndarray, fundus: Fundus, size: int) -> Geometry:
    """Of a result that shows the square around the circle."""
    side = 2 * fundus.radius
    start = fundus.x - fundus.radius, fundus.y - fundus.radius
    return Geometry(*start, side, side, size, image.shape[:2])


@_register("diameter", GREY / 255, 1, frame=None)
def diameter(
    image: np.ndarray,
    size: int,
    *,
    denoise: float = 0.5,
    gain: float = GAIN,
    divisor: float = SIGMA_DIVISOR,
    clip: float = 0.9,
) -> PreparedImage:
    """Li's five steps (Explaining DR detection, Preprocessing).

    1. The diameter is the number of pixels of the middle row that are not black. It is used where
       it is that of the circle: within 1 % or 2 pixels of the one `find_fundus` sees. Else the row
       is no diameter (it passes beside the middle of an off-centre circle, the circle is cut off
       left or right, or what surrounds it is not black) and the circle's is taken. The centre is
       the circle's.
    2. and 3. A Gaussian blur against noise, `denoise` pixels of the result wide, is read where the
       pixels of the result lie: blur and scaling in one, the retina's diameter being `size`.
    4. The difference to a highly blurred copy, sigma = radius / `divisor`, about half-grey. Li
       names neither sigma nor gain; both are Graham's, whose scheme it is (gain=1 is the bare
       difference).
    5. The outer 10 % of the retina are cropped: what lies outside 90 % of its radius (a circle, as
       in Graham's code), and what the photograph does not show, is exactly 128.

    Raises:
        BadImage: no fundus.
    """
    fundus = find_fundus(image)
    counted = count_diameter(image)
    if abs(counted - 2 * fundus.radius) <= max(2.0, 0.02 * fundus.radius):
        fundus = fundus._replace(radius=counted / 2)
    geometry = _square_around(image, fundus, size)
    image, fundus = without_missing(image, fundus)
    (x, y), step, seen = grid = square_grid(image, fundus, size)
    sigma = denoise * max(step, 1.0)
    columns = x + (np.arange(seen.left, seen.right) + 0.5) * step - 0.5
    rows = y + (np.arange(seen.top, seen.bottom) + 0.5) * step - 0.5
    height, width = image.shape[:2]
    blurred = weighted_means(
        image, gaussian_taps(rows, sigma, height), gaussian_taps(columns, sigma, width)
    )
    pixels = _in_grey_square(blurred, grid.seen, size, gain, divisor, clip)
    return PreparedImage(pixels, geometry, grid.seen)


def even_light(image: np.ndarray, sigma: float, gain: float = GAIN) -> np.ndarray:
    """gain * image - gain * blur(image) + 128, rounded and clipped, uint8 [H, W, 3]."""
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float()
    evened = (pixels - gaussian_blur(pixels, sigma)).mul_(gain).add_(GREY)
    evened = evened.round_().clamp_(0, 255).byte()
    return evened.permute(1, 2, 0).contiguous().numpy()


def _outside(size: int, share: float) -> np.ndarray:
    """Which pixels [size, size] lie outside a centred circle of `share` of the half side."""
    square = (np.arange(size) - (size - 1) / 2) ** 2
    return square[:, None] + square[None, :] > (share * size / 2) ** 2


@_register("resize", 0.0, 3)
def resize(image: np.ndarray, size: int) -> PreparedImage:
    """The square around the fundus, black where the photograph ends.

    Raises:
        BadImage: no fundus.
    """
    fundus = find_fundus(image)
    geometry = _square_around(image, fundus, size)
    image, fundus = without_missing(image, fundus)
    grid = square_grid(image, fundus, size)
    pixels = in_square(bring_to_size(image, grid), grid.seen, size, 0)
    return PreparedImage(pixels, geometry, grid.seen)


@_register("contour", 0.0, 1)
def contour(image: np.ndarray, size: int, *, value: int = 50) -> PreparedImage:
    """The box around the retina's outer contour, stretched to a square (Kon, section 4).

    As the author's code has it: lit is V of HSV >= `value`, the box is that of the largest lit
    area, and it is brought to a square by area (INTER_AREA). Where a circle is cut off, the box is
    no square and the retina is stretched.

    A fixed threshold is no contour on an under-exposed photograph or a bright surround. Where a
    side of the box is below 85 % or above 110 % of what is seen of the circle of `find_fundus`, or
    nothing is lit, the box around that circle is taken.

    Raises:
        BadImage: no fundus.
    """
    height, width = image.shape[:2]
    x, y, radius = find_fundus(image)
    seen = (
        max(0.0, x - radius), max(0.0, y - radius),
        min(float(width), x + radius), min(float(height), y + radius),
    )  # fmt: skip
    box = lit_box(image, value)
    if box is None or not all(
        0.85 <= (box[axis + 2] - box[axis]) / (seen[axis + 2] - seen[axis]) <= 1.1
        for axis in (0, 1)
    ):
        box = Box(*(round(end) for end in seen))
    rows = area_taps(box.top, box.bottom, size)
    columns = area_taps(box.left, box.right, size)
    pixels = np.rint(weighted_means(image, rows, columns)).astype(np.uint8)
    sides = float(box.right - box.left), float(box.bottom - box.top)
    start = float(box.left), float(box.top)
    geometry = Geometry(*start, *sides, size, image.shape[:2])
    return PreparedImage(pixels, geometry, Box(0, 0, size, size))


@_register("center_crop", 0.0, 1)
def center_crop(image: np.ndarray, size: int) -> PreparedImage:
    """The middle square of the photograph; the fundus is not looked for.

    Yu's Resize(size), CenterCrop(size), pixel for pixel as torchvision's on a Pillow image of up to
    16:1: the shorter side becomes `size`, proportions stay. No photograph is refused.
    """
    photograph = height, width = image.shape[:2]
    # A strip of 65,000 x 16 pixels would grow to gigabytes, and only its middle is seen.
    reach = 8 * min(height, width)
    rows, columns = (slice(max(0, n // 2 - reach), n // 2 + reach) for n in (height, width))
    image = image[rows, columns]
    sides = image.shape[1::-1]
    scaled = [int(size * side / min(sides)) for side in sides]
    left, top = (round((side - size) / 2) for side in scaled)
    resized = Image.fromarray(image).resize(scaled, Image.Resampling.BILINEAR)
    pixels = np.asarray(resized)[top : top + size, left : left + size].copy()
    across, down = (side / new for side, new in zip(sides, scaled, strict=True))
    start = columns.start + left * across, rows.start + top * down
    geometry = Geometry(*start, size * across, size * down, size, photograph)
    return PreparedImage(pixels, geometry, Box(0, 0, size, size))


def check_preprocess_args(name: str, args: dict[str, Any]) -> None:
    """Checks a preprocessing and its keywords before a photograph is read.

    Raises:
        InputError: an unknown preprocessing or keyword (the nearest is named), or a value that
            cannot be.
    """
    parameters = inspect.signature(PREPROCESS.find(name).function).parameters.values()
    known = {each.name for each in parameters if each.kind is each.KEYWORD_ONLY}
    for key, given in args.items():
        if not known:
            raise InputError(f"data.preprocess_args: {name} takes none, got {key!r}")
        if key not in known:
            raise unknown_name(f"argument of preprocessing {name}", key, known)
        low, high = RANGES.get(key, (-math.inf, math.inf))
        is_number = isinstance(given, (int, float)) and not isinstance(given, bool)
        if not is_number or not low <= given <= high:
            need = f"needs a number in [{low}, {high}]"
            raise InputError(f"data.preprocess_args.{key}: {need}, got {given!r}")


def preprocess_photograph(data: Data, pixels: np.ndarray) -> PreparedImage:
    """The photograph uint8 [H, W, 3] prepared as the recipe says.

    Raises:
        BadImage: it shows no fundus.
    """
    return PREPROCESS.find(data.preprocess).function(pixels, data.size, **data.preprocess_args)
