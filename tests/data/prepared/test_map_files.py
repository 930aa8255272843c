"""Maps as files: the same bytes for the same map, and the photograph's pixels to half a level."""

from pathlib import Path

import numpy as np
import pytest

from fundusray.data.prepared.geometry import Geometry, photograph_map, photograph_points
from fundusray.data.prepared.map_files import read_map, read_photograph_map, write_map

SIZE = 16
UNEVEN = Geometry(-3.25, 10.5, 40.0, 20.0, SIZE, (50, 60))
WIDE = Geometry(20.0, 5.0, 96.0, 96.0, SIZE, (110, 150))


def signed_map(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.02, (SIZE, SIZE)).astype(np.float32)


@pytest.mark.parametrize("geometry", [UNEVEN, WIDE, None])
def test_a_map_comes_back_and_gives_the_same_bytes(
    tmp_path: Path, geometry: Geometry | None
) -> None:
    values = signed_map()
    first, second, other = (str(tmp_path / f"{name}.npz") for name in "abc")
    write_map(first, values, geometry)
    write_map(second, values.copy(), geometry)
    write_map(other, values + np.float32(1e-4), geometry)
    assert Path(first).read_bytes() == Path(second).read_bytes() != Path(other).read_bytes()
    found = read_map(first)
    assert found.dtype == np.float32 and np.array_equal(found, values)
    assert (read_photograph_map(first) is None) == (geometry is None)
    with np.load(first, allow_pickle=False) as stored:
        kept = {"prepared", "photograph", "photograph_scale"} if geometry else {"prepared"}
        assert set(stored) == kept


@pytest.mark.parametrize("geometry", [UNEVEN, WIDE])
@pytest.mark.parametrize("factor", [1.0, 1e6, 1e-12])
def test_in_the_photograph_it_is_right_within_half_a_level(
    tmp_path: Path, geometry: Geometry, factor: float
) -> None:
    values = signed_map(1) * np.float32(factor)
    location = str(tmp_path / "map.npz")
    write_map(location, values, geometry)
    found = read_photograph_map(location)
    assert found is not None and found.shape == geometry.photograph and found.dtype == np.float32
    level = np.abs(values).max() / 127
    apart = np.abs(found - photograph_map(geometry, values)).max()
    assert 0 < apart <= 0.5001 * level


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("peak", [(9, 3), (5, 12), (8, 8)])
def test_a_planted_peak_lands_on_its_pixel_of_the_photograph(
    tmp_path: Path, peak: tuple[int, int], sign: int
) -> None:
    row, column = peak
    values = np.zeros((SIZE, SIZE), np.float32)
    values[row, column] = sign * 3.0
    location = str(tmp_path / "map.npz")
    write_map(location, values, WIDE)
    found = read_photograph_map(location)
    # Six pixels of the photograph are one of the prepared image.
    x, y = photograph_points(WIDE, np.array([column + 0.5, row + 0.5]))
    assert (x, y) == (20 + 6 * (column + 0.5), 5 + 6 * (row + 0.5))
    there = np.argwhere(np.abs(found) == np.abs(found).max()) + 0.5
    assert np.abs(there.mean(axis=0) - (y, x)).max() <= 0.5
    assert np.sign(found[int(y), int(x)]) == sign
    # A prepared pixel's width further it has gone.
    far = np.ones_like(found, bool)
    far[int(y) - 6 : int(y) + 7, int(x) - 6 : int(x) + 7] = False
    assert (found[far] == 0).all() and np.abs(found).max() > 2.5


def test_beyond_the_square_and_of_nothing_it_is_nothing(tmp_path: Path) -> None:
    location = str(tmp_path / "map.npz")
    write_map(location, np.ones((SIZE, SIZE), np.float32), WIDE)
    found = read_photograph_map(location)
    assert (found[5:101, 20:116] == 1).all() and found.sum() == 96 * 96
    write_map(location, np.zeros((SIZE, SIZE), np.float32), WIDE)
    assert (read_photograph_map(location) == 0).all()
