"""Who watches over a training, and hears of it."""

from typing import Any, Protocol


class StoppedError(Exception):
    """Somebody asked for the run to stop; its checkpoint is written."""


class Supervisor(Protocol):
    """Asked and told at every step, so each of these is cheap."""

    def heartbeat(self, step: int) -> None:
        """Where the training stands; on every worker."""

    def stop_asked(self) -> bool:
        """Whether it is to save and stop; asked on the first worker alone."""

    def node_leaving(self) -> bool:
        """Whether a node is about to be taken away, so that it saves; on the first worker alone,
        and true once for each notice."""

    def report(self, row: dict[str, Any]) -> None:
        """An epoch's figures; on every worker."""


class Unsupervised:
    """Nobody watches."""

    def heartbeat(self, step: int) -> None:
        pass

    def stop_asked(self) -> bool:
        return False

    def node_leaving(self) -> bool:
        return False

    def report(self, row: dict[str, Any]) -> None:
        pass
