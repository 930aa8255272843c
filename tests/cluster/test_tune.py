"""The search: named points run whole, others may stop, a killed search goes on."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fundusray.cluster.runtime import start, train_workers
from fundusray.cluster.search.study import space_summary
from fundusray.cluster.search.tune import (
    recorded_search,
    run_search,
    search_folder,
    trial_resources,
)
from fundusray.cluster.train import planned
from fundusray.config import Recipe, override
from fundusray.data.prepared.prepared_set import open_set
from fundusray.data.split import split_files
from fundusray.errors import InputError
from fundusray.jobs.searching import report_search
from fundusray.runs.identity import with_training_seed
from fundusray.runs.run import Run, plan_run
from tune_spaces import balancing

ROOT = Path(__file__).parent.parent.parent


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
def test_another_start_split_or_space_is_another_search(
    small: Recipe, prepared: str, tmp_path: Path
) -> None:
    start, split = tmp_path / "start.safetensors", str(tmp_path / "split.csv")
    start.write_bytes(b"other weights")
    opened = open_set(prepared)
    held = space_summary(balancing, small)

    def run(recipe: Recipe) -> Run:
        return plan_run(recipe, prepared, "runs")

    split_files.write_split_file(
        split, opened.table, np.array(["train", "val"] * (len(opened.table) // 2))
    )
    asked = [small, override(small, {"model.weights": str(start)})]
    asked.append(override(small, {"data.split_file": split}))
    folders = {search_folder(run(recipe), [], held) for recipe in asked}
    assert len(folders) == 3
    elsewhere = override(small, {"cluster.workers": 2, "run.storage": "other"})
    assert search_folder(run(elsewhere), [], held) in folders
    # So is one of another space, or with more trainings of each trial.
    other = held | {"digest": "another"}
    twice = override(small, {"tune.repeats": 2})
    assert search_folder(run(small), [], other) not in folders
    assert search_folder(run(twice), [], held) not in folders


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
    monkeypatch.setattr(start, "live_nodes", lambda: [{"CPU": 8.0, "GPU": 0.0}])
    monkeypatch.setattr(train_workers, "cluster_resources", lambda: {"CPU": 8.0, "GPU": 0.0})
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
        "model.name=timm/test_resnet",
        "model.weights=",
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
    # Of what Tune left nothing can be read any more, of our own record not its first two files.
    (folder,) = tmp_path.glob("demo-search-*")
    trial = folder / "trials" / "0000.json"
    for path in [*folder.glob("tune-*/**/*"), folder / "search.json", trial]:
        if path.is_file():
            path.write_bytes(b"")

    done = subprocess.run(command(tmp_path), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf"{folder}/search\.json: not readable.*; written again", done.stdout)
    assert re.search(rf"{trial}: .*; taken again from {tmp_path}/demo-", done.stderr)
    assert not list(folder.glob("tune-*"))
    after = finished()
    assert {path: after[path] for path in before} == before
    assert len(after) == 2

    result = json.loads(done.stdout.strip().splitlines()[-1].removeprefix("RESULT "))
    assert result["status"] == "finished"
    with open(result["leaderboard"], newline="") as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == 2 and all(row["kappa"] for row in rows)
    # What is handed over is what validation rows chose, and the first look at the test rows.
    (chosen,) = [row for row in rows if row["chosen"] == "True"]
    assert chosen["bundle"] == result["bundle"] and chosen["method"] == result["chosen"]
    assert float(chosen["validation"]) == max(float(row["validation"]) for row in rows)
    assert result["test_rows_looked_at_before"] == 0 and (folder / "looks.json").exists()
    assert Path(result["report"]).read_text().lower().startswith("<!doctype html>")
    for key in ("bundle", "predictions", "prepared"):
        assert Path(result[key]).exists()


def test_repeats_are_other_trainings_on_the_same_split() -> None:
    recipe = override(Recipe(), {"seed": 5})
    assert with_training_seed(recipe, 0) == recipe
    assert [with_training_seed(recipe, n).seed for n in range(3)] == [5, 6, 7]
    assert [with_training_seed(recipe, n).data.split_seed for n in range(3)] == [-1, 5, 5]
    assert with_training_seed(override(recipe, {"data.split_seed": 0}), 2).data.split_seed == 0


def space_of(dropouts: list[float]) -> Any:
    points = [{"model.dropout": value} for value in dropouts[:2]]
    return SimpleNamespace(
        TITLE="dropout",
        SETTINGS={},
        POINTS=points,
        space=lambda trial: trial.suggest_categorical("model.dropout", dropouts),
        method=lambda overrides: f"dropout {overrides['model.dropout']}",
    )


@pytest.mark.ray
@pytest.mark.slow
def test_a_search_with_repeats_is_judged_by_their_mean_and_reported_without_its_space(
    small: Recipe, prepared: str, storage: str, capsys: pytest.CaptureFixture
) -> None:
    changes = {"tune.trials": 2, "tune.repeats": 2, "train.epochs": 1, "run.storage": storage}
    recipe = override(small, changes | {"run.name": "twice"})
    run = planned(recipe, prepared, storage)
    found = run_search(run, space_of([0.0, 0.5]))
    results = {
        place: json.loads((Path(place) / "result.json").read_text())
        for trial in found["trials"]
        for place in trial["folders"]
    }
    assert len(results) == 4
    for trial in found["trials"]:
        values = [results[place]["best"]["value"] for place in trial["folders"]]
        assert trial["value"] == pytest.approx(sum(values) / 2)
    assert [t["chosen"] for t in found["trials"]].count(True) == 1
    # A trial whose epochs are over and that is not judged yet reports them all the same.
    first = Path(found["trials"][0]["folders"][0])
    (first / "result.json").unlink()
    assert run_search(run, space_of([0.0, 0.5])) == found
    assert f"{first}/result.json is gone; run again" in capsys.readouterr().out
    # Nothing is left to do: no Tune. Another space is another search, and says where this one is.
    assert run_search(run, space_of([0.0, 0.5])) == found
    assert not list(Path(found["folder"]).glob("tune-*"))
    with pytest.raises(InputError, match=r"point 2 .*model\.dropout=0\.5"):
        other = space_of([0.0, 0.25])
        other.POINTS = space_of([0.0, 0.5]).POINTS
        run_search(run, other)
    again, same = recorded_search(found["folder"], space_of([0.9]))
    assert (again.set_folder, same) == (prepared, found)
    for looks in range(2):
        ended = report_search(again, same, space_of([0.9]))
        assert ended["test_rows_looked_at_before"] == looks
    board = Path(ended["leaderboard"]).with_suffix(".md").read_text()
    assert "Trained 2 times, on one split with a seed each" in board
    assert "looked at once before (by twice-search-" in board
