"""The product of matrices is the convolution."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from fundusray.data.prepared.blur import blur_factors, gaussian_blur, gaussian_kernel


def convolved(image: np.ndarray, sigma: float) -> np.ndarray:
    """scipy's separable convolution in float64, mirrored about the outermost pixels."""
    for axis in (-2, -1):
        image = gaussian_filter1d(image.astype(np.float64), sigma, axis=axis, mode="mirror")
    return image


def smooth(shape: tuple[int, ...]) -> np.ndarray:
    """A lit disc with waves on black, in grey levels."""
    y, x = np.mgrid[: shape[-2], : shape[-1]]
    disc = np.hypot(y / shape[-2] - 0.5, x / shape[-1] - 0.5) < 0.48
    waves = np.stack([np.sin(x / (3 + c)) + np.cos(y / 11) for c in range(shape[0])])
    return (120 + 60 * waves) * disc


@pytest.mark.parametrize("sigma", [0.6, 2.5, 8.5, 17.07, 40.0])
@pytest.mark.parametrize("shape", [(3, 256, 256), (2, 90, 311)])
def test_equals_the_float64_convolution(sigma: float, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    noise, bits = rng.uniform(0, 255, shape), 255.0 * rng.integers(0, 2, shape)
    for image in (noise, bits, smooth(shape)):
        found = gaussian_blur(torch.from_numpy(image), sigma).numpy()
        assert found.dtype == np.float32 and found.shape == shape
        assert np.abs(found - convolved(image, sigma)).max() <= 0.01


def test_mirrors_by_hand_at_the_border() -> None:
    image = torch.tensor([[10.0, 20.0, 40.0, 80.0]])
    weights, signal = (
        gaussian_kernel(0.5),
        [40, 20, 10, 20, 40, 80, 40, 20],
    )  # two mirrored pixels a side
    expected = [sum(weights * signal[i : i + 5]) for i in range(4)]
    assert gaussian_blur(image, 0.5)[0].tolist() == pytest.approx(expected, abs=1e-3)


def test_a_flat_image_stays() -> None:
    flat = torch.full((1, 40, 1), 93.0)
    assert torch.allclose(gaussian_blur(flat, 5.0), flat, atol=1e-3)


def test_the_rank_is_low_at_the_sizes_that_graham_needs() -> None:
    assert blur_factors(512, 512 / 60)[0].shape[1] < 90
    assert blur_factors(512, 512 / 30)[0].shape[1] < 45


def test_a_batch_is_its_images() -> None:
    batch = torch.rand(2, 3, 50, 60, generator=torch.Generator().manual_seed(0)) * 255
    alone = torch.stack([gaussian_blur(image, 4.0) for image in batch])
    assert torch.allclose(gaussian_blur(batch, 4.0), alone, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same() -> None:
    image = torch.from_numpy(smooth((3, 512, 512))).float()
    on_gpu = gaussian_blur(image.cuda(), 8.5).cpu()
    assert (on_gpu - gaussian_blur(image, 8.5)).abs().max() <= 0.01
