"""The fundus is found cut, off-centre, turned, dark, with a halo, beside a label."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from fundusray.data.photographs.decode import decode_photograph
from fundusray.data.photographs.find_fundus import (
    Box,
    Fundus,
    count_diameter,
    find_fundus,
    lit_box,
    without_missing,
)

Draw = Callable[..., np.ndarray]


@pytest.mark.parametrize(
    "case",
    [
        {},
        {"radius": 150, "centre": (220.0, 180.0)},
        {"radius": 260},  # cut above and below
        {"radius": 195, "centre": (300.0, 150.0)},  # cut above only
        {"radius": 190, "centre": (130.0, 200.0)},  # cut at the left
        {"light": 0.12},  # under-exposed
        {"light": 2.2},  # over-exposed: most of it is at 255
        {"surround": 6.0},  # a surround that is not black
        {"height": 800, "width": 1200, "radius": 360},
        {"height": 60, "width": 80, "radius": 27},
    ],
)
@pytest.mark.parametrize("turns", [0, 1, 2])
def test_finds_the_circle(drawn: Draw, case: dict, turns: int) -> None:
    image = np.rot90(drawn(**case), turns).copy()
    height, width = image.shape[:2]
    radius = case.get("radius", 180.0)
    x, y = case.get("centre", (case.get("width", 600) / 2, case.get("height", 400) / 2))
    if turns == 1:  # to the left
        x, y = y, height - x
    elif turns == 2:
        x, y = width - x, height - y
    found = find_fundus(image)
    tolerance = max(0.01 * radius, 0.7)
    assert found.radius == pytest.approx(radius, abs=tolerance)
    assert (found.x, found.y) == pytest.approx((x, y), abs=tolerance)


def test_a_greyscale_photograph_has_the_same_circle(drawn: Draw) -> None:
    image = drawn(radius=150, centre=(220.0, 180.0))
    grey = np.repeat(image.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    assert find_fundus(grey) == pytest.approx(find_fundus(image), abs=0.5)


@pytest.mark.parametrize("radius", [170.0, 260.0])
@pytest.mark.parametrize("toward", [0.0, 8.0, 16.0])
def test_a_halo_is_no_part_of_the_fundus(drawn: Draw, radius: float, toward: float) -> None:
    image = drawn(radius=radius)
    y, x = np.mgrid[:400, :600] + 0.5
    halo = np.hypot(x - 300 - toward, y - 200) < 1.12 * radius
    outside = np.hypot(x - 300, y - 200) > radius
    image[halo & outside] = (14, 10, 6)  # above a tenth of the mean
    found = find_fundus(image)
    assert found == pytest.approx((300, 200, radius), abs=0.012 * radius)


def test_a_label_and_dust_beside_the_fundus_change_nothing(drawn: Draw) -> None:
    image = drawn()
    image[8:14, 10:60] = 230
    image[340:390, 2:110] = 200
    image[350:353, 590:593] = 120
    assert find_fundus(image) == pytest.approx((300, 200, 180), abs=1)


def test_rows_missing_from_a_truncated_file_change_nothing(drawn: Draw) -> None:
    image = drawn()
    image[260:] = 0
    found = find_fundus(image)
    assert (found.x, found.y, found.radius) == pytest.approx((300, 200, 180), abs=3)


def test_a_picture_inside_the_circle_is_taken_whole(drawn: Draw) -> None:
    found = find_fundus(drawn(radius=900))
    assert (found.x, found.y, found.radius) == pytest.approx((300, 200, 300), abs=1)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_missing_rows_end_the_photograph(drawn: Draw, turns: int) -> None:
    image = drawn()
    image[260:] = np.random.default_rng(1).integers(0, 4, (140, 600, 3))  # as JPEG leaves black
    image = np.rot90(image, turns).copy()
    x, y = [(300, 200), (200, 300), (300, 200), (200, 300)][turns]
    left, fundus = without_missing(image, Fundus(x, y, 180))
    assert sorted(left.shape[:2]) == [260, 600]
    # Turned by 180 degrees the missing rows are the upper ones; to the left, the right columns.
    assert (fundus.x, fundus.y) == [(300, 200), (200, 300), (300, 60), (60, 300)][turns]
    assert fundus.radius == 180


@pytest.mark.parametrize(
    "case", [{}, {"radius": 260}, {"centre": (150.0, 150.0)}, {"light": 0.05}, {"surround": 9.0}]
)
def test_nothing_is_missing_from_a_whole_photograph(drawn: Draw, case: dict) -> None:
    image = drawn(**case)
    centre = case.get("centre", (300, 200))
    fundus = Fundus(*centre, case.get("radius", 180))
    left, same = without_missing(image, fundus)
    assert left.shape == image.shape and same == fundus


@pytest.mark.parametrize("radius", [40.0, 77.3, 180.0])
def test_the_middle_row_counts_the_diameter(drawn: Draw, radius: float) -> None:
    assert count_diameter(drawn(radius=radius)) == pytest.approx(2 * radius, abs=1)


def test_a_row_beside_the_middle_counts_the_chord(drawn: Draw) -> None:
    image = drawn(radius=150, centre=(300.0, 140.0))
    assert count_diameter(image) == pytest.approx(2 * (150**2 - 60**2) ** 0.5, abs=1)


def test_the_lit_box_is_that_of_the_largest_area_as_scipy_has_it() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        height, width = rng.integers(1, 24, 2)
        lit = rng.random((height, width)) < rng.choice([0.1, 0.3, 0.5, 0.6, 0.8])
        areas, num = ndimage.label(lit, np.ones((3, 3)))
        image = np.where(lit, 50, 49).astype(np.uint8)[..., None] * np.ones(3, np.uint8)
        if not num:
            assert lit_box(image, 50) is None
            continue
        largest = np.bincount(areas.ravel())[1:].argmax()
        rows, columns = ndimage.find_objects(areas)[largest]
        expected = Box(columns.start, rows.start, columns.stop, rows.stop)
        assert lit_box(image, 50) == expected


def test_the_lit_box_is_exact_beside_a_bright_label() -> None:
    y, x = np.mgrid[:300, :400] + 0.5
    image = np.zeros((300, 400, 3), np.uint8)
    image[np.hypot(x - 210, y - 150) <= 100] = (20, 60, 10)  # one channel is enough
    image[20:40, 5:80] = 255
    image[280:282, 390:392] = 255
    assert lit_box(image, 50) == Box(110, 50, 310, 250)
    assert lit_box(image, 61) == Box(5, 20, 80, 40)


def test_real_photographs_are_circles(real_data) -> None:
    paths = sorted((real_data / "eyepacs" / "train").glob("*.jpeg"))
    if not paths:
        pytest.skip(f"no EyePACS photographs in {real_data}")
    for path in paths[:6]:
        photograph = decode_photograph(path.read_bytes(), 320)
        found = find_fundus(photograph.pixels)
        height, width = photograph.pixels.shape[:2]
        assert 0.9 < 2 * found.radius / min(height, width) < 1.5
        assert abs(found.x / width - 0.5) < 0.03 and abs(found.y / height - 0.5) < 0.05


def test_one_camera_has_one_radius(real_data) -> None:
    """IDRiD's photographs are of one camera; some of its surrounds glow."""
    paths = sorted((real_data / "IDRiD").glob("B*/**/IDRiD_*.jpg"))
    if not paths:
        pytest.skip(f"no IDRiD photographs in {real_data}")
    shares = []
    for path in paths[:36:3]:
        pixels = decode_photograph(path.read_bytes(), 320).pixels
        shares.append(2 * find_fundus(pixels).radius / pixels.shape[1])
    assert max(shares) / min(shares) < 1.01
