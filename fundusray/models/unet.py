"""U-Net (Ronneberger, Fischer and Brox 2015): what every pixel is, from feature maps of every size.

An encoder gives feature maps, each half as wide and high as the one before; the decoder goes back
up, and at each size takes the encoder's map of that size in, so that what is small is not lost. The
encoder is our own (`PlainEncoder`) or the features of a classifier of timm. The last map has the
picture's own size, whatever the encoder begins with: a lesion may be three pixels across.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (16, 32, 64, 128, 256)
"""Channels of the plain encoder, the finest map first."""
DECODED = (16, 24, 32, 64, 128)
"""Channels of the decoder's maps at the sizes 1, 1/2, 1/4, ... of the picture."""


class Encoder(Protocol):
    """What gives feature maps."""

    def __call__(self, image: Tensor) -> list[Tensor]:
        """Of pictures [B, 3, H, W], H and W multiples of the last stride: maps [B, c, H/s, W/s],
        the finest first."""


class PlainEncoder(nn.Module):
    """Two convolutions at each size, and the largest of four between sizes."""

    strides = (1, 2, 4, 8, 16)

    def __init__(self, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        self.channels = tuple(widths)
        before = (3, *widths[:-1])
        pairs = zip(before, widths, strict=True)
        self.blocks = nn.ModuleList(_two_convolutions(a, b) for a, b in pairs)

    def forward(self, image: Tensor) -> list[Tensor]:
        maps: list[Tensor] = []
        for block in self.blocks:
            image = block(F.max_pool2d(image, 2) if maps else image)
            maps.append(image)
        return maps


class UNet(nn.Module):
    """Pictures [B, 3, H, W] of any size to class logits [B, K, H, W]."""

    def __init__(
        self, encoder: nn.Module, channels: Sequence[int], strides: Sequence[int], num_classes: int
    ) -> None:
        """
        Args:
            encoder: an `Encoder`.
            channels, strides: of its maps, the finest first; each stride twice the one before.
        """
        super().__init__()
        self.encoder, self.strides = encoder, tuple(strides)
        below, blocks = channels[-1], []
        for channel, stride in zip(channels[-2::-1], strides[-2::-1], strict=True):
            width = DECODED[min(stride.bit_length() - 1, len(DECODED) - 1)]
            blocks.append(_two_convolutions(below + channel, width))
            below = width
        if strides[0] > 1:
            # The picture itself is the finest map.
            blocks.append(_two_convolutions(below + 3, DECODED[0]))
            below = DECODED[0]
        self.decoder = nn.ModuleList(blocks)
        self.classify = nn.Conv2d(below, num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        high, wide = image.shape[-2:]
        most = self.strides[-1]
        missing = (0, -wide % most, 0, -high % most)
        if any(missing):
            image = F.pad(image, missing, mode="replicate")
        *finer, now = self.encoder(image)
        if self.strides[0] > 1:
            finer = [image, *finer]
        for block, beside in zip(self.decoder, finer[::-1], strict=True):
            now = F.interpolate(now, size=beside.shape[-2:], mode="nearest")
            now = block(torch.cat([now, beside], dim=1))
        return self.classify(now)[..., :high, :wide]


def plain_unet(num_classes: int) -> UNet:
    """The U-Net with our own encoder, two million numbers."""
    encoder = PlainEncoder()
    return UNet(encoder, encoder.channels, encoder.strides, num_classes)


def _two_convolutions(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (before, after):
        layers += [nn.Conv2d(width, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)]
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)
