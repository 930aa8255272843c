"""Images that turned out not to decode while a network was trained or judged."""

import sys
from typing import Any

import torch.distributed as dist

from fundusray.data.shards import PreparedSet
from fundusray.pipeline import Loader


class Quarantine:
    """What the loaders of one worker had to leave out."""

    def __init__(self, loaders: list[Loader], prepared: PreparedSet) -> None:
        self._loaders = loaders
        self._ids = prepared.image_ids()
        self._told: set[int] = set()

    def _found(self) -> dict[int, str]:
        """Row -> reason."""
        return {row: why for loader in self._loaders for row, why in loader.quarantined.items()}

    def _name(self, row: int) -> str:
        # Rows beyond the set are its copies in another one.
        return self._ids[row % len(self._ids)]

    def tell(self) -> None:
        """Names each image once; any worker may meet one."""
        found = self._found()
        for row in sorted(found.keys() - self._told):
            print(f"quarantined: {self._name(row)} ({found[row]})", file=sys.stderr, flush=True)
        self._told |= found.keys()

    def gathered(self, world: int) -> list[dict[str, str]]:
        """image_id and reason of what any of `world` workers left out, the same on every worker."""
        parts: list[Any] = [self._found()]
        if world > 1:
            parts = [None] * world
            dist.all_gather_object(parts, self._found())
        found = {row: reason for part in parts for row, reason in part.items()}
        return [{"image_id": self._name(row), "reason": found[row]} for row in sorted(found)]
