"""Colour statistics of images from exact integer sums, so that no order of adding changes them."""

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np


class LevelSums(NamedTuple):
    """What is added up over pixels; levels are 0 to 255."""

    images: int
    pixels: int
    levels: np.ndarray
    """uint64 [3]: of each channel."""
    products: np.ndarray
    """uint64 [3, 3]: of each two channels."""


def sum_levels(images: Iterable[np.ndarray]) -> LevelSums:
    """The sums over images uint8 [H, W, 3], exact up to 2.8e14 pixels."""
    num, pixels = 0, 0
    levels, products = np.zeros(3, np.uint64), np.zeros((3, 3), np.uint64)
    for image in images:
        # Sums of whole numbers are exact in float64 below 2**53, in whatever order; a white image
        # reaches that at 1.4e11 pixels. Matrices of integers numpy multiplies without BLAS, slowly.
        flat = image.reshape(-1, 3).astype(np.float64)
        levels += flat.sum(axis=0).astype(np.uint64)
        products += (flat.T @ flat).astype(np.uint64)
        num, pixels = num + 1, pixels + len(flat)
    return LevelSums(num, pixels, levels, products)


def add_sums(parts: Iterable[LevelSums]) -> LevelSums:
    """The sums of all parts together."""
    images, pixels, levels, products = zip(*parts, strict=True)
    return LevelSums(sum(images), sum(pixels), np.sum(levels, axis=0), np.sum(products, axis=0))


def describe_sums(sums: LevelSums) -> dict[str, Any]:
    """mean [3], std [3] and covariance [3][3] of the channels over all pixels, in [0, 1].

    Population values (divided by the number of pixels), each rounded once. `images` and `pixels`
    are how many there were.
    """
    num = sums.pixels
    levels, products = sums.levels.tolist(), sums.products.tolist()
    covariance = [
        [Fraction(num * products[i][j] - levels[i] * levels[j], (255 * num) ** 2) for j in range(3)]
        for i in range(3)
    ]
    return {
        "images": sums.images,
        "pixels": num,
        "mean": [float(Fraction(level, 255 * num)) for level in levels],
        "std": [math.sqrt(covariance[i][i]) for i in range(3)],
        "covariance": [[float(value) for value in row] for row in covariance],
    }
