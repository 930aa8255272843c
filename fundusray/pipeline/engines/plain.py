"""The pipeline in Pillow and torch: slow, short, and the reference for the other ones."""

import io
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from fundusray.data.photographs.decode import BadImage
from fundusray.pipeline.augment.draws import NUDGE, Draws, pixel_window

LEVEL = np.float32(1 / 255)  # DALI multiplies by it faster than it divides
FLATTEST = 1 / 255
"""Least standard deviation a picture is taken to have when it is stretched to another."""

Content = list[np.ndarray] | np.ndarray
"""B images: encoded, each uint8 [bytes], or their pixels, uint8 [B, S, S, 3]."""


class Work(NamedTuple):
    """One batch to make, and what is done to it."""

    content: Content
    draws: Draws
    planes: np.ndarray | None = None
    """The masks of the images as bit planes, uint8 [B, S, S, P]; None where the set has none."""


class Made(NamedTuple):
    """One batch that was made, on the engine's device."""

    image: Tensor
    """[B, 3, out, out], channels last: float32 in [0, 1], or uint8 as stored where nothing is done
    to it but what keeps whole levels."""
    planes: Tensor | None = None
    """Masks, moved as their images are: uint8 [B, out, out, P]."""


class EngineFrame(NamedTuple):
    """What an engine is given and what it is to make."""

    size: int  # side of the stored images, pixels
    out: int  # side of the images it makes
    level: int  # of 255, what lies outside of an image
    encoded: bool  # whether it is given JPEG bytes, else pixels
    augmented: bool  # whether anything is done to them
    coloured: bool = True  # whether their colours may be changed, besides their geometry
    planes: int = 0  # bytes of a pixel that hold masks


class PlainEngine:
    """Makes one batch when it is asked for, decoding one image after another."""

    ahead = 1

    def __init__(self, frame: EngineFrame, device: str = "cpu") -> None:
        self._frame = frame
        self._device = torch_device(device)

    def batches(self, works: Iterator[Work]) -> Iterator[Made]:
        """A batch for each work: of uint8 where nothing is ever done to an image, else of float32.

        Raises:
            BadImage: an image does not decode.
        """
        for content, draws, planes in works:
            pixels = content
            if isinstance(content, list):
                pixels = np.stack([decode_image(one, self._frame.size) for one in content])
            image = torch.from_numpy(pixels).to(self._device).permute(0, 3, 1, 2)
            masks = on_device(planes, self._device)
            if self._frame.augmented:
                image = augment_images(as_float(image), draws, self._frame.level)
                masks = moved_planes(masks, draws)
            yield Made(image, masks)

    def faults(self, contents: list[np.ndarray]) -> list[str]:
        """Why it cannot decode each image; empty where it can."""
        return [decode_fault(content, self._frame.size) for content in contents]


def decode_image(content: np.ndarray, size: int) -> np.ndarray:
    """RGB pixels, uint8 [S, S, 3], of an encoded image, uint8 [bytes].

    Raises:
        BadImage: it does not decode, or has another side than `size`.
    """
    try:
        with Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
            if reason := wrong_size(image.height, image.width, size):
                raise BadImage(reason)
            return np.asarray(image.convert("RGB"))
    except UnidentifiedImageError as error:
        raise BadImage("is no JPEG") from error
    # Pillow tells of a broken file by any of these.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadImage(str(error)) from error


def wrong_size(height: int, width: int, size: int) -> str:
    """What is wrong with an image of these sides, empty where nothing is."""
    return "" if height == width == size else f"is {width} x {height} pixels, not {size} x {size}"


def decode_fault(content: np.ndarray, size: int) -> str:
    """Why an encoded image does not decode; empty where it does."""
    try:
        decode_image(content, size)
    except BadImage as error:
        return str(error)
    return ""


def augment_images(image: Tensor, draws: Draws, level: int) -> Tensor:
    """Images [B, 3, S, S] in [0, 1] after geometry, colour and spread, on their device.

    Where nothing was drawn the pixels stay exactly what they were. Outside lies `level` of 255.
    """
    image = _move(image, draws, level * LEVEL.item())
    adjusted = (draws.brightness != 1) | (draws.contrast != 1)
    if adjusted.any():
        rows = _rows(adjusted, image)
        brightness, contrast = (
            torch.from_numpy(part[adjusted])[:, None, None, None].to(image.device)
            for part in (draws.brightness, draws.contrast)
        )
        image[rows] = (brightness * (0.5 + contrast * (image[rows] - 0.5))).clamp(0, 1)
    if draws.coloured.any():
        rows = _rows(draws.coloured, image)
        matrix = torch.from_numpy(draws.colour[draws.coloured]).to(image.device)
        mixed = torch.einsum("bij,bjhw->bihw", matrix[:, :, :3], image[rows])
        image[rows] = (mixed + matrix[:, :, 3, None, None]).clamp(0, 1)
    if (stretched := draws.std > 0).any():
        rows = _rows(stretched, image)
        std = torch.from_numpy(draws.std[stretched])[:, None, None, None].to(image.device)
        image[rows] = _standardize(image[rows], std)
    return image


def warp_bilinear(image: Tensor, matrix: Tensor, fill: float, out: int) -> Tensor:
    """Images [B, 3, out, out] drawn bilinearly at the places of images [B, 3, S, S] that `matrix`
    [B, 2, 3] points to; outside lies `fill` in [0, 1]."""
    size = image.shape[-1]
    centres = torch.arange(out, device=image.device) + 0.5
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    points = torch.stack([x, y, torch.ones_like(x)], dim=-1).reshape(-1, 3)
    source = (points @ matrix.transpose(1, 2)).reshape(-1, out, out, 2)
    # grid_sample puts -1 and 1 at the outer edges of the image where corners are not aligned,
    # and takes 0 for what lies outside.
    grid = source * (2 / size) - 1
    return F.grid_sample(image - fill, grid, padding_mode="zeros", align_corners=False) + fill


def moved_planes(planes: Tensor | None, draws: Draws) -> Tensor | None:
    """Masks as bit planes, uint8 [B, S, S, P], after the geometry of their images and nothing
    else, uint8 [B, out, out, P]: every pixel is the one its centre is drawn from, and outside
    nothing is marked."""
    if planes is None:
        return None
    return _move(planes.permute(0, 3, 1, 2), draws, 0, nearest).permute(0, 2, 3, 1)


def nearest(image: Tensor, matrix: Tensor, fill: float, out: int) -> Tensor:
    """As `warp_bilinear`, each pixel [B, C, out, out] being the one of [B, C, S, S] that its
    centre falls on; of two that it lies between, the later one (`draws.mask_matrix`)."""
    size = image.shape[-1]
    centres = torch.arange(out, device=image.device) + 0.5
    across, down, start = (part[..., None, None] for part in matrix.unbind(dim=2))
    # A product of matrices may be rounded more coarsely on a GPU.
    places = (across * centres + down * centres[:, None] + (start + NUDGE)).floor().long()
    x, y = places.clamp(0, size - 1).unbind(dim=1)
    batch = torch.arange(len(image), device=image.device)[:, None, None]
    inside = ((places >= 0) & (places < size)).all(dim=1)
    taken = image.permute(0, 2, 3, 1)[batch, y, x]
    return taken.where(inside[..., None], fill).permute(0, 3, 1, 2)


def on_device(planes: np.ndarray | None, device: str) -> Tensor | None:
    """Bit planes on the device cpu or cuda; None where there are none."""
    return None if planes is None else torch.from_numpy(planes).to(device, non_blocking=True)


def unpacked(planes: Tensor, num_kinds: int) -> Tensor:
    """Bit planes [B, S, S, P] as masks, one a kind: uint8 [B, M, S, S], 0 or 1."""
    return torch.stack([planes[..., i // 8] >> (i % 8) & 1 for i in range(num_kinds)], dim=1)


Warp = Callable[[Tensor, Tensor, float, int], Tensor]


def _move(image: Tensor, draws: Draws, fill: float, warped: Warp = warp_bilinear) -> Tensor:
    """The images after geometry, in memory of their own."""
    out = draws.size
    mirrored, first = pixel_window(draws)
    kept = ~draws.geometric & ~mirrored.any(axis=1) & ~first.any(axis=1) & (out == image.shape[-1])
    if kept.all():
        return image.clone(memory_format=torch.channels_last)
    moved = image.new_empty((len(image), out, out, image.shape[1])).permute(0, 3, 1, 2)
    if kept.any():
        rows = _rows(kept, image)
        moved[rows] = image[rows]
    if (whole := ~draws.geometric & ~kept).any():
        rows = _rows(whole, image)
        moved[rows] = _take(image[rows], mirrored[whole], first[whole], fill, out)
    if draws.geometric.any():
        rows = _rows(draws.geometric, image)
        matrix = torch.from_numpy(draws.matrix[draws.geometric]).to(image.device)
        moved[rows] = warped(image[rows], matrix, fill, out)
    return moved


def _take(image: Tensor, mirrored: np.ndarray, first: np.ndarray, fill: float, out: int) -> Tensor:
    """Windows of side `out` of the images, whole pixels; see `pixel_window`."""
    size, steps = image.shape[-1], np.arange(out)
    places = first[..., None] + np.where(mirrored[..., None], out - 1 - steps, steps)
    y, x = torch.from_numpy(places.clip(0, size - 1)).to(image.device).unbind(dim=1)
    batch = torch.arange(len(image), device=image.device)[:, None, None]
    taken = image.permute(0, 2, 3, 1)[batch, y[:, :, None], x[:, None, :]]
    inside = torch.from_numpy((places >= 0) & (places < size)).to(image.device)
    inside = inside[:, 0, :, None] & inside[:, 1, None, :]
    return taken.where(inside[..., None], fill).permute(0, 3, 1, 2)


def _standardize(image: Tensor, std: Tensor) -> Tensor:
    """Images of mean 0.5 and these deviations [B, 1, 1, 1] over all pixels and channels."""
    every = (1, 2, 3)
    deviation = image.std(every, correction=0, keepdim=True).clamp(min=FLATTEST)
    return ((image - image.mean(every, keepdim=True)) * (std / deviation) + 0.5).clamp(0, 1)


def _rows(chosen: np.ndarray, image: Tensor) -> Tensor:
    """The positions of the chosen images, on the device of the images."""
    return torch.from_numpy(np.flatnonzero(chosen)).to(image.device)


def as_float(image: Tensor) -> Tensor:
    """Pixels in [0, 1], float32, from 8 bits; what is in [0, 1] already stays."""
    return image if image.is_floating_point() else image.float().mul_(LEVEL.item())


def fill_level(fill: float) -> int:
    """The 8-bit level of a fill in [0, 1]; one half is 128."""
    return int(fill * 255 + 0.5)


def torch_device(device: str) -> str:
    """What torch calls the device cpu or gpu."""
    return "cuda" if device == "gpu" else "cpu"
