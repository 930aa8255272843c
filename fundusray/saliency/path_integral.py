"""The integral along the straight line from a baseline to an input, by a sum over its points."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

GAUSS_LEGENDRE, RIGHT = "gauss_legendre", "right"
RULES = (GAUSS_LEGENDRE, RIGHT)
"""By which points an integral is summed: Gauss and Legendre's, exact for polynomials of degree
2 n - 1; or k / n for k = 1 to n, each of weight 1 / n (Li et al., numerical approximation)."""
STEPS = 50
SMALLEST = 1e-3
"""A difference of outputs below which a gap is a share of this."""


@dataclass(frozen=True)
class Line:
    """By how many points and which rule the integral is summed."""

    steps: int = STEPS
    rule: str = GAUSS_LEGENDRE

    def nodes(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """(places on the line, 0 the baseline and 1 the input [steps]; their weights, whose sum is
        1 [steps]), float32 where `like` is."""
        if self.rule == RIGHT:
            places = np.arange(1, self.steps + 1) / self.steps
            weights = np.full(self.steps, 1 / self.steps)
        else:
            roots, weights = np.polynomial.legendre.leggauss(self.steps)
            places, weights = (roots + 1) / 2, weights / 2
        here = {"dtype": torch.float32, "device": like.device}
        return torch.tensor(places, **here), torch.tensor(weights, **here)


def completeness_gap(values: Tensor, difference: Tensor) -> Tensor:
    """[B]: by how much attributions [B, ...] do not sum to F(x) - F(baseline) [B], as a share of
    the larger of SMALLEST and that difference's size."""
    missing = values.flatten(1).double().sum(dim=1) - difference.double()
    return (missing.abs() / difference.double().abs().clamp_min(SMALLEST)).float()


def column(numbers: Tensor, like: Tensor) -> Tensor:
    """Numbers [n] in a shape that multiplies [n, ...] or [1, ...] of as many dimensions as
    `like`."""
    return numbers.view(-1, *[1] * (like.ndim - 1))
