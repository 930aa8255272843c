"""BagNets: a photograph is judged as the mean of what its small patches say, each by itself.

Brendel and Bethge, Approximating CNNs with bag-of-local-features models works surprisingly well on
ImageNet (2019): a ResNet-50 without padding, in which nearly all 3x3 convolutions are 1x1, so that
no place of the last feature map sees more than 9, 17 or 33 pixels. The last layer is applied to
every place, and the places' outputs are averaged: the evidence map needs no attribution.
"""

from typing import NamedTuple

from torch import Tensor, nn

PATCHES = (9, 17, 33)
"""Sides in pixels of what a place may see."""
BLOCKS = (3, 4, 6, 3)
"""Of each stage, as in ResNet-50."""
STRIDES = (2, 2, 2, 1)
WIDTHS = (64, 128, 256, 512)
EXPANSION = 4
PUBLISHED = (
    "https://bitbucket.org/wielandbrendel/bag-of-feature-pretrained-models/raw/"
    "249e8fa82c0913623a807d9d35eeab9da7dcc2a8/"
)
"""Where the authors' own code (bagnets/pytorchnet.py) fetches its ImageNet weights."""
FILES = {
    9: "bagnet8-34f4ccd2.pth.tar",
    17: "bagnet16-105524de.pth.tar",
    33: "bagnet32-2ddd53ed.pth.tar",
}
"""Patch -> the authors' file; its name ends in the beginning of its SHA-256."""


class Patches(NamedTuple):
    """Where the places of an evidence map lie in the image, the same in both directions."""

    side: int
    """Pixels that a place sees."""
    stride: int
    """Pixels from a place to the next."""
    first: float
    """Centre of the first place's patch, pixels; pixel 0 has its centre at 0."""


class Bottleneck(nn.Module):
    """1x1, then 3x3 or 1x1 without padding, then 1x1, beside a shortcut.

    The shortcut goes without the last rows and columns that the convolution leaves no room for, as
    the authors' does, so that a place's shortcut is of the upper left of its patch. They leave them
    out after the shortcut's norm, here its batch statistics are without them, too.
    """

    def __init__(self, channels: int, width: int, kernel: int, stride: int) -> None:
        super().__init__()
        outputs = EXPANSION * width
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, kernel, stride, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels != outputs:
            shortcut = nn.Conv2d(channels, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))
        self.relu3 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.relu2(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        stride = self.conv2.stride[0]
        height, width = (stride * (num - 1) + 1 for num in out.shape[-2:])
        return self.relu3(out + self.downsample(x[..., :height, :width]))


class BagNet(nn.Module):
    """Images [B, 3, H, W], sides of at least `patch` pixels, to raw outputs [B, W].

    Names and shapes are those of the authors' code, whose weights load by name. Its first norm
    follows the batches a hundred times more slowly than is usual, which a short training from a
    random start would not live to see; here it is as all others.

    Args:
        patch: what a place sees, of PATCHES.
        outputs: W.
        dropout: share of features dropped before the last layer, for all places of an image alike.
    """

    def __init__(self, patch: int, outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        wide = PATCHES.index(patch) + 2  # stages that begin with a 3x3 convolution
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 1, bias=False)
        self.conv2 = nn.Conv2d(WIDTHS[0], WIDTHS[0], 3, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.relu = nn.ReLU(inplace=True)
        channels = WIDTHS[0]
        for stage, (num, stride, width) in enumerate(zip(BLOCKS, STRIDES, WIDTHS, strict=True)):
            kernel = 3 if stage < wide else 1
            blocks = [Bottleneck(channels, width, kernel, stride)]
            channels = EXPANSION * width
            blocks += [Bottleneck(channels, width, 1, 1) for _ in range(num - 1)]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.num_features = channels
        self.drop = nn.Dropout2d(dropout)
        self.fc: nn.Module = nn.Linear(channels, outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> Tensor:
        return self.evidence(image).mean(dim=(2, 3))

    def evidence(self, image: Tensor) -> Tensor:
        """What each place says, raw outputs [B, W, h, w], whose mean over places is `forward`."""
        x = self.relu(self.bn1(self.conv2(self.conv1(image))))
        for stage in range(len(BLOCKS)):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        features = self.drop(x).movedim(1, -1)
        # As many rows [B h w, C]: the last layer knows no places.
        return self.fc(features.flatten(0, 2)).unflatten(0, features.shape[:3]).movedim(-1, 1)

    def patches(self) -> Patches:
        """Where places lie, from the kernels, strides and paddings on the way to them."""
        side, stride, first = 1, 1, 0.0
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d) and ".downsample." not in name:
                kernel, padding = module.kernel_size[0], int(module.padding[0])
                first += ((kernel - 1) / 2 - padding) * stride
                side += (kernel - 1) * stride
                stride *= module.stride[0]
        return Patches(side, stride, first)
