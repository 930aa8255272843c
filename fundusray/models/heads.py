"""What follows a network's pooled features: hidden layers, an output, and its reading as classes.

Raw outputs are what a loss takes: [B, K] for softmax and binary, [B, 1] for regression, [B, K - 1]
for coral and corn. Class logits [B, K] are what everybody else takes. An ordinal output says
P(y > k) for the K - 1 borders between grades; its class logits are a ladder,

    class_logits = [0, cumsum(a_0, ..., a_{K-2})],  a_k = logit P(y > k).

With a_k falling in k, the largest is at the number of k with P(y > k) > .5, which is the papers'
rule, and their softmax is a distribution over the grades with log(p_{k+1} / p_k) = a_k.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fundusray import config
from fundusray.errors import InputError
from fundusray.registry import Registry

ROUNDS = 50
"""Most rounds of `fit_thresholds`; a handful is what it takes."""


class CoralHead(nn.Module):
    """K - 1 logits of P(y > k) that share one weight vector and differ in their biases only.

    Cao, Mirjalili and Raschka, Rank consistent ordinal regression (2020), eq. 5. The biases start
    in order, from 1 down to 1 / (K - 1).
    """

    def __init__(self, features: int, num_classes: int) -> None:
        super().__init__()
        borders = num_classes - 1
        self.weight = nn.Parameter(nn.Linear(features, 1, bias=False).weight.detach())
        self.bias = nn.Parameter(torch.arange(borders, 0, -1, dtype=torch.float32) / borders)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight) + self.bias


class Head(NamedTuple):
    """What follows the features under a name of model.output."""

    width: Callable[[int], int]
    """Classes -> W of the raw outputs [B, W] that its loss takes."""
    read: Callable[[Tensor, Tensor | None], Tensor]
    """(raw outputs, thresholds [K - 1] or None) -> [B, K] class logits."""
    layer: Callable[[int, int], nn.Module] | None = None
    """(features, classes) -> the last layer, where it is not a plain linear one."""


@dataclass(frozen=True, kw_only=True)
class HeadFacts:
    """What is to be known of a head."""

    title: str
    """In a few words."""
    needs_order: bool = False
    """It means something only of classes in their order."""
    affine: bool = False
    """Class logits are sums of raw outputs and constants: the mean over places of an image of
    their class logits is the class logits of their mean."""


HEADS: Registry[Head] = Registry("model.output", HeadFacts)


def raw_width(output: str, num_classes: int) -> int:
    """How many numbers the last layer gives.

    Raises:
        InputError: binary with other than two classes.
    """
    if output == "binary" and num_classes != 2:
        raise InputError(
            f"model.output=binary is for two classes, the data have {num_classes}; set "
            "model.output=softmax, or for ordered classes regression, coral or corn"
        )
    # Binary's one number is padded to the two logits that a loss of class logits takes.
    return 1 if output == "binary" else HEADS.find(output).width(num_classes)


def build_head(features: int, model: config.Model, num_classes: int) -> nn.Module:
    """The layers after `features` pooled numbers: hidden ones with ReLU, then the raw outputs.

    Dropout stands before each layer but the first, where the network has its own.
    """
    layers: list[nn.Module] = []
    for width in model.hidden:
        layers += [nn.Linear(features, width), nn.ReLU(), nn.Dropout(model.dropout)]
        features = width
    width, own = raw_width(model.output, num_classes), HEADS.find(model.output).layer
    layers.append(own(features, num_classes) if own else nn.Linear(features, width))
    return nn.Sequential(*layers) if model.hidden else layers[0]


def class_logits(raw: Tensor, output: str, thresholds: Tensor | None = None) -> Tensor:
    """[B, K] class logits of raw outputs; `thresholds` [K - 1] are a regression's.

    Coral's biases are free and may come out of order. Its a_k are put in falling order, so the
    prediction is the number of k with P(y > k) > .5 all the same; in order they stay as they are.
    """
    return HEADS.find(output).read(raw, thresholds)


def _as_they_are(raw: Tensor, thresholds: Tensor | None) -> Tensor:
    return raw


def _of_number(raw: Tensor, thresholds: Tensor | None) -> Tensor:
    assert thresholds is not None, "a regression has thresholds"
    return border_class_logits(_widened(raw) - thresholds)


def _of_coral(raw: Tensor, thresholds: Tensor | None) -> Tensor:
    return border_class_logits(_widened(raw).sort(dim=1, descending=True).values)


def _of_corn(raw: Tensor, thresholds: Tensor | None) -> Tensor:
    return border_class_logits(corn_logits(_widened(raw)))


def _widened(raw: Tensor) -> Tensor:
    return raw.to(torch.promote_types(raw.dtype, torch.float32))


def _classes(num_classes: int) -> int:
    return num_classes


def _borders(num_classes: int) -> int:
    return num_classes - 1


def _single(num_classes: int) -> int:
    return 1


HEADS.register("softmax", title="one logit per class", affine=True)(Head(_classes, _as_they_are))
HEADS.register("binary", title="one logit for two classes", affine=True)(
    Head(_classes, _as_they_are)
)
HEADS.register(
    "regression", title="one number cut at fitted thresholds", needs_order=True, affine=True
)(Head(_single, _of_number))
HEADS.register("coral", title="one logit per border, weights shared", needs_order=True)(
    Head(_borders, _of_coral, CoralHead)
)
HEADS.register("corn", title="one logit per border, each given the one below", needs_order=True)(
    Head(_borders, _of_corn)
)


def border_class_logits(steps: Tensor) -> Tensor:
    """[B, K] class logits from logit P(y > k) [B, K - 1]."""
    return F.pad(steps.cumsum(dim=1), (1, 0))


def corn_logits(raw: Tensor) -> Tensor:
    """logit P(y > k) [B, K - 1] from corn's conditional logits, logit P(y > k | y > k - 1).

    P(y > k) is the product of the first k + 1 sigmoids: Shi, Cao and Raschka, Deep neural networks
    for rank-consistent ordinal regression (2021), eq. 5. Its rest, 1 - P(y > k), is summed over
    the border at which a grade stops, so nothing cancels where P is near 1 or 0.
    """
    passed = F.logsigmoid(raw).cumsum(dim=1)
    before = F.pad(passed[:, :-1], (1, 0))
    stopped = torch.logcumsumexp(before + F.logsigmoid(-raw), dim=1)
    return passed - stopped


def default_thresholds(num_classes: int) -> Tensor:
    """[K - 1] k + .5: a regression's number is rounded to the next grade."""
    return torch.arange(num_classes - 1, dtype=torch.float32) + 0.5


def fit_thresholds(
    scores: Sequence[float] | np.ndarray | Tensor,
    targets: Sequence[int] | np.ndarray | Tensor,
    num_classes: int,
) -> Tensor:
    """[K - 1] float32 thresholds, never falling, with the largest quadratic kappa on these rows.

    A row's grade is the number of thresholds below its score. Exact and without chance: kappa is
    1 - A / B with A and B sums over rows (B through the grades' given margin), so Dinkelbach's
    iteration (1967) takes the smallest A - r B, found by a dynamic programme over the sorted
    scores, then r = A / B, until r stays. A threshold is half-way between two scores. A grade that
    is never answered has equal thresholds around it, or one .5 beyond the outermost score. Rows of
    fewer than two grades have no kappa to maximise: k + .5.

    Raises:
        InputError: scores that are not finite, targets that are no class.
    """
    scores = torch.as_tensor(scores).detach().cpu().float().numpy().ravel()
    targets = torch.as_tensor(targets).detach().cpu().long().numpy().ravel()
    if len(scores) != len(targets):
        raise InputError(f"thresholds: {len(scores)} scores for {len(targets)} targets")
    if not np.isfinite(scores).all():
        raise InputError("thresholds: a score is not finite; the network diverged: lower train.lr")
    if len(targets) and not 0 <= targets.min() <= targets.max() < num_classes:
        raise InputError(f"thresholds: targets must be 0 to {num_classes - 1}")
    if len(np.unique(targets)) < 2:
        return default_thresholds(num_classes)
    distinct, group = np.unique(scores, return_inverse=True)
    grades = np.arange(num_classes)
    apart = (grades[:, None] - grades[None, :]) ** 2.0
    counts = np.zeros((len(distinct), num_classes))
    np.add.at(counts, (group, targets), 1)
    # Of each distinct score, answered with each grade [G, K]: its part of A, and of B.
    observed = counts @ apart
    expected = counts.sum(axis=1, keepdims=True) * (counts.sum(axis=0) @ apart) / len(targets)
    ratio, cuts = np.inf, np.zeros(num_classes - 1, np.int64)
    rows = np.arange(len(distinct))
    for _ in range(ROUNDS):
        # Ratio 1, kappa 0, is what answering always the same grade reaches.
        found = _best_cuts(observed - min(ratio, 1.0) * expected)
        answer = np.searchsorted(found, rows, side="right")
        new = observed[rows, answer].sum() / expected[rows, answer].sum()
        if new >= ratio:
            break
        ratio, cuts = new, found
    return torch.from_numpy(_between(distinct, cuts))


def _best_cuts(cost: np.ndarray) -> np.ndarray:
    """[K - 1] cuts, never falling, of the cheapest monotone answers; rows >= cut_k are above k.

    `cost` [G, K] is that of answering row g with grade k.
    """
    sums = np.concatenate([np.zeros((1, cost.shape[1])), cost.cumsum(axis=0)])
    best, choices = sums[:, 0], []
    for k in range(1, cost.shape[1]):
        # Rows from cut c on are answered with k: best[c] - sums[c, k] + sums[m, k], least over c.
        start = best - sums[:, k]
        least = np.minimum.accumulate(start)
        choices.append(_first_at_least(start, least))
        best = least + sums[:, k]
    cuts, end = [], len(cost)
    for choice in reversed(choices):
        end = choice[end]
        cuts.append(end)
    return np.array(cuts[::-1], np.int64)


def _first_at_least(start: np.ndarray, least: np.ndarray) -> np.ndarray:
    """Of each prefix, the place of its (first) least value."""
    fresh = np.concatenate([[True], start[1:] < least[:-1]])
    return np.maximum.accumulate(np.where(fresh, np.arange(len(start)), 0))


def _between(scores: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    """float32 thresholds below the scores at the cuts and not below those before them."""
    ends = np.concatenate([[scores[0] - 1], scores, [scores[-1] + 1]]).astype(np.float64)
    below, above = ends[cuts], ends[cuts + 1]
    middle = ((below + above) / 2).astype(np.float32)
    # Half-way between two neighbouring floats is rounded to one of them: to the lower, then.
    return np.where(middle >= above, below, middle).astype(np.float32)
