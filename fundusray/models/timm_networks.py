"""Any classifier of timm as a network, by the name timm/<name>.

What is known of it is what timm says and what a passage of shapes through it shows: a network on
torch's meta device holds no numbers, so its building and its forward pass cost next to nothing.
"""

import difflib
import sys
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import timm
import torch
from torch import Tensor, nn

from fundusray.errors import InputError
from fundusray.registry import unknown_name

PREFIX = "timm/"


class TimmWeights(NamedTuple):
    """Weights as their publisher has them."""

    url: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Facts(NamedTuple):
    """What is found out of a network without its numbers."""

    heads: tuple[str, ...]
    """The layers whose size is the number of outputs, the main one first."""
    early: str
    last: str
    """The layers of timm's first and last feature map; "" where these are tokens and no map."""
    side: int
    """The image side in pixels that it is laid out for."""


def create_network(name: str, outputs: int, dropout: float, image_size: int) -> nn.Module:
    """Timm's network; one with positions takes images of any size that its patches divide.

    Args:
        image_size: the side in pixels for which positions and windows are laid out; 0: timm's own.

    Raises:
        InputError: timm has no network of that name, or it has no size to set.
    """
    require_name(name)
    wishes: dict[str, Any] = {"img_size": image_size} if image_size else {}
    for dynamic in ({"dynamic_img_size": True}, {}):
        try:
            return timm.create_model(
                name, num_classes=outputs, drop_rate=dropout, **dynamic, **wishes
            )
        except TypeError as error:
            # What a network does not know, it says by the keyword's name.
            if dynamic and "dynamic_img_size" in str(error):
                continue
            if "img_size" in str(error):
                raise InputError(
                    f"model.image_size: {PREFIX}{name} is not laid out for a size; leave it 0"
                ) from error
            raise
    raise AssertionError("the last try returns or raises")


def create_features(name: str) -> nn.Module:
    """Timm's network without what follows its last feature map: images to a list of feature maps,
    the finest first, which `feature_info` tells the channels and strides of.

    Raises:
        InputError: timm has no network of that name, or it has no map of each size.
    """
    require_name(name)
    try:
        net = timm.create_model(name, features_only=True)
    except (RuntimeError, ValueError, KeyError) as error:
        raise InputError(
            f"timm/{name} gives no feature maps: {error}; take a convolutional network"
        ) from error
    strides = net.feature_info.reduction()
    if len(strides) < 2 or any(b != 2 * a for a, b in pairwise(strides)):
        raise InputError(
            f"timm/{name} has feature maps at strides {strides}, and a U-Net needs each twice the "
            "one before; take resnet18 or efficientnet_lite0"
        )
    return net


def require_name(name: str) -> None:
    """Checks that timm has a network of that name.

    Raises:
        InputError: it has none; the nearest are offered, or where a tag belongs.
    """
    if timm.is_model(name) and "." not in name:
        return
    plain, _, tag = name.partition(".")
    if tag and timm.is_model(plain):
        raise InputError(
            f"model.name={PREFIX}{name}: the tag says which weights; give model.name={PREFIX}"
            f"{plain} model.weights=imagenet/{tag}, or a file"
        )
    near = nearest_names(name)
    hint = f"; did you mean {' or '.join(PREFIX + one for one in near)}?" if near else ""
    raise InputError(
        f"no network of timm is named {name!r}{hint} (timm {timm.__version__} has "
        f"{len(timm.list_models())}: python -c 'import timm; print(*timm.list_models())')"
    )


def nearest_names(name: str) -> list[str]:
    """Up to three names of timm's that are like this one."""
    return difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)


@lru_cache(maxsize=32)
def facts_of(name: str, image_size: int) -> Facts:
    """The last layers and the feature maps of a network of timm.

    Raises:
        InputError: no such network, it is no classifier, or takes no RGB image.
    """
    net, wider = (_shapes_of(name, outputs, image_size) for outputs in (5, 7))
    heads = _differing(net, wider)
    channels, own, _ = net.pretrained_cfg["input_size"]
    if not heads or channels != 3:
        lack = "takes no RGB image" if heads else "has no layer of classes"
        raise InputError(f"model.name={PREFIX}{name} is no classifier of photographs: it {lack}")
    main = net.get_classifier()
    main = main[0] if isinstance(main, tuple) else main
    names = {module: path for path, module in net.named_modules()}
    # Distilled networks and those with a helper for training have several; the main one is first.
    heads.sort(key=lambda head: not head.startswith(names.get(main, head)))
    side = image_size or own
    early, last = _feature_maps(net, side)
    return Facts(tuple(heads), early, last, side)


def _shapes_of(name: str, outputs: int, image_size: int) -> nn.Module:
    with torch.device("meta"):
        return create_network(name, outputs, 0.0, image_size).eval()


def _differing(net: nn.Module, wider: nn.Module) -> list[str]:
    """Layers with tensors of another shape in a network of more outputs."""
    shapes = {name: value.shape for name, value in wider.state_dict().items()}
    names = [name for name, value in net.state_dict().items() if value.shape != shapes[name]]
    return list(dict.fromkeys(name.rpartition(".")[0] for name in names))


def _feature_maps(net: nn.Module, side: int) -> tuple[str, str]:
    """The layers of timm's first and last features; "" for one that gives no [B, C, H, W]."""
    infos = list(getattr(net, "feature_info", None) or [])
    shapes: dict[nn.Module, tuple[int, ...]] = {}

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        shapes[module] = tuple(getattr(output, "shape", ()))

    modules = dict(net.named_modules())
    for info in infos:
        if info["module"] in modules:
            modules[info["module"]].register_forward_hook(keep)
    require_forward(net, side)

    def path_of_map(info: dict[str, Any]) -> str:
        shape = shapes.get(modules.get(info["module"]), ())
        return info["module"] if len(shape) == 4 and shape[1] == info["num_chs"] else ""

    return (path_of_map(infos[0]), path_of_map(infos[-1])) if infos else ("", "")


def require_forward(net: nn.Module, side: int) -> None:
    """Passes the shapes of two images through a network without numbers; what it raises."""
    with torch.no_grad():
        net(torch.empty(2, 3, side, side, device="meta"))


def require_side(name: str, image_size: int, side: int) -> None:
    """Checks that a network takes images of a side, in pixels.

    Raises:
        InputError: it does not; what it would take.
    """
    try:
        require_forward(_shapes_of(name, 5, image_size), side)
    except Exception as error:  # each network says it in its own way
        reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise InputError(
            f"data.size: {PREFIX}{name} takes no images of {side} pixels (after data.augment and "
            f"data.view): {reason}; {_size_hint(name, image_size, side)}"
        ) from error


def _size_hint(name: str, image_size: int, side: int) -> str:
    """What to set for a network that does not take images of a side."""
    own = facts_of(name, image_size).side
    ways = [f"data.size={own}"]
    if _takes(name, side, side):
        ways.append(f"model.image_size={side}")
    patch = getattr(getattr(_shapes_of(name, 5, image_size), "patch_embed", None), "patch_size", 0)
    patch = patch[0] if isinstance(patch, tuple) else patch
    if patch and side % patch:
        sides = (side // patch * patch, (side // patch + 1) * patch)
        ways += [f"data.size={one}" for one in sides if one and _takes(name, image_size, one)]
    return f"set {' or '.join(dict.fromkeys(ways))}"


def _takes(name: str, image_size: int, side: int) -> bool:
    try:
        require_forward(_shapes_of(name, 5, image_size), side)
    except Exception:  # whatever it is, the answer is no
        return False
    return True


def timm_weights(name: str, usual: str, tag: str) -> TimmWeights:
    """Weights of a network by timm's tag; "": the usual ones.

    Raises:
        InputError: timm has none of that name, or not as a file that anybody can fetch.
    """
    tags = sorted(full.partition(".")[2] for full in timm.list_pretrained(f"{name}.*"))
    tag = tag or usual
    if not tags:
        raise InputError(
            f"model.weights=imagenet: timm has no published weights of {name}; give a file, "
            "model.weights=<.safetensors or .pth>, or start at random, model.weights="
        )
    if tag not in tags:
        raise InputError(
            f"{unknown_name(f'model.weights=imagenet/<tag> of {name}', tag, tags)}; a file in a "
            "folder called imagenet is given as ./imagenet/<file>"
        )
    about = timm.models.get_pretrained_cfg(f"{name}.{tag}")
    if not about.url or not about.url.endswith((".pth", ".pt", ".bin", ".safetensors")):
        raise InputError(
            f"model.weights=imagenet/{tag}: timm has these weights of {name} at the hub alone; "
            f"fetch model.safetensors of {about.hf_hub_id} there and give it, "
            f"model.weights=<file> model.mean={_text(about.mean)} model.std={_text(about.std)}"
        )
    return TimmWeights(about.url, tuple(about.mean), tuple(about.std))


def usual_tag(name: str) -> str:
    """The tag of the weights that timm itself takes where none is named."""
    about = timm.models.get_pretrained_cfg(name, allow_unregistered=True)
    return (about.tag if about else "") or ""


def _text(numbers: Iterable[float]) -> str:
    return ",".join(f"{number:g}" for number in numbers)


def as_timm_reads(
    net: nn.Module, state: dict[str, Tensor], heads: tuple[str, ...]
) -> tuple[dict[str, Tensor], list[str]]:
    """(a file's tensors as the network has them, notes): timm's own reading of other forms.

    A state that fits comes back as it is. Else it is given to the function by which timm reads
    files of other names, and lays positions out for another image size.
    """
    starts = tuple(f"{head}." for head in heads)
    own = {n: v.shape for n, v in net.state_dict().items() if not n.startswith(starts)}
    read = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    if read is None or all(n in state and state[n].shape == shape for n, shape in own.items()):
        return state, []
    try:
        converted = dict(read(dict(state), net))
    except Exception:  # of another architecture: how it differs is said where the state is loaded
        return state, []
    moved = [
        f"{name} resampled from {tuple(state[name].shape)} to {tuple(value.shape)}"
        for name, value in converted.items()
        if name in state and name in own and state[name].shape != value.shape
    ]
    return converted, [f"{len(moved)} tensors ({moved[0]})"] if moved else []
