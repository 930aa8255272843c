"""Where Ray Train enters a worker.

The controller of a run reads the module of the function it starts, and never trains: without torch
and the networks it is there seconds sooner, and in a third of the memory.
"""

from typing import Any


def work(config: dict[str, Any]) -> None:
    """The training function of one worker; see `worker.work`."""
    from fundusray.cluster import worker

    worker.work(config)


def pretrain(config: dict[str, Any]) -> None:
    """The training function of one worker of a pretraining; see `worker.pretrain`."""
    from fundusray.cluster import worker

    worker.pretrain(config)
