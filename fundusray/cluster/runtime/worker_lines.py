"""What a command prints of what Ray's processes print: our own lines, and nothing before them.

How Ray hands lines on has no public name. Where it is another one by now, Ray prints as it does by
itself: more than is wanted, nothing less.
"""

from typing import Any

from fundusray.terminal import MARK, tell

HANDLER = "ray_print_logs"
"""Ray's name for what prints the lines of its processes."""
OF_THE_CLUSTER = "autoscaler"
"""Who speaks of nodes that come and go, in place of a process id."""


def print_own_lines_only() -> None:
    """Prints lines of ours as they are, and what the autoscaler says; leaves all else to Ray's
    logs. To be called once Ray is connected."""
    try:
        from ray._private import worker
        from ray._private.ray_logging import global_worker_stdstream_dispatcher as dispatcher
    except ImportError:
        return
    dispatcher.remove_handler(HANDLER)
    dispatcher.add_handler(HANDLER, _hand_on)
    # Remarks of Ray's own, as that many processes were started, go round the dispatcher.
    worker._worker_logs_enabled = False


def _hand_on(batch: dict[str, Any]) -> None:
    lines = batch.get("lines", [])
    if batch.get("pid") == OF_THE_CLUSTER:
        from ray._private.worker import filter_autoscaler_events

        lines = [f"cluster: {event}" for event in filter_autoscaler_events(lines)]
    else:
        lines = own_lines(lines)
    for line in lines:
        tell(line)


def own_lines(lines: list[str]) -> list[str]:
    """Those of ours among the lines of a process, without their mark."""
    return [line.partition(MARK)[2] for line in lines if MARK in line]
