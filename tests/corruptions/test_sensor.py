"""Noise, JPEG, contrast and casts of colour, against closed forms and Pillow."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fundusray.corruptions.fundus_area import fundus_disc, seen_area
from fundusray.corruptions.sensor import colour_cast, contrast, jpeg, noise, pixel_bell


def test_pixels_have_normal_numbers_of_their_own() -> None:
    bell = pixel_bell(3, 8, 200, torch.device("cpu"))
    assert bell.mean().abs() < 0.01
    assert bell.std().item() == pytest.approx(1, abs=0.01)
    assert (bell.double() ** 4).mean().item() == pytest.approx(3, abs=0.1)
    channels = torch.corrcoef(bell.flatten(1)) - torch.eye(3)
    assert channels.abs().max() < 0.03
    other = pixel_bell(3, 9, 200, torch.device("cpu"))
    assert torch.corrcoef(torch.stack([bell.flatten(), other.flatten()]))[0, 1].abs() < 0.02


@pytest.mark.parametrize("level", [40, 160])
def test_noise_grows_with_the_light(level: int) -> None:
    image = torch.full((1, 3, 128, 128), level, dtype=torch.uint8)
    drawn = {"read": 0.02, "shot": 0.05, "seed": 1, "row": 2}
    change = noise(image, [drawn])[0].double() - level
    expected = 255 * math.sqrt(0.02**2 + 0.05**2 * level / 255)
    # Rounding adds the variance of a step of 1.
    assert change.std().item() == pytest.approx(math.sqrt(expected**2 + 1 / 12), rel=0.02)
    assert change.mean().abs() < 0.2


def test_jpeg_is_pillows(drawn: Tensor) -> None:
    changed = jpeg(drawn[:2], [{"quality": 20}, {"quality": 60}])
    for place, quality in enumerate((20, 60)):
        sink = io.BytesIO()
        pixels = drawn[place].permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(sink, "JPEG", quality=quality)
        expected = np.asarray(Image.open(sink))
        assert np.array_equal(changed[place].permute(1, 2, 0).numpy(), expected)


def test_contrast_goes_to_the_mean_of_the_fundus(drawn: Tensor) -> None:
    changed = contrast(drawn[:2], [{"factor": 0.5}] * 2)
    seen = seen_area(drawn[:2])
    for before, after, area in zip(drawn, changed, seen, strict=False):
        for channel in range(3):
            own, new = (each[channel][area[0]].double() for each in (before, after))
            expected = own.mean() + (own - own.mean()) * 0.5
            assert (new - expected).abs().max() <= 0.5 + 1e-9


def test_a_cast_multiplies_channels() -> None:
    image = (fundus_disc(32) * 100).byte().expand(1, 3, 32, 32).contiguous()
    changed = colour_cast(image, [{"strength": 0.2, "hue": 0.0}])[0, :, 16, 16].tolist()
    assert changed == [120, 90, 90]
