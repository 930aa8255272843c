"""Photographs as they are."""

from dataclasses import dataclass

from torch import Tensor

from fundusray.attacks import Success
from fundusray.conditions.condition import CONDITIONS, Arguments, Predict


@dataclass(frozen=True)
class Clean:
    """Nothing is done to the images."""

    passes = 1

    def changed(
        self, predict: Predict, image: Tensor, target: Tensor, row: Tensor, success: Success
    ) -> Tensor:
        """The images themselves."""
        return image

    def __str__(self) -> str:
        return "clean"


@CONDITIONS.register("clean")
def clean(given: Arguments) -> Clean:
    """`clean`"""
    return Clean()
