"""Colour statistics on the cluster, against numpy over all pixels at once."""

import io

import numpy as np
import pytest
from PIL import Image

from fundusray.cluster import statistics as measuring
from fundusray.cluster.prepare import prepare_set
from fundusray.cluster.statistics import set_colour_statistics
from fundusray.config import Recipe, override
from fundusray.data.prepared.colour_statistics import add_sums, describe_sums, sum_levels
from fundusray.data.prepared.prepared_set import PreparedSet, open_set
from fundusray.errors import InputError
from fundusray.runs.split_of_run import split_of


@pytest.fixture(scope="module")
def raw(cluster: None, small: Recipe, prepared: str, storage: str) -> PreparedSet:
    """The shared set's photographs again, as raw pixels."""
    return open_set(prepare_set(override(small, {"data.encoding": "raw"}), storage))


def pixels_of(opened: PreparedSet, rows: np.ndarray) -> np.ndarray:
    if opened.encoding == "raw":
        return opened.pixels(rows)
    return np.stack([np.asarray(Image.open(io.BytesIO(c))) for c in opened.encoded(rows)])


@pytest.mark.ray
@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
def test_all_pixels_count_alike(
    raw: PreparedSet, prepared: str, small: Recipe, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = raw if encoding == "raw" else open_set(prepared)
    rows = split_of(opened, small).rows["train"]
    found = set_colour_statistics(opened.folder, rows)
    pixels = pixels_of(opened, rows).reshape(-1, 3) / 255
    assert found["images"] == len(rows) and found["pixels"] == len(pixels) == len(rows) * 32**2
    assert found["mean"] == pytest.approx(pixels.mean(axis=0), abs=1e-12)
    assert found["std"] == pytest.approx(pixels.std(axis=0), abs=1e-12)
    expected = np.cov(pixels.T, ddof=0)
    assert np.array(found["covariance"]) == pytest.approx(expected, abs=1e-12)
    # Other units, another order: the same to the bit.
    monkeypatch.setattr(measuring, "LENGTH", 5)
    shuffled = np.random.default_rng(0).permutation(rows)
    assert set_colour_statistics(opened.folder, shuffled) == found


@pytest.mark.ray
def test_no_rows_are_refused(cluster: None, prepared: str) -> None:
    with pytest.raises(InputError, match="0 images"):
        set_colour_statistics(prepared, np.zeros(0, np.int64))


@pytest.mark.ray
def test_an_image_that_does_not_decode_is_named(
    raw: PreparedSet, prepared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_set(prepared)
    (content,) = opened.encoded(np.array([3]))
    monkeypatch.setattr(type(opened), "encoded", lambda self, rows: [content[:40]])
    with pytest.raises(InputError, match=opened.image_ids()[3]):
        list(measuring._images(opened, np.array([3])))


def test_sums_are_exact_and_do_not_depend_on_the_cut() -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (7, 5 + i, 3), np.uint8) for i in range(6)]
    images.append(np.full((2000, 2000, 3), 255, np.uint8))
    flat = np.concatenate([image.reshape(-1, 3) for image in images]).astype(np.int64)
    whole = sum_levels(images)
    assert whole.levels.tolist() == flat.sum(axis=0).tolist()
    for one in range(3):
        for other in range(3):
            assert whole.products[one, other] == (flat[:, one] * flat[:, other]).sum()
    parts = add_sums([sum_levels(images[4:]), sum_levels(images[:1]), sum_levels(images[1:4])])
    assert describe_sums(parts) == describe_sums(whole)


def test_known_colours_give_known_figures() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    image[0] = (255, 51, 0)
    found = describe_sums(sum_levels([image]))
    assert found["mean"] == [0.5, 0.1, 0.0] and found["std"] == [0.5, 0.1, 0.0]
    assert found["covariance"] == [[0.25, 0.05, 0.0], [0.05, 0.01, 0.0], [0.0, 0.0, 0.0]]
    assert (found["images"], found["pixels"]) == (1, 4)
