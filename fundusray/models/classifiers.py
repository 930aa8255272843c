"""The classifiers of the papers: timm's resnets and efficientnets, torchvision's inception_v3.

An image comes in as RGB in [0, 1]; the network takes off its mean and divides by its std itself, so
losses, attacks and maps never meet another unit.
"""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from typing import NamedTuple

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import Inception_V3_Weights, inception, inception_v3

from fundusray import config, files
from fundusray.errors import InputError
from fundusray.models import weights as stored
from fundusray.registry import Registry

CONNECT_SECONDS = 10.0
"""How long an unanswered connection is waited for when weights are fetched."""
OPTIONAL_WEIGHTS = ("", "imagenet")


class Network(NamedTuple):
    """A kind of network that `build_model` knows."""

    build: Callable[[int, float], nn.Module]
    """(classes, dropout) -> randomly started network, logits [B, K] out."""
    heads: tuple[str, ...]
    """Names of the layers whose size is the number of classes."""
    url: Callable[[], str]
    """Where the ImageNet weights are."""
    min_side: int = 16
    """Smallest image side it takes, pixels."""


MODELS: Registry[Network] = Registry("model")


class Classifier(nn.Module):
    """A network with its normalisation inside; [B, 3, S, S] in [0, 1] to logits [B, K].

    A network with an auxiliary head gives (logits, auxiliary logits) in training mode.
    """

    def __init__(self, net: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.net = net
        self.notes: list[str] = []
        """What a reader of the run should know about the weights it started from."""
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        out = self.net((image - self.mean) / self.std)
        return out if isinstance(out, Tensor) else tuple(out)


class AnySizeAux(inception.InceptionAux):
    """Inception's auxiliary head for images below 299 px, too.

    The original pools 17 x 17 features to 5 x 5 and fails on smaller ones (a 256 px image gives
    14 x 14); those are pooled to 5 x 5 here. Parameters, and the result at 299 px, are the same.
    """

    def forward(self, x: Tensor) -> Tensor:
        if min(x.shape[-2:]) >= 17:
            return super().forward(x)
        x = self.conv1(self.conv0(F.adaptive_avg_pool2d(x, 5)))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


INCEPTION_BLOCKS = (
    inception.BasicConv2d,
    inception.InceptionA,
    inception.InceptionB,
    inception.InceptionC,
    inception.InceptionD,
    inception.InceptionE,
)


def _inception_v3(classes: int, dropout: float) -> nn.Module:
    # Google's weights expect [-1, 1]; that is model.mean = model.std = .5, so nothing is
    # transformed inside.
    return inception_v3(
        weights=None,
        num_classes=classes,
        aux_logits=True,
        transform_input=False,
        init_weights=True,
        dropout=dropout,
        inception_blocks=[*INCEPTION_BLOCKS, AnySizeAux],
    )


def _timm(name: str) -> Callable[[int, float], nn.Module]:
    def build(classes: int, dropout: float) -> nn.Module:
        return timm.create_model(name, num_classes=classes, drop_rate=dropout)

    return build


def _register() -> None:
    tags = {
        "resnet18": "a1_in1k",
        "resnet50": "a1_in1k",
        "efficientnet_b0": "ra_in1k",
        "efficientnet_b1": "ft_in1k",
        "efficientnet_b2": "ra_in1k",
        "efficientnet_b3": "ra2_in1k",
    }
    for name, tag in tags.items():
        head = "fc" if name.startswith("resnet") else "classifier"

        def url(full: str = f"{name}.{tag}") -> str:
            return timm.models.get_pretrained_cfg(full).url

        MODELS.register(name)(Network(_timm(name), (head,), url))

    def google() -> str:
        return Inception_V3_Weights.IMAGENET1K_V1.url

    heads = ("fc", "AuxLogits.fc")
    MODELS.register("inception_v3")(Network(_inception_v3, heads, google, min_side=75))


_register()


def build_model(model: config.Model, num_classes: int, seed: int) -> Classifier:
    """The network of a recipe on the CPU, in training mode; the seed decides a random start.

    The global random state is left as it was. What happened to weights is in `.notes`.

    Raises:
        InputError: an unknown name, or weights that cannot be had or do not fit.
    """
    network = MODELS.find(model.name)
    with torch.random.fork_rng(devices=[]):
        # The CPU's generator only: torch.manual_seed would reseed every GPU as well.
        torch.default_generator.manual_seed(seed)
        net = network.build(num_classes, model.dropout)
    built = Classifier(net, model.mean, model.std)
    if model.weights:
        built.notes += load_weights(built, model)
    return built


def load_weights(built: Classifier, model: config.Model) -> list[str]:
    """Loads `model.weights` into a built network; notes on what was replaced or fetched.

    A last layer for another number of classes keeps its random start; all else must fit exactly.

    Raises:
        InputError: no file, no network, code in the file, or another architecture.
    """
    network = MODELS.find(model.name)
    if model.weights == "imagenet":
        state = _fetch(model.name, network.url())
    else:
        state = stored.read_state(model.weights)
    return stored.fit(built.net, state, network.heads, f"{model.weights} for {model.name}")


def _fetch(name: str, url: str) -> dict[str, Tensor]:
    """ImageNet weights from their publisher, kept in torch's own cache.

    From the published file by plain HTTP: the hub's client retries for 46 s where there is no
    network at all.
    """
    try:
        with _socket_timeout(CONNECT_SECONDS):
            state = torch.hub.load_state_dict_from_url(
                url, map_location="cpu", weights_only=True, check_hash=True
            )
    except (OSError, RuntimeError, HTTPException) as error:
        raise InputError(
            f"model.weights=imagenet: cannot fetch weights of {name} from {url} ({error}); "
            "give a file that is here, model.weights=<.safetensors or .pth>, "
            "or start at random, model.weights="
        ) from error
    return stored.unwrapped(state, url)


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def check(model: config.Model, size: int | None = None) -> None:
    """Checks name, weights file and, when given, the image side in pixels, building nothing.

    Raises:
        InputError: what is wrong, and what would be right.
    """
    network = MODELS.find(model.name)
    if size is not None and size < network.min_side:
        raise InputError(
            f"data.size: {model.name} needs at least {network.min_side} pixels, got {size}"
        )
    if model.weights in OPTIONAL_WEIGHTS:
        return
    if not files.exists(files.absolute(model.weights)):
        raise stored.no_file(model.weights)


def parameter_count(model: nn.Module) -> int:
    """Learned numbers in a network; the normalisation's buffers are none."""
    return sum(parameter.numel() for parameter in model.parameters())
