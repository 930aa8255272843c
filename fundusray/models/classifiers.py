"""The classifiers of the papers: timm's resnets and efficientnets, torchvision's inception_v3.

An image comes in as RGB in [0, 1]; the network takes off its mean and divides by its std itself, so
losses, attacks and maps never meet another unit.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import Inception_V3_Weights, inception, inception_v3

from fundusray import config, files
from fundusray.errors import InputError
from fundusray.models import heads
from fundusray.models import weights as stored
from fundusray.models.fetching import fetch
from fundusray.registry import Registry, unknown_name

HALF = (0.5, 0.5, 0.5)
"""Mean and deviation where nothing says otherwise: pixels in [-1, 1]."""


class Published(NamedTuple):
    """Weights as their publisher has them."""

    url: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Network(NamedTuple):
    """A kind of network that `build_model` knows."""

    build: Callable[[int, float], nn.Module]
    """(raw outputs, dropout) -> randomly started network."""
    heads: tuple[str, ...]
    """Names of the layers whose size is the number of outputs: the main one, then auxiliary."""
    published: Callable[[str], Published]
    """Tag -> ImageNet weights; "": those that are usual."""
    early: str
    """The layer whose output is the last before the blocks (Li: of the last convolution)."""
    last: str
    """The layer whose output is the last feature map."""
    min_side: int = 16
    """Smallest image side it takes, pixels."""


MODELS: Registry[Network] = Registry("model")


class Classifier(nn.Module):
    """A network with its normalisation inside; images [B, 3, S, S] in [0, 1].

    In training mode it gives raw outputs, which is what the loss takes (see models/heads.py), as
    (raw, auxiliary raw) where it has an auxiliary head; in evaluation mode class logits [B, K].
    """

    def __init__(self, net: nn.Module, model: config.Model, num_classes: int) -> None:
        super().__init__()
        self.net = net
        self.output, self.num_classes = model.output, num_classes
        self.heads = MODELS.find(model.name).heads
        self.notes: list[str] = []
        """What a reader of the run should know about the weights it started from."""
        self.register_buffer("mean", torch.tensor(model.mean or HALF).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(model.std or HALF).view(1, 3, 1, 1))
        self.thresholds: Tensor | None
        """[K - 1] of a regression, from `heads.fit_thresholds`; saved with the weights."""
        fitted = heads.default_thresholds(num_classes) if model.output == "regression" else None
        self.register_buffer("thresholds", fitted)

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        raw = self.raw(image)
        return raw if self.training else self.class_logits(raw)

    def raw(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Raw outputs in either mode; a pair with the auxiliary ones only in training mode."""
        out = self.net((image - self.mean) / self.std)
        if isinstance(out, Tensor):
            return self._completed(out)
        return self._completed(out[0]), self._completed(out[1])

    def class_logits(self, raw: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        """[B, K] class logits of raw outputs, of the main ones where there are two."""
        main = raw if isinstance(raw, Tensor) else raw[0]
        return heads.class_logits(main, self.output, self.thresholds)

    def _completed(self, out: Tensor) -> Tensor:
        """One logit z of two classes as [0, z], the form every loss and attack knows."""
        return F.pad(out, (1, 0)) if self.output == "binary" else out


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


def _inception_v3(outputs: int, dropout: float) -> nn.Module:
    # Google's weights expect [-1, 1], which the mean and std of `_google` are, so nothing is
    # transformed inside.
    return inception_v3(
        weights=None,
        num_classes=outputs,
        aux_logits=True,
        transform_input=False,
        init_weights=True,
        dropout=dropout,
        inception_blocks=[*INCEPTION_BLOCKS, AnySizeAux],
    )


def _timm(name: str) -> Callable[[int, float], nn.Module]:
    def build(outputs: int, dropout: float) -> nn.Module:
        return timm.create_model(name, num_classes=outputs, drop_rate=dropout)

    return build


def _of_timm(name: str, usual: str, tag: str) -> Published:
    """Weights of a network by timm's tag.

    Raises:
        InputError: timm has none of that name, or not as a file that anybody can fetch.
    """
    tags = sorted(full.partition(".")[2] for full in timm.list_pretrained(f"{name}.*"))
    tag = tag or usual
    if tag not in tags:
        raise InputError(
            f"{unknown_name(f'model.weights=imagenet/<tag> of {name}', tag, tags)}; a file in a "
            "folder called imagenet is given as ./imagenet/<file>"
        )
    about = timm.models.get_pretrained_cfg(f"{name}.{tag}")
    if not about.url:
        raise InputError(
            f"model.weights=imagenet/{tag}: timm has these weights of {name} at the hub alone; "
            f"fetch model.safetensors of {about.hf_hub_id} there and give it, "
            f"model.weights=<file> model.mean={_text(about.mean)} model.std={_text(about.std)}"
        )
    return Published(about.url, tuple(about.mean), tuple(about.std))


def _text(numbers: Iterable[float]) -> str:
    return ",".join(f"{number:g}" for number in numbers)


def _google(tag: str) -> Published:
    """Google's weights of Inception, as torchvision has them.

    Raises:
        InputError: others are asked for.
    """
    if tag not in ("", "tv_in1k"):
        raise InputError(
            f"model.weights=imagenet/{tag}: of inception_v3 there is imagenet alone, Google's "
            "weights as torchvision has them; or give a file"
        )
    return Published(Inception_V3_Weights.IMAGENET1K_V1.url, HALF, HALF)


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
        resnet = name.startswith("resnet")
        head = "fc" if resnet else "classifier"
        # After norm and activation, as inception's convolutions come with theirs.
        early, last = ("act1", "layer4") if resnet else ("bn1", "bn2")

        published = partial(_of_timm, name, tag)
        MODELS.register(name)(Network(_timm(name), (head,), published, early, last))
    MODELS.register("inception_v3")(
        Network(
            _inception_v3,
            ("fc", "AuxLogits.fc"),
            _google,
            early="Conv2d_4a_3x3",
            last="Mixed_7c",
            min_side=75,
        )
    )


_register()


def build_model(model: config.Model, num_classes: int, seed: int) -> Classifier:
    """The network of a recipe on the CPU, in training mode; the seed decides a random start.

    The global random state is left as it was. What happened to weights is in `.notes`.

    Raises:
        InputError: an unknown name, an output that these classes cannot have, or weights or a
            bundle that cannot be had or do not fit.
        DamagedError: a bundle whose files are not what was written.
    """
    network = MODELS.find(model.name)
    outputs = heads.raw_width(model.output, num_classes)
    with torch.random.fork_rng(devices=[]):
        # The CPU's generator only: torch.manual_seed would reseed every GPU as well.
        torch.default_generator.manual_seed(seed)
        net = network.build(outputs, model.dropout)
        if model.hidden or heads.HEADS.find(model.output).layer:
            main = network.heads[0]
            features = net.get_submodule(main).in_features
            net.set_submodule(main, heads.build_head(features, model, num_classes))
    built = Classifier(net, model, num_classes)
    if model.weights:
        built.notes += load_weights(built, model)
    if model.init_from:
        built.notes += stored.go_on(built, model, num_classes)
    return built


def load_weights(built: Classifier, model: config.Model) -> list[str]:
    """Loads `model.weights` into a built network; notes on what was replaced or fetched.

    Last layers that are not those of this network keep their random start; all else must fit
    exactly.

    Raises:
        InputError: no file, no network, code in the file, or another architecture.
        DamagedError: a bundle whose files are not what was written.
    """
    network = MODELS.find(model.name)
    what = f"{model.weights} for {model.name}"
    if config.fetched(model.weights):
        about = network.published(_tag(model.weights))
        _normalise(built, model, torch.tensor(about.mean), torch.tensor(about.std))
        state = fetch(model, about.url)
        return stored.fit(built.net, state, network.heads, what)
    found = stored.read(model.weights)
    if found.normalisation:
        _normalise(built, model, *found.normalisation)
    other = stored.other_head(found, model, built.num_classes)
    return stored.fit(built.net, found.state, network.heads, what, other)


def _tag(weights: str) -> str:
    return weights.partition("/")[2]


def _normalise(built: Classifier, model: config.Model, mean: Tensor, std: Tensor) -> None:
    """Pixels are normalised as the weights were trained, where the recipe does not say how."""
    for wish, own, value in ((model.mean, built.mean, mean), (model.std, built.std, std)):
        if not wish:
            own.copy_(value.view(1, 3, 1, 1))


def check(model: config.Model, size: int | None = None, num_classes: int | None = None) -> None:
    """Checks a network's settings and what it starts from, building nothing.

    With `size`, the side in pixels of the images it is shown; with `num_classes`, whether head and
    start have them.

    Raises:
        InputError: what is wrong, and what would be right.
        DamagedError: `model.init_from` is a bundle whose files are not what was written.
    """
    network = MODELS.find(model.name)
    if size is not None and size < network.min_side:
        raise InputError(
            f"data.size: {model.name} needs at least {network.min_side} pixels, got {size} (after "
            "data.augment and data.view)"
        )
    if num_classes is not None:
        heads.raw_width(model.output, num_classes)
    if model.init_from:
        stored.check_start(model, num_classes)
    if config.fetched(model.weights):
        network.published(_tag(model.weights))
    elif model.weights and not files.exists(files.absolute(model.weights)):
        raise stored.no_file(model.weights)


def head_parameters(model: Classifier) -> list[str]:
    """Names, as `named_parameters` has them, of what "head only" trains.

    All that follows pooled features: hidden layers and outputs, and an auxiliary head's last
    layer (the convolutions before that are features, too).
    """
    starts = tuple(f"net.{head}." for head in model.heads)
    return [name for name, _ in model.named_parameters() if name.startswith(starts)]


def feature_layers(name: str) -> dict[str, str]:
    """Layers for attribution in a built network of that name, for `model.get_submodule`.

    "early" is the output of the last convolution before the blocks (inception: `Conv2d_4a_3x3`),
    "last" the last feature map, before pooling; both after norm and activation.

    Raises:
        InputError: no such network.
    """
    network = MODELS.find(name)
    return {"early": f"net.{network.early}", "last": f"net.{network.last}"}


def parameter_count(model: nn.Module) -> int:
    """Learned numbers in a network; the normalisation's buffers are none."""
    return sum(parameter.numel() for parameter in model.parameters())
