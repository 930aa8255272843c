"""Wu's four against closed forms and other libraries; their levels on photographs."""

import math

import numpy as np
import pytest
import scipy.ndimage
import torch
from torch import Tensor

from fundusray.corruptions import CORRUPTIONS, corrupted, parse_corruption, receipts
from fundusray.corruptions.exposure import expose
from fundusray.corruptions.fundus_area import fundus_disc, seen_area
from fundusray.corruptions.light_leakage import light_leakage
from fundusray.corruptions.motion_blur import line_of, motion_blur
from fundusray.corruptions.similarity import structural_similarity
from fundusray.corruptions.wu import WU


def srgb_light(value: np.ndarray) -> np.ndarray:
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def every_value() -> Tensor:
    return torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(1, 3, 1, 1)


@pytest.mark.parametrize("stops", [-1.3, -0.5, 0.4, 1.0])
def test_exposure_multiplies_light(stops: float) -> None:
    changed = expose(every_value(), [{"stops": stops}])[0, 0].flatten().numpy()
    assert changed[0] == 0 and (np.diff(changed.astype(int)) >= 0).all()
    light = np.minimum(srgb_light(np.arange(256) / 255) * 2**stops, 1)
    # Encoded again a value is within half a level of where its light lies.
    low, high = (np.clip((changed + half) / 255, 0, 1) for half in (-0.51, 0.51))
    assert (srgb_light(low) <= light + 1e-12).all() and (light <= srgb_light(high) + 1e-12).all()


def test_no_stops_change_nothing(drawn: Tensor) -> None:
    assert torch.equal(expose(drawn[:1], [{"stops": 0.0}]), drawn[:1])


@pytest.mark.parametrize(("length", "angle"), [(0.13, 20), (0.05, 118.5), (0.031, 45), (0.02, 90)])
def test_motion_is_the_mean_over_the_fundus_along_a_line(
    length: float, angle: float, drawn: Tensor
) -> None:
    """Against scipy on the photograph and on the area that it shows."""
    line = line_of(96 * length, angle)
    reach = max(abs(part) for shift in line.ends for part in shift)
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    for down, right in line.whole:
        kernel[reach + down, reach + right] += 1
    for down, right in line.ends:
        kernel[reach + down, reach + right] += line.share
    seen = seen_area(drawn[:1])[0, 0].numpy()
    changed = motion_blur(drawn[:1], [{"length": length, "angle": angle}])[0].numpy()
    # Correlated and not convolved, which would flip the line.
    count = scipy.ndimage.correlate(seen.astype(float), kernel, mode="constant")
    for channel in range(3):
        pixels = drawn[0, channel].numpy().astype(float) * seen
        mean = scipy.ndimage.correlate(pixels, kernel, mode="constant")[seen] / count[seen]
        assert np.abs(changed[channel][seen] - mean).max() < 1.01


def test_a_line_is_as_long_as_asked_and_straight() -> None:
    for length in (0.0, 0.4, 1.0, 7.3, 40.0):
        for angle in (0, 17, 45, 80, 90, 133, 179):
            line = line_of(length, angle)
            points = np.array(line.whole)
            direction = np.array([math.sin(math.radians(angle)), math.cos(math.radians(angle))])
            longer = np.abs(direction).argmax()
            num = (len(points) - 1) // 2
            assert (points[:, longer] == np.arange(-num, num + 1)).all() and 0 <= line.share < 1
            along = (2 * num + 2 * line.share) / np.abs(direction).max()
            assert along == pytest.approx(length, abs=1e-9)
            aside = points @ np.array([direction[1], -direction[0]])
            assert np.abs(aside).max() <= 1.5 and abs(aside.mean()) < 0.5


def test_no_motion_changes_nothing(drawn: Tensor) -> None:
    assert torch.equal(motion_blur(drawn[:2], [{"length": 0.0, "angle": 30.0}] * 2), drawn[:2])


def test_a_grey_fundus_stays_grey_up_to_its_border() -> None:
    image = (fundus_disc(64) * 100).byte().expand(1, 3, 64, 64).contiguous()
    assert torch.equal(motion_blur(image, [{"length": 0.2, "angle": 63.0}]), image)


LEAK = {"gain": 0.6, "width": 0.2, "spread": 2.0, "angle": 90.0, "colour": [1.0, 0.5, 0.25]}


def test_a_leak_is_a_bell_along_the_border_and_falls_inwards() -> None:
    side = 257
    image = (fundus_disc(side) * 40).byte().expand(1, 3, side, side).contiguous()
    light = light_leakage(image, [LEAK])[0].float() - image[0].float()
    middle = side // 2
    assert light[0].max() == pytest.approx(255 * 0.6, abs=2)
    assert light[0].argmax() // side > side - 4  # 90 degrees: at the bottom
    assert light[1].max() == pytest.approx(light[0].max() / 2, abs=1)
    border = middle * 0.98
    for phi in (30, 60, 120):
        angle = math.radians(90 - phi)
        y, x = (round(middle + border * part) for part in (math.sin(angle), math.cos(angle)))
        bell = 0.6 * 255 * math.exp(-2.0 * (1 - math.cos(math.radians(phi))))
        assert light[0, y, x] == pytest.approx(bell, rel=0.15, abs=1.5)
    inside = light[0, round(middle + middle * 0.8), middle]
    assert inside == pytest.approx(255 * 0.6 / math.e, rel=0.15)
    # The centre lies 2/3 beyond the middle, s^2 is 1/3: r^2 - (1 + 2/3)^2 = 4/9 - 25/9 there.
    assert light[0, middle, middle] == pytest.approx(255 * 0.6 * math.exp(-3.5), abs=0.51)


def test_a_leak_saturates() -> None:
    image = (fundus_disc(64) * 250).byte().expand(1, 3, 64, 64).contiguous()
    changed = light_leakage(image, [LEAK | {"gain": 1.0}])
    assert changed.max() == 255 and (changed >= image).all()


def test_what_a_photograph_does_not_show_stays_black(drawn: Tensor) -> None:
    image = drawn[:1].clone()
    image[:, :, :20] = 0
    changed = light_leakage(image, [LEAK | {"angle": 270.0, "gain": 1.0}])
    assert changed[:, :, :20].max() == 0 and changed[:, :, 21:40].max() > 200


def test_similarity_is_that_of_scikit_image(drawn: Tensor) -> None:
    reference = pytest.importorskip("skimage.metrics", reason="scikit-image (extra dev)")
    other = corrupted(drawn[:3], receipts(parse_corruption("wu(level=4)"), 1, range(3), 96))
    luma = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)[:, None, None]
    for image, changed, ours in zip(
        drawn, other, structural_similarity(drawn[:3], other), strict=False
    ):
        pair = [(each.double() * luma).sum(0).numpy() for each in (image, changed)]
        expected = reference.structural_similarity(
            *pair,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=255,
        )
        assert ours.item() == pytest.approx(expected, abs=1e-9)
    assert structural_similarity(drawn, drawn).min().item() == pytest.approx(1)


def similarity_by_level(image: Tensor, kind: str) -> Tensor:
    """[4, N]"""
    found = []
    for level in range(1, 5):
        corruption = parse_corruption(f"{kind}(level={level})")
        done = receipts(corruption, 0, range(len(image)), image.shape[-1])
        found.append(structural_similarity(image, corrupted(image, done)))
    return torch.stack(found)


@pytest.mark.parametrize("kind", [*WU, "hole", "spots", "halo", "noise", "jpeg", "contrast"])
def test_damage_grows_with_the_level_on_drawn_photographs(kind: str, drawn: Tensor) -> None:
    values = similarity_by_level(drawn, kind)
    assert (values.diff(dim=0) < 0).all() and (values[0] < 1).all()


def test_levels_mean_the_same_on_real_photographs(real: Tensor) -> None:
    """Twelve of the hundred that benchmark corruption_levels measures; hence .03 and not .02."""
    found = {kind: similarity_by_level(real, kind) for kind in WU}
    for values in found.values():
        assert (values.diff(dim=0) < 0).all()
    medians = torch.stack([values.median(1).values for values in found.values()])
    assert (medians.amax(0) - medians.amin(0)).max() < 0.03


def test_a_level_looks_the_same_at_another_size(drawn: Tensor) -> None:
    large = torch.nn.functional.interpolate(drawn.float(), scale_factor=2, mode="bilinear")
    large = large.round().byte()
    for kind in WU:
        done = receipts(parse_corruption(f"{kind}(level=3)"), 0, range(8), 96)
        small = corrupted(drawn, done).float()
        halved = torch.nn.functional.avg_pool2d(corrupted(large, done).float(), 2)
        assert (small - halved).abs().mean() < 2
    assert CORRUPTIONS.facts("motion_blur").levels[2]["length"][0] < 1
