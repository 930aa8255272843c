"""How much each pixel of a fundus looks like a vessel: matched filters of several widths."""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from fundusray.data.regions.fundus import FundusArea, smoothed_within

WIDTHS = (0.006, 0.01, 0.016)
"""Standard deviations of the filters' profiles, of the fundus's radius: from twigs to trunks."""
DIRECTIONS = 12
LENGTH = 2.7
"""Standard deviation of a filter along the vessel, in those of its profile."""
NEAR = 0.3
"""Of the radius: the surroundings by whose contrast a response is measured."""
SHARE = 0.1
"""Of the fundus that is taken for vessels, as in hand-drawn masks (.08 to .13 of it)."""


def vessel_response(image: Tensor, area: FundusArea) -> Tensor:
    """How much like a vessel each pixel of an image [3, S, S] is, float32 [S, S]; 0 outside.

    Matched filters (Chaudhuri et al. 1989): dark lines in twelve directions, in the green channel,
    over the contrast of the surroundings; of each of three widths the largest, summed.
    """
    green, radius = image[1], area.radius
    even = smoothed_within(green, area.mask, NEAR * radius)
    flat = torch.where(area.mask, green - even, 0.0)
    contrast = smoothed_within(flat**2, area.mask, NEAR * radius).sqrt().clamp_min(1e-3)
    flat = torch.where(area.mask, flat / contrast, 0.0)
    found = torch.zeros_like(green)
    for width in WIDTHS:
        kernels = _line_filters(max(0.7, width * radius))
        reach = kernels.shape[-1] // 2
        response = F.conv2d(flat[None, None], kernels, padding=reach)[0].amax(dim=0)
        found += response.clamp_min(0)
    # At the rim a filter sees the border of the photograph.
    inner = F.max_pool2d(1 - area.mask[None].float(), 5, 1, 2)[0] == 0
    return torch.where(inner, found, 0.0)


def vessel_mask(response: Tensor, area: FundusArea, share: float = SHARE) -> Tensor:
    """The pixels that look most like vessels, bool [S, S]: a share of the fundus."""
    inside = response[area.mask]
    if not len(inside) or inside.max() <= 0:
        return torch.zeros_like(area.mask)
    least = torch.quantile(inside, 1 - share)
    return area.mask & (response > least.clamp_min(0))


@lru_cache(32)
def _line_filters(sigma: float) -> Tensor:
    """Filters [DIRECTIONS, 1, k, k] that answer to dark lines: the second derivative of a Gaussian
    across, a Gaussian along; each sums to 0 and its squares to 1."""
    reach = math.ceil(2 * LENGTH * sigma) + 1
    line = torch.arange(-reach, reach + 1, dtype=torch.float32)
    y, x = torch.meshgrid(line, line, indexing="ij")
    kernels = []
    for number in range(DIRECTIONS):
        angle = math.pi * number / DIRECTIONS
        along = x * math.cos(angle) + y * math.sin(angle)
        across = y * math.cos(angle) - x * math.sin(angle)
        profile = (across**2 / sigma**2 - 1) * torch.exp(-(across**2) / (2 * sigma**2))
        kernel = profile * torch.exp(-(along**2) / (2 * (LENGTH * sigma) ** 2))
        kernel = kernel - kernel.mean()
        kernels.append(kernel / kernel.norm())
    return torch.stack(kernels)[:, None]
