"""What the pool costs beside the work: starting and scheduling 1,000 units on real actors; how much
faster two actors attack a network than one, each with one thread; and a dry simulation of up to
1,000 actors and a million units, whose cost of a unit must stay flat.

python benchmarks/pool.py [--units 1000] [--most 1000000]
"""

import argparse
import heapq
import sys
import time
from collections.abc import Iterator
from typing import Any

import ray
import torch
from rounds import conclude
from torch import nn

from fundusray.attacks import run_attack
from fundusray.cluster.runtime.hands import Ended, Workers
from fundusray.cluster.runtime.pool import Pool
from fundusray.cluster.runtime.start import start_ray
from fundusray.cluster.runtime.units import Unit
from fundusray.config import Model
from fundusray.models import build_model

SECONDS = 0.2
"""Of a unit: the smallest of an attack, 16 images under one step, takes longer on a core."""
ACTORS, ATTACKED = 2, 40
OVERHEAD, FLAT, BOTH = 1.05, 1.5, 1.6
"""Most that the pool may add to the work, and that a unit may cost more with many than with few;
how many times as fast two actors have to be."""


def opened() -> str:
    """What a worker holds."""
    return "a network"


def worked(held: str, seconds: float) -> float:
    """A unit that takes its worker so long."""
    time.sleep(seconds)
    return seconds


def network() -> nn.Module:
    """What an attacking worker holds."""
    return build_model(Model(name="efficientnet_lite0"), 5, 0).eval().requires_grad_(False)


def attacked(model: nn.Module, number: int) -> int:
    """How many of 16 images PGD breaks."""
    image = torch.rand(16, 3, 96, 96, generator=torch.Generator().manual_seed(number))
    with torch.no_grad():
        target = model(image).argmax(dim=1)
    outcome = run_attack(
        "pgd", {"steps": 5, "keep": "last"}, model, image, target, row=torch.arange(16),
        norm="linf", eps=1e-4, success=lambda logits, target: logits.argmax(dim=1) != target,
    )  # fmt: skip
    return int(outcome.success.sum())


@ray.remote(num_cpus=1)
class Idle:
    """Holds a core that the pool then cannot have."""

    def ready(self) -> None:
        """Returns as soon as it is there."""


def attacking_seconds(actors: int) -> tuple[float, list[int]]:
    """(what so many actors that are open already take for the same units, what they found)."""
    others = [Idle.remote() for _ in range(ACTORS - actors)]
    ray.get([other.ready.remote() for other in others])
    with Pool("attacking", attacked, Workers(network, cpus=1)) as pool:
        pool.values(Unit(f"first {n}", (n,)) for n in range(2 * ACTORS))
        began = time.perf_counter()
        found = pool.values(Unit(str(n), (n,)) for n in range(ATTACKED))
        took = time.perf_counter() - began
    for other in others:
        ray.kill(other)
    return took, [found[str(n)] for n in range(ATTACKED)]


class SimulatedHands:
    """Actors that exist in a heap alone: each takes between half and one and a half ticks a unit,
    by the unit's number."""

    def __init__(self, num: int) -> None:
        self.num, self.now = num, 0.0
        self.running: dict[str, Unit] = {}
        self._due: list[tuple[float, str]] = []

    @property
    def free(self) -> bool:
        return len(self.running) < self.num

    def room(self) -> int:
        return self.num

    def grow(self, left: int) -> None:
        """All there are from the beginning."""

    def begin(self, unit: Unit) -> None:
        self.running[unit.key] = unit
        length = 0.5 + (int(unit.key) * 2654435761 % 1000) / 1000
        heapq.heappush(self._due, (self.now + length, unit.key))

    def ended(self) -> Iterator[Ended]:
        self.now = self._due[0][0] + 0.05
        while self._due and self._due[0][0] <= self.now:
            _, key = heapq.heappop(self._due)
            yield Ended(self.running.pop(key), None, None)

    def close(self) -> None:
        self.running.clear()


def simulated(actors: int, units: int) -> float:
    """Microseconds that the driver spends on a unit."""
    pool = Pool("simulating", worked)
    hands: Any = SimulatedHands(actors)
    pool._hands = hands  # in place of those that would ask Ray
    began = time.perf_counter()
    done = sum(1 for _ in pool.results(Unit(str(n)) for n in range(units)))
    assert done == units, f"{done} of {units}"
    return 1e6 * (time.perf_counter() - began) / units


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=1000)
    parser.add_argument("--most", type=int, default=1_000_000)
    asked = parser.parse_args()
    start_ray(cpus=ACTORS)
    began = time.perf_counter()
    with Pool("working", worked, Workers(opened, cpus=1)) as pool:
        values = pool.values(Unit(str(n), (SECONDS,)) for n in range(asked.units))
    took = time.perf_counter() - began
    assert len(values) == asked.units
    alone = asked.units * SECONDS / ACTORS
    print(
        f"{asked.units:,} units of {SECONDS} s on {ACTORS} actors: {took:.1f} s, alone {alone:.1f}"
    )
    few = simulated(10, asked.most // 100)
    costs = {1000: simulated(1000, asked.most), 100: simulated(100, asked.most // 10)}
    for actors, cost in costs.items():
        print(f"simulated {actors:,} actors: {cost:.1f} us a unit (10 actors: {few:.1f})")
    conclude({"pool_share": (alone / took, 1 / OVERHEAD)})
    (one, alone_found), (two, found) = attacking_seconds(1), attacking_seconds(2)
    assert alone_found == found, "who attacks makes no difference"
    print(f"{ATTACKED} units of PGD on 16 images: one actor {one:.1f} s, two {two:.1f} s")
    conclude({"two_actors_over_one": (one / two, BOTH)})
    conclude({"pool_flat": (few / max(costs.values()), 1 / FLAT)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
