"""What a run leaves on the way: checkpoints to go on from, the bundle, and what it came to."""

import time
from typing import Any

import torch
from torch import nn

from fundusray import files
from fundusray.config import Recipe
from fundusray.models.bundle import save_bundle
from fundusray.terminal import tell
from fundusray.training import checkpoints
from fundusray.training.checkpoints import Position
from fundusray.training.outcome import outcome_of, write_outcome
from fundusray.training.ranks import Ranks


class Checkpointer:
    """Writes into a run's folder for all workers; every worker calls it in the same order.

    Args:
        folder: the run's.
        key: the run's hash; checkpoints of another run are refused.
    """

    def __init__(self, folder: str, key: str, ranks: Ranks) -> None:
        self.run, self.key, self.ranks = folder, key, ranks
        self.folder = files.join(folder, "checkpoints")
        self._written = time.monotonic()

    @property
    def age(self) -> float:
        """Seconds since the last checkpoint, or since the start."""
        return time.monotonic() - self._written

    def newest(self) -> str:
        """The checkpoint to go on from, "" where there is none; damaged ones are named."""
        name = self.ranks.agree(self._newest)
        return files.join(self.folder, name) if name else ""

    def _newest(self) -> str:
        checkpoints.sweep_checkpoints(self.folder)
        name, problems = checkpoints.newest_checkpoint(self.folder, self.key)
        for problem in problems:
            tell(f"checkpoint refused: {problem}")
        return name

    def checkpoint(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, position: Position
    ) -> None:
        """Writes where the run stands."""
        if self.ranks.first:
            checkpoints.save_checkpoint(self.folder, model, optimizer, position, self.key)
        self._written = time.monotonic()

    @property
    def bundle(self) -> str:
        """Where the run's bundle is."""
        return files.join(self.run, "bundle")

    def write_bundle(
        self, model: nn.Module, recipe: Recipe, classes: tuple[str, ...], info: dict[str, Any]
    ) -> None:
        """Writes the network as the run's bundle, in place of an earlier one."""
        if self.ranks.first:
            state = checkpoints.cpu_tensors(model.state_dict())
            save_bundle(self.bundle, state, recipe, classes, {"key": self.key} | info)

    def outcome(self) -> dict[str, Any]:
        """What the run came to, if it has come to its end; else {}."""
        return self.ranks.agree(lambda: outcome_of(self.run, self.key))

    def write_outcome(self, outcome: dict[str, Any]) -> None:
        """Writes what the run came to, last of all its files."""
        if self.ranks.first:
            write_outcome(self.run, self.key, outcome)
