"""Raw outputs that answer the training set's class frequencies, for each kind of head.

A class without images counts as half an image, so that nothing is infinite.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def class_log_shares(counts: Sequence[int]) -> Tensor:
    """[K] log frequencies: class logits."""
    return _shares(counts).log()


def border_log_odds(counts: Sequence[int]) -> Tensor:
    """[K - 1] log odds of y > k: coral's outputs."""
    above = _above(counts)
    return (above / (1 - above)).log()


def next_border_log_odds(counts: Sequence[int]) -> Tensor:
    """[K - 1] log odds of y > k where y >= k: corn's outputs."""
    return (_above(counts) / _shares(counts)[:-1]).log()


def mean_class(counts: Sequence[int]) -> Tensor:
    """[1] mean class: a regression's output."""
    return _above(counts).sum()[None]


def _shares(counts: Sequence[int]) -> Tensor:
    share = torch.tensor(counts, dtype=torch.float64).clamp_min(0.5)
    return share / share.sum()


def _above(counts: Sequence[int]) -> Tensor:
    """P(y > k), k = 0 ... K - 2."""
    return _shares(counts).flip(0).cumsum(0).flip(0)[1:]
