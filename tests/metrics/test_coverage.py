"""A small version of benchmarks/coverage.py: what the intervals hold when the truth is known."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "coverage.py"
REPLICATES = 250


@pytest.fixture(scope="module")
def coverage() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("benchmark_of_coverage", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.mark.parametrize("patients", [40, 176])
def test_intervals_hold_the_truth_and_equal_networks_are_equal(coverage, patients) -> None:
    """95 +- 2 %, and A/A at most 5 %, each with three Monte-Carlo errors at 250 replicates."""
    truth = coverage.long_run(0.45, 400_000)
    rng = np.random.default_rng(1)
    found = coverage.cover(rng, patients, 0.45, REPLICATES, 0, truth)
    for name, count in found.items():
        given, held = count["given"], count["held"]
        assert count["flag"] / REPLICATES <= 0.05 + 3 * (0.05 * 0.95 / REPLICATES) ** 0.5, name
        if given >= 100:
            assert held / given >= 0.93 - 3 * (0.05 * 0.95 / given) ** 0.5, name
    always = {"accuracy", "kappa", "cohen_kappa", "sensitivity", "specificity", "recall_0"}
    assert all(found[name]["given"] == REPLICATES for name in always)
    for name in ("accuracy", "kappa", "cohen_kappa", "specificity"):
        assert found[name]["held"] / REPLICATES <= 0.97 + 0.01, name
    # A class of 2 % among 80 eyes is nothing to speak of, among 352 mostly something.
    assert (found["recall_4"]["given"] > REPLICATES / 2) == (patients == 176)


def test_the_bootstrap_of_before_missed_what_it_is_said_to_have_missed(coverage) -> None:
    """Else the simulation would not see a bad interval."""
    truth = coverage.long_run(0.45, 400_000)
    found = coverage.cover(np.random.default_rng(2), 20, 0.45, 240, 150, truth)
    assert found["kappa"]["held_before"] / found["kappa"]["given_before"] < 0.93
    assert found["recall_4"]["held_before"] / found["recall_4"]["given_before"] < 0.5
