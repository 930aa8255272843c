"""Green speaks for a class, red against it; sheets hold what they are given."""

import io

import numpy as np
from PIL import Image

from fundusray.reports.lesion_sheet import (
    AGAINST,
    DARK,
    FOR,
    LesionPanels,
    SymmetryPanels,
    attribution_colours,
    colour_scale,
    lesion_sheet,
    sum_sheet,
    symmetry_sheet,
)

SPOTS = np.zeros((16, 16))
SPOTS[2:6, 2:6], SPOTS[10:14, 10:14] = 2.0, -2.0


def pixels(png: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(png)).convert("RGB")).reshape(-1, 3)


def holds(png: bytes, colour: tuple[int, int, int]) -> bool:
    return bool((np.abs(pixels(png).astype(int) - colour).max(axis=1) <= 2).any())


def test_colours() -> None:
    picture = attribution_colours(SPOTS)
    assert picture.shape == (16, 16, 3) and picture.dtype == np.uint8
    assert tuple(picture[3, 3]) == FOR and tuple(picture[12, 12]) == AGAINST
    assert tuple(picture[0, 0]) == DARK
    half = attribution_colours(SPOTS, scale=8.0)[3, 3]  # a quarter of it, the root of which is .5
    assert np.abs(half - (np.array(FOR) + DARK) / 2).max() <= 0.5
    white = np.full((16, 16, 3), 200, np.uint8)
    dimmed = attribution_colours(SPOTS, white)
    assert tuple(dimmed[0, 0]) == (90, 90, 90) and tuple(dimmed[3, 3]) == FOR
    assert (attribution_colours(0 * SPOTS) == DARK).all()


def test_one_pixel_does_not_leave_the_others_dark() -> None:
    values = np.ones((100, 100))
    values[0, 0] = 1e6
    assert colour_scale(values) == 1 and colour_scale(0 * values) == 1
    assert colour_scale(values, -3 * np.ones((100, 100))) == 3


def test_the_four_panels() -> None:
    photograph, grey = (np.full((s, s, 3), v, np.uint8) for s, v in ((30, 120), (16, 128)))
    photograph[..., 2] = 20
    panels = LesionPanels(photograph, grey, np.maximum(SPOTS, 0), np.minimum(SPOTS, 0), "27790")
    png = lesion_sheet([panels], title="stage 4", side=64)
    height, width = np.array(Image.open(io.BytesIO(png))).shape[:2]
    assert width == 8 + 2 * 72 and height > 2 * 64
    for colour in (FOR, AGAINST, (120, 120, 20), (128, 128, 128), DARK):
        assert holds(png, colour), colour
    assert lesion_sheet([panels], title="stage 4", side=64) == png
    assert lesion_sheet([panels, panels], side=64) != png
    # Both regions are on one scale: a weak one stays dark.
    weak = LesionPanels(photograph, grey, np.maximum(SPOTS, 0), np.minimum(SPOTS, 0) / 10000)
    assert not holds(lesion_sheet([weak], side=64), AGAINST)


def test_the_symmetry_sheet_and_sums() -> None:
    grey = np.full((16, 16, 3), 128, np.uint8)
    panels = SymmetryPanels(grey, SPOTS, -SPOTS, ("grade 0", "grade 4"), -0.91, "27790_right")
    png = symmetry_sheet([panels], title="opposite", side=64)
    assert holds(png, FOR) and holds(png, AGAINST) and holds(png, (128, 128, 128))
    assert np.array(Image.open(io.BytesIO(png))).shape[1] == 8 + 3 * 72
    means = {"grade 0": SPOTS, "grade 2": SPOTS / 100}
    png = sum_sheet(means, {"grade 0": 1200, "grade 2": 1}, side=64)
    assert holds(png, FOR) and holds(png, AGAINST)
    assert png != sum_sheet(means, {"grade 0": 1200, "grade 2": 2}, side=64)
