"""What tells one photograph of a retina from another: a short print of its vessels and lesions.

At low frequency all fundi look alike (bright disc, dark macula, round border), so only what is
finer is kept, and brought to one circle, one size and one contrast: a photograph that was encoded
anew, scaled, cropped or brightened keeps its print, one that was mirrored mirrors it.
"""

import functools

import numpy as np
from PIL import Image

from fundusray.data.photographs.decode import BadImage
from fundusray.data.photographs.find_fundus import Fundus, find_fundus

SIDE = 64
"""Pixels across the circle of the fundus."""
LENGTH = SIDE * SIDE
LOOK = 128
"""Longer side, at most, of the reduced copy from which all is computed, pixels."""
CUT = 0.15
"""Of the light between black and the fundus's median: below it is no fundus."""
RIM = 0.9
"""Share of the radius that is used: beyond it lie the border and its glare."""
DARK, BRIGHT = 0.2, 250
"""What is darker than this share of the median, or brighter than this level, shows no vessels."""
COARSE, FINE, AROUND = 2.0, 0.5, 6.0
"""Sigmas of the band's limits and of the neighbourhood whose contrast is evened out, pixels."""
FLOOR = 4.0
"""Contrast that is not evened out, grey levels: below it lies what JPEG at quality 30 makes up."""
CLIP = 2.0
"""Largest value that counts, in standard deviations: a flare or an exudate must not decide."""
STEP = CLIP / 120
LEAST = 200
"""Pixels; with fewer that show anything there is no print."""


def fingerprint(pixels: np.ndarray) -> np.ndarray:
    """The print of a decoded photograph uint8 [H, W, 3]: int8 [LENGTH], rows of a square picture.

    Local contrast between two Gaussian windows, over that of its neighbourhood, zero outside the
    fundus and zero in the mean. All zero where nothing is to be seen: such a print is like no
    other. Of a photograph without a circle the whole frame is taken.
    """
    factor = -(-max(pixels.shape[:2]) // LOOK)
    photograph = Image.fromarray(pixels)
    grey = (photograph.reduce(factor) if factor > 1 else photograph).convert("L")
    square = _square(grey, _circle(np.asarray(grey)))
    inside = _disc()
    level = float(np.median(square[inside]))
    usable = inside & _shrink((square > DARK * level) & (square < BRIGHT))
    if usable.sum() < LEAST:
        return np.zeros(LENGTH, np.int8)
    detail = _detail(square - level, usable.astype(np.float32))
    detail /= np.sqrt(np.square(detail[usable]).mean()) + 1e-6
    detail = np.clip(detail, -CLIP, CLIP)
    detail = np.where(usable, detail - detail[usable].mean(), 0)
    return np.clip(np.rint(detail / STEP), -127, 127).astype(np.int8).reshape(-1)


def _circle(grey: np.ndarray) -> Fundus:
    """The circle of a reduced photograph uint8 [H, W].

    The light up to CUT is taken away first: what a coarse JPEG leaves around the circle, or a haze
    that one copy still shows, would move it, and then nothing lies on its twin.
    """
    darkest, mean = int(grey.min()), float(grey.mean())
    lit = grey[grey > (darkest + mean) / 2]
    level = float(np.median(lit)) if len(lit) else mean
    clean = np.clip(grey - (darkest + CUT * (level - darkest)), 0, None).astype(np.uint8)
    try:
        return find_fundus(np.repeat(clean[:, :, None], 3, axis=2))
    except BadImage:
        height, width = grey.shape
        return Fundus(width / 2, height / 2, max(height, width) / 2)


def _square(grey: Image.Image, fundus: Fundus) -> np.ndarray:
    """The square around the circle, float32 [SIDE, SIDE] in grey levels, black beyond the frame."""
    low = np.array([fundus.x, fundus.y]) - fundus.radius
    high = low + 2 * fundus.radius
    margin = int(max(0.0, -low.min(), (high - grey.size).max())) + 1
    roomy = Image.new("L", (grey.width + 2 * margin, grey.height + 2 * margin))
    roomy.paste(grey, (margin, margin))
    box = (*(low + margin).tolist(), *(high + margin).tolist())
    square = roomy.convert("F").resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box)
    return np.array(square)


def _detail(square: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The band between FINE and COARSE over its local contrast, where `weight` [S, S] is 1."""
    band = (_mean(square, weight, FINE) - _plane(square, weight, COARSE)) * weight
    return band / np.sqrt(_mean(np.square(band), weight, AROUND) + FLOOR**2)


def _mean(square: np.ndarray, weight: np.ndarray, sigma: float) -> np.ndarray:
    """The mean of each pixel's Gaussian neighbourhood, as far as it is seen, [S, S]."""
    window = _window(sigma, 0)
    return window @ (square * weight) @ window.T / np.maximum(window @ weight @ window.T, 1e-3)


def _plane(square: np.ndarray, weight: np.ndarray, sigma: float) -> np.ndarray:
    """At each pixel the value there of the plane fitted to its Gaussian neighbourhood, [S, S].

    Least squares in the offsets (1, x, y), solved by Cramer's rule. A mean would bend at the rim,
    where only one side is seen, and every fundus darkens there: all would share that ring.
    """
    flat, slope, curve = (_window(sigma, power) for power in range(3))
    seen = square * weight
    n, x, y = flat @ weight @ flat.T, flat @ weight @ slope.T, slope @ weight @ flat.T
    xx, yy, xy = flat @ weight @ curve.T, curve @ weight @ flat.T, slope @ weight @ slope.T
    g, gx, gy = flat @ seen @ flat.T, flat @ seen @ slope.T, slope @ seen @ flat.T
    xx, yy, n = xx + 1e-3 * sigma**2, yy + 1e-3 * sigma**2, n + 1e-6
    first, second, third = xx * yy - xy * xy, x * yy - y * xy, x * xy - y * xx
    return (g * first - gx * second + gy * third) / (n * first - x * second + y * third)


@functools.cache
def _window(sigma: float, power: int) -> np.ndarray:
    """Matrix float32 [S, S] that sums along an axis: a Gaussian times the offset to a power."""
    offset = np.arange(SIDE)[None, :] - np.arange(SIDE)[:, None]
    weights = np.exp(-(offset**2) / (2 * sigma**2)) * (abs(offset) <= 3.5 * sigma)
    total = np.exp(-(np.arange(-SIDE, SIDE + 1) ** 2) / (2 * sigma**2)).sum()
    return (weights * offset**power / total).astype(np.float32)


@functools.cache
def _disc() -> np.ndarray:
    """Which pixels [S, S] lie within RIM of the radius."""
    axis = (np.arange(SIDE) + 0.5) * 2 / SIDE - 1
    return np.hypot(axis[:, None], axis) < RIM


def _shrink(mask: np.ndarray) -> np.ndarray:
    """Pixels [S, S] that are set together with their four neighbours; beyond the border none is."""
    kept = np.zeros_like(mask)
    kept[1:-1, 1:-1] = (
        mask[1:-1, 1:-1] & mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
    )
    return kept
