"""A print stays the same when only the file changes, and mirrors with its photograph."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fundusray.data.drawn.source import draw_photograph
from fundusray.data.duplicates.fingerprint import LENGTH, SIDE, _plane, _shrink, fingerprint
from fundusray.data.photographs.decode import decode_photograph
from tests.conftest import jpeg


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    """A drawn photograph, uint8 [256, 256, 3]."""
    return draw_photograph(1, 2, 2, side=256).image


def picture(pixels: np.ndarray) -> np.ndarray:
    """The print as a picture, float [S, S]."""
    return fingerprint(pixels).reshape(SIDE, SIDE).astype(np.float64)


def alike(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of two pictures."""
    return float((one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum()))


def test_is_a_normalised_picture_of_the_inside(photograph: np.ndarray) -> None:
    found = fingerprint(photograph)
    assert found.shape == (LENGTH,) and found.dtype == np.int8 and LENGTH <= 4096
    inside = found[found != 0].astype(float)
    assert abs(inside.mean()) < 1 and 40 < inside.std() < 70
    middle = (np.arange(SIDE) - (SIDE - 1) / 2) ** 2
    beyond = np.hypot(middle[:, None] ** 0.5, middle**0.5) > 0.9 * SIDE / 2
    assert not found.reshape(SIDE, SIDE)[beyond].any()
    assert np.array_equal(found, fingerprint(photograph.copy()))


@pytest.mark.parametrize("axes", [(1,), (0,), (0, 1)])
def test_mirrors_with_the_photograph(photograph: np.ndarray, axes: tuple[int, ...]) -> None:
    mirrored = picture(np.ascontiguousarray(np.flip(photograph, axes)))
    assert alike(np.flip(mirrored, axes), picture(photograph)) > 0.98
    assert alike(mirrored, picture(photograph)) < 0.3


def test_stays_when_only_the_file_changes(photograph: np.ndarray) -> None:
    expected = picture(photograph)
    grey = np.asarray(Image.fromarray(photograph).convert("L"))
    large = np.asarray(Image.fromarray(photograph).resize((1100, 1100), Image.Resampling.BICUBIC))
    wide = np.pad(large, ((40, 20), (300, 350), (0, 0)))
    for changed, least in (
        (np.asarray(Image.open(io.BytesIO(jpeg(photograph, quality=30)))), 0.9),
        (np.asarray(Image.fromarray(photograph).reduce(2)), 0.95),
        (np.repeat(grey[:, :, None], 3, axis=2), 0.98),
        (large, 0.95),
        (wide, 0.95),
        (np.clip(0.85 * photograph.astype(float) + 8, 0, 255).astype(np.uint8), 0.95),
    ):
        assert alike(picture(changed), expected) > least


def test_a_scaled_decode_gives_the_same(photograph: np.ndarray) -> None:
    large = Image.fromarray(photograph).resize((1024, 1024), Image.Resampling.BICUBIC)
    content = jpeg(np.asarray(large), quality=95)
    whole, scaled = decode_photograph(content).pixels, decode_photograph(content, 200).pixels
    assert len(scaled) < len(whole)
    assert alike(picture(whole), picture(scaled)) > 0.97


def test_tells_photographs_apart() -> None:
    prints = np.stack(
        [picture(draw_photograph(2, i, 0, side=256).image).ravel() for i in range(12)]
    )
    prints /= np.linalg.norm(prints, axis=1, keepdims=True)
    assert np.triu(prints @ prints.T, 1).max() < 0.4


@pytest.mark.parametrize("level", [0, 128, 255])
def test_nothing_to_see_is_all_zero(level: int) -> None:
    assert not fingerprint(np.full((100, 150, 3), level, np.uint8)).any()


@pytest.mark.parametrize("shape", [(16, 16, 3), (50, 2000, 3), (3000, 20, 3)])
def test_a_print_is_given_whatever_comes(shape: tuple[int, int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert fingerprint(noise).shape == (LENGTH,)


def test_a_photograph_without_a_circle_is_taken_whole() -> None:
    rng = np.random.default_rng(0)
    texture = Image.fromarray(rng.integers(60, 200, (30, 30), np.uint8))
    frame = np.asarray(texture.resize((200, 200), Image.Resampling.BICUBIC).convert("RGB"))
    found = picture(frame)
    assert found.any() and alike(picture(frame[:, ::-1])[:, ::-1], found) > 0.98


def test_a_plane_is_its_own_smooth_up_to_the_rim() -> None:
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    weight = (np.hypot(y - 31.5, x - 31.5) < 28).astype(np.float32)
    plane = 3 + 0.5 * x - 0.25 * y
    assert np.abs(_plane(plane, weight, 2.0) - plane)[weight > 0].max() < 0.05


def test_shrink_takes_one_pixel_from_every_edge() -> None:
    mask = np.zeros((8, 8), bool)
    mask[1:6, 2:7] = True
    expected = np.zeros((8, 8), bool)
    expected[2:5, 3:6] = True
    assert np.array_equal(_shrink(mask), expected)
    assert _shrink(np.ones((4, 4), bool)).sum() == 4


def test_real_photographs_of_other_sizes_keep_their_print(real_data: Path) -> None:
    files = sorted(real_data.glob("IDRiD/B*/1*/*/*.jpg"))[::16]
    assert files
    for file in files:
        whole = decode_photograph(file.read_bytes()).pixels
        small = Image.fromarray(whole)
        small.thumbnail((256, 256), Image.Resampling.BICUBIC)
        assert alike(picture(np.asarray(small)), picture(whole)) > 0.8
