"""What a person should know of a photograph that decodes: no fundus, torn, dark, bright, grey.

The thresholds were set on 3,460 photographs of six published sets, so that no fundus among them,
cropped, grey, over- or under-exposed, is taken for something else or for torn.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image

from fundusray.data.photographs.decode import BadImage
from fundusray.data.photographs.find_fundus import find_fundus

SIDE = 128
"""Longer side of the copy in which all else is looked for, pixels."""
WHITE = 240
"""Of 255, in every channel: no tissue is this bright."""
DARK = 56
"""Median over the fundus of the strongest channel; one photograph in a hundred is below."""
BRIGHT = 180
"""Mean over the fundus of all channels."""
WHITE_SHARE = 0.03
"""Share of the lit pixels that are white: light has entered past the lens."""
TEAR_SIDE = 256
"""Shorter side, at least, of the copy in which tears are looked for, pixels."""
REACH = 8
"""Rows above and below a tear that must be lit: the edge of the fundus is none."""
STEP = 18
"""Grey levels, in any channel, from one row to the next."""


class _Looks(NamedTuple):
    """What is measured on the reduced copy; shares are of its lit pixels."""

    disc: bool
    """A disc, or what a picture shows of one, on a dark ground."""
    warm: float
    """Of those not white: red well above blue, as blood is."""
    body: float
    """Share of all pixels that are lit and not white."""
    flat: float
    """Neighbours of the very same colour: drawn, not photographed."""
    edges: float
    """Mean step between neighbours, grey levels: a retina is smooth, the world is not."""


def quality_flags(pixels: np.ndarray) -> tuple[str, ...]:
    """The flags of a photograph uint8 [H, W, 3]: no_fundus, torn, dark, bright, grey.

    no_fundus: neither a disc on a dark ground nor the smooth, warm colour of a retina that fills
    the picture, or drawn: a text, a diagram, a screenshot, a section of another instrument.
    torn: most of a row jumps, and no row near it: coded pixels were damaged and the decoder went
    on in another place or colour. About 6 in 10 of such damaged files are seen.
    """
    image = Image.fromarray(pixels)
    image = image.reduce(max(1, min(image.size) // TEAR_SIDE))
    scale = max(*image.size, SIDE) / SIDE
    sides = [max(1, round(length / scale)) for length in image.size]
    small = np.asarray(image.resize(sides, Image.Resampling.BOX))
    red, green, blue = small.transpose(2, 0, 1).astype(np.float32)
    grey = (red + green + blue) / 3
    lit = grey > max(10.0, float(np.percentile(grey, 99)) / 10)
    if not lit.any():
        return ("no_fundus",)
    strongest = np.maximum(np.maximum(red, green), blue)
    weakest = np.minimum(np.minimum(red, green), blue)
    white = lit & (weakest >= WHITE)
    looks = _measure(small, grey, lit, white)
    fundus = looks.disc or (looks.warm >= 0.6 and looks.edges <= 15 and looks.body >= 0.3)
    flags = {
        "no_fundus": not fundus or looks.flat >= 0.6,
        "torn": _is_torn(np.asarray(image)),
        "dark": np.median(strongest[lit]) < DARK,
        "bright": grey[lit].mean() > BRIGHT or white.sum() > WHITE_SHARE * lit.sum(),
        "grey": np.percentile((strongest - weakest)[lit], 98) <= 8,
    }
    return tuple(name for name, holds in flags.items() if holds)


def _measure(small: np.ndarray, grey: np.ndarray, lit: np.ndarray, white: np.ndarray) -> _Looks:
    body = lit & ~white
    warmth = small[..., 0].astype(np.int16) - small[..., 2]
    pairs = body[:, 1:] & body[:, :-1]
    same = (small[:, 1:] == small[:, :-1]).all(axis=2) & pairs
    steps = [np.abs(np.diff(grey, axis=axis)) for axis in (0, 1)]
    return _Looks(
        disc=(warmth < -8)[lit].mean() < 0.35 and _is_disc(small, grey, lit),
        warm=float((warmth > 8)[body].mean()) if body.any() else 0.0,
        body=float(body.mean()),
        flat=same.sum() / max(1, pairs.sum()),
        edges=float(sum(step.mean() for step in steps if step.size)),
    )


def _is_disc(small: np.ndarray, grey: np.ndarray, lit: np.ndarray) -> bool:
    """Whether what is lit is a circle, as far as the picture shows it, and the corners are dark."""
    try:
        x, y, radius = find_fundus(small)
    except BadImage:
        return False
    rows, columns = np.ogrid[: grey.shape[0], : grey.shape[1]]
    circle = (columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2 <= radius**2
    edge = max(2, min(grey.shape) // 16)
    ends = (slice(None, edge), slice(-edge, None))
    corner = max(float(np.median(grey[across, down])) for across in ends for down in ends)
    overlap = (circle & lit).sum() / (circle | lit).sum()
    return bool(overlap >= 0.85 and corner < 0.4 * grey[lit].mean())


def _is_torn(reduced: np.ndarray) -> bool:
    bright = np.maximum(np.maximum(reduced[..., 0], reduced[..., 1]), reduced[..., 2])
    lit = bright > 0.4 * np.median(bright[bright > 24]) if (bright > 24).any() else bright > 24
    if len(lit) < 4 * REACH:
        return False
    # Pixels below and above which REACH rows are lit, from the sums of the columns so far.
    sums = np.pad(lit.astype(np.int32).cumsum(axis=0), ((1, 0), (0, 0)))
    inside = sums[2 * REACH :] - sums[: -2 * REACH] == 2 * REACH
    levels = reduced[REACH - 1 : len(reduced) - REACH + 1].astype(np.int16)
    red, green, blue = np.moveaxis(np.abs(levels[1:] - levels[:-1]) >= STEP, 2, 0)
    jumps = (red | green | blue) & inside
    seen = inside.sum(axis=1)
    wide = seen > 0.3 * lit.shape[1]
    share = np.where(wide, jumps.sum(axis=1) / np.maximum(seen, 1), 0)
    for row in np.flatnonzero(share >= 0.6):
        near = [at for at in (row - 4, row - 3, row - 2, row + 2, row + 3, row + 4) if at >= 0]
        near = [at for at in near if at < len(wide) and wide[at]]
        if len(near) >= 3 and share[near].max() < 0.3:
            return True
    return False
