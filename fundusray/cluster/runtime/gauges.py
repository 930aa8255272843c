"""What a running pool shows on Ray's metrics port, beside Ray's own figures."""

import time
from functools import lru_cache

import ray
from ray.util.metrics import Gauge

TAGS = ("job", "work")
SECONDS = 1.0
"""Between two changes of a gauge."""


@lru_cache
def _gauge(name: str, description: str) -> Gauge:
    """One of each name in a process."""
    return Gauge(name, description, TAGS)


class Gauges:
    """How much is done and how fast, as `ray_fundusray_units_done` and
    `ray_fundusray_rows_per_second`, labelled by Ray's job and by what is done."""

    def __init__(self, what: str) -> None:
        self.tags = {"job": ray.get_runtime_context().get_job_id(), "work": what}
        self.units, self._said = 0, 0.0

    def note(self, units: int, rate: float) -> None:
        """So many more units are done, and rows are done at this rate."""
        self.units += units
        if time.monotonic() - self._said >= SECONDS:
            self._set(rate)

    def rest(self) -> None:
        """Nothing more is done."""
        if self.units:
            self._set(0.0)

    def _set(self, rate: float) -> None:
        self._said = time.monotonic()
        _gauge("fundusray_units_done", "Units of work that are done").set(self.units, self.tags)
        _gauge("fundusray_rows_per_second", "Rows done in a second").set(rate, self.tags)
