"""cofe-Net's degradations, against closed forms and scipy."""

import numpy as np
import pytest
import scipy.ndimage
import torch
from torch import Tensor

from fundusray.corruptions import CORRUPTIONS, corrupted, parse_corruption, receipts
from fundusray.corruptions.blurring import blurred_within, disc_window, soft_disc
from fundusray.corruptions.cofe import COMBINATIONS
from fundusray.corruptions.fundus_area import seen_area
from fundusray.corruptions.shen import defocus, halo, hole, shen_colour, spots


def test_the_gaussian_is_scipys_over_what_is_seen(drawn: Tensor) -> None:
    seen = seen_area(drawn[:1])[0]
    ours = blurred_within(drawn[0].float(), seen, 1.7).numpy()
    area = seen[0].numpy().astype(float)
    blur = {"sigma": 1.7, "mode": "constant", "radius": 6}
    count = scipy.ndimage.gaussian_filter(area, **blur)
    for channel in range(3):
        total = scipy.ndimage.gaussian_filter(drawn[0, channel].numpy() * area, **blur)
        expected = np.where(area > 0, total / np.maximum(count, 1e-9), 0)
        assert np.abs(ours[channel] - expected).max() < 0.01


def test_a_soft_disc_is_a_disc_under_a_box() -> None:
    soft = soft_disc(200, (0.5, 0.4), 0.2, 0.1).numpy()
    window = disc_window(200, (0.5, 0.4), 0.2, 0.1)
    part = np.zeros_like(soft)
    part[window] = soft_disc(200, (0.5, 0.4), 0.2, 0.1, window).numpy()
    assert np.array_equal(part, soft)
    hard = soft_disc(200, (0.5, 0.4), 0.2, 0.0).numpy()
    assert soft.sum() == pytest.approx(np.pi * (0.2**2 + 0.1**2 / 12) * 200**2, rel=0.001)
    boxed = scipy.ndimage.uniform_filter1d(hard, 20, axis=1)
    assert np.abs(soft[80] - boxed[80]).max() < 0.06


FACTORS = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0}


def test_colour_factors_are_torchvisions(drawn: Tensor) -> None:
    """Their simulation's own library, which rounds after each of the three."""
    reference = pytest.importorskip("torchvision.transforms.functional")
    inside = seen_area(drawn[:1])[0].expand(3, 96, 96)
    assert torch.equal(shen_colour(drawn[:1], [FACTORS]), drawn[:1])
    for name, factor in (("brightness", 1.2), ("contrast", 0.6), ("saturation", 1.4)):
        changed = shen_colour(drawn[:1], [FACTORS | {name: factor}])[0]
        expected = getattr(reference, f"adjust_{name}")(drawn[0], factor)
        assert (changed[inside].int() - expected[inside].int()).abs().max() <= 2


def test_a_hole_is_dark_within_and_a_halo_bright_without(drawn: Tensor) -> None:
    place = {"strength": 1.0, "x": 0.5, "y": 0.5, "diameter": 0.5}
    image = torch.full((1, 3, 101, 101), 120, dtype=torch.uint8)
    dark = hole(image, [place | {"softness": 0.6}])[0, 0].int()
    seen = seen_area(image)
    depth = 255 * 0.26 + 0.055 * image.float().sum() / (3 * seen.sum())
    assert dark[50, 50] == round(120 - depth.item()) and dark[50, 1] == 120
    bright = halo(image, [place | {"tint": [251, 249, 246], "edge": 0.4}])[0, 0].int()
    assert bright[50, 50] == 120 and bright[50, 2] == 120 + round(120 * 251 / 255)
    # Half of it at the disc's border.
    assert dark[50, 75] == pytest.approx(120 - depth.item() / 2, abs=3)
    assert bright[50, 75] == pytest.approx(120 + 60, abs=4)


def test_spots_are_bright_where_they_are() -> None:
    image = torch.full((1, 3, 256, 256), 60, dtype=torch.uint8)
    spot = {"x": 0.3, "y": 0.6, "radius": 0.05, "softness": 0.2}
    light = spots(image, [{"spots": [spot]}])[0, 1].int() - 60
    # Their formulas at the largest size: (14/25) (1 - exp(-1.5 0.3 1.024)), nearly.
    assert light.max() / 255 == pytest.approx(0.56 * (1 - np.exp(-0.45)), abs=0.02)
    rows, columns = light.nonzero(as_tuple=True)
    assert columns.float().mean() == pytest.approx(0.3 * 256, abs=1)
    assert rows.float().mean() == pytest.approx(0.6 * 256, abs=1)
    assert len(rows) < 0.04 * 256**2


def test_published_ranges_are_reached_and_not_left() -> None:
    everything = parse_corruption("cofe_light_spots_defocus(level=1-4)")
    drawn = [each.parameters for each in receipts(everything, 0, range(400), 64)]
    for name, (low, high) in {
        "brightness": (0.7, 1.2), "contrast": (0.6, 1.4), "saturation": (0.6, 1.4),
    }.items():  # fmt: skip
        values = [each["shen_colour"][name] for each in drawn]
        assert low <= min(values) < low + 0.02 and high - 0.02 < max(values) <= high
    counts = {len(each["spots"]["spots"]) for each in drawn}
    assert counts == set(range(5, 11))
    radii = [spot["radius"] for each in drawn for spot in each["spots"]["spots"]]
    assert 0.01 <= min(radii) < 0.011 and 0.049 < max(radii) <= 0.05
    assert max(each["defocus"]["sigma"] for each in drawn) * 512 <= 2
    assert {tuple(each["halo"]["tint"]) for each in drawn} == {
        (251, 249, 246), (141, 238, 238), (177, 195, 147),
    }  # fmt: skip


def test_a_combination_is_its_parts_one_after_the_other(drawn: Tensor) -> None:
    for name, parts in COMBINATIONS.items():
        done = receipts(parse_corruption(f"{name}(level=3)"), 1, [6], 96)
        image = drawn[:1]
        assert list(done[0].parameters) == list(parts)
        for part in parts:
            image = CORRUPTIONS.find(part)(image, [done[0].parameters[part]])
        assert torch.equal(corrupted(drawn[:1], done), image)


def test_no_defocus_changes_nothing(drawn: Tensor) -> None:
    assert torch.equal(defocus(drawn[:2], [{"sigma": 0.0}] * 2), drawn[:2])
