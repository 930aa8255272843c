"""The classifiers of the papers: timm's resnets and efficientnets, torchvision's inception_v3, and
BagNets.

`network_of` also knows every other network of timm, by the name timm/<name>.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import Inception_V3_Weights, inception, inception_v3

from fundusray import config
from fundusray.errors import InputError
from fundusray.models import bagnet, timm_networks
from fundusray.models.timm_networks import TimmWeights
from fundusray.registry import Registry, unknown_name

HALF = (0.5, 0.5, 0.5)
"""Mean and deviation where nothing says otherwise: pixels in [-1, 1]."""
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of ImageNet's pixels."""


class NetworkKind(NamedTuple):
    """A kind of network that `build_model` knows."""

    build: Callable[[int, float], nn.Module]
    """(raw outputs, dropout) -> randomly started network."""
    heads: tuple[str, ...]
    """Names of the layers whose size is the number of outputs: the main one, then auxiliary."""
    published: Callable[[str], TimmWeights]
    """Tag -> ImageNet weights; "": those that are usual."""
    early: str
    """The layer whose output is the last before the blocks (Li: of the last convolution)."""
    last: str
    """The layer whose output is the last feature map; "" where there is none."""
    min_side: int = 16
    """Smallest image side it takes, pixels."""
    require_side: Callable[[int], None] | None = None
    """Raises InputError for an image side that it does not take, where that is not all of it."""
    evidence: bool = False
    """It has `evidence(image)`: raw outputs of every place, whose mean they are of the image."""
    timm_name: str = ""
    """What timm calls it; "" of a network that is not timm's."""
    read: Callable[..., tuple[dict[str, Tensor], list[str]]] | None = None
    """(net, state of a file, heads) -> the state as the network has it, notes."""


MODELS: Registry[NetworkKind] = Registry("model")


def network_of(model: config.Model) -> NetworkKind:
    """The kind of network that a recipe names: a registered one, or timm/<name>.

    Raises:
        InputError: there is none of that name, or it is no classifier.
    """
    if not model.name.startswith(timm_networks.PREFIX):
        if model.image_size:
            raise InputError(
                f"model.image_size: {model.name} takes images of any size; leave it 0 (it is for "
                "networks timm/<name> that are laid out for one size)"
            )
        if model.name not in MODELS:
            raise InputError(
                f"{unknown_name('model', model.name, MODELS)}; every other network of timm is "
                f"timm/<name>{_in_timm(model.name)}; networks of pixels are unet and unet/<name>"
            )
        return MODELS[model.name]
    name = model.name.removeprefix(timm_networks.PREFIX)
    facts = timm_networks.facts_of(name, model.image_size)
    return NetworkKind(
        partial(timm_networks.create_network, name, image_size=model.image_size),
        facts.heads,
        partial(timm_networks.timm_weights, name, timm_networks.usual_tag(name)),
        facts.early,
        facts.last,
        require_side=partial(timm_networks.require_side, name, model.image_size),
        timm_name=name,
        read=timm_networks.as_timm_reads,
    )


def _in_timm(name: str) -> str:
    """Says that a name without its prefix is one of timm's."""
    return f": timm/{name}" if timm.is_model(name) else ""


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


LITE = tuple(f"efficientnet_lite{number}" for number in range(3))
"""Called tf_ in timm, as weights of these come from TensorFlow: its padding, its norms' epsilon."""


def _timm(name: str) -> Callable[[int, float], nn.Module]:
    def build(outputs: int, dropout: float) -> nn.Module:
        net = timm.create_model(name, num_classes=outputs, drop_rate=dropout)
        if name.removeprefix("tf_") in LITE:
            # timm begins it so wide that the first losses are above 6, where log K is chance; a
            # short fine-tuning spends its first hundred steps on unlearning that.
            net.classifier.reset_parameters()
        return net

    return build


def _google(tag: str) -> TimmWeights:
    """Google's weights of Inception, as torchvision has them.

    Raises:
        InputError: others are asked for.
    """
    if tag not in ("", "tv_in1k"):
        raise InputError(
            f"model.weights=imagenet/{tag}: of inception_v3 there is imagenet alone, Google's "
            "weights as torchvision has them; or give a file"
        )
    return TimmWeights(Inception_V3_Weights.IMAGENET1K_V1.url, HALF, HALF)


def _of_bagnets(patch: int, tag: str) -> TimmWeights:
    """The authors' weights of a BagNet.

    Raises:
        InputError: others are asked for.
    """
    if tag:
        raise InputError(
            f"model.weights=imagenet/{tag}: of bagnet{patch} there is imagenet alone, its authors' "
            "weights; or give a file"
        )
    return TimmWeights(bagnet.PUBLISHED + bagnet.FILES[patch], *IMAGENET)


def _register() -> None:
    tags = {
        "resnet18": "a1_in1k",
        "resnet50": "a1_in1k",
        "efficientnet_b0": "ra_in1k",
        "efficientnet_b1": "ft_in1k",
        "efficientnet_b2": "ra_in1k",
        "efficientnet_b3": "ra2_in1k",
    } | dict.fromkeys(LITE, "in1k")
    for name, tag in tags.items():
        resnet = name.startswith("resnet")
        head = "fc" if resnet else "classifier"
        # After norm and activation, as inception's convolutions come with theirs.
        early, last = ("act1", "layer4") if resnet else ("bn1", "bn2")

        timms = f"tf_{name}" if name in LITE else name
        published = partial(timm_networks.timm_weights, timms, tag)
        MODELS.register(name)(
            NetworkKind(_timm(timms), (head,), published, early, last, timm_name=timms)
        )
    MODELS.register("inception_v3")(
        NetworkKind(
            _inception_v3,
            ("fc", "AuxLogits.fc"),
            _google,
            early="Conv2d_4a_3x3",
            last="Mixed_7c",
            min_side=75,
        )
    )
    for patch in bagnet.PATCHES:
        MODELS.register(f"bagnet{patch}")(
            NetworkKind(
                partial(bagnet.BagNet, patch),
                ("fc",),
                partial(_of_bagnets, patch),
                early="relu",
                last="layer4",
                min_side=patch,
                evidence=True,
            )
        )


_register()
