"""Gaussian blur within the fundus, and soft discs on a framed photograph."""

import math

import torch
from torch import Tensor


def gaussian_weights(sigma: float) -> list[float]:
    """Weights of a Gaussian of `sigma` pixels at whole distances 0, 1, ... up to 3 sigma."""
    if sigma <= 0:
        return [1.0]
    return [math.exp(-0.5 * (step / sigma) ** 2) for step in range(math.ceil(3 * sigma) + 1)]


def blurred_within(image: Tensor, seen: Tensor, sigma: float) -> Tensor:
    """An image float [3, S, S] under a Gaussian of `sigma` pixels; of it only what lies where
    `seen`, bool [1, S, S], counts. 0 elsewhere."""
    weights = gaussian_weights(sigma)
    layers = torch.cat([image * seen, seen.to(image.dtype)])
    for axis in (1, 2):
        layers = _blurred_along(layers, axis, weights)
    return layers[:3] / layers[3:].clamp_min(1e-6) * seen


def _blurred_along(layers: Tensor, axis: int, weights: list[float]) -> Tensor:
    """Weighted sums along an axis; beyond the image is nothing."""
    total, side = layers * weights[0], layers.shape[axis]
    for step, weight in enumerate(weights[1:], 1):
        if step >= side:
            break
        for into, source in ((0, step), (step, 0)):
            part = layers.narrow(axis, source, side - step)
            total.narrow(axis, into, side - step).add_(part, alpha=weight)
    return total


def soft_disc(
    side: int,
    centre: tuple[float, float],
    radius: float,
    edge: float,
    window: tuple[slice, slice] = (slice(None), slice(None)),
) -> Tensor:
    """1 within a disc, 0 outside, linear over `edge` across its border; float32 [S, S], or what of
    it lies in a window of rows and columns.

    Centre (x, y), radius and edge are shares of the side. A disc under a box filter as wide as
    `edge` is this but for the border's curvature.
    """
    place = (torch.arange(side, dtype=torch.float32) + 0.5) / side
    rows, columns = (place[part] for part in window)
    away = ((columns[None, :] - centre[0]) ** 2 + (rows[:, None] - centre[1]) ** 2).sqrt()
    return ((radius - away) / max(edge, 1 / side) + 0.5).clamp(0, 1)


def disc_window(
    side: int, centre: tuple[float, float], radius: float, edge: float
) -> tuple[slice, slice]:
    """Rows and columns beyond which a soft disc is 0."""
    reach = radius + max(edge, 1 / side)
    ends = [((middle - reach) * side, (middle + reach) * side) for middle in centre[::-1]]
    rows, columns = (slice(max(0, math.floor(low)), max(0, math.ceil(high))) for low, high in ends)
    return rows, columns
