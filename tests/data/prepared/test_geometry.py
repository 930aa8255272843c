"""The geometry of a prepared image: where its pixels lie in the photograph, both ways."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from fundusray.config import Data
from fundusray.data.drawn.source import draw_photograph
from fundusray.data.photographs.decode import TURNED, UPRIGHT, decode_photograph
from fundusray.data.prepared.geometry import (
    Geometry,
    photograph_boxes,
    photograph_map,
    photograph_mask,
    photograph_points,
    prepared_boxes,
    prepared_map,
    prepared_mask,
    prepared_points,
)
from fundusray.data.prepared.preprocess import PREPROCESS, preprocess_photograph

Draw = Callable[..., np.ndarray]
CASES = {
    "upright": {},
    "cut above and below": {"radius": 260},
    "cut at the left": {"radius": 190, "centre": (130.0, 200.0)},
    "off-centre": {"radius": 130, "centre": (190.0, 160.0)},
}
UNEVEN = Geometry(-3.25, 10.5, 40.0, 20.0, 16, (50, 60))


def centre_of(image: np.ndarray) -> np.ndarray:
    """Where what is marked of [H, W] has its middle, (x, y)."""
    return np.argwhere(image)[:, ::-1].mean(axis=0) + 0.5


def blue_dot(image: np.ndarray, x: float, y: float, radius: float) -> np.ndarray:
    """The image with a blue dot; nothing in a fundus is blue."""
    marked = image.copy()
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    marked[np.hypot(columns - x, rows - y) <= radius] = (20, 20, 255)
    return marked


@pytest.mark.parametrize("name", PREPROCESS)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_marker_lands_where_the_geometry_says(drawn: Draw, name: str, case: dict) -> None:
    image, data = drawn(**case), Data(size=160, preprocess=name)
    plain, geometry, _ = preprocess_photograph(data, image)
    assert geometry.photograph == image.shape[:2] and geometry.size == 160
    for x, y in ((270.0, 170.0), (200.5, 230.0), (235.0, 141.25)):
        after = preprocess_photograph(data, blue_dot(image, x, y, 5))
        moved = prepared_points(after.geometry, np.array([x, y]))
        seen = after.pixels[..., 2].astype(int) - plain[..., 2] > 60
        assert seen.sum() > 4 and np.abs(centre_of(seen) - moved).max() < 0.6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_geometry_of_a_scaled_decode_is_of_the_upright_original(
    drawn: Draw, orientation: int
) -> None:
    """Of a photograph whose sides are no multiple of eight, turned as a camera notes it."""
    stored = blue_dot(drawn(805, 1213, 380.0), 700.0, 300.0, 24)
    exif = Image.Exif()
    exif[0x0112] = orientation
    sink = io.BytesIO()
    Image.fromarray(stored).save(sink, "JPEG", quality=95, exif=exif)
    upright = Image.fromarray(stored)
    if orientation in UPRIGHT:
        upright = upright.transpose(UPRIGHT[orientation])
    dot = np.asarray(upright)[..., 2] > 200
    decoded = decode_photograph(sink.getvalue(), 100)
    assert decoded.scale == 8 and (decoded.width, decoded.height) == upright.size
    beyond = (-decoded.width % 8, -decoded.height % 8)
    turned = TURNED.get(orientation, (False, False))
    assert decoded.margin == tuple(b * t for b, t in zip(beyond, turned, strict=True))
    pixels, geometry, _ = preprocess_photograph(Data(size=96, preprocess="resize"), decoded.pixels)
    whole = geometry.scaled(decoded.scale, decoded.margin, (decoded.height, decoded.width))
    seen = pixels[..., 2].astype(int) - pixels[..., 0] > 40
    assert np.abs(centre_of(seen) - prepared_points(whole, centre_of(dot))).max() < 0.3
    # A decode that is not scaled says the same, as far as the same circle is seen in it.
    full = preprocess_photograph(
        Data(size=96, preprocess="resize"), decode_photograph(sink.getvalue()).pixels
    ).geometry
    for one, other in ((whole.left, full.left), (whole.top, full.top), (whole.width, full.width)):
        assert abs(one - other) < 0.5 * full.width / 96


@pytest.mark.parametrize("geometry", [UNEVEN, Geometry(5.0, 4.0, 8.0, 8.0, 32, (20, 30))])
def test_points_and_boxes_go_both_ways(geometry: Geometry) -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(-20, 80, (7, 3, 2))
    back = photograph_points(geometry, prepared_points(geometry, points))
    assert back.shape == points.shape and np.abs(back - points).max() < 1e-9
    boxes = np.concatenate([points[:, 0], points[:, 0] + 5], axis=1)
    moved = prepared_boxes(geometry, boxes)
    assert np.allclose(moved[:, :2], prepared_points(geometry, points[:, 0]))
    assert np.abs(photograph_boxes(geometry, moved) - boxes).max() < 1e-9
    corners = np.array([[0.0, 0.0, geometry.size, geometry.size]])
    right, bottom = geometry.left + geometry.width, geometry.top + geometry.height
    assert np.allclose(
        photograph_boxes(geometry, corners), [[geometry.left, geometry.top, right, bottom]]
    )


def test_a_mask_s_pixel_is_the_one_its_centre_falls_on() -> None:
    mask = np.random.default_rng(1).integers(0, 2, UNEVEN.photograph).astype(bool)
    found = prepared_mask(UNEVEN, mask)
    for i in range(16):
        for j in range(16):
            x, y = photograph_points(UNEVEN, np.array([j + 0.5, i + 0.5]))
            inside = 0 <= x < 60 and 0 <= y < 50
            assert found[i, j] == (mask[int(y), int(x)] if inside else False)
    back = photograph_mask(UNEVEN, found)
    assert back.shape == (50, 60) and back.dtype == bool
    for y, x in ((0, 0), (10, 0), (12, 30), (29, 36), (31, 30), (20, 37), (11, 5)):
        u, v = prepared_points(UNEVEN, np.array([x + 0.5, y + 0.5]))
        inside = 0 <= u < 16 and 0 <= v < 16
        assert back[y, x] == (found[int(v), int(u)] if inside else False)


def test_a_map_of_places_comes_back_as_places() -> None:
    """A map that holds where each prepared pixel lies, read at the photograph's pixels, holds where
    these lie."""
    for geometry in (UNEVEN, Geometry(5.0, 4.0, 8.0, 12.0, 32, (20, 30))):
        centres = np.arange(geometry.size) + 0.5
        grid = np.stack(np.meshgrid(centres, centres), axis=-1)
        x, y = np.moveaxis(photograph_points(geometry, grid), -1, 0)
        back = photograph_map(geometry, np.stack([x, y]))
        assert back.shape == (2, *geometry.photograph) and back.dtype == np.float32
        rows, columns = np.mgrid[: geometry.photograph[0], : geometry.photograph[1]] + 0.5
        at = prepared_points(geometry, np.stack([columns, rows], axis=-1))
        within = ((at >= 0.5) & (at <= geometry.size - 0.5)).all(axis=-1)
        assert within.sum() > 50
        assert np.abs(back - np.stack([columns, rows]))[:, within].max() < 1e-4
        outside = ((at < 0) | (at > geometry.size)).any(axis=-1)
        assert outside.any() and (back[:, outside] == 0).all()


def test_a_map_s_pixel_is_the_mean_of_what_it_covers() -> None:
    values = np.random.default_rng(2).random((24, 36)).astype(np.float32)
    half = Geometry(6.0, -4.0, 24.0, 16.0, 8, (24, 36))  # 3 x 2 pixels each, two rows beyond
    found = prepared_map(half, values)
    assert (found[:2] == 0).all()
    expected = values[:12, 6:30].reshape(6, 2, 8, 3).mean(axis=(1, 3))
    assert np.abs(found[2:] - expected).max() < 1e-6


@pytest.mark.parametrize("name", PREPROCESS)
def test_drawn_masks_go_there_and_back(name: str) -> None:
    """A structure of some size survives the way to the prepared image and back; of small ones
    what is marked there is marked in the photograph."""
    eye = draw_photograph(5, 4, 3, 512)
    photograph = eye.image.copy()
    _, geometry, _ = preprocess_photograph(Data(size=256, preprocess=name), photograph)
    disc = eye.landmarks["disc"]
    there = prepared_mask(geometry, disc)
    back = photograph_mask(geometry, there)
    assert (back & disc).sum() / (back | disc).sum() > 0.9
    assert np.abs(centre_of(back) - centre_of(disc)).max() < 0.5 * geometry.width / 256
    share = there.mean() * geometry.width * geometry.height / disc.sum()
    assert share == pytest.approx(1, abs=0.05)
    smooth = photograph_map(geometry, prepared_map(geometry, disc)) >= 0.5
    assert (smooth & disc).sum() / (smooth | disc).sum() > 0.9
    small = eye.masks["microaneurysm"] | eye.masks["haemorrhage"]
    marked = np.argwhere(prepared_mask(geometry, small))[:, ::-1] + 0.5
    x, y = photograph_points(geometry, marked).T.astype(int)
    assert len(marked) > 10 and small[y, x].all()


def test_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="60x49 pixels, not 60x50 as the photograph"):
        prepared_mask(UNEVEN, np.zeros((49, 60), bool))
    with pytest.raises(ValueError, match="50x60 pixels, not 60x50"):
        prepared_map(UNEVEN, np.zeros((60, 50)))
