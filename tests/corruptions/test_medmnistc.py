"""MedMNIST-C's kinds against the libraries it is written with, and its two errors."""

import numpy as np
import pytest
import scipy.ndimage
import torch
from PIL import Image, ImageEnhance
from torch import Tensor

from fundusray.corruptions import CORRUPTIONS, parse_corruption
from fundusray.corruptions.medmnistc import (
    ALEXNET,
    ALEXNET_CLEAN,
    balanced_error,
    brightness_down,
    contrast_down,
    defocus,
    disc_kernel,
    gaussian_noise,
    motion,
    pixelate,
    relative_error,
    speckle_noise,
)
from fundusray.errors import InputError


@pytest.fixture
def image(drawn: Tensor) -> Tensor:
    """As wide as theirs, uint8 [1, 3, 224, 224]."""
    large = torch.nn.functional.interpolate(drawn[:1].float(), size=224, mode="bilinear")
    return large.round().byte()


def pillow(image: Tensor) -> Image.Image:
    return Image.fromarray(image[0].permute(1, 2, 0).numpy())


def pixels(image: Tensor) -> np.ndarray:
    return image[0].permute(1, 2, 0).numpy().astype(int)


@pytest.mark.parametrize("factor", [0.9, 0.6, 0.4])
def test_brightness_and_contrast_are_pillows(factor: float, image: Tensor) -> None:
    for ours, theirs in (
        (brightness_down, ImageEnhance.Brightness),
        (contrast_down, ImageEnhance.Contrast),
    ):
        expected = np.asarray(theirs(pillow(image)).enhance(factor)).astype(int)
        assert np.abs(pixels(ours(image, [{"factor": factor}])) - expected).max() <= 1


def test_pixelate_is_pillows(image: Tensor) -> None:
    small = pillow(image).resize((112, 112), Image.Resampling.BOX)
    expected = np.asarray(small.resize((224, 224), Image.Resampling.BOX))
    assert np.array_equal(pixels(pixelate(image, [{"scale": 0.5}])), expected)


@pytest.mark.parametrize(("radius", "sigma"), [(4, 0.1), (8, 0.5)])
def test_defocus_is_scipys_convolution(radius: int, sigma: float, image: Tensor) -> None:
    kernel = disc_kernel(radius, sigma).double().numpy()
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    ours = pixels(defocus(image, [{"radius": radius, "sigma": sigma}]))
    for channel in range(3):
        values = image[0, channel].double().numpy()
        expected = scipy.ndimage.convolve(values, kernel, mode="mirror")
        assert np.abs(ours[..., channel] + 0.5 - expected).max() <= 0.502


def test_motion_is_half_a_gaussian_along_a_row(image: Tensor) -> None:
    ours = pixels(motion(image, [{"radius": 8, "sigma": 5, "angle": 0.0}]))
    weights = np.exp(-0.5 * (np.arange(17) / 5) ** 2)
    # scipy's correlation, its origin moved to the first weight.
    expected = scipy.ndimage.correlate1d(
        image[0].double().numpy(), weights / weights.sum(), axis=2, mode="nearest", origin=-8
    )
    assert np.abs(ours - expected.transpose(1, 2, 0)).max() <= 0.501


def test_noises_have_their_deviations() -> None:
    grey = torch.full((1, 3, 224, 224), 128, dtype=torch.uint8)
    drawn = {"deviation": 0.1, "seed": 0, "row": 1}
    for ours, expected in ((gaussian_noise, 25.5), (speckle_noise, 12.8)):
        change = ours(grey, [drawn]).double() - 128
        assert change.std().item() == pytest.approx(expected, rel=0.02)
        assert change.mean().item() == pytest.approx(-0.5, abs=0.3)  # rounded down


def test_eight_kinds_of_five_severities() -> None:
    assert set(parse_corruption("medmnistc").kinds) == set(ALEXNET)
    assert all(len(CORRUPTIONS.facts(kind).levels) == 5 for kind in ALEXNET)


def test_the_errors_of_their_alexnet_are_one() -> None:
    same = {kind: [base] * 5 for kind, base in ALEXNET.items()}
    assert balanced_error(same) == pytest.approx(dict.fromkeys([*ALEXNET, "mean"], 1.0))
    assert relative_error(same, ALEXNET_CLEAN) == pytest.approx(
        dict.fromkeys([*ALEXNET, "mean"], 1.0)
    )


def test_errors_by_hand() -> None:
    errors = {kind: [0.3, 0.4, 0.5, 0.6, 0.7] for kind in ALEXNET}
    own = balanced_error(errors)
    assert own["medmnistc_jpeg"] == pytest.approx(0.5 / 0.6795223564688244)
    assert own["mean"] == pytest.approx(np.mean([0.5 / base for base in ALEXNET.values()]))
    added = relative_error(errors, 0.45)
    assert added["medmnistc_motion"] == pytest.approx(0.05 / (0.7075760943 - 0.558206485))


def test_errors_of_some_kinds_only_are_refused() -> None:
    with pytest.raises(InputError, match=r"over 5 severities of each of medmnistc_pixelate"):
        balanced_error({"medmnistc_jpeg": [0.5] * 5})
    with pytest.raises(InputError, match=r"medmnistc_jpeg \(4\)"):
        relative_error({kind: [0.5] * 4 for kind in ALEXNET}, 0.4)
