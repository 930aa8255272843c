"""Losses over pixels, as one text: each by its name and keywords, joined by +.

    cross_entropy
    cross_entropy(weights=balanced) + dice
    focal(gamma=2) + 0.5 dice

A loss takes class logits [B, K, H, W] and the class of each pixel, int64 [B, H, W], and gives a
number for each image, which depends on that image alone.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fundusray.errors import InputError
from fundusray.keywords import AtLeast, OneOf, check_keywords, value_of_text
from fundusray.registry import Registry

PixelLoss = Callable[..., Tensor]
PIXEL_LOSSES: Registry[PixelLoss] = Registry("loss over pixels")
"""name -> (logits [B, K, H, W], target [B, H, W], **keywords) -> [B]."""

TERM = re.compile(r"\s*([0-9.]+)?\s*\*?\s*([A-Za-z_]\w*)\s*(?:\(([^()]*)\))?\s*", re.ASCII)
PASSED = frozenset({"logits", "target"})
EXAMPLE = "cross_entropy(weights=balanced) + dice"


def mean_of_pixels(values: Tensor, target: Tensor, num_classes: int, weights: str) -> Tensor:
    """[B] means of numbers [B, H, W] over pixels; `balanced`: over the classes that an image has,
    each the mean over its pixels, so that a lesion of few pixels counts as the background does."""
    if weights == "none":
        return values.mean(dim=(1, 2))
    of_class = F.one_hot(target, num_classes).movedim(-1, 1).to(values.dtype)
    size = of_class.sum(dim=(2, 3))
    total = (of_class * values[:, None]).sum(dim=(2, 3))
    means = total / size.clamp_min(1)
    return means.sum(dim=1) / (size > 0).sum(dim=1)


@PIXEL_LOSSES.register("cross_entropy")
def cross_entropy(
    logits: Tensor, target: Tensor, *, weights: Annotated[str, OneOf("none", "balanced")] = "none"
) -> Tensor:
    """The mean cross entropy of an image's pixels."""
    values = F.cross_entropy(logits, target, reduction="none")
    return mean_of_pixels(values, target, logits.shape[1], weights)


@PIXEL_LOSSES.register("focal")
def focal(
    logits: Tensor,
    target: Tensor,
    *,
    gamma: Annotated[float, AtLeast(0)] = 2.0,
    weights: Annotated[str, OneOf("none", "balanced")] = "none",
) -> Tensor:
    """(1 - p)^gamma times the cross entropy, p the probability of the pixel's class (Lin et al.
    2017, eq. 4); gamma 0 is cross entropy."""
    values = F.cross_entropy(logits, target, reduction="none")
    # At p = 1 the slope of a root is infinite, and times the slope 0 of cross entropy no number.
    missing = -torch.expm1(-values)
    values = missing.clamp_min(torch.finfo(values.dtype).tiny).pow(gamma) * values
    return mean_of_pixels(values, target, logits.shape[1], weights)


@PIXEL_LOSSES.register("dice")
def dice(logits: Tensor, target: Tensor, *, smooth: Annotated[float, AtLeast(0)] = 1.0) -> Tensor:
    """1 - the mean over all classes but the background of (2 sum(p y) + smooth) / (sum(p) + sum(y)
    + smooth), over an image's pixels (Milletari et al. 2016, without their squares). `smooth` is in
    pixels: a class that is absent and not answered has a Dice of 1."""
    share = logits.softmax(dim=1)[:, 1:]
    wanted = F.one_hot(target, logits.shape[1]).movedim(-1, 1)[:, 1:].to(share.dtype)
    both = (share * wanted).sum(dim=(2, 3))
    either = share.sum(dim=(2, 3)) + wanted.sum(dim=(2, 3))
    tiny = torch.finfo(share.dtype).tiny
    return 1 - ((2 * both + smooth) / (either + smooth).clamp_min(tiny)).mean(dim=1)


@lru_cache(64)
def parsed_pixel_losses(text: str) -> tuple[tuple[float, str, tuple[tuple[str, Any], ...]], ...]:
    """(factor, name, keywords) of each loss that a text adds up.

    Raises:
        InputError: it is no such text, or names what is no loss or no keyword of it.
    """
    found = []
    for part in re.split(r"\+(?![^()]*\))", text):
        term = TERM.fullmatch(part)
        if term is None:
            raise InputError(f"segmentation.loss={text}: {part.strip()!r} is no loss; {EXAMPLE}")
        loss, args = PIXEL_LOSSES.find(term[2]), {}
        for pair in filter(None, (each.strip() for each in (term[3] or "").split(","))):
            key, equals, value = (each.strip() for each in pair.partition("="))
            if not equals or key in args:
                raise InputError(f"segmentation.loss={text}: {pair!r} is no keyword; {EXAMPLE}")
            known = key in (loss.__kwdefaults__ or {})
            args[key] = value_of_text(value, loss, key) if known else value
        check_keywords("segmentation.loss", f"keyword of loss {term[2]}", loss, PASSED, args)
        try:
            factor = float(term[1] or 1)
        except ValueError:
            raise InputError(f"segmentation.loss={text}: {term[1]} is no factor") from None
        found.append((factor, term[2], tuple(args.items())))
    return tuple(found)


def pixel_loss(text: str, logits: Tensor, target: Tensor) -> Tensor:
    """[B]: what a text says is minimised, of logits [B, K, H, W] and classes [B, H, W]."""
    parts = parsed_pixel_losses(text)
    terms = [f * PIXEL_LOSSES[name](logits, target, **dict(args)) for f, name, args in parts]
    return torch.stack(terms).sum(dim=0)
