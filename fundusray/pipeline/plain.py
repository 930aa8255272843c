"""The pipeline in Pillow and torch: slow, short, and the reference for the other one."""

import io
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fundusray.data.images import BadImage
from fundusray.pipeline.draws import Draws, Work

LEVEL = np.float32(1 / 255)  # DALI multiplies by it faster than it divides


class Plain:
    """Makes one batch when it is asked for, image by image."""

    ahead = 1

    def __init__(self, size: int, fill: float, device: str = "cpu") -> None:
        self._size, self._fill = size, fill
        self._device = "cuda" if device == "gpu" else "cpu"

    def images(self, works: Iterator[Work]) -> Iterator[Tensor]:
        """A float32 tensor [B, 3, S, S], channels last, for each work.

        Raises:
            BadImage: an image does not decode.
        """
        for encoded, draws in works:
            pixels = np.stack([decode(content, self._size) for content in encoded])
            image = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() * LEVEL.item()
            yield augment(image, draws, self._fill).to(self._device)


def decode(content: np.ndarray, size: int) -> np.ndarray:
    """RGB pixels, uint8 [S, S, 3], of an encoded image, uint8 [bytes].

    Raises:
        BadImage: it does not decode, or has another side than `size`.
    """
    try:
        with Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
            if image.size != (size, size):
                raise BadImage(f"is {image.width} x {image.height} pixels, not {size} x {size}")
            return np.asarray(image.convert("RGB"))
    # Pillow tells of a broken file by any of these.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadImage(str(error)) from error


def augment(image: Tensor, draws: Draws, fill: float) -> Tensor:
    """The images [B, 3, S, S] in [0, 1] after geometry, flip, brightness and contrast."""
    image = image.clone(memory_format=torch.channels_last)
    mirrored = torch.from_numpy(draws.flip & ~draws.geometric)
    image[mirrored] = image[mirrored].flip(-1)
    warped = torch.from_numpy(draws.geometric)
    image[warped] = warp(image[warped], torch.from_numpy(draws.matrix[draws.geometric]), fill)
    brightness, contrast = (
        torch.from_numpy(part)[:, None, None, None] for part in (draws.brightness, draws.contrast)
    )
    adjusted = (brightness * (0.5 + contrast * (image - 0.5))).clamp(0, 1)
    # Where nothing was drawn the pixels stay exactly what they were.
    drawn = (brightness != 1) | (contrast != 1)
    return torch.where(drawn, adjusted, image)


def warp(image: Tensor, matrix: Tensor, fill: float) -> Tensor:
    """Images [B, 3, S, S] drawn bilinearly at the places `matrix` [B, 2, 3] points to.

    Outside lies `fill`, as the level of 8 bits it has in a prepared image: 0.5 is 128 of 255.
    """
    size = image.shape[-1]
    centres = torch.arange(size) + 0.5
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    points = torch.stack([x, y, torch.ones_like(x)], dim=-1).reshape(-1, 3)
    source = (points @ matrix.transpose(1, 2)).reshape(-1, size, size, 2)
    # grid_sample puts -1 and 1 at the outer edges of the image where corners are not aligned,
    # and takes 0 for what lies outside.
    level = fill_level(fill) * LEVEL.item()
    grid = source * (2 / size) - 1
    return F.grid_sample(image - level, grid, padding_mode="zeros", align_corners=False) + level


def fill_level(fill: float) -> int:
    """The 8-bit level of a fill in [0, 1]; one half is 128."""
    return int(fill * 255 + 0.5)
