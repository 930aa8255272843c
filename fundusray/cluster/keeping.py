"""What a run leaves on the way: checkpoints to go on from, and the best epoch's bundle."""

import sys
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fundusray import files
from fundusray.cluster.ranks import Ranks
from fundusray.config import Recipe
from fundusray.data.patients import caveat
from fundusray.data.shards import PreparedSet
from fundusray.models.bundle import save_bundle
from fundusray.training import checkpoints
from fundusray.training.checkpoints import Position


@dataclass(frozen=True)
class Job:
    """What a driver tells its workers; plain values, so that it travels as JSON."""

    recipe: str
    """The recipe as JSON."""
    prepared: str
    """Folder of the prepared set."""
    folder: str
    """The run's folder."""
    key: str
    """The run's hash; checkpoints of another run are refused."""
    split: str
    """Digest of who is on which side, as the driver wrote it into the run's folder."""
    storage: str
    threads: int
    attempt: str
    """Names this call of fit, so that a failure noted by an earlier one does not count."""


class Keeper:
    """Writes for all workers; every worker calls it in the same order."""

    def __init__(self, job: Job, ranks: Ranks) -> None:
        self.job, self.ranks = job, ranks
        self.folder = files.join(job.folder, "checkpoints")
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
        checkpoints.sweep(self.folder)
        name, problems = checkpoints.newest(self.folder, self.job.key)
        for problem in problems:
            print(f"checkpoint refused: {problem}", file=sys.stderr, flush=True)
        return name

    def checkpoint(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, position: Position
    ) -> None:
        """Writes where the run stands."""
        if self.ranks.first:
            checkpoints.save(self.folder, model, optimizer, position, self.job.key)
        self._written = time.monotonic()

    def bundle(
        self, model: nn.Module, recipe: Recipe, prepared: PreparedSet, told: dict[str, Any]
    ) -> None:
        """Writes the network as the run's bundle, in place of an earlier one."""
        if self.ranks.first:
            info = {"key": self.job.key, "prepared": files.base_name(self.job.prepared)}
            unknown = caveat(prepared.table)
            info |= {"patients": unknown} if unknown else {}
            save_bundle(
                files.join(self.job.folder, "bundle"),
                checkpoints.plain(model.state_dict()),
                recipe,
                prepared.classes,
                info | {"manifest": prepared.info["manifest"], "ordered": prepared.ordered} | told,
            )
