"""Of what Ray's processes print, a command prints our lines alone, as they are."""

import os
import subprocess
import sys

import pytest

from fundusray.cluster.runtime.worker_lines import own_lines
from fundusray.terminal import MARK, VARIABLE


def test_lines_of_ours_lose_their_mark_and_others_are_left_out() -> None:
    lines = ["/ray/x.py:1: DeprecationWarning: old", f"{MARK}epoch 1/2", f"\x1b[36m{MARK}epoch 2/2"]
    assert own_lines(lines) == ["epoch 1/2", "epoch 2/2"]


@pytest.mark.parametrize(
    ("inside", "expected"), [({VARIABLE: "1"}, f"{MARK}here\n"), ({}, "here\n")]
)
def test_only_in_a_worker_a_line_is_marked(inside: dict[str, str], expected: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k != VARIABLE} | inside
    command = [sys.executable, "-c", "from fundusray.terminal import tell; tell('here')"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stderr == expected


PROGRAM = """
import sys, time, warnings, ray
from fundusray.cluster.runtime import start
from fundusray.terminal import tell

@ray.remote
def work():
    warnings.warn("remark of a library", DeprecationWarning, stacklevel=1)
    print("chatter", file=sys.stderr, flush=True)
    tell("ours from afar")

@ray.remote(num_cpus=0)
class Idle:
    def there(self):
        return True

with start.left_as_found():
    start.start_ray(cpus=1)
    # As many processes as Ray remarks on.
    idle = [Idle.remote() for _ in range(8)]
    ray.get([each.there.remote() for each in idle])
    time.sleep(2)
    ray.get(work.remote())
tell("ours from here")
"""


@pytest.mark.ray
def test_the_terminal_shows_no_line_of_ray() -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr.splitlines() == ["ours from afar", "ours from here"]
