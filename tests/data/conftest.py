"""A photograph drawn by a formula, whose circle is known to a fraction of a pixel."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pytest


@lru_cache(maxsize=64)
def draw_disc(
    height: int = 400,
    width: int = 600,
    radius: float = 180.0,
    centre: tuple[float, float] | None = None,
    light: float = 1.0,
    surround: float = 0.0,
) -> np.ndarray:
    """A disc with texture and a vignette, uint8 [H, W, 3]; `centre` is (x, y) in pixels."""
    x0, y0 = centre or (width / 2, height / 2)
    y, x = np.mgrid[:height, :width] + 0.5
    distance = np.hypot(x - x0, y - y0) / radius
    waves = np.sin(25 * (x - x0) / radius) * np.cos(20 * (y - y0) / radius)
    shade = 1 - 0.4 * distance**2 + 0.15 * waves
    shade += 0.3 * (np.hypot(x - x0 - 0.5 * radius, y - y0) < 0.15 * radius)
    image = light * shade[..., None] * np.array([170, 90, 50])
    image[distance > 1] = surround
    noise = np.random.default_rng(0).normal(0, 1, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def drawn() -> Callable[..., np.ndarray]:
    """draw_disc, see there; every call gives a picture of its own."""
    return lambda *args, **keywords: draw_disc(*args, **keywords).copy()
