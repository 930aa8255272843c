"""Whether an adversarial image is still one as a file: in 8 bits, as PNG, as JPEG."""

from collections.abc import Callable
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fundusray.attacks.gradient import Predict, Success
from fundusray.errors import InputError
from fundusray.fractions_of_range import LEVELS

NEAR = 1e-3
"""Of a level: a number so near to a whole one is it, since float32 does not hold it exactly."""


def survival(
    predict: Predict,
    image: Tensor,
    attacked: Tensor,
    target: Tensor,
    success: Success,
    quality: int = 90,
) -> dict[str, Tensor]:
    """Whether each attack has reached its end, bool [B], by what became of its image.

    Columns: `clean` (the image as it is), `attacked` (in floating point), `rounded` (to 8 bits),
    `png`, and `jpeg_<quality>` (chroma at half the resolution, as photographs are saved).

    Args:
        image, attacked: [B, 3, S, S] in [0, 1].
        target: [B].
        quality: of the JPEG, 1 to 95.

    Raises:
        InputError: another quality.
    """
    if not 1 <= quality <= 95:
        raise InputError(f"survival: a JPEG quality from 1 to 95, got {quality}")
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "rounded": lambda shown: _from_bytes(_to_bytes(shown), shown),
        "png": lambda shown: _through_file(shown, format="PNG"),
        f"jpeg_{quality}": lambda shown: _through_file(shown, format="JPEG", quality=quality),
    }
    with torch.no_grad():
        columns = {
            name: success(predict(shown).float(), target)
            for name, shown in (("clean", image), ("attacked", attacked))
        }
        for name, way in ways.items():
            columns[name] = success(predict(way(attacked)).float(), target)
    return columns


def rounded_within(image: Tensor, attacked: Tensor, eps_levels: int) -> Tensor:
    """Attacked images [B, 3, S, S] in whole 8-bit levels, none farther than `eps_levels` from the
    image, which is in whole levels itself.

    Each pixel is rounded towards the image's, so that a budget in L2 holds as well. To the nearest
    level, a pixel moved by 1.6 of 1.9 levels would be moved by 2.

    Raises:
        InputError: images that are not in whole levels.
    """
    level = image.double() * LEVELS
    whole = level.round()
    if (level - whole).abs().max() > NEAR:
        raise InputError(
            "rounded_within: images in whole 8-bit levels, got pixels in between; round them "
            "before they are attacked"
        )
    moved = attacked.double() * LEVELS - whole
    near = moved.round()
    moved = torch.where((moved - near).abs() < NEAR, near, moved.trunc())
    return ((whole + moved.clamp(-eps_levels, eps_levels)) / LEVELS).to(attacked.dtype)


def _to_bytes(image: Tensor) -> np.ndarray:
    """uint8 [B, S, S, 3]."""
    levels = (image.float() * LEVELS).round().to(torch.uint8)
    return levels.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def _from_bytes(levels: np.ndarray, like: Tensor) -> Tensor:
    image = torch.from_numpy(levels).to(like.device).permute(0, 3, 1, 2)
    return (image.to(torch.float32) / LEVELS).to(like.dtype)


def _through_file(image: Tensor, **how: object) -> Tensor:
    """What is read of each image after it was saved."""
    read = []
    for pixels in _to_bytes(image):
        file = BytesIO()
        Image.fromarray(pixels).save(file, **how)
        read.append(np.asarray(Image.open(file).convert("RGB")))
    return _from_bytes(np.stack(read), image) if read else image
