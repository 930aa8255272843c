"""Squares numbers slowly, on the cluster of RAY_ADDRESS, by a pool whose workers hold something.

Run by test_pool.py in a process of its own: pooled.py <folder of results> <numbers>.
"""

import os
import sys
import time

import pyarrow as pa
import ray

from fundusray.cluster.runtime import start
from fundusray.cluster.runtime.hands import Workers
from fundusray.cluster.runtime.pool import Pool
from fundusray.cluster.runtime.units import Unit


def opened() -> str:
    """What a worker holds: where it is."""
    return f"{ray.get_runtime_context().get_node_id()}/{os.getpid()}"


def squared(holder: str, number: int) -> pa.Table:
    time.sleep(0.2)
    return pa.table({"number": [number], "square": [number**2], "by": [holder]})


def main(folder: str, numbers: int) -> None:
    start.start_ray()
    units = [Unit(f"{number:04d}", (number,)) for number in range(numbers)]
    with Pool("squaring", squared, Workers(opened), folder) as pool:
        print(f"DONE {len(pool.values(units))}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
