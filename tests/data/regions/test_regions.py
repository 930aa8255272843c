"""Regions of drawn photographs, whose disc, fovea and vessels are known, and of drawn masks."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score
from torch import Tensor

from fundusray.data.drawn.source import DrawnPhotograph, draw_photograph
from fundusray.data.prepared.geometry import Geometry, prepared_mask, prepared_points
from fundusray.data.prepared.preprocess import PREPROCESS
from fundusray.data.regions.fundus import fundus_area, smoothed, smoothed_within
from fundusray.data.regions.landmarks import find_disc, find_macula
from fundusray.data.regions.retina import REGIONS, circle_of, retina_regions
from fundusray.data.regions.vessels import vessel_mask, vessel_response

SIZE = 128
EYES = [(0, 0), (1, 0), (2, 2), (5, 1)]
"""Position and grade."""

Example = tuple[DrawnPhotograph, Tensor, Geometry, float]


def example(index: int, grade: int, how: str) -> Example:
    drawn = draw_photograph(11, index, grade, side=256)
    entry = PREPROCESS.find(how)
    made = entry.function(drawn.image, SIZE)
    image = torch.from_numpy(made.pixels.copy()).permute(2, 0, 1).float() / 255
    return drawn, image, made.geometry, entry.fill


@pytest.fixture(scope="module", params=["resize", "graham"])
def examples(request: pytest.FixtureRequest) -> list[Example]:
    return [example(*eye, request.param) for eye in EYES]


def test_landmarks_lie_where_they_were_drawn(examples: list[Example]) -> None:
    for drawn, image, geometry, fill in examples:
        area = fundus_area(image, fill)
        disc = find_disc(image, area, vessel_response(image, area))
        true = circle_of(torch.from_numpy(prepared_mask(geometry, drawn.landmarks["disc"]) > 0))
        assert np.hypot(disc.x - true.x, disc.y - true.y) < 0.5 * true.radius
        assert 0.6 < disc.radius / true.radius < 1.5
        fovea = prepared_points(geometry, np.array(drawn.fovea))
        for eye in (drawn.eye, ""):
            macula = find_macula(image, area, disc, eye)
            assert np.hypot(macula.x - fovea[0], macula.y - fovea[1]) < 1.5 * true.radius


def test_vessels_are_told_from_what_is_none(examples: list[Example]) -> None:
    for drawn, image, geometry, fill in examples:
        area = fundus_area(image, fill)
        response = vessel_response(image, area)
        true = prepared_mask(geometry, drawn.landmarks["vessel"]) > 0
        inside = area.mask.numpy()
        assert roc_auc_score(true[inside], response.numpy()[inside]) > 0.85
        assert (response[~area.mask] == 0).all()
        mask = vessel_mask(response, area)
        assert int(mask.sum()) == pytest.approx(0.1 * float(area.mask.sum()), rel=0.02)


def test_regions_are_the_whole_fundus_without_overlap(examples: list[Example]) -> None:
    for _, image, _, fill in examples:
        regions = retina_regions(image, fill)
        assert tuple(regions) == REGIONS
        counted = sum(mask.int() for mask in regions.values())
        assert torch.equal(counted > 0, fundus_area(image, fill).mask) and counted.max() == 1
        assert all(mask.any() for mask in regions.values())


def test_masks_that_were_drawn_are_taken(examples: list[Example]) -> None:
    drawn, image, geometry, fill = examples[0]
    disc, vessels = (
        torch.from_numpy(prepared_mask(geometry, drawn.landmarks[name]) > 0)
        for name in ("disc", "vessel")
    )
    inside = fundus_area(image, fill).mask
    regions = retina_regions(image, fill, masks={"optic_disc": disc, "vessels_1": vessels})
    assert torch.equal(regions["optic_disc"], disc & inside)
    rest = vessels & inside & ~regions["optic_disc"] & ~regions["macula"]
    assert torch.equal(regions["vessels"], rest)
    # An empty mask says that nobody drew one.
    empty = retina_regions(image, fill, masks={"optic_disc": torch.zeros_like(disc)})
    assert empty["optic_disc"].any()


def test_the_fundus_is_its_circle_less_what_is_cut_off() -> None:
    line = torch.arange(64) - 31.5
    far = (line[:, None] ** 2 + line[None, :] ** 2).sqrt()
    image = torch.where(far <= 28, 0.6, 0.0).repeat(3, 1, 1)
    image[:, :10] = 0
    area = fundus_area(image, 0.0)
    assert area.radius == pytest.approx(28, abs=1)
    assert not area.mask[:10].any() and area.mask[10:].sum() == pytest.approx(
        float((far[10:] <= 28).sum()), rel=0.05
    )
    grey = torch.where(far <= 28, 0.55, 0.5).repeat(3, 1, 1)
    assert fundus_area(grey, 0.5).radius == pytest.approx(28, abs=1)
    assert fundus_area(torch.zeros(3, 64, 64), 0.0).radius == 32


def test_the_fovea_of_a_left_eye_is_the_mirror_image_of_a_right_ones() -> None:
    for index in (0, 1):
        drawn = draw_photograph(11, index, 0, side=256)
        rows, columns = np.nonzero(drawn.landmarks["disc"])
        nasal = columns.mean() - drawn.fovea[0]
        assert (nasal > 0) == (drawn.eye == "right")
        diameter = 2 * np.sqrt(len(rows) / np.pi)
        assert 1.8 < np.hypot(nasal, rows.mean() - drawn.fovea[1]) / diameter < 3
        x, y = (round(place) for place in drawn.fovea)
        green = drawn.image[..., 1].astype(float)
        assert green[y - 3 : y + 4, x - 3 : x + 4].mean() < np.median(green[green > 20])


def test_smoothing_is_scipys_and_looks_at_nothing_that_is_not_marked() -> None:
    layer = torch.rand(20, 30, generator=torch.Generator().manual_seed(2))
    for sigma in (2.0, (1.0, 4.0)):
        expected = gaussian_filter(layer.double().numpy(), sigma, mode="constant", truncate=3.0)
        assert np.allclose(smoothed(layer, sigma).numpy(), expected, atol=1e-6)
    mask = torch.zeros(20, 30, dtype=torch.bool)
    mask[:, 10:] = True
    other = torch.where(mask, layer, 9.0)
    near, again = (smoothed_within(one, mask, 2.0) for one in (layer, other))
    assert torch.allclose(near, again)
    flat = smoothed_within(torch.where(mask, 0.3, 0.9), mask, 2.0)
    assert torch.allclose(flat, torch.full_like(flat, 0.3), atol=1e-5)
