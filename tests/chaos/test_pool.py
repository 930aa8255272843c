"""Whatever dies under a pool: every unit is done, once is enough, and by whom does not matter."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from fundusray import files
from fundusray.cluster.runtime.hands import Workers
from fundusray.cluster.runtime.pool import Pool
from fundusray.cluster.runtime.units import Unit
from tests.chaos.harness import ROOT, clean, processes, until
from tests.chaos.heads import Head

pytestmark = [pytest.mark.ray, pytest.mark.chaos]
KILLS = 20


def squared(holder: int, number: int) -> pa.Table:
    time.sleep(0.05)
    return pa.table({"number": [number], "square": [number**2]})


def pool_workers() -> list[int]:
    """The workers of this process's pools that have begun to work."""
    found = {pid: (parent, line) for pid, parent, _, line in processes()}

    def ours(pid: int) -> bool:
        return pid == os.getpid() or (pid in found and ours(found[pid][0]))

    alive = [p for p, (_, line) in found.items() if line.startswith("ray::PoolWorker.work")]
    return [pid for pid in alive if ours(pid)]


def kill_workers(kills: int, over: threading.Event, killed: list[int]) -> None:
    """Kills a random worker of this process's pools from time to time."""
    draw = random.Random(0)
    while len(killed) < kills and not over.wait(draw.uniform(0, 1)):
        alive = [pid for pid in pool_workers() if pid not in killed]
        if alive:
            killed.append(draw.choice(alive))
            os.kill(killed[-1], signal.SIGKILL)


def test_killed_workers_cost_only_their_units(cluster: None, tmp_path: Path) -> None:
    units, over, killed = [Unit(f"{n:04d}", (n,)) for n in range(1000)], threading.Event(), []
    thread = threading.Thread(target=kill_workers, args=(KILLS, over, killed), daemon=True)
    thread.start()
    with Pool("squaring", squared, Workers(os.getpid), str(tmp_path)) as pool:
        places = pool.values(units)
    over.set()
    thread.join()
    assert len(killed) >= KILLS // 2, "they were killed while they worked"
    whole = pa.concat_tables([files.read_table(places[unit.key]) for unit in units])
    assert whole["square"].to_pylist() == [n**2 for n in range(1000)]
    assert len(list(tmp_path.iterdir())) == 1000, "nothing half written is left"


def test_nodes_may_come_and_go(
    head: Callable[[int], Head],
    tmp_path: Path,
) -> None:
    """One node, then two, then the first one is taken away."""
    cluster = head(0)
    first = cluster.join(1)
    folder, log = tmp_path / "out", tmp_path / "log"
    joined = {"RAY_ADDRESS": cluster.address, "RAY_AUTH_MODE": "token"}
    command = [
        sys.executable,
        "-u",
        str(ROOT / "tests" / "chaos" / "pooled.py"),
        str(folder),
        "400",
    ]
    with log.open("w") as sink:
        pooled = subprocess.Popen(
            command, stdout=sink, stderr=subprocess.STDOUT, env=clean() | joined, cwd=ROOT
        )
    try:
        until(lambda: done(folder) > 20, f"20 units; {log.read_text()}")
        second = cluster.join(1)
        until(lambda: second in nodes_of(folder), "the new node works, too")
        cluster.take_away(first)
        assert pooled.wait(300) == 0, log.read_text()
    finally:
        pooled.kill()
    assert "DONE 400" in log.read_text()
    assert done(folder) == 400 and nodes_of(folder) == {first, second}


def done(folder: Path) -> int:
    return len(list(folder.glob("*.parquet")))


def nodes_of(folder: Path) -> set[str]:
    """The nodes on which units were done."""
    tables = [files.read_table(str(place)) for place in folder.glob("*.parquet")]
    return {table["by"][0].as_py().partition("/")[0] for table in tables}
