"""Photographs as a bad camera takes them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from fundusray.attacks import Success
from fundusray.conditions.condition import Arguments, Predict
from fundusray.conditions.damage import Damage
from fundusray.config import Data
from fundusray.corruptions import Corruption, Receipt, parse_corruption, receipts
from fundusray.data.prepared.prepared_set import PreparedSet


@dataclass(frozen=True)
class CorruptionCondition:
    """Each photograph is damaged before its preprocessing is finished."""

    corruption: Corruption
    seed: int = 0
    """Of the draws; what becomes of a photograph is a function of (seed, row)."""

    passes = 1

    def changed(
        self, predict: Predict, image: Tensor, target: Tensor, row: Tensor, success: Success
    ) -> Tensor:
        """The images themselves: they are of damaged photographs already."""
        return image

    def damage(self, data: Data, prepared: PreparedSet) -> Damage:
        """What the loader does to the frames of a set."""
        return Damage(prepared, data, self.corruption, self.seed)

    def receipts(self, rows: np.ndarray, side: int) -> list[Receipt]:
        """What is done to each of some rows, by which it can be done again."""
        return receipts(self.corruption, self.seed, rows, side)

    def columns(self, rows: np.ndarray, side: int) -> Mapping[str, Any]:
        """What was drawn for each of some rows: `corruption`, its name, and `level`, [N] each."""
        drawn = self.receipts(rows, side)
        return {
            "corruption": np.array([one.name for one in drawn], dtype=object),
            "level": np.array([one.level for one in drawn], np.int32),
        }

    def __str__(self) -> str:
        text = str(self.corruption)
        if not self.seed:
            return text
        return f"{text.removesuffix(')')}, seed={self.seed})"


def corruption_condition(given: Arguments) -> CorruptionCondition:
    """The condition that a corruption's name and arguments say.

    Raises:
        InputError: what the corruption does not know, or a level that it does not have.
    """
    seed = given.whole("seed", 0, least=0)
    rest = ", ".join(f"{key}={value}" for key, value in given.rest().items())
    return CorruptionCondition(
        parse_corruption(f"{given.name}({rest})" if rest else given.name), seed
    )
