"""Lines for the person who gave the command, also from processes that work elsewhere for it.

Ray hands all that its processes print on to the command: ours, and its own remarks, deprecations
and traces. In a worker our lines therefore bear a mark, by which the command knows them
(`cluster.runtime.worker_lines`); everything stays in Ray's logs.
"""

import os
import sys

VARIABLE = "FUNDUSRAY_WORKER"
"""Set in the environment of processes that work for a command."""
MARK = "\x1e"
"""Before a line of ours there: a record separator, which no text of ours holds."""


def tell(text: str) -> None:
    """Prints a line to the error stream, at once."""
    mark = MARK if os.environ.get(VARIABLE) else ""
    print(f"{mark}{text}", file=sys.stderr, flush=True)
