"""The search: named points run whole, others may stop, a killed search goes on."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fundusray.cluster import running, start
from fundusray.cluster.tune import Halving, search_folder, trial_resources
from fundusray.config import Recipe, override
from fundusray.data import given
from fundusray.data.shards import open_set

ROOT = Path(__file__).parent.parent.parent


def offer(scheduler: Halving, name: str, config: dict, value: float, epoch: int) -> str:
    trial = SimpleNamespace(trial_id=name, config=config)
    if epoch == 1:
        scheduler.on_trial_add(None, trial)
    return scheduler.on_trial_result(None, trial, {"epoch": epoch, "val_kappa": value})


def test_named_points_run_whole_and_weak_proposals_stop() -> None:
    point = {"loss.name": "focal", "loss.args.gamma": 2.0}
    settings = {"time_attr": "epoch", "metric": "val_kappa", "mode": "max"}
    scheduler = Halving([point], 9, grace_period=1, reduction_factor=3, **settings)
    for number, value in enumerate((0.9, 0.8, 0.7)):
        offer(scheduler, f"good{number}", {"loss.name": "cross_entropy"}, value, 1)
    weak = offer(scheduler, "weak", {"loss.name": "inverse_frequency"}, 0.0, 1)
    named = offer(scheduler, "named", point | {"model.dropout": 0.0}, 0.0, 1)
    assert (weak, named) == (Halving.STOP, Halving.CONTINUE)
    assert offer(scheduler, "good2", {"loss.name": "cross_entropy"}, 0.0, 9) == Halving.CONTINUE


@pytest.mark.ray
def test_trials_at_a_time_follow_the_cluster(cluster: None) -> None:
    base = override(Recipe(), {"tune.trials": 5})
    settled, at_once = trial_resources(base)
    assert (settled.cluster.cpus, at_once) == (1, 2)
    settled, at_once = trial_resources(override(base, {"tune.concurrent": 1}))
    assert (settled.cluster.cpus, at_once) == (2, 1)
    # This machine does not grow: what it cannot carry is not begun, only to wait in vain.
    assert trial_resources(override(base, {"tune.concurrent": 5}))[1] == 2
    settled, at_once = trial_resources(override(base, {"cluster.workers": 2}))
    assert (settled.cluster.cpus, at_once) == (1, 1)


@pytest.mark.ray
def test_another_start_or_split_is_another_search(
    small: Recipe, prepared: str, tmp_path: Path
) -> None:
    start, split = tmp_path / "start.safetensors", str(tmp_path / "split.csv")
    start.write_bytes(b"other weights")
    opened = open_set(prepared)
    given.write(split, opened.table, np.array(["train", "val"] * (len(opened.table) // 2)))
    asked = [small, override(small, {"model.weights": str(start)})]
    asked.append(override(small, {"data.split_file": split}))
    folders = {search_folder(recipe, prepared, [], "runs") for recipe in asked}
    assert len(folders) == 3
    elsewhere = override(small, {"cluster.workers": 2, "run.storage": "other"})
    assert search_folder(elsewhere, prepared, [], "runs") in folders


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, (1, 8)),
        # What is asked for makes an autoscaling cluster grow; eight nodes like the head will come.
        ({"tune.concurrent": 8, "cluster.gpus": 1.0}, (8, 8)),
        ({"tune.concurrent": 8, "cluster.gpus": 1.0, "cluster.cpus": 4}, (4, 8)),
        ({"tune.concurrent": 8, "tune.trials": 5}, (1, 5)),
    ],
)
def test_as_many_trials_at_a_time_as_asked_for(
    asked: dict, expected: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a cluster whose nodes come with work: a head of 8 CPUs and no GPU yet."""
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setattr(start, "nodes", lambda: [{"CPU": 8.0, "GPU": 0.0}])
    monkeypatch.setattr(running, "resources", lambda: {"CPU": 8.0, "GPU": 0.0})
    settled, at_once = trial_resources(override(Recipe(), {"tune.trials": 20} | asked))
    assert (settled.cluster.cpus, at_once) == expected


def command(storage: Path) -> list[str]:
    return [
        sys.executable,
        str(ROOT / "jobs" / "tune_balancing.py"),
        "demo",
        f"run.storage={storage}",
        "data.num_images=60",
        "data.size=32",
        "train.epochs=1",
        "tune.trials=2",
        "tune.concurrent=1",
        "train.precision=fp32",
        "train.layout=contiguous",
    ]


@pytest.mark.ray
def test_a_killed_search_goes_on_and_runs_no_finished_trial_again(tmp_path: Path) -> None:
    log = (tmp_path / "log").open("w")
    driver = subprocess.Popen(
        command(tmp_path), stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )

    def finished() -> dict[str, float]:
        return {str(p): p.stat().st_mtime for p in tmp_path.glob("demo-*/result.json")}

    deadline = time.monotonic() + 400
    while not finished() and time.monotonic() < deadline and driver.poll() is None:
        time.sleep(0.1)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    before = finished()
    assert len(before) == 1, (tmp_path / "log").read_text()[-3000:]

    done = subprocess.run(command(tmp_path), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    after = finished()
    assert {path: after[path] for path in before} == before
    assert len(after) == 2

    result = json.loads(done.stdout.strip().splitlines()[-1].removeprefix("RESULT "))
    assert result["status"] == "finished"
    with open(result["leaderboard"], newline="") as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == 2 and all(row["kappa"] for row in rows)
    assert Path(result["report"]).read_text().lower().startswith("<!doctype html>")
    for key in ("bundle", "predictions", "prepared"):
        assert Path(result[key]).exists()
