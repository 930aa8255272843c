"""A search whose driver is killed again and again ends as one that nobody touched."""

import contextlib
import csv
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fundusray import files
from tests.chaos.harness import ENVIRONMENT, ROOT, clean, processes, until

pytestmark = [pytest.mark.ray, pytest.mark.chaos]
KILLS = 5
TRIALS = 10
"""Eight named points and two proposals, which halving may stop."""
SETTINGS = {
    "data.num_images": "60",
    "data.size": "32",
    "train.epochs": "2",
    "train.batch": "8",
    "train.precision": "fp32",
    "train.layout": "contiguous",
    "train.select": "auc_referable",
    "tune.trials": str(TRIALS),
    "tune.concurrent": "1",
    "tune.grace": "1",
    "cluster.cpus": "1",
}


def begin(storage: Path, log: Path) -> subprocess.Popen:
    settings = SETTINGS | {"run.storage": str(storage)}
    job = str(ROOT / "jobs" / "tune_balancing.py")
    with log.open("a") as sink:
        return subprocess.Popen(
            [sys.executable, "-u", job, "demo", *(f"{k}={v}" for k, v in settings.items())],
            stdout=sink,
            stderr=subprocess.STDOUT,
            cwd=storage.parent,
            env=clean() | ENVIRONMENT,
            start_new_session=True,
        )


def kill_session(driver: subprocess.Popen) -> None:
    """Ends whatever is left, so that a failed test leaves nothing behind."""
    for pid in [p for p, _, session, _ in processes() if session == driver.pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def ends(result: dict[str, Any]) -> tuple[list, list]:
    """(the record without what depends on time, the leaderboard's figures)."""
    trials = sorted(Path(result["folder"], "trials").iterdir())
    kept = [files.read_json(str(path)) for path in trials]
    with open(result["leaderboard"], newline="") as table:
        rows = list(csv.DictReader(table))
    board = []
    for row in rows:
        names = ["method", "status", "chosen", "validation"]
        # One that is stopped early trains on until it hears of it.
        names += ["n", "accuracy", "kappa", "kappa_low"] if row["status"] == "finished" else []
        board.append([row[name] for name in names])
    return kept, sorted(board)


def result_of(log: Path) -> dict[str, Any]:
    line = [line for line in log.read_text().splitlines() if line.startswith("RESULT ")][-1]
    return json.loads(line.removeprefix("RESULT "))


def begun(storage: Path) -> int:
    """How many trials were proposed."""
    return len(list(storage.glob("demo-search-*/trials/*.json")))


def test_a_search_killed_at_random_moments_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    log = tmp_path / "whole.log"
    driver = begin(whole, log)
    try:
        assert driver.wait(1200) == 0, log.read_text()[-3000:]
    finally:
        kill_session(driver)
    expected = ends(result_of(log))

    draw, log = random.Random(0), tmp_path / "broken.log"
    finished: dict[Path, int] = {}
    for trials in [0, *sorted(draw.sample(range(1, TRIALS + 1), KILLS - 1))]:
        driver = begin(broken, log)
        until(lambda n=trials: begun(broken) >= n, f"trial {trials}", 600)
        # Anywhere: as Ray starts, in a trial, as it ends, in the report; with luck never.
        with contextlib.suppress(subprocess.TimeoutExpired):
            driver.wait(draw.uniform(0, 10))
        driver.kill()
        driver.wait()
        # What had a result is not trained again.
        for path, made in finished.items():
            assert path.stat().st_mtime_ns == made
        finished = {p: p.stat().st_mtime_ns for p in broken.glob("demo-*/result.json")}
    # And as if the last kill had come when a trial's epochs were over and it was not judged yet.
    late = sorted(finished)[0]
    late.unlink()
    driver = begin(broken, log)
    try:
        assert driver.wait(1200) == 0, log.read_text()[-3000:]
    finally:
        kill_session(driver)
    assert late.exists()
    result = result_of(log)
    assert ends(result) == expected
    assert not list(Path(result["folder"]).glob("tune-*"))
