"""Under- and over-exposure: less or more light on the sensor, in stops.

A photograph's 8-bit values are decoded to linear light (IEC 61966-2-1, sRGB), which is multiplied
by 2^EV, clipped as a sensor clips, and encoded again. That is a function of the value alone: a
table of 256. Black stays black.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fundusray.corruptions.fundus_area import through_table
from fundusray.corruptions.registry import CORRUPTIONS, Parameters

SOURCE = "one of the four of Wu (2020), section 4; light as sRGB (IEC 61966-2-1), levels ours"


def linear_light(value: Tensor) -> Tensor:
    """Encoded values in [0, 1] as shares of the light that saturates."""
    bent = ((value.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(value <= 0.04045, value / 12.92, bent)


def encoded_light(light: Tensor) -> Tensor:
    """Shares of the light that saturates as encoded values in [0, 1]."""
    bent = 1.055 * light.clamp_min(0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(light <= 0.0031308, light * 12.92, bent)


def exposure_table(stops: float) -> Tensor:
    """What becomes of each 8-bit value, uint8 [256], on the CPU."""
    value = torch.arange(256, dtype=torch.float64) / 255
    light = (linear_light(value) * 2.0**stops).clamp_max(1.0)
    return (encoded_light(light) * 255).round_().byte()


def expose(image: Tensor, parameters: Sequence[Parameters]) -> Tensor:
    """Images uint8 [B, 3, S, S] with `stops` more light, or less where it is below 0."""
    result = torch.empty_like(image)
    for place, each in enumerate(parameters):
        table = exposure_table(each["stops"]).to(image.device)
        through_table(image[place], table, result[place])
    return result


def smooth_exposure(image: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
    """Images float [B, 3, S, S] in [0, 1] with `stops` [B] more light."""
    light = linear_light(image) * (2.0 ** parameters["stops"])[:, None, None, None]
    return encoded_light(light.clamp_max(1.0))


# Benchmark corruption_levels fits the levels of Wu's four.
UNDER_LEVELS = (
    {"stops": (-0.63, -0.50)},
    {"stops": (-0.87, -0.77)},
    {"stops": (-1.09, -1.00)},
    {"stops": (-1.36, -1.26)},
)
OVER_LEVELS = (
    {"stops": (0.49, 0.62)},
    {"stops": (0.76, 0.86)},
    {"stops": (1.02, 1.11)},
    {"stops": (1.29, 1.39)},
)
CORRUPTIONS.register(
    "under_exposure",
    title="under-exposure",
    source=SOURCE,
    levels=UNDER_LEVELS,
    smooth=smooth_exposure,
)(expose)
CORRUPTIONS.register(
    "over_exposure",
    title="over-exposure",
    source=SOURCE,
    levels=OVER_LEVELS,
    smooth=smooth_exposure,
)(expose)
