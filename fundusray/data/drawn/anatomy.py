"""The anatomy of a drawn right eye: where disc and fovea lie, and how its vessels branch.

Lengths are in radii of the photograph's field, the origin is its centre, x grows towards the nose
(to the right in a right eye) and y downwards. A left eye is the mirror image of a right one.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

STEPS = 25
"""Points of a vessel's path."""


_ARCADES = (slice(0, 4), slice(4, None))
_PIECES = (8, 2, 2, 1)
"""In how many pieces of even width the vessels of a level are drawn."""


class Eye(NamedTuple):
    """Where things lie."""

    disc: np.ndarray  # [2] centre of the optic disc
    disc_radius: float
    cup_ratio: float
    fovea: np.ndarray  # [2]


class DrawingManner(NamedTuple):
    """How a drawing differs from the textbook, which is what the defaults are."""

    shift: tuple[float, float] = (0.0, 0.0)
    """Where the eye looks: everything is moved by so much."""
    zoom: float = 1.0
    """Enlarges what is inside the field."""
    vessels: float = 1.0
    """Contrast of the vessels."""
    blood: float = 1.0
    """Contrast of dark lesions."""
    pale: float = 1.0
    """Contrast of pale ones."""
    size: float = 1.0
    """Of dark lesions."""
    pale_size: float = 1.0
    """Of pale ones."""
    number: float = 1.0
    """Of lesions of each kind; one of each stays."""
    choroid: float = 0.0
    """Contrast of the vessels beneath the retina."""
    mottle: float = 1.0
    """Contrast of the retina's own unevenness."""
    grain: float = 0.0
    """Contrast of the finest unevenness, about a hundredth of the field wide."""
    blue: float = 1.0
    """Contrast of all that is seen in blue, of which little light comes back."""
    drusen: int = 0
    """Pale dots that are no sign of diabetes."""
    reflexes: int = 0
    """Spots of light that the lenses throw."""


TEXTBOOK = DrawingManner()


def draw_manner(rng: np.random.Generator) -> DrawingManner:
    """One of the many ways real photographs look: faint lesions as often as plain ones, eyes that
    look elsewhere, choroid that shines through, dots and spots that are no lesions."""
    return DrawingManner(
        shift=(rng.uniform(-0.35, 0.25), rng.normal(0, 0.06)),
        zoom=rng.uniform(0.85, 1.08),
        vessels=rng.uniform(0.45, 0.95),
        blood=rng.uniform(0.1, 0.5),
        pale=rng.uniform(0.3, 1.1),
        size=rng.uniform(0.4, 0.9),
        pale_size=rng.uniform(0.6, 1.7),
        number=rng.uniform(0.15, 0.9),
        choroid=rng.uniform(0.02, 0.11) if rng.random() < 0.4 else 0.0,
        mottle=rng.uniform(0.1, 0.8),
        grain=rng.uniform(0.0, 0.04),
        blue=rng.uniform(0.3, 0.9),
        drusen=int(rng.integers(3, 30)) if rng.random() < 0.3 else 0,
        reflexes=int(rng.integers(1, 3)) if rng.random() < 0.45 else 0,
    )


class Canvas:
    """A grey layer on which shapes are drawn in the eye's units, at twice the final resolution so
    that edges come out smooth."""

    def __init__(self, side: int, radius: float, scale: float = 1.0) -> None:
        self.side, self.radius = side, radius
        self.scale = scale
        """Of the shapes, not of where they are."""
        self.image = Image.new("L", (2 * side, 2 * side))
        self.pen = ImageDraw.Draw(self.image)

    def place(self, points: np.ndarray) -> list[float]:
        """Points [N, 2] as the flat pixel coordinates a pen takes."""
        return (self.side + 2 * self.radius * points).ravel().tolist()

    def length(self, length: float) -> float:
        """A length in pixels of the layer, at least about one pixel of the final picture."""
        return max(2.0, 2 * self.radius * length)

    def line(self, points: np.ndarray, width: float, fill: int) -> None:
        """A path [N, 2]."""
        pixels = round(self.length(self.scale * width))
        self.pen.line(self.place(points), fill, pixels, joint="curve" if pixels > 4 else None)

    def ellipse(self, centre: np.ndarray, radii: tuple[float, float], fill: int) -> None:
        """An upright ellipse."""
        half = np.array([self.length(self.scale * r) for r in radii]) / (2 * self.radius)
        self.pen.ellipse(self.place(np.stack([centre - half, centre + half])), fill)

    def coverage(self, side: int | None = None) -> np.ndarray:
        """What was drawn, float32 [S, S] in [0, 1]; a layer drawn coarser is softened and
        enlarged to `side`."""
        layer = self.image.reduce(2)
        if side not in (None, self.side):
            layer = layer.filter(ImageFilter.GaussianBlur(1))
            layer = layer.resize((side, side), Image.Resampling.BICUBIC)
        return np.asarray(layer, np.float32) / np.float32(255)


class Vessels(NamedTuple):
    """Paths that start along others, level by level."""

    paths: np.ndarray  # [N, STEPS, 2]
    headings: np.ndarray  # [N, STEPS] radians
    widths: np.ndarray  # [N, STEPS]
    vein: np.ndarray  # bool [N]


def draw_eye(rng: np.random.Generator, manner: DrawingManner = TEXTBOOK) -> Eye:
    """Disc and fovea of an eye; the fovea lies about 2.2 disc diameters temporal of the disc and a
    little below it."""
    disc = np.array([rng.uniform(0.5, 0.66), rng.uniform(-0.1, 0.04)])
    radius = rng.uniform(0.13, 0.16)
    fovea = disc + np.array([-rng.uniform(0.6, 0.68), rng.uniform(0.03, 0.1)])
    shift = np.array(manner.shift)
    return Eye(disc + shift, radius, rng.uniform(0.3, 0.6), fovea + shift)


def grow_vessels(rng: np.random.Generator, eye: Eye) -> list[Vessels]:
    """Trunks, then the branches of the arcades, of the other trunks, and twigs."""
    trunks = _trunks(rng, eye)
    arcades, others = (Vessels(*(part[cut] for part in trunks)) for cut in _ARCADES)
    branches = _branch(rng, eye, arcades, per_path=8, length=0.5, narrowing=0.55)
    small = _branch(rng, eye, others, per_path=3, length=0.25, narrowing=0.6)
    twigs = _branch(rng, eye, branches, per_path=2, length=0.2, narrowing=0.65)
    return [trunks, branches, small, twigs]


def _trunks(rng: np.random.Generator, eye: Eye) -> Vessels:
    """The temporal arcades above and below the fovea and the nasal trunks, an artery and a vein
    each, and four thin vessels towards the macula."""
    down = np.array([-1, -1, 1, 1, -1, -1, 1, 1, -1, 1, -1, 1])
    vein = np.array([0, 1, 0, 1, 0, 1, 0, 1, 0, 0, 1, 1], bool)
    heading = np.radians([88, 80, 88, 80, 42, 55, 42, 55, 155, 155, 125, 125.0])
    bend = np.radians([105, 98, 105, 98, -18, 5, -18, 5, 35, 35, 60, 60.0])
    length = np.array([1.7, 1.7, 1.7, 1.7, 0.9, 0.9, 0.9, 0.9, 0.4, 0.4, 0.6, 0.6])
    width = np.where(vein, 0.031, 0.024) * np.repeat([1, 0.7, 0.4], 4)
    num = len(down)
    start = eye.disc + eye.disc_radius * rng.uniform(-0.25, 0.25, (num, 2)) * [0.6, 1]
    heading = down * (heading + rng.normal(0, 0.12, num))
    bend = down * (bend + rng.normal(0, 0.12, num))
    length = length * rng.uniform(0.9, 1.1, num)
    paths, headings = _walk(rng, start, heading, bend, length)
    widths = width[:, None] * rng.uniform(0.85, 1.15) * np.linspace(1, 0.35, STEPS)
    return Vessels(paths, headings, widths, vein)


def _branch(
    rng: np.random.Generator,
    eye: Eye,
    parents: Vessels,
    per_path: int,
    length: float,
    narrowing: float,
) -> Vessels:
    """Vessels that leave each of `parents` at 35-65 degrees, on alternating sides."""
    parent = np.repeat(np.arange(len(parents.paths)), per_path)
    num = len(parent)
    slot = np.tile(np.arange(per_path), len(parents.paths))
    at = (2 + (slot + rng.uniform(0.1, 0.9, num)) / per_path * (STEPS - 4)).astype(int)
    side = np.where((slot + parent) % 2, 1, -1)
    heading = parents.headings[parent, at] + side * rng.uniform(0.6, 1.15, num)
    start = parents.paths[parent, at]
    # A branch towards the fovea ends before it: its middle has no vessels.
    reach = np.linalg.norm(start - eye.fovea, axis=1)
    lengths = np.minimum(length * rng.uniform(0.5, 1.4, num), 0.85 * reach)
    paths, headings = _walk(rng, start, heading, -side * rng.uniform(0.2, 0.8, num), lengths)
    first = narrowing * parents.widths[parent, at] * rng.uniform(0.7, 1.2, num)
    widths = np.maximum(first[:, None] * np.linspace(1, 0.5, STEPS), 0.004)
    return Vessels(paths, headings, widths, parents.vein[parent])


def _walk(
    rng: np.random.Generator,
    start: np.ndarray,
    heading: np.ndarray,
    bend: np.ndarray,
    length: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Winding paths [N, STEPS, 2] and their headings [N, STEPS]; most of the bend comes early."""
    time = np.linspace(0, 1, STEPS)
    angles = heading[:, None] + bend[:, None] * (1 - (1 - time) ** 2)
    for waves, strength in ((1.3, 0.12), (3.1, 0.22)):
        phase = rng.uniform(0, 2 * np.pi, (len(start), 1))
        angles = angles + strength * np.sin(phase + 2 * np.pi * waves * time)
    step = (length / (STEPS - 1))[:, None]
    moves = np.stack([step * np.cos(angles), step * np.sin(angles)], axis=2)
    moves[:, 0] = 0
    return start[:, None] + np.cumsum(moves, axis=1), angles


def draw_vessels(canvas: Canvas, levels: list[Vessels], beaded: bool) -> None:
    """Draws thin vessels first, so that thick ones cross above them; veins are the darker ones.

    `beaded` veins swell and narrow in turn, a sign of severe retinopathy.
    """
    for level, pieces in reversed(list(zip(levels, _PIECES, strict=True))):
        span = (STEPS - 1) // pieces
        for path, widths, vein in zip(level.paths, level.widths, level.vein, strict=True):
            for first in range(0, STEPS - 1, span):
                piece, width = path[first : first + span + 1], widths[first]
                tone = int((225 if vein else 150) * min(1.0, 0.4 + 25 * width))
                canvas.line(piece, width, tone)
                if width > 0.015 and not vein:
                    # The light reflex along the middle of an artery.
                    canvas.line(piece, width / 4, int(0.6 * tone))
            if beaded and vein and widths[0] > 0.015:
                for point, width in zip(path[2::2], widths[2::2], strict=True):
                    canvas.ellipse(point, (0.75 * width, 0.75 * width), 225)
