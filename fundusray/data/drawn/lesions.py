"""The lesions of diabetic retinopathy, drawn by grade with their exact masks.

What each grade shows follows the international clinical scale (Wilkinson et al. 2003, Ophthalmology
110:1677): 1 microaneurysms only; 2 more than that; 3 many haemorrhages in all four quadrants and
beaded veins; 4 new vessels or bleeding before the retina, or the scars of their treatment. Sizes
are on the large side, so that the smallest lesion survives preparation at 96 pixels.
"""

from collections.abc import Callable

import numpy as np

from fundusray.data.drawn.anatomy import TEXTBOOK, Canvas, DrawingManner, Eye

LESIONS = (
    "microaneurysm",
    "haemorrhage",
    "hard_exudate",
    "cotton_wool",
    "neovessel",
    "preretinal",
    "laser_scar",
)
"""Bit i of a mask file is kind i."""

PALE = ("hard_exudate", "cotton_wool", "laser_scar")
"""Kinds lighter than the retina."""

_COUNTS: dict[int, dict[str, tuple[int, int]]] = {
    0: {},
    1: {"microaneurysm": (4, 9)},
    2: {"microaneurysm": (8, 18), "haemorrhage": (5, 11), "hard_exudate": (2, 4)},
    3: {
        "microaneurysm": (16, 30),
        "haemorrhage": (26, 44),
        "hard_exudate": (0, 3),
        "cotton_wool": (3, 7),
    },
    4: {
        "microaneurysm": (5, 14),
        "haemorrhage": (6, 16),
        "hard_exudate": (0, 1),
        "neovessel": (1, 3),
    },
}
"""Least and most of each kind (clusters, for hard exudates and new vessels)."""


def draw_lesions(
    rng: np.random.Generator,
    eye: Eye,
    grade: int,
    side: int,
    radius: float,
    lowest: float,
    manner: DrawingManner = TEXTBOOK,
) -> dict[str, np.ndarray]:
    """Coverage float32 [S, S] in [0, 1] of each kind the grade shows; `lowest` is the largest |y|
    still in the picture."""
    counts = {kind: int(rng.integers(a, b + 1)) for kind, (a, b) in _COUNTS[grade].items()}
    if manner.number != 1:
        counts = {kind: max(1, round(manner.number * n)) for kind, n in counts.items() if n}
    if grade == 4:
        treated = rng.random() < 0.45
        if treated:
            counts["laser_scar"] = int(rng.integers(25, 60))
        if not treated or rng.random() < 0.3:
            counts["preretinal"] = 1
    layers = {}
    for kind, number in counts.items():
        # Cotton wool is drawn coarse and enlarged, which leaves it without an edge.
        drawn = min(side, 64) if kind == "cotton_wool" else side
        scale = manner.pale_size if kind in PALE else manner.size
        canvas = Canvas(drawn, radius * drawn / side, scale)
        _PENS[kind](rng, canvas, eye, number, lowest)
        # No lesion lies on the disc: there it would be another finding.
        free = eye.disc_radius / canvas.scale
        canvas.ellipse(eye.disc, (1.08 * free, 1.15 * free), 0)
        layers[kind] = canvas.coverage(side)
    if "preretinal" in layers:
        # This blood lies in front of everything else.
        for kind in layers.keys() - {"preretinal"}:
            layers[kind] *= 1 - layers["preretinal"]
    return layers


def draw_harmless(
    rng: np.random.Generator, eye: Eye, side: int, radius: float, manner: DrawingManner
) -> dict[str, np.ndarray]:
    """Coverage float32 [S, S] in [0, 1] of what is no sign of the disease: drusen and reflexes."""
    layers = {}
    if manner.drusen:
        canvas = Canvas(side, radius)
        spread = rng.uniform(0.1, 0.35)
        for centre in eye.fovea + rng.normal(0, spread, (manner.drusen, 2)):
            size = rng.uniform(0.006, 0.018)
            canvas.ellipse(centre, (size, size), 255)
        layers["drusen"] = canvas.coverage()
    if manner.reflexes:
        canvas = Canvas(min(side, 128), radius * min(side, 128) / side)
        for _ in range(manner.reflexes):
            size = rng.uniform(0.03, 0.08)
            # The lens throws its spot near the middle; now and then at the rim.
            spread = 0.08 if rng.random() < 0.7 else 0.4
            canvas.ellipse(rng.normal(0, spread, 2), (size, size), 255)
        layers["reflex"] = canvas.coverage(side)
    return layers


def _spots(
    rng: np.random.Generator, eye: Eye, number: int, margin: float, lowest: float
) -> np.ndarray:
    """Centres [number, 2] inside the picture, at least `margin` off its rim and the disc, with as
    many in each quadrant around the fovea as in any other (but for the remainder)."""
    found: list[np.ndarray] = []
    quadrant = int(rng.integers(4))
    while len(found) < number:
        x, y = rng.uniform(-1, 1, 2)
        point = np.array([x, y])
        inside = np.hypot(x, y) < 0.94 - margin and abs(y) < lowest - margin
        clear = np.hypot(*(point - eye.disc)) > 1.2 * eye.disc_radius + margin
        here = 2 * (x > eye.fovea[0]) + (y > eye.fovea[1])
        if inside and clear and here == quadrant:
            found.append(point)
            quadrant = (quadrant + 1) % 4
    return np.array(found).reshape(-1, 2)


def _microaneurysms(
    rng: np.random.Generator, canvas: Canvas, eye: Eye, number: int, lowest: float
) -> None:
    for centre in _spots(rng, eye, number, 0.03, lowest):
        size = rng.uniform(0.013, 0.019)
        canvas.ellipse(centre, (size, size), 255)


def _haemorrhages(
    rng: np.random.Generator, canvas: Canvas, eye: Eye, number: int, lowest: float
) -> None:
    """Dots and blots of uneven outline; one in three is a flame along the nerve fibres."""
    around = np.linspace(0, 2 * np.pi, 19)[:-1]
    waves = np.cos(np.arange(2, 6)[:, None] * around)
    for centre in _spots(rng, eye, number, 0.06, lowest):
        size = rng.uniform(0.022, 0.048)
        outline = canvas.scale * size * (1 + rng.normal(0, 0.1, 4) @ waves)
        shape = np.stack([outline * np.cos(around), outline * np.sin(around)], axis=1)
        if rng.random() < 0.33:
            shape *= [1.7, 0.55]
        away = centre - eye.disc
        turn = np.arctan2(away[1], away[0])
        rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        # Paler at the rim than in the middle.
        canvas.pen.polygon(canvas.place(centre + shape @ rotation), 215)
        canvas.pen.polygon(canvas.place(centre + 0.75 * shape @ rotation), 255)


def _hard_exudates(
    rng: np.random.Generator, canvas: Canvas, eye: Eye, number: int, lowest: float
) -> None:
    """Clusters of small sharp dots in and around the macula."""
    for _ in range(number):
        turn, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.14, 0.42)
        centre = eye.fovea + reach * np.array([np.cos(turn), np.sin(turn)])
        spread = canvas.scale * rng.uniform(0.03, 0.07, 2)
        for _ in range(int(rng.integers(10, 26))):
            point = centre + rng.normal(0, 1, 2) * spread
            size = rng.uniform(0.007, 0.018)
            canvas.ellipse(point, (size, size * rng.uniform(0.7, 1.2)), 255)


def _cotton_wool(
    rng: np.random.Generator, canvas: Canvas, eye: Eye, number: int, lowest: float
) -> None:
    """Soft pale patches near the disc and the arcades."""
    for centre in 0.75 * _spots(rng, eye, number, 0.1, lowest):
        for _ in range(3):
            point = centre + rng.normal(0, 0.015, 2)
            canvas.ellipse(point, tuple(rng.uniform(0.03, 0.05, 2)), 255)


def _neovessels(
    rng: np.random.Generator, canvas: Canvas, eye: Eye, number: int, lowest: float
) -> None:
    """Tufts: tangles of fine loops."""
    for centre in 0.9 * _spots(rng, eye, number, 0.15, lowest):
        for _ in range(int(rng.integers(14, 24))):
            curl = rng.choice([-1, 1]) * 0.3
            angles = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(curl, 0.6, 14))
            moves = 0.018 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
            path = centre + rng.normal(0, 0.02, 2) + np.cumsum(moves, axis=0)
            canvas.line(path, rng.uniform(0.004, 0.008), 255)


def _preretinal(
    rng: np.random.Generator, canvas: Canvas, eye: Eye, number: int, lowest: float
) -> None:
    """Blood that settled before the retina: level above, round below, like a boat."""
    for _ in range(number):
        down = rng.choice([-1, 1]) * rng.uniform(0.2, 0.4)
        centre = eye.fovea + np.array([rng.uniform(-0.35, 0.15), down])
        half = np.array([rng.uniform(0.18, 0.3), rng.uniform(0.13, 0.24)])
        box = canvas.place(np.stack([centre - half, centre + half]))
        canvas.pen.chord(box, rng.uniform(-8, 8), 180 + rng.uniform(-8, 8), 255)


def _laser_scars(
    rng: np.random.Generator, canvas: Canvas, eye: Eye, number: int, lowest: float
) -> None:
    """Round burns of even size outside the macula."""
    for centre in _spots(rng, eye, number, 0.05, lowest):
        size = rng.uniform(0.02, 0.032)
        if np.hypot(*(centre - eye.fovea)) > 0.42:
            canvas.ellipse(centre, (size, size), 255)


_PENS: dict[str, Callable[[np.random.Generator, Canvas, Eye, int, float], None]] = {
    "microaneurysm": _microaneurysms,
    "haemorrhage": _haemorrhages,
    "hard_exudate": _hard_exudates,
    "cotton_wool": _cotton_wool,
    "neovessel": _neovessels,
    "preretinal": _preretinal,
    "laser_scar": _laser_scars,
}
