"""From the anatomy of an eye to the pixels of its photograph: colours, light and the camera."""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from fundusray.data.drawn.anatomy import TEXTBOOK, Canvas, DrawingManner, Eye

_PALETTES = np.array(
    [
        [0.80, 0.42, 0.16],  # orange
        [0.84, 0.34, 0.13],  # red
        [0.72, 0.51, 0.24],  # yellow brown
        [0.82, 0.55, 0.45],  # pink
        [0.55, 0.29, 0.13],  # dark brown
        [0.80, 0.60, 0.36],  # beige
    ]
)
_BLOOD = (0.27, 0.66, 0.6)
"""Shares of red, green and blue that blood takes away."""
_TEXTURE = (0.75, 1.0, 0.8)
"""How strongly shading shows in each colour."""
_DENSITIES = {"microaneurysm": 0.85, "haemorrhage": 0.95, "neovessel": 0.75, "preretinal": 1.15}
"""Of blood in lesions; a vein has about 0.8."""
_PAINTS = {
    "laser_scar": ((0.86, 0.82, 0.6), 0.7),
    "hard_exudate": ((1.0, 0.9, 0.5), 0.85),
    "cotton_wool": ((0.98, 0.93, 0.8), 0.6),
}
"""Colour and opacity of pale lesions."""
_HARMLESS = {"drusen": ((0.95, 0.82, 0.45), 0.5), "reflex": ((0.66, 0.66, 0.68), 0.3)}
_CHOROID = (1.0, 0.55, 0.45)
"""How strongly the vessels of the choroid show in each colour."""


class Camera(NamedTuple):
    """What a patient's two photographs have in common beside the patient."""

    colour: np.ndarray  # [3] of the retina under this light, in [0, 1]
    exposure: float
    vignette: float
    haze: float  # pale light that leaks in at one side
    haze_from: float  # radians
    blur: float  # pixels at side 512
    noise: float
    radius: float  # of the field, as a share of the side
    lowest: float  # largest |y| in the picture, in radii; 1 for a whole circle
    notch: bool
    quality: int  # of the JPEG


def draw_camera(rng: np.random.Generator) -> Camera:
    """A camera and the patient before it."""
    mix = rng.dirichlet(np.full(len(_PALETTES), 0.35))
    temperature = rng.normal(0, 0.04)
    colour = (mix @ _PALETTES) * [1 + temperature, 1, 1 - temperature]
    return Camera(
        colour=colour,
        exposure=rng.uniform(0.78, 1.2),
        vignette=rng.uniform(0.15, 0.8),
        haze=rng.uniform(0.1, 0.35) if rng.random() < 0.3 else 0.0,
        haze_from=rng.uniform(0, 2 * np.pi),
        blur=rng.uniform(0.25, 1.0),
        noise=rng.uniform(0.015, 0.045),
        radius=rng.uniform(0.465, 0.497),
        lowest=rng.uniform(0.84, 0.93) if rng.random() < 0.35 else 1.0,
        notch=rng.random() < 0.4,
        quality=int(rng.integers(82, 97)),
    )


def _grid(side: int, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """x [1, S] and y [S, 1] of the pixel centres, in radii."""
    line = ((np.arange(side, dtype=np.float32) + 0.5) - side / 2) / np.float32(radius)
    return line[None, :], line[:, None]


def _bump(grid: tuple[np.ndarray, np.ndarray], centre: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian hill of height 1, float32 [S, S]."""
    x, y = grid
    scale = np.float32(-0.5 / sigma**2)
    across, down = (np.float32(c) for c in centre)
    return np.exp(scale * (y - down) ** 2) * np.exp(scale * (x - across) ** 2)


def _noise(rng: np.random.Generator, cells: int | np.ndarray, side: int) -> np.ndarray:
    """Smooth noise of `cells` hills across (and down), float32 [S, S], standard deviation about
    0.6."""
    return _enlarge(rng.standard_normal(np.broadcast_to(cells, 2), np.float32), side)


def paint_retina(
    rng: np.random.Generator,
    eye: Eye,
    camera: Camera,
    side: int,
    vessels: np.ndarray,
    lesions: dict[str, np.ndarray],
    manner: DrawingManner = TEXTBOOK,
) -> np.ndarray:
    """The retina under even light, float32 [3, S, S]; `lesions` may hold harmless things, too."""
    grid = _grid(side, camera.radius * side)
    shade = _shade(rng, eye, camera.radius, side, manner.mottle)
    below = manner.choroid * _choroid(rng, side) if manner.choroid else None
    if manner.grain:
        shade = shade + manner.grain * _noise(rng, int(rng.integers(90, 150)), side)
    disc = 0.92 * _soft_ellipse(grid, eye, 1.0)
    cup = 0.8 * _soft_ellipse(grid, eye, eye.cup_ratio)
    blood = 0.85 * manner.vessels * vessels
    for kind, density in _DENSITIES.items():
        if kind in lesions:
            np.maximum(blood, manner.blood * density * lesions[kind], out=blood)
    blood *= 1 - 0.3 * disc
    pale = rng.uniform(1.0, 1.25)
    colours = np.empty((3, side, side), np.float32)
    for channel in range(3):
        layer = colours[channel]
        colour = float(camera.colour[channel])
        layer[:] = colour * (1 + _TEXTURE[channel] * shade)
        if below is not None:
            layer *= 1 + _CHOROID[channel] * below
        layer += disc * (0.3 * colour + pale * (0.76, 0.58, 0.29)[channel] - layer)
        layer += cup * (pale * (1.12, 0.98, 0.66)[channel] - layer)
        for kind, (tone, opacity) in (_PAINTS | _HARMLESS).items():
            if kind in lesions:
                layer += manner.pale * opacity * lesions[kind] * (tone[channel] - layer)
        layer *= 1 - _BLOOD[channel] * blood
        if manner.grain:
            layer *= 1 + 0.7 * manner.grain * _noise(rng, 110, side)
    if manner.blue != 1:
        colours[2] += (1 - manner.blue) * (float(camera.colour[2]) - colours[2])
    return colours


def _choroid(rng: np.random.Generator, side: int) -> np.ndarray:
    """Light and dark stripes as of the vessels beneath the retina, float32 [S, S] in about [-1, 1],
    stronger in one part of the eye than in another."""
    fine = int(rng.integers(26, 44))
    cells = rng.permutation([fine, int(0.55 * fine)])
    ridges = np.abs(_noise(rng, cells, side)) - np.float32(0.45)
    return 2 * ridges * np.clip(0.5 + _noise(rng, 3, side), 0, 1)


def _shade(
    rng: np.random.Generator, eye: Eye, radius: float, side: int, mottle: float
) -> np.ndarray:
    """How much lighter or darker than its colour the bare retina is, float32 [S, S]; smooth, so
    half the resolution is enough."""
    half = (side + 1) // 2
    grid = _grid(half, radius * half)
    shade = 0.08 * _noise(rng, 5, half) + 0.03 * _noise(rng, 20, half)
    # Ridges of smooth noise look like the vessels of the choroid that shine through.
    shade += mottle * rng.uniform(0, 0.07) * (0.5 - np.abs(_noise(rng, 36, half)))
    shade += mottle * 0.02 * _noise(rng, 120, half)
    shade += rng.uniform(0.1, 0.35) * _bump(grid, eye.disc, 0.35)
    shade += rng.uniform(0.0, 0.25) * _bump(grid, (eye.disc + eye.fovea) / 2, 0.55)
    shade -= rng.uniform(0.2, 0.4) * _bump(grid, eye.fovea, 0.17)
    shade -= rng.uniform(0.1, 0.3) * _bump(grid, eye.fovea, 0.05)
    return _enlarge(shade, side)


def _enlarge(layer: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(layer).resize((side, side), Image.Resampling.BILINEAR))


def _soft_ellipse(grid: tuple[np.ndarray, np.ndarray], eye: Eye, ratio: float) -> np.ndarray:
    """The optic disc, or its cup at a smaller ratio, float32 [S, S] with a soft rim."""
    x, y = grid
    size = ratio * eye.disc_radius
    across = (x - np.float32(eye.disc[0])) / np.float32(0.92 * size)
    down = (y - np.float32(eye.disc[1])) / np.float32(size)
    return np.clip(4.5 - 4 * np.sqrt(across * across + down * down), 0, 1)


def disc_coverage(eye: Eye, camera: Camera, side: int) -> np.ndarray:
    """How much of each pixel the optic disc covers, float32 [S, S] in [0, 1]."""
    return _soft_ellipse(_grid(side, camera.radius * side), eye, 1.0)


def draw_field(camera: Camera, side: int) -> np.ndarray:
    """Where the camera sees anything, float32 [S, S]: a circle, cut above and below in some
    cameras, with a notch at the upper right in some."""
    canvas = Canvas(side, camera.radius * side)
    canvas.ellipse(np.zeros(2), (1.0, 1.0), 255)
    if camera.notch:
        canvas.ellipse(0.985 * np.array([0.78, -0.626]), (0.035, 0.035), 255)
    if camera.lowest < 1:
        for top, bottom in ((-1.2, -camera.lowest), (camera.lowest, 1.2)):
            canvas.pen.rectangle(canvas.place(np.array([[-1.2, top], [1.2, bottom]])), 0)
    return canvas.coverage()


def expose_photograph(
    rng: np.random.Generator, camera: Camera, retina: np.ndarray, field: np.ndarray
) -> np.ndarray:
    """The photograph uint8 [S, S, 3] of a retina [3, S, S]: light, haze, blur, grain, border."""
    side = len(field)
    x, y = _grid(side, camera.radius * side)
    lean = rng.normal(0, 0.08, 2).astype(np.float32)
    # A Gaussian vignette: round, and yet the product of a row and a column.
    fall = np.float32(-camera.vignette)
    light = camera.exposure * np.exp(fall * x * x) * np.exp(fall * y * y)
    light += lean[0] * x + lean[1] * y
    light += camera.noise * (rng.random((side, side), np.float32) - np.float32(0.5))
    light *= 255 * field
    retina *= light
    if camera.haze:
        toward = x * np.float32(np.cos(camera.haze_from)) + y * np.float32(np.sin(camera.haze_from))
        leak = camera.haze * np.maximum(toward, 0) ** 3 * field
        for channel, tone in enumerate((150, 170, 130)):
            retina[channel] += leak * tone
    np.clip(retina, 0, 255, out=retina)
    pixels = Image.merge("RGB", [Image.fromarray(layer.astype(np.uint8)) for layer in retina])
    return np.asarray(pixels.filter(ImageFilter.BoxBlur(camera.blur * side / 512)))
