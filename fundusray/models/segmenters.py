"""Networks that say of every pixel what it is, with their normalisation inside: by name, built,
started from weights, checked.

`unet` has an encoder of its own, `unet/<classifier>` the features of one: of a registered network
(unet/efficientnet_lite0, unet/resnet18) or any of timm (unet/timm/<name>). Such an encoder starts
as the classifier would (model.weights): at random, from ImageNet, or from a classifier that was
trained here, plain or adversarially.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from fundusray import config
from fundusray.errors import InputError
from fundusray.models.classifiers import build_model, check_model
from fundusray.models.load_weights import check_start, load_start_bundle
from fundusray.models.networks import HALF, network_of
from fundusray.models.tiles import TilePlan, tiled_logits
from fundusray.models.timm_networks import create_features
from fundusray.models.unet import UNet, plain_unet
from fundusray.settings import FLIPS

PLAIN = "unet"
SMALLEST = 16
"""Side of the smallest picture, pixels."""


class SegmentationNetwork(nn.Module):
    """A U-Net with its normalisation inside: images [B, 3, H, W] in [0, 1] to class logits [B, K,
    H, W]; in evaluation mode the mean over the image and its flips where `model.flips` asks, and
    an image wider than `tile` is gone through in tiles."""

    heads = ("decoder", "classify")
    """What "head" trains: all but the encoder."""

    def __init__(self, net: UNet, model: config.Model) -> None:
        super().__init__()
        self.net, self.flips = net, FLIPS[model.flips]
        self.tile, self.overlap = 0, 0.25
        """Side of a tile in evaluation mode, 0 for none, and its share in common with the next."""
        self.notes: list[str] = []
        """What a reader of the run should know about the weights it started from."""
        self.register_buffer("mean", torch.tensor(model.mean or HALF).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(model.std or HALF).view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        if not self.training and 0 < self.tile < max(image.shape[-2:]):
            return tiled_logits(self._whole, image, TilePlan(self.tile, self.overlap))
        return self._whole(image)

    def _whole(self, image: Tensor) -> Tensor:
        image = (image - self.mean) / self.std
        if self.training or len(self.flips) == 1:
            return self.net(image)
        views = [self.net(image.flip(dims)).flip(dims) for dims in self.flips]
        return torch.stack(views).mean(dim=0)


def is_segmenter(name: str) -> bool:
    """Whether model.name is of a network that says of every pixel what it is."""
    return name == PLAIN or name.startswith(f"{PLAIN}/")


def encoder_name(name: str) -> str:
    """The classifier whose features a network's encoder is; "" for our own encoder."""
    return name.partition("/")[2]


def build_network(model: config.Model, num_classes: int, seed: int) -> nn.Module:
    """The network that model.name names, of images or of pixels; see `build_model` and
    `build_segmenter`, which it calls."""
    build = build_segmenter if is_segmenter(model.name) else build_model
    return build(model, num_classes, seed)


def check_network(
    model: config.Model, size: int | None = None, num_classes: int | None = None
) -> None:
    """Checks the settings of a network of images or of pixels; see `check_model` and
    `check_segmenter`, which it calls."""
    check = check_segmenter if is_segmenter(model.name) else check_model
    check(model, size, num_classes)


def build_segmenter(model: config.Model, num_classes: int, seed: int) -> SegmentationNetwork:
    """The network of a recipe on the CPU, in training mode; the seed decides a random start.

    The global random state is left as it was. What happened to weights is in `.notes`.

    Raises:
        InputError: an unknown encoder, or weights or a bundle that cannot be had or do not fit.
        DamagedError: a bundle whose files are not what was written.
    """
    encoder = encoder_name(model.name)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if not encoder:
            net = plain_unet(num_classes)
        else:
            features = create_features(network_of(replace(model, name=encoder)).timm_name)
            info = features.feature_info
            net = UNet(features, info.channels(), info.reduction(), num_classes)
    built = SegmentationNetwork(net, model)
    if model.weights:
        _start_encoder(built, model, encoder)
    if model.init_from:
        built.notes += load_start_bundle(built, model, num_classes)
    return built


def _start_encoder(built: SegmentationNetwork, model: config.Model, encoder: str) -> None:
    """The encoder, and how pixels are normalised, as the classifier of its name starts."""
    whole = build_model(replace(model, name=encoder), 2, seed=0)
    state = whole.net.state_dict()
    own = built.net.encoder.state_dict()
    missing = [name for name in own if name not in state or own[name].shape != state[name].shape]
    if missing:
        raise InputError(
            f"model.weights={model.weights}: as an encoder {encoder} calls its layers otherwise "
            f"than as a classifier ({missing[0]}), so it cannot start from one; leave "
            f"model.weights out, or take model.name={PLAIN}/resnet18 or {PLAIN}/efficientnet_lite0"
        )
    built.net.encoder.load_state_dict({name: state[name] for name in own}, strict=True)
    for wish, mine, theirs in (
        (model.mean, built.mean, whole.mean),
        (model.std, built.std, whole.std),
    ):
        if not wish:
            mine.copy_(theirs)
    # What the classifier's last layers became says nothing of these.
    built.notes += [note for note in whole.notes if "starts at random" not in note]


def check_segmenter(
    model: config.Model, size: int | None = None, num_classes: int | None = None
) -> None:
    """Checks a network's settings and what it starts from, building nothing.

    Raises:
        InputError: what is wrong, and what would be right.
        DamagedError: `model.init_from` is a bundle whose files are not what was written.
    """
    if model.hidden or model.output != "softmax":
        raise InputError(
            f"model.name={model.name}: says one class of every pixel; leave model.hidden and "
            f"model.output out, got {model.hidden or ''} {model.output}"
        )
    if size is not None and size < SMALLEST:
        raise InputError(f"data.size: {model.name} needs at least {SMALLEST} pixels, got {size}")
    encoder = encoder_name(model.name)
    if not encoder:
        if model.weights:
            raise InputError(
                f"model.weights={model.weights}: the encoder of {PLAIN} has no published weights "
                f"and is no classifier's; take model.name={PLAIN}/efficientnet_lite0, or go on "
                "from a bundle of the same network (model.init_from)"
            )
    elif not network_of(replace(model, name=encoder)).timm_name:
        raise InputError(
            f"model.name={model.name}: {encoder} gives no feature maps of every size; take a "
            f"network of timm, e.g. {PLAIN}/efficientnet_lite0 or {PLAIN}/resnet18"
        )
    else:
        check_model(replace(model, name=encoder, init_from=""), size)
    if model.init_from:
        check_start(model, num_classes)
