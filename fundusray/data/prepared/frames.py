"""Photographs in their squares as the camera took them, before their light is evened: what damage
belongs to, and how it is finished."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fundusray.config import Data
from fundusray.data.photographs.find_fundus import Box
from fundusray.data.prepared.blur import gaussian_blur
from fundusray.data.prepared.preprocess import CLIP, GAIN, GREY, PREPROCESS, SIGMA_DIVISOR
from fundusray.errors import InputError


def stored_data(data: Data) -> Data:
    """What is stored of the photographs of a recipe: prepared as it says, or their frames where
    they are damaged on their way to the network."""
    return framed_data(data) if data.corrupt or data.judge_corrupt else data


def framed_data(data: Data) -> Data:
    """What is stored where photographs are damaged on their way to the network: their frames, each
    pixel as it is.

    Raises:
        InputError: the preprocessing has no frame.
    """
    frame = PREPROCESS.find(data.preprocess).frame
    if frame is None:
        having = sorted(name for name, step in PREPROCESS.items() if step.frame is not None)
        raise InputError(
            f"data.preprocess={data.preprocess}: photographs cannot be damaged before it, as its "
            f"first step is not the bare photograph; give one of {', '.join(having)}"
        )
    args = {} if frame else data.preprocess_args
    return replace(data, preprocess=frame or data.preprocess, preprocess_args=args, encoding="raw")


def smoothly_finished(data: Data, frame: Tensor, seen: Sequence[Box]) -> Tensor:
    """Frames float [B, 3, S, S] in [0, 1] finished as the preprocessing does it, without rounding,
    so that gradients pass.

    Args:
        seen: what of each frame its photograph covers.

    Raises:
        InputError: the preprocessing is finished in another way.
    """
    if PREPROCESS.find(data.preprocess).finish is None:
        return frame
    if data.preprocess != "graham":
        raise InputError(f"data.preprocess={data.preprocess}: no gradient passes its last step")
    args = {"gain": GAIN, "divisor": SIGMA_DIVISOR, "clip": CLIP} | data.preprocess_args
    side, grey = frame.shape[-1], GREY / 255
    place = torch.arange(side, device=frame.device) - (side - 1) / 2
    outside = place[:, None] ** 2 + place[None, :] ** 2 > (args["clip"] * side / 2) ** 2
    finished = []
    for image, box in zip(frame, seen, strict=True):
        part = image[:, box.top : box.bottom, box.left : box.right]
        evened = (part - gaussian_blur(part, side / 2 / args["divisor"])) * args["gain"] + grey
        whole = torch.full_like(image, grey)
        whole[:, box.top : box.bottom, box.left : box.right] = evened.clamp(0, 1)
        finished.append(torch.where(outside, grey, whole))
    return torch.stack(finished)
