"""Structural similarity of photographs."""

import math

import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601."""
SIGMA, REACH = 1.5, 5
"""Of the Gaussian window, pixels; it ends at 3.5 sigma, 11 pixels wide in all."""
K1, K2 = 0.01, 0.03


def structural_similarity(image: Tensor, other: Tensor) -> Tensor:
    """SSIM of images uint8 [B, 3, S, S] with others, of their luma, float64 [B], 1 for equal ones.

    Wang et al. 2004, equation 13: Gaussian window, sigma 1.5, 11 pixels, K1 .01 and K2 .03; the
    mean over all pixels whose window lies within the image, the black surround included.
    """
    # One by one, so that what is worked on stays in a core's cache.
    pairs = zip(image, other, strict=True)
    return torch.stack([_similarity(_luma(each), _luma(another)) for each, another in pairs])


def _luma(image: Tensor) -> Tensor:
    """Of an image uint8 [3, S, S], float64 [S, S]."""
    weights = torch.tensor(LUMA, dtype=torch.float64, device=image.device)[:, None, None]
    return (image * weights).sum(0)


def _similarity(x: Tensor, y: Tensor) -> Tensor:
    mean_x, mean_y = _smoothed(x), _smoothed(y)
    var_x, var_y = _smoothed(x * x) - mean_x**2, _smoothed(y * y) - mean_y**2
    covariance = _smoothed(x * y) - mean_x * mean_y
    c1, c2 = (K1 * 255) ** 2, (K2 * 255) ** 2
    light = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    return (light * structure).mean()


def _smoothed(image: Tensor) -> Tensor:
    """[S, S] under the window, where it lies within the image."""
    weights = [math.exp(-0.5 * (step / SIGMA) ** 2) for step in range(REACH + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    for axis in (0, 1):
        inner = image.shape[axis] - 2 * REACH
        smoothed = image.narrow(axis, REACH, inner) * (weights[0] / total)
        for step, weight in enumerate(weights[1:], 1):
            for start in (REACH - step, REACH + step):
                smoothed.add_(image.narrow(axis, start, inner), alpha=weight / total)
        image = smoothed
    return image
