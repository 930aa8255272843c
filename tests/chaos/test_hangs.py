"""A worker that hangs is named and replaced; a loss that is no number ends the run at its step."""

import math
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from fundusray.cluster.runtime.train_workers import RunFailedError
from fundusray.cluster.train import train_recipe
from fundusray.data.prepared.prepared_set import open_set
from fundusray.data.sampling import plan_epoch
from fundusray.runs.run import plan_run
from fundusray.runs.split_of_run import split_of
from fundusray.verified import read_verified
from tests.chaos.harness import Command, ends, recipe, step_of, until, workers_below

pytestmark = [pytest.mark.ray, pytest.mark.chaos]
NOTICED = 60.0
"""Seconds in which a hung worker is named."""


def test_a_stopped_worker_is_named_within_a_minute(
    start: Callable[..., Command], tmp_path: Path, storage: Path
) -> None:
    two = {"cluster__workers": "2"}
    whole = start(**two)
    assert whole.end() == 0, whole.text
    unbroken = ends(whole.folder)
    whole.folder.rename(tmp_path / "unbroken")
    command = start(**two)
    command.reach(4)
    victim = workers_below(command.pid)[-1]
    os.kill(victim, signal.SIGSTOP)
    said = rf"rank \d stopped answering at step \d+ \(process {victim} on node [\d.]+"
    taken = until(lambda: bool(re.search(said, command.text)), "named", NOTICED)
    assert taken > 30, "a worker must be silent for a while before it is ended"
    assert command.end() == 0, command.text
    assert command.text.count("stopped answering") == 1
    assert ends(command.folder) == unbroken


def test_a_loss_that_is_no_number_stops_the_run_at_its_step(ready: Path, tmp_path: Path) -> None:
    prepared = str(next(ready.rglob("set.json")).parent)
    hot = recipe(train__lr="1e30", train__schedule="constant")
    with pytest.raises(RunFailedError, match=r"loss is (nan|inf) at step \d+") as caught:
        train_recipe(hot, prepared, str(tmp_path))
    step = int(re.search(r"at step (\d+)", str(caught.value))[1])
    folder = Path(plan_run(hot, prepared, str(tmp_path)).folder)
    # The rows of that very step, and a last checkpoint from just before it.
    opened = open_set(prepared)
    rows = split_of(opened, hot).rows["train"]
    plan = plan_epoch(
        hot.sampling,
        rows,
        opened.targets()[rows],
        num_classes=len(opened.classes),
        batch=hot.train.batch,
        seed=hot.seed,
        epoch=step // 3,
        drop_last=hot.train.drop_last,
    )
    ids = opened.image_ids()
    assert ", ".join(ids[row] for row in plan.rows[step % 3]) in str(caught.value)
    assert step_of(folder) == step
    content, _ = read_verified(str(sorted((folder / "checkpoints").iterdir())[-1]))
    before = safetensors.numpy.load(content["model.safetensors"])
    assert all(math.isfinite(float(np.abs(value).max())) for value in before.values())
