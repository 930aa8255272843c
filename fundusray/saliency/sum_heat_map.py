"""The sum heat map (Li et al.): the mean of many images' maps, class by class, in the coordinates
of the prepared photographs."""

import torch
from torch import Tensor


class SumHeatMap:
    """Maps added up batch by batch; means do not depend on how they were batched."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        """Class -> images."""
        self._sums: dict[int, Tensor] = {}

    def add(self, values: Tensor, classes: Tensor) -> None:
        """Adds maps [B, 1, S, S] of images that count for these classes [B]: their label, or the
        answer of the network."""
        for value, number in zip(values[:, 0].double().cpu(), classes.tolist(), strict=True):
            self.counts[number] = self.counts.get(number, 0) + 1
            self._sums[number] = self._sums.get(number, torch.zeros_like(value)) + value

    def join(self, other: "SumHeatMap") -> None:
        """Adds what another one has added up."""
        for number, count in other.counts.items():
            self.counts[number] = self.counts.get(number, 0) + count
            sums = self._sums.get(number, torch.zeros_like(other._sums[number]))
            self._sums[number] = sums + other._sums[number]

    def means(self) -> dict[int, Tensor]:
        """Class -> mean map [S, S] float32, in order of the classes."""
        return {k: (self._sums[k] / self.counts[k]).float() for k in sorted(self.counts)}
