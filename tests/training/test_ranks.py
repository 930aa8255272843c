"""Two workers that share gradients end as one does, also when their number changes under way."""

import socket
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torch.distributed as dist

from fundusray import files
from fundusray.config import Recipe, override, to_json
from fundusray.data.prepared.prepared_set import PreparedSet, open_set
from fundusray.data.split import split_files
from fundusray.data.split.assign_sides import rows_by_side
from fundusray.tasks import task_of
from fundusray.training.examples import PreparedExamples
from fundusray.training.job import Job
from fundusray.training.ranks import Ranks
from fundusray.training.supervision import StoppedError, Unsupervised
from fundusray.training.trainer import Trainer


class StopAfter(Unsupervised):
    """Asks to stop after a step; -1: never."""

    def __init__(self, step: int) -> None:
        self.step, self.begun = step, -1

    def heartbeat(self, step: int) -> None:
        self.begun = step

    def stop_asked(self) -> bool:
        return self.begun == self.step


def train(recipe: Recipe, prepared: PreparedSet, folder: Path, stop: int = -1) -> None:
    """Trains with whatever workers there are, to the end or until it is stopped."""
    sides = rows_by_side(split_files.assign_split(prepared.table, recipe.data, recipe.split_seed))
    ranks, task = Ranks(), task_of(recipe, prepared.classes, prepared.ordered)
    job = Job(to_json(recipe), prepared.folder, str(folder), "key", str(folder.parent), 1, "")
    examples = PreparedExamples(prepared, recipe, sides, ranks)
    try:
        Trainer(job, examples, task, ranks, StopAfter(stop)).run()
    except StoppedError:
        assert stop >= 0


def worker(rank: int, port: int, text: str, folder: str, runs: list[tuple[str, int]]) -> None:
    """One of two processes, which go through the runs together."""
    from fundusray.config import from_json

    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    for name, stop in runs:
        train(from_json(text), open_set(folder), Path(name), stop)
    dist.destroy_process_group()


def two_workers(recipe: Recipe, prepared: PreparedSet, runs: list[tuple[str, int]]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told: Any = (port, to_json(recipe), prepared.folder, runs)
    torch.multiprocessing.start_processes(worker, told, nprocs=2, start_method="fork")


def test_figures_and_weights_are_those_of_one_worker(
    small: Recipe, prepared: PreparedSet, tmp_path: Path
) -> None:
    """A row shown twice, or left out, at any resize would move the losses by far more."""
    recipe = override(
        small,
        {
            # Without batch statistics, dropout and Adam, which have no equal on two workers.
            "train.phases": "head(epochs=1, norm=frozen) + all(epochs=1, norm=frozen)",
            "train.optimizer": "sgd",
            "train.lr": 1e-3,
            "model.dropout": 0,
        },
    )
    one, two, changed = (tmp_path / name for name in ("one", "two", "changed"))
    train(recipe, prepared, changed, stop=1)
    two_workers(recipe, prepared, [(str(two), -1), (str(changed), 4)])
    train(recipe, prepared, changed)
    train(recipe, prepared, one)
    expected = files.read_json(str(one / "outcome.json"))["history"]
    weights = safetensors.torch.load_file(one / "bundle" / "model.safetensors")
    for run in (two, changed):
        history = files.read_json(str(run / "outcome.json"))["history"]
        for ours, theirs in zip(history, expected, strict=True):
            for key in ("train_loss", "val_loss", "val_accuracy"):
                assert ours[key] == pytest.approx(theirs[key], abs=1e-5), (run, key)
        own = safetensors.torch.load_file(run / "bundle" / "model.safetensors")
        assert max(float((own[k] - weights[k]).abs().max()) for k in weights) < 1e-5
