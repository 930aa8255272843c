"""How a Ray task ended: its result, an error as it was raised, or a worker that died."""

from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from fundusray.errors import FundusError


class WorkerLostError(FundusError):
    """A task's worker died, as often as the task may be tried."""


def result_of(ready: ray.ObjectRef) -> Any:
    """A task's result.

    Raises:
        FundusError: our own, as the task raised it.
        WorkerLostError: its worker died (killed, out of memory, its node gone).
        RayTaskError: any other error in it, with the task's own trace.
    """
    try:
        return ray.get(ready)
    except RayTaskError as error:
        if isinstance(error.cause, FundusError):
            raise error.cause from None
        raise
    except RayError as error:
        raise WorkerLostError(f"a task's worker died: {type(error).__name__}") from error
