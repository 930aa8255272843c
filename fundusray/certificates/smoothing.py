"""Randomised smoothing: what a network answers under noise, and how far that cannot be changed.

Cohen, Rosenfeld and Kolter 2019. The smoothed network answers the class that the network most often
gives to an image with normal noise of standard deviation sigma. If the probability of that class is
at least p > 1/2, no change shorter than sigma Phi^-1(p) in L2 gives the smoothed network another
answer (theorem 1 with p_B = 1 - p). p is a lower bound from draws, so a certificate is wrong with a
probability of alpha at most.

Images with noise are not cut off at black and white: the theorem is about the noise itself.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import torch
from torch import Tensor

from fundusray.attacks.gradient import Predict
from fundusray.certificates.clopper_pearson import lower_bound
from fundusray.errors import InputError
from fundusray.hashed_numbers import normal_numbers
from fundusray.metrics.auc import first_referable

ABSTAINED = -1
"""Stands where a class would: no class has more than half of the noisy images for certain."""
CHOICE, ESTIMATE = 1 << 40, 1 << 41
"""Uses of a row's numbers: those that choose the class, and those that measure its share."""


@dataclass(frozen=True)
class Smoothing:
    """How an image is smoothed.

    Raises:
        InputError: noise or a risk that is none, or too few draws to certify anything.
    """

    sigma: float
    """Standard deviation of the noise, pixels in [0, 1]."""
    choosing: int = 100
    """Draws that choose the class (n0 of the paper)."""
    draws: int = 1000
    """Draws that measure its share (n)."""
    alpha: float = 0.001
    """Probability that an image's certificate is wrong."""
    seed: int = 0
    batch: int = 64
    """Noisy images in memory at a time."""

    def __post_init__(self) -> None:
        if not 0 < self.sigma < math.inf:
            raise InputError(f"smoothing: sigma, a length above 0, got {self.sigma}")
        if not 0 < self.alpha < 0.5:
            raise InputError(f"smoothing: alpha, a probability in (0, 0.5), got {self.alpha}")
        if self.choosing < 1 or self.batch < 1:
            raise InputError("smoothing: choosing and batch are whole numbers from 1 on")
        if self.most_radius <= 0:
            raise InputError(
                f"smoothing: {self.draws} draws certify nothing at alpha={self.alpha:g}; give at "
                f"least {math.floor(math.log2(1 / self.alpha)) + 1}"
            )

    @property
    def most_radius(self) -> float:
        """What is certified where all draws agree: so far so many draws reach at most."""
        return self.radius(self.draws)

    def radius(self, hits: int) -> float:
        """The certified L2 radius of a class that so many draws answer; 0 or less: abstained."""
        bound = lower_bound(hits, self.draws, self.alpha) if self.draws > 0 else 0.0
        return self.sigma * NormalDist().inv_cdf(bound) if bound > 0 else -math.inf


class Certificates(NamedTuple):
    """What the smoothed network says of B images, and how far that holds."""

    answer: Tensor
    """int64 [B]; ABSTAINED where nothing is certain."""
    radius: Tensor
    """float64 [B]: L2, pixels in [0, 1]; 0 where it abstained."""
    counts: Tensor
    """int64 [B, K]: answers of the draws that measure."""


def certify(
    predict: Predict, image: Tensor, row: Tensor, smoothing: Smoothing, num_classes: int
) -> Certificates:
    """Certificates of images [B, 3, S, S] of these rows [B]; the paper's CERTIFY.

    Noise is a function of (seed, row, draw), so an image's certificate depends on nothing else.
    """
    return _certified(predict, image, row, smoothing, torch.arange(num_classes))


def certify_referable(
    predict: Predict, image: Tensor, row: Tensor, smoothing: Smoothing, num_classes: int
) -> Certificates:
    """The same of the two answers "not referable" (0) and "referable" (1), each any class of its
    kind. Draws of grades 2, 3 and 4 count together, so its radius is the wider one."""
    kinds = torch.arange(num_classes) >= first_referable(num_classes)
    return _certified(predict, image, row, smoothing, kinds.long())


def _certified(
    predict: Predict, image: Tensor, row: Tensor, smoothing: Smoothing, kind: Tensor
) -> Certificates:
    """Certificates where a class counts as its `kind`, int64 [K]."""
    kind = kind.to(image.device)
    chosen = _answers(predict, image, row, smoothing, kind, CHOICE).argmax(dim=1)
    counts = _answers(predict, image, row, smoothing, kind, ESTIMATE)
    hits = counts.gather(1, chosen[:, None])[:, 0].tolist()
    radius = torch.tensor([smoothing.radius(num) for num in hits], dtype=torch.float64)
    radius = radius.to(image.device)
    sure = radius > 0
    return Certificates(torch.where(sure, chosen, ABSTAINED), radius.clamp_min(0.0), counts)


def _answers(
    predict: Predict, image: Tensor, row: Tensor, smoothing: Smoothing, kind: Tensor, use: int
) -> Tensor:
    """How often each kind is answered under noise, int64 [B, kinds]."""
    num = smoothing.choosing if use == CHOICE else smoothing.draws
    width = int(kind.max()) + 1
    counts = torch.zeros(len(image) * width, dtype=torch.int64, device=image.device)
    for begin in range(0, len(image) * num, smoothing.batch):
        end = min(begin + smoothing.batch, len(image) * num)
        pair = torch.arange(begin, end, device=image.device)
        place, draw = pair // num, pair % num
        noise = normal_numbers(smoothing.seed, row[place], use + draw, image[0].numel())
        noisy = image[place] + smoothing.sigma * noise.view(-1, *image.shape[1:]).to(image)
        with torch.no_grad():
            answer = kind[predict(noisy).argmax(dim=1)]
        counts += torch.bincount(place * width + answer, minlength=len(counts))
    return counts.view(len(image), width)
