"""What each Ray Train worker does: it makes a trainer of what Ray gives it, and runs that."""

import json
from collections.abc import Callable
from typing import Any

import ray.train
import ray.train.torch
import torch

from fundusray.cluster.runtime.signals import StopWatcher
from fundusray.cluster.runtime.train_workers import failure_noted, note_failure
from fundusray.cluster.runtime.watchdog import Heartbeat
from fundusray.config import from_json
from fundusray.data.manifest.contract import GRADES
from fundusray.data.prepared.prepared_set import open_set
from fundusray.errors import FundusError
from fundusray.runs.split_of_run import permutation_seed, written_split
from fundusray.tasks import GradesAndMasks, Task, task_of
from fundusray.training.drawn_examples import DrawnExamples
from fundusray.training.drawn_lesions import part_places, read_parts
from fundusray.training.examples import Examples, PreparedExamples
from fundusray.training.job import Job
from fundusray.training.ranks import Ranks
from fundusray.training.supervision import StoppedError
from fundusray.training.trainer import Trainer

Learned = Callable[[Job, Ranks], tuple[Examples, Task]]
"""What a job learns from, and what it learns."""


class RaySupervisor:
    """Ray Train and the run's driver, as a worker sees them; see `supervision.Supervisor`."""

    def __init__(self, job: Job, pulse: Heartbeat) -> None:
        self._pulse, self._watcher = pulse, StopWatcher(job.folder, job.attempt)

    def heartbeat(self, step: int) -> None:
        self._pulse.step = step

    def stop_asked(self) -> bool:
        return self._watcher.asked()

    def node_leaving(self) -> bool:
        return self._watcher.leaving()

    def report(self, row: dict[str, Any]) -> None:
        ray.train.report(json.loads(json.dumps(row)))


def work(config: dict[str, Any]) -> None:
    """The training function of one worker."""
    job = Job(**config)
    noting_faults(job, lambda: _train(job, _photographs))


def pretrain(config: dict[str, Any]) -> None:
    """The same of a pretraining."""
    job = Job(**config)
    noting_faults(job, lambda: _train(job, _drawn))


def noting_faults(job: Job, train: Callable[[], None]) -> None:
    """Trains to the end, or until somebody asks to stop.

    An error that another attempt cannot cure is noted for the driver, by whichever rank meets it,
    and the replacement workers leave at once instead of failing the same way again.
    """
    if failure_noted(job):
        return
    torch.set_num_threads(job.threads)
    try:
        train()
    except StoppedError:
        return
    except FundusError as error:
        note_failure(job, error)
        raise


def _train(job: Job, learned: Learned) -> None:
    ranks = Ranks(ray.train.torch.get_device())
    pulse = Heartbeat(job.attempt, ranks.rank)
    trainer = Trainer(job, *learned(job, ranks), ranks, RaySupervisor(job, pulse))
    with pulse:
        trainer.run()


def _photographs(job: Job, ranks: Ranks) -> tuple[Examples, Task]:
    recipe, prepared = from_json(job.recipe), open_set(job.prepared)
    split = written_split(job.folder, prepared, job.split, permutation_seed(recipe))
    examples = PreparedExamples(split.learned, recipe, split.rows, ranks, job.threads)
    return examples, task_of(recipe, prepared.classes, prepared.ordered)


def _drawn(job: Job, ranks: Ranks) -> tuple[Examples, Task]:
    recipe = from_json(job.recipe)
    sketches = read_parts(part_places(job.prepared, recipe.data.num_images))
    return DrawnExamples(sketches, recipe), GradesAndMasks(recipe, GRADES)
