"""Where the pixels of a prepared image lie in its photograph, and the way there and back.

Coordinates are in pixels from the upper left corner, x to the right and y downwards, so the centre
of pixel (row i, column j) is x = j + 0.5, y = i + 0.5. Every preprocessing takes an upright
rectangle of the photograph and stretches it to a square, so that both ways are exact.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Geometry:
    """The rectangle of a photograph that a prepared image shows; it may reach beyond the border."""

    left: float
    """Of the rectangle, pixels of the photograph."""
    top: float
    width: float
    height: float
    size: int
    """Side of the prepared image, pixels."""
    photograph: tuple[int, int]
    """Height and width of the photograph, pixels."""

    def scaled(
        self, factor: int, margin: tuple[int, int], photograph: tuple[int, int]
    ) -> "Geometry":
        """The same rectangle in a photograph of which this one is a smaller decode.

        Args:
            factor: pixels of the photograph a side of each pixel of the decode.
            margin: by how many pixels of the photograph the decode begins left of it and above it.
            photograph: its height and width.
        """
        left, top = factor * self.left - margin[0], factor * self.top - margin[1]
        sides = factor * self.width, factor * self.height
        return Geometry(left, top, *sides, self.size, photograph)


def prepared_points(geometry: Geometry, points: np.ndarray) -> np.ndarray:
    """Points [..., 2] (x, y) of the photograph in the prepared image, float64 [..., 2]."""
    start, step = _start(geometry), _step(geometry)
    return (np.asarray(points, np.float64) - start) / step


def photograph_points(geometry: Geometry, points: np.ndarray) -> np.ndarray:
    """Points [..., 2] (x, y) of the prepared image in the photograph, float64 [..., 2]."""
    start, step = _start(geometry), _step(geometry)
    return start + np.asarray(points, np.float64) * step


def prepared_boxes(geometry: Geometry, boxes: np.ndarray) -> np.ndarray:
    """Boxes [..., 4] (left, top, right, bottom) of the photograph in the prepared image."""
    corners = np.asarray(boxes, np.float64).reshape(*np.shape(boxes)[:-1], 2, 2)
    return prepared_points(geometry, corners).reshape(np.shape(boxes))


def photograph_boxes(geometry: Geometry, boxes: np.ndarray) -> np.ndarray:
    """Boxes [..., 4] (left, top, right, bottom) of the prepared image in the photograph."""
    corners = np.asarray(boxes, np.float64).reshape(*np.shape(boxes)[:-1], 2, 2)
    return photograph_points(geometry, corners).reshape(np.shape(boxes))


def prepared_mask(geometry: Geometry, mask: np.ndarray) -> np.ndarray:
    """A mask [H, W] of the photograph in the prepared image, [S, S]: each pixel is the one of the
    photograph that its centre falls on; beyond the photograph nothing is marked.

    Raises:
        ValueError: the mask is not of the photograph's size.
    """
    _check_shape(geometry, mask)
    centres = np.arange(geometry.size) + 0.5
    x, y = photograph_points(geometry, np.stack([centres, centres], axis=-1)).T
    return _picked(mask, y, x)


def photograph_mask(geometry: Geometry, mask: np.ndarray) -> np.ndarray:
    """A mask [S, S] of the prepared image in the photograph, [H, W]: each pixel is the prepared
    one that its centre falls on; beyond the square nothing is marked."""
    x, y = _centres(geometry)
    return _picked(mask, y, x)


def prepared_map(geometry: Geometry, values: np.ndarray) -> np.ndarray:
    """Values [H, W] of the photograph in the prepared image, float32 [S, S]: the mean of what each
    pixel covers, 0 beyond the photograph. Of a mask it is the share of the pixel that is marked.

    Raises:
        ValueError: the values are not of the photograph's size.
    """
    _check_shape(geometry, values)
    right, bottom = geometry.left + geometry.width, geometry.top + geometry.height
    height, width = geometry.photograph
    # Beyond the photograph's border there is nothing, where resizing would go on with its edge.
    reach = max(0.0, -geometry.left, -geometry.top, right - width, bottom - height)
    pad = int(np.ceil(reach)) + 1
    box = (geometry.left + pad, geometry.top + pad, right + pad, bottom + pad)
    layer = Image.fromarray(np.pad(np.asarray(values, np.float32), pad))
    side = geometry.size
    return np.asarray(layer.resize((side, side), Image.Resampling.BOX, box=box))


def photograph_map(geometry: Geometry, values: np.ndarray) -> np.ndarray:
    """Values [..., S, S] of the prepared image in the photograph, float32 [..., H, W].

    They are read bilinearly where the photograph's pixels have their centres; beyond the outermost
    centres they stay what they are there, and beyond the square they are 0.
    """
    values = np.asarray(values, np.float32)
    for places, axis in zip(_centres(geometry), (-1, -2), strict=True):
        values = _between(values, places, axis)
    return values


def _between(values: np.ndarray, places: np.ndarray, axis: int) -> np.ndarray:
    """The values along an axis at these places, bilinear; 0 beyond the first and last pixel."""
    side = values.shape[axis]
    inside = (places >= 0) & (places <= side)
    at = np.clip(places - 0.5, 0, side - 1)
    low = np.minimum(at.astype(np.int64), max(side - 2, 0))
    weight = np.where(inside, at - low, 0.0).astype(np.float32)
    rest = np.where(inside, 1 - weight, 0.0).astype(np.float32)
    shape = (-1,) if axis == -1 else (-1, 1)
    lower = np.take(values, low, axis) * rest.reshape(shape)
    return lower + np.take(values, np.minimum(low + 1, side - 1), axis) * weight.reshape(shape)


def _picked(mask: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The mask's pixels that rows at y [N] and columns at x [M] fall on, [N, M]; else nothing."""
    rows, columns = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    inside_y, inside_x = (
        (places >= 0) & (places < side)
        for places, side in ((rows, mask.shape[0]), (columns, mask.shape[1]))
    )
    picked = np.zeros((len(rows), len(columns)), mask.dtype)
    picked[np.ix_(inside_y, inside_x)] = mask[np.ix_(rows[inside_y], columns[inside_x])]
    return picked


def _centres(geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """Where the centres of the photograph's columns and rows lie in the prepared image."""
    height, width = geometry.photograph
    (left, top), (across, down) = _start(geometry), _step(geometry)
    return (np.arange(width) + 0.5 - left) / across, (np.arange(height) + 0.5 - top) / down


def _start(geometry: Geometry) -> np.ndarray:
    return np.array([geometry.left, geometry.top])


def _step(geometry: Geometry) -> np.ndarray:
    """Pixels of the photograph per prepared pixel, across and down."""
    return np.array([geometry.width, geometry.height]) / geometry.size


def _check_shape(geometry: Geometry, values: np.ndarray) -> None:
    if values.shape != geometry.photograph:
        (height, width), (need_height, need_width) = values.shape, geometry.photograph
        raise ValueError(
            f"{width}x{height} pixels, not {need_width}x{need_height} as the photograph"
        )
