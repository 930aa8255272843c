"""How a Ray task ended: its result, an error as it was raised, or a worker that died."""

from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayError, RayTaskError

from fundusray.errors import FundusError


class WorkerLostError(FundusError):
    """A worker died (killed, out of memory, its node gone)."""

    def __init__(self, text: str, why: str = "", memory: bool = False) -> None:
        super().__init__(text)
        self.why = why
        """Ray's word for it."""
        self.memory = memory
        """Whether it was killed because its machine's memory was full."""


def result_of(ready: ray.ObjectRef) -> Any:
    """A task's result.

    Raises:
        FundusError: our own, as the task raised it.
        WorkerLostError: its worker died, as often as the task may be tried.
        RayTaskError: any other error in it, with the task's own trace.
    """
    try:
        return ray.get(ready)
    except RayTaskError as error:
        if isinstance(error.cause, FundusError):
            raise error.cause from None
        raise
    except RayError as error:
        why = type(error).__name__
        memory = isinstance(error, OutOfMemoryError)
        raise WorkerLostError(f"a task's worker died: {why}", why, memory) from error
