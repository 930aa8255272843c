"""Tiles cover an image, count 1 everywhere, and give what the whole image gives."""

import tracemalloc

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fundusray.errors import InputError
from fundusray.models.tiles import RIM, TilePlan, tiled_bands, tiled_logits

LENGTHS = (5, 16, 17, 23, 32, 47, 64, 91)
PLANS = [TilePlan(side, overlap) for side in (16, 20) for overlap in (0.0, 0.25, 0.5, 0.75)]


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def as_image(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32) / 255)[None]


def convolutions(*kernels: int, classes: int = 3) -> nn.Module:
    """A network that sees `sum(k - 1) / 2` pixels around each, and more of the border as zeros."""
    torch.manual_seed(1)
    widths = [3, *[8] * (len(kernels) - 1), classes]
    layers: list[nn.Module] = []
    for kernel, width, following in zip(kernels, widths[:-1], widths[1:], strict=True):
        layers += [nn.Conv2d(width, following, kernel, padding=kernel // 2), nn.Tanh()]
    return nn.Sequential(*layers[:-1]).eval()


def assembled(network: nn.Module, pixels: np.ndarray, plan: TilePlan, batch: int = 3) -> np.ndarray:
    """All bands, checked to come once and in order."""
    bands, following = [], 0
    for first, band in tiled_bands(network, pixels, plan, batch):
        assert first == following and band.dtype == np.float32
        bands.append(band)
        following += band.shape[1]
    assert following == len(pixels)
    return np.concatenate(bands, axis=1)


def whole(network: nn.Module, pixels: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return network(as_image(pixels)).softmax(1)[0].numpy()


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_tiles_cover_every_axis_and_their_weights_sum_to_one(plan: TilePlan) -> None:
    for length in LENGTHS:
        starts, weights = plan.starts(length), plan.weights(length)
        total, seen = np.zeros(max(length, plan.side)), np.zeros(max(length, plan.side), int)
        for start, weight in zip(starts, weights, strict=True):
            total[start : start + plan.side] += weight
            seen[start : start + plan.side] += 1
        assert np.allclose(total, 1, atol=1e-6) and seen.min() >= 1 and weights.min() >= 0
        assert starts[0] == 0 and starts[-1] == max(length - plan.side, 0)
        gaps = np.diff(starts)
        assert (gaps > 0).all() and (gaps <= plan.side - plan.shared).all()


def test_a_weight_goes_over_as_a_squared_sine_between_the_rims() -> None:
    """By hand: of 8 shared pixels the outer 2 count nothing, the middle 4 go over."""
    first, second = TilePlan(16, 0.5).weights(24)
    expected = np.sin(np.pi / 2 * np.array([0.5, 1.5, 2.5, 3.5]) / 4) ** 2
    assert np.allclose(second[:8], [0, 0, *expected, 1, 1], atol=1e-6)
    assert np.allclose(first[8:], [1, 1, *expected[::-1], 0, 0], atol=1e-6)
    assert (first[:8] == 1).all() and (second[8:] == 1).all()


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_a_network_of_single_pixels_gives_what_it_gives_of_the_whole(plan: TilePlan) -> None:
    network = convolutions(1)
    for height, width in ((5, 91), (16, 16), (23, 47), (47, 17), (64, 32)):
        pixels = photograph(height, width)
        expected = whole(network, pixels)
        assert np.allclose(assembled(network, pixels, plan), expected, atol=2e-6)
        logits = tiled_logits(network, as_image(pixels), plan, batch=2)
        assert np.allclose(logits.softmax(1)[0].detach(), expected, atol=2e-6)


def test_a_constant_network_gives_its_constant() -> None:
    def constant(tiles: Tensor) -> Tensor:
        return torch.tensor([3.0, -1.0, 0.5])[None, :, None, None].expand(
            len(tiles), 3, *tiles.shape[-2:]
        )

    expected = torch.tensor([3.0, -1.0, 0.5]).softmax(0).numpy()[:, None, None]
    for plan in PLANS:
        found = assembled(constant, photograph(37, 50), plan)
        assert np.allclose(found, expected, atol=1e-6) and np.allclose(found.sum(0), 1, atol=1e-6)


@pytest.mark.parametrize("size", [(50, 61), (64, 64), (33, 100)])
@pytest.mark.parametrize("overlap", [0.25, 0.5])
def test_a_network_that_sees_less_than_the_rim_gives_what_it_gives_of_the_whole(
    overlap: float, size: tuple[int, int]
) -> None:
    """Its receptive field is within half the overlap: a quarter of it on either side. At the
    border of the image the tile pads as the whole image does, so the edge agrees, too."""
    plan = TilePlan(32, overlap)
    network = convolutions(*{0.25: (3, 3), 0.5: (3, 3, 5)}[overlap])
    assert {0.25: 2, 0.5: 4}[overlap] <= RIM * plan.shared
    pixels = photograph(*size)
    expected = whole(network, pixels)
    assert np.abs(assembled(network, pixels, plan) - expected).max() < 1e-5
    logits = tiled_logits(network, as_image(pixels), plan)
    assert np.abs(logits.softmax(1)[0].detach().numpy() - expected).max() < 1e-5


def test_a_network_that_sees_farther_differs_at_seams_alone() -> None:
    """So the test above could fail."""
    pixels, plan, network = photograph(32, 56), TilePlan(32, 0.25), convolutions(7, 7)
    apart = np.abs(assembled(network, pixels, plan) - whole(network, pixels)).max(axis=(0, 1))
    assert apart[24:32].max() > 1e-4
    assert apart[:20].max() < 1e-5 and apart[36:].max() < 1e-5


@pytest.mark.parametrize("size", [(5, 7), (1, 20), (15, 16), (16, 9)])
def test_what_is_smaller_than_a_tile_is_mirrored_and_cut_again(size: tuple[int, int]) -> None:
    seen = []

    def noting(tiles: Tensor) -> Tensor:
        seen.append(tiles)
        return convolutions(3)(tiles)

    pixels, plan = photograph(*size), TilePlan(16, 0.25)
    found = assembled(noting, pixels, plan)
    assert found.shape == (3, *size) and seen[0].shape[-2:] == (16, 16)
    beyond = [(0, max(0, 16 - side)) for side in size]
    mirrored = np.pad(pixels, [*beyond, (0, 0)], mode="reflect")[:, :16]
    assert torch.equal(seen[0][0], as_image(mirrored)[0])


def test_one_tile_is_the_network_itself() -> None:
    network, image = convolutions(3, 3), torch.rand(5, 3, 32, 32)
    found = tiled_logits(network, image, TilePlan(32, 0.25), batch=2)
    assert torch.allclose(found, network(image).log_softmax(1), atol=1e-6)


def test_the_batch_changes_nothing_and_gradients_reach_the_image() -> None:
    network, plan = convolutions(3), TilePlan(16, 0.25)
    image = torch.rand(2, 3, 40, 28, requires_grad=True)
    alone, together = (tiled_logits(network, image, plan, batch) for batch in (1, 16))
    assert torch.allclose(alone, together, atol=1e-5)
    alone[:, 1].sum().backward()
    assert image.grad is not None and (image.grad.abs().sum(1) > 0).all()


def test_no_probability_is_surer_than_the_surest_tile_where_tiles_contradict() -> None:
    """One tile's logit of 80 does not outvote its neighbour's: the middle of a seam is halfway."""

    def contradicting(tiles: Tensor) -> Tensor:
        number = torch.arange(len(tiles))[:, None, None]
        first = torch.where(number == 0, 80.0, -2.0).expand(len(tiles), 16, 16)
        return torch.stack([first, -first], dim=1)

    found = assembled(contradicting, photograph(16, 24), TilePlan(16, 0.5), batch=2)
    assert np.allclose(found[0, :, 11:13].mean(axis=1), (1 + 1 / (1 + np.exp(4))) / 2, atol=1e-4)


def test_memory_does_not_grow_with_the_height() -> None:
    plan, network = TilePlan(32, 0.25), convolutions(1)
    peaks = []
    for height in (128, 2048):
        pixels = photograph(height, 96)
        tracemalloc.start()
        for _, band in tiled_bands(network, pixels, plan):
            assert band.shape[1] <= 32
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0] + 20_000
    rows_of_tiles = 3 * 32 * 96 * 4
    assert peaks[1] < 3 * rows_of_tiles + 200_000


@pytest.mark.parametrize(("side", "overlap"), [(4, 0.25), (64, 0.9), (64, -0.1)])
def test_a_plan_that_cannot_be_is_refused(side: int, overlap: float) -> None:
    with pytest.raises(InputError):
        TilePlan(side, overlap)
