"""The workers of one data-parallel training (DDP), as each of them sees the others."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from fundusray.tasks import Columns


class Ranks:
    """This worker's place, and what all workers do together.

    Every worker must call these in the same order.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        """Of torch's process group; alone where there is none."""
        grouped = dist.is_initialized()
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if grouped else (0, 1)
        self.device = torch.device(device)

    @property
    def first(self) -> bool:
        """Whether this is the worker that writes and speaks for all."""
        return self.rank == 0

    def agree(self, make: Callable[[], Any]) -> Any:
        """What `make` gives on the first worker, on every worker."""
        told = [make() if self.first else None]
        if self.world > 1:
            dist.broadcast_object_list(told)
        return told[0]

    def together(self, value: Any) -> list[Any]:
        """Everyone's values in order of rank, on every worker."""
        parts: list[Any] = [value]
        if self.world > 1:
            parts = [None] * self.world
            dist.all_gather_object(parts, value)
        return parts

    def total(self, values: Tensor) -> Tensor:
        """The sum over all workers, on every worker; changed in place."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def wait(self) -> None:
        """Until all workers are here."""
        if self.world > 1:
            dist.barrier()

    def share_buffers(self, model: nn.Module) -> None:
        """Batch statistics are each worker's own between steps; all judge, and attack the images
        they train on, with the first's."""
        if self.world > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def distributed(self, model: nn.Module) -> nn.Module:
        """The model under data-parallel training; itself where there is one worker."""
        if self.world == 1:
            return model
        ids = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=ids)

    def sorted_rows(self, rows: np.ndarray, columns: Columns) -> tuple[np.ndarray, Columns]:
        """Everyone's (rows [N], columns [N]) in order of the rows, on every worker."""
        parts = [part for part in self.together((rows, columns)) if len(part[0])]
        if not parts:
            return rows, columns
        found = np.concatenate([part[0] for part in parts])
        order = np.argsort(found, kind="stable")
        names = parts[0][1]
        return found[order], {
            name: np.concatenate([part[1][name] for part in parts])[order] for name in names
        }
