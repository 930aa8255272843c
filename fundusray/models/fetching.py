"""Weights from their publisher, over the network."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException

import torch
from torch import Tensor

from fundusray import config
from fundusray.errors import InputError
from fundusray.models.weights import unwrapped

CONNECT_SECONDS = 10.0
"""How long an unanswered connection is waited for."""


def fetch(model: config.Model, url: str) -> dict[str, Tensor]:
    """The weights of `model.weights`, kept in torch's own cache.

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
            f"model.weights={model.weights}: cannot fetch weights of {model.name} from {url} "
            f"({error}); "
            "give a file that is here, model.weights=<.safetensors or .pth>, "
            "or start at random, model.weights="
        ) from error
    return unwrapped(state, url)


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
