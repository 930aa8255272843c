"""Maps over the images they are of: red speaks for the class, blue against it."""

import io

import numpy as np
from PIL import Image

FOR, AGAINST = np.array([232.0, 60.0, 30.0]), np.array([40.0, 110.0, 240.0])
STRONG = 0.995
"""The quantile of a map's magnitudes that has the full colour; single pixels beyond it do not make
all others pale."""
DIMMED = 0.75
"""Of the image's light behind a map."""


def overlay(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """uint8 [S, S, 3]: the image in grey, over it the map, the stronger the less grey is seen.

    Args:
        image: uint8 [S, S, 3].
        values: [S, S], signed.
    """
    grey = DIMMED * image.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    magnitudes = np.abs(values)
    full = float(np.quantile(magnitudes, STRONG)) or float(magnitudes.max()) or 1.0
    strength = np.clip(magnitudes / full, 0, 1)[..., None]
    colour = np.where(values[..., None] > 0, FOR, AGAINST)
    return np.rint(grey[..., None] * (1 - strength) + colour * strength).astype(np.uint8)


def outlined(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The image uint8 [S, S, 3] with the border of a mask [S, S] drawn in yellow."""
    inside = np.pad(mask.astype(bool), 1)
    core = inside[1:-1, 1:-1].copy()
    for rows, columns in ((0, 1), (2, 1), (1, 0), (1, 2)):
        core &= inside[rows : rows + mask.shape[0], columns : columns + mask.shape[1]]
    drawn = image.copy()
    drawn[mask.astype(bool) & ~core] = (255, 220, 40)
    return drawn


def as_pixels(image: np.ndarray) -> np.ndarray:
    """uint8 [S, S, 3] of an image float [3, S, S] in [0, 1]."""
    return np.rint(image.transpose(1, 2, 0) * 255).clip(0, 255).astype(np.uint8)


def png(pixels: np.ndarray) -> bytes:
    """A PNG of uint8 [H, W, 3]; no metadata, equal input gives equal bytes."""
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG", optimize=True)
    return sink.getvalue()
