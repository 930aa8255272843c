"""Where the optic disc and the macula of a prepared image are, estimated from its pixels."""

import itertools
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fundusray.data.regions.fundus import FundusArea, smoothed, smoothed_within

DISC_RADIUS = 0.145
"""Of an optic disc, of the radius of the fundus: 1.8 mm across in a field of 45 degrees."""
DISC_RADII = (0.11, 0.125, 0.14, 0.155, 0.17, 0.185)
"""Among which a disc's is looked for."""
VESSELS = 0.6
"""Of the convergence of vessels, against brightness, both in standard deviations."""
FOVEA = (4.6, 0.35)
"""From the disc's centre to the fovea, in disc radii: towards the temple, and downwards. (About 2.5
disc diameters and a few degrees below, Jonas et al. 2015.)"""
SEARCH = 1.2
"""In disc radii: how far from there the darkest place is looked for."""


GAIN, EVENED = 4.0, 30.0
"""Graham's gain, and what the radius is divided by for the width of his blur."""


@dataclass(frozen=True)
class Circle:
    """A round region."""

    x: float
    """Of its centre, pixels from the left border; that of the first pixel is 0.5."""
    y: float
    radius: float

    def mask(self, height: int, width: int) -> Tensor:
        """The pixels whose centres lie within, bool [height, width]."""
        down, across = torch.arange(height) + 0.5 - self.y, torch.arange(width) + 0.5 - self.x
        return down[:, None] ** 2 + across[None, :] ** 2 <= self.radius**2


def find_disc(image: Tensor, area: FundusArea, response: Tensor) -> Circle:
    """The optic disc of an image [3, S, S]: where a bright patch of a disc's size and vessels that
    run up and down come together.

    Exudates are as bright, but scattered, and no vessel begins at them.

    Args:
        response: `vessels.vessel_response`.
    """
    radius = DISC_RADIUS * area.radius
    light = _even_light(image, area)
    near = smoothed_within(light, area.mask, 0.5 * radius)
    bright = near - smoothed_within(light, area.mask, 2.0 * radius)
    strong = response.clamp(max=float(torch.quantile(response[area.mask], 0.98)))
    vessels = smoothed(strong, (1.2 * radius, 0.5 * radius))
    score = _standard(bright, area.mask) + VESSELS * _standard(vessels, area.mask)
    line = torch.arange(image.shape[-1]) + 0.5 - image.shape[-1] / 2
    # Seldom far above or below the middle, and never beyond the rim.
    score = score - 0.5 * (line[:, None] / (0.3 * area.radius)) ** 2
    return _sized(light, area, _peak(score, area.mask))


def find_macula(image: Tensor, area: FundusArea, disc: Circle, eye: str = "") -> Circle:
    """The macula: within one disc diameter of the fovea, the darkest place without vessels about
    2.5 disc diameters from the disc towards the temple.

    Args:
        eye: left or right, where it is known; in a right eye the temple is to the left. Otherwise
            it is the side of the disc on which more of the fundus is seen.
    """
    side = image.shape[-1]
    temple = {"right": -1, "left": 1}.get(eye, -1 if disc.x > side / 2 else 1)
    radius = DISC_RADIUS * area.radius
    x, y = disc.x + temple * FOVEA[0] * radius, disc.y + FOVEA[1] * radius
    light = _even_light(image, area)
    dark = smoothed_within(light, area.mask, 2.0 * radius) - smoothed_within(
        light, area.mask, 0.6 * radius
    )
    line = torch.arange(side) + 0.5
    far = ((line[:, None] - y) ** 2 + (line[None, :] - x) ** 2) / (SEARCH * radius) ** 2
    window = area.mask & (far <= 1)
    if not window.any():
        return Circle(x, y, 2 * radius)
    score = _standard(dark, area.mask) - 1.5 * far
    found = _peak(score, window)
    return Circle(*found, 2 * radius)


def _even_light(image: Tensor, area: FundusArea) -> Tensor:
    """Green and half of red, [S, S], their light evened out as Graham does, 4 (a - blur(a)) within
    half of the range: what is bright against its surroundings, wherever the lamp shone."""
    light = image[:2]
    if not area.evened:
        near = [smoothed_within(layer, area.mask, area.radius / EVENED) for layer in light]
        light = (GAIN * (light - torch.stack(near))).clamp(-0.5, 0.5)
    return light[1] + 0.5 * light[0]


def _standard(layer: Tensor, mask: Tensor) -> Tensor:
    """In standard deviations from the mean of what is marked."""
    inside = layer[mask]
    return (layer - inside.mean()) / inside.std().clamp_min(1e-6)


def _peak(score: Tensor, mask: Tensor) -> tuple[float, float]:
    """(x, y) of the largest score that is marked."""
    place = int(torch.where(mask, score, -torch.inf).flatten().argmax())
    row, column = divmod(place, score.shape[1])
    return column + 0.5, row + 0.5


def _sized(light: Tensor, area: FundusArea, centre: tuple[float, float]) -> Circle:
    """The disc around about this centre whose inside is brightest against a ring around it."""
    reach = int(2.2 * DISC_RADII[-1] * area.radius) + 2
    left, top = (max(0, int(place) - reach) for place in centre)
    part = (slice(top, top + 2 * reach), slice(left, left + 2 * reach))
    near, mask = light[part], area.mask[part]
    step = max(1.0, 0.03 * area.radius)
    moves = [step * number for number in range(-2, 3)]
    best, worth = Circle(*centre, DISC_RADIUS * area.radius), -torch.inf
    for share, down, across in itertools.product(DISC_RADII, moves, moves):
        circle = Circle(centre[0] + across, centre[1] + down, share * area.radius)
        contrast = _contrast(near, mask, replace(circle, x=circle.x - left, y=circle.y - top))
        if contrast > worth:
            best, worth = circle, contrast
    return best


def _contrast(light: Tensor, mask: Tensor, circle: Circle) -> float:
    """How much brighter a circle is than a ring around it that is half as wide, in standard
    deviations of both."""
    inner = circle.mask(*light.shape) & mask
    outer = replace(circle, radius=1.5 * circle.radius).mask(*light.shape) & mask & ~inner
    if inner.sum() < 4 or outer.sum() < 4:
        return -torch.inf
    spread = torch.cat([light[inner], light[outer]]).std().clamp_min(1e-6)
    return float((light[inner].mean() - light[outer].mean()) / spread)
