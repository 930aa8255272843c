"""A network of classes with its normalisation inside: built, started from weights, checked.

An image comes in as RGB in [0, 1]; the network takes off its mean and divides by its std itself, so
losses, attacks and maps never meet another unit.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fundusray import config, files
from fundusray.errors import InputError
from fundusray.models import heads
from fundusray.models import load_weights as stored
from fundusray.models.heads import HEADS
from fundusray.models.installed_weights import PACKAGES, installed_file, require_known_file
from fundusray.models.networks import HALF, MODELS, NetworkKind, network_of
from fundusray.models.published_weights import published_weights
from fundusray.settings import FLIPS

__all__ = [
    "MODELS",
    "Classifier",
    "build_model",
    "check_model",
    "evidence_refusal",
    "feature_layers",
    "head_parameters",
    "load_weights",
    "parameter_count",
]


class Classifier(nn.Module):
    """A network with its normalisation inside; images [B, 3, S, S] in [0, 1].

    In training mode it gives raw outputs, which is what the loss takes (see models/heads.py), as
    (raw, auxiliary raw) where it has an auxiliary head, or (raw, raw of every place) where
    `pairs_evidence` asks for them; in evaluation mode class logits [B, K], the mean over the image
    and its flips where `model.flips` asks for them.
    """

    def __init__(self, net: nn.Module, model: config.Model, num_classes: int) -> None:
        super().__init__()
        self.net = net
        self.output, self.num_classes = model.output, num_classes
        self.heads = network_of(model).heads
        self.no_evidence = evidence_refusal(model)
        """Why it has no evidence map; "" where it has one."""
        self.pairs_evidence = False
        """In training mode raw outputs come with those of every place, [B, W, h, w]."""
        self.flips = FLIPS[model.flips]
        self.notes: list[str] = []
        """What a reader of the run should know about the weights it started from."""
        self.register_buffer("mean", torch.tensor(model.mean or HALF).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(model.std or HALF).view(1, 3, 1, 1))
        self.thresholds: Tensor | None
        """[K - 1] of a regression, from `heads.fit_thresholds`; saved with the weights."""
        fitted = heads.default_thresholds(num_classes) if model.output == "regression" else None
        self.register_buffer("thresholds", fitted)

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        if self.training:
            return self.raw(image)
        # Raw outputs are averaged, so that thresholds cut the mean score.
        views = [self.raw(image.flip(dims) if dims else image) for dims in self.flips]
        return self.class_logits(sum(views[1:], views[0]) / len(views))

    def raw(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Raw outputs in either mode; a pair, with auxiliary ones or evidence, only in training
        mode."""
        image = (image - self.mean) / self.std
        if self.training and self.pairs_evidence:
            evidence = self.net.evidence(image)
            return self._completed(evidence.mean(dim=(2, 3))), evidence
        out = self.net(image)
        if isinstance(out, Tensor):
            return self._completed(out)
        return self._completed(out[0]), self._completed(out[1])

    def class_logits(self, raw: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        """[B, K] class logits of raw outputs, of the main ones where there are two."""
        main = raw if isinstance(raw, Tensor) else raw[0]
        return heads.class_logits(main, self.output, self.thresholds)

    def evidence(self, image: Tensor) -> Tensor:
        """[B, K, h, w] class logits of every place, whose mean over places is that of the image;
        of the image as it is, whatever `model.flips` says. Where the places lie, the network's
        `patches()` says.

        Raises:
            InputError: a network or an output without evidence maps.
        """
        if self.no_evidence:
            raise InputError(self.no_evidence)
        each = self.net.evidence((image - self.mean) / self.std).movedim(1, -1)
        flat = self.class_logits(self._completed(each.flatten(0, 2)))
        return flat.view(*each.shape[:3], -1).movedim(-1, 1)

    def _completed(self, out: Tensor) -> Tensor:
        """One logit z of two classes as [0, z], the form every loss and attack knows."""
        return F.pad(out, (1, 0)) if self.output == "binary" else out


def build_model(model: config.Model, num_classes: int, seed: int) -> Classifier:
    """The network of a recipe on the CPU, in training mode; the seed decides a random start.

    The global random state is left as it was. What happened to weights is in `.notes`.

    Raises:
        InputError: an unknown name, an output that these classes cannot have, or weights or a
            bundle that cannot be had or do not fit.
        DamagedError: a bundle whose files are not what was written.
    """
    network = network_of(model)
    outputs = heads.raw_width(model.output, num_classes)
    with torch.random.fork_rng(devices=[]):
        # The CPU's generator only: torch.manual_seed would reseed every GPU as well.
        torch.default_generator.manual_seed(seed)
        net = network.build(outputs, model.dropout)
        if model.hidden or HEADS.find(model.output).layer:
            head = heads.build_head(_features(net, network, model), model, num_classes)
            net.set_submodule(network.heads[0], head)
    built = Classifier(net, model, num_classes)
    if model.weights:
        built.notes += load_weights(built, model)
    if model.init_from:
        built.notes += stored.load_start_bundle(built, model, num_classes)
    return built


def _features(net: nn.Module, network: NetworkKind, model: config.Model) -> int:
    """How many pooled numbers a network's last layer takes, where another is to replace it.

    Raises:
        InputError: it has another kind of last layer, or several that count alike.
    """
    main = net.get_submodule(network.heads[0])
    alone = len(network.heads) == 1 or model.name in MODELS
    if not (alone and isinstance(main, nn.Linear)):
        raise InputError(
            f"model.hidden/output: {model.name} ends in {', '.join(network.heads)} "
            f"({type(main).__name__}), which other layers cannot replace; set model.hidden= and "
            "another model.output than coral, or take a network that ends in one linear layer"
        )
    return main.in_features


def load_weights(built: Classifier, model: config.Model) -> list[str]:
    """Loads `model.weights` into a built network; notes on what was replaced or fetched.

    Last layers that are not those of this network keep their random start; all else must fit
    exactly.

    Raises:
        InputError: no file, no network, code in the file, or another architecture.
        DamagedError: a bundle whose files are not what was written.
    """
    network = network_of(model)
    what = f"{model.weights} for {model.name}"
    if config.is_published(model.weights):
        about = network.published(_tag(model.weights))
        _normalise(built, model, torch.tensor(about.mean), torch.tensor(about.std))
        state, origin = published_weights(model, about.url, built.net.state_dict())
        state, read = _read(built.net, state, network)
        return [origin, *read, *stored.fit_state(built.net, state, network.heads, what)]
    found = stored.read_weights(model.weights)
    if found.normalisation:
        _normalise(built, model, *found.normalisation)
    other = stored.other_head(found, model, built.num_classes)
    state, read = _read(built.net, found.state, network)
    notes = [f"{what}: {note}" for note in read]
    return notes + stored.fit_state(built.net, state, network.heads, what, other)


def _read(
    net: nn.Module, state: dict[str, Tensor], network: NetworkKind
) -> tuple[dict[str, Tensor], list[str]]:
    return network.read(net, state, network.heads) if network.read else (state, [])


def _tag(weights: str) -> str:
    return weights.partition("/")[2]


def _normalise(built: Classifier, model: config.Model, mean: Tensor, std: Tensor) -> None:
    """Pixels are normalised as the weights were trained, where the recipe does not say how."""
    for wish, own, value in ((model.mean, built.mean, mean), (model.std, built.std, std)):
        if not wish:
            own.copy_(value.view(1, 3, 1, 1))


def check_model(
    model: config.Model, size: int | None = None, num_classes: int | None = None
) -> None:
    """Checks a network's settings and what it starts from, building nothing.

    With `size`, the side in pixels of the images it is shown; with `num_classes`, whether head and
    start have them.

    Raises:
        InputError: what is wrong, and what would be right.
        DamagedError: `model.init_from` is a bundle whose files are not what was written.
    """
    network = network_of(model)
    if size is not None and network.require_side:
        network.require_side(size)
    elif size is not None and size < network.min_side:
        raise InputError(
            f"data.size: {model.name} needs at least {network.min_side} pixels, got {size} (after "
            "data.augment and data.view)"
        )
    if num_classes is not None:
        heads.raw_width(model.output, num_classes)
    if model.init_from:
        stored.check_start(model, num_classes)
    if config.is_published(model.weights):
        network.published(_tag(model.weights))
        package = PACKAGES.get(model.name) if not _tag(model.weights) else None
        if package and installed_file(package):
            require_known_file(package)
    elif model.weights and not files.exists(files.absolute(model.weights)):
        raise stored.no_file(model.weights)


def evidence_refusal(model: config.Model) -> str:
    """Why a network has no class evidence per patch, and what has; "" where it has."""
    kinds = [name for name in sorted(MODELS) if MODELS[name].evidence]
    if not network_of(model).evidence:
        return (
            f"model.name={model.name} has no evidence map: what a place of its last feature map "
            f"says is not of a small patch alone; take {', '.join(kinds)}"
        )
    outputs = [name for name in HEADS if HEADS.facts(name).affine]
    if model.output not in outputs:
        return (
            f"model.output={model.output} has no evidence map: its classes are read off the "
            "image's mean output, and are no mean of what the patches say; take "
            f"{', '.join(outputs)}"
        )
    return ""


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
    "last" the last feature map, before pooling; both after norm and activation. Of timm/<name> they
    are what timm calls its first and last features.

    Raises:
        InputError: no such network, or one without feature maps.
    """
    network = network_of(config.Model(name=name))
    if not network.last:
        raise InputError(
            f"{name} has no feature map [B, C, H, W] to attribute to: its features are tokens or "
            "stand in another order; take a convolutional network"
        )
    return {"early": f"net.{network.early}", "last": f"net.{network.last}"}


def parameter_count(model: nn.Module) -> int:
    """Learned numbers in a network; the normalisation's buffers are none."""
    return sum(parameter.numel() for parameter in model.parameters())
