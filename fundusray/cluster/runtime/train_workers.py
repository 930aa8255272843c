"""Runs a function on Ray Train's workers, and says in one error why it did not come to its end."""

from collections.abc import Callable
from typing import Any

import ray.train
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2._internal.exceptions import (
    InsufficientClusterResourcesError,
    WorkerGroupStartupTimeoutError,
)

from fundusray import files
from fundusray.cluster.runtime.signals import StopSignals
from fundusray.cluster.runtime.start import (
    START_TIMEOUT,
    cluster_resources,
    cpus_each,
    temporary_environment,
    workers_that_fit,
)
from fundusray.cluster.runtime.watchdog import COLLECTIVE_TIMEOUT, Watchdog
from fundusray.config import Recipe
from fundusray.errors import DamagedError, FundusError
from fundusray.terminal import tell
from fundusray.training.job import Job

MOST_CPUS = 8
"""More threads than this no longer help one worker's steps."""
STARTS = 3
"""Times that Ray may wait in vain for room, or lose a worker as it starts."""
ELASTIC_TIMEOUT = "60"
"""Seconds a changing number of workers waits for the room that was counted on: where a node has
just gone, the count is old, and a smaller number fits at once."""
ELASTIC_STARTS = 30
RAY = "ray"
"""Folder of a run in which Ray Train keeps what it likes; never read."""


class RunFailedError(FundusError):
    """A run ended without a result."""


def remove_leftovers(folder: str) -> None:
    """Removes what a killed driver left in a run's folder that the run does not go on from."""
    files.sweep(folder)
    files.remove(files.join(folder, RAY))


def worker_cpus(recipe: Recipe) -> int:
    """CPUs of one worker: as asked, or what the nodes have over the workers."""
    asked = recipe.cluster.cpus
    return asked or cpus_each(recipe.cluster.most, MOST_CPUS, worker_gpus(recipe))


def worker_gpus(recipe: Recipe) -> float:
    """GPUs of one worker: as asked, or one where the cluster has any."""
    asked = recipe.cluster.gpus
    return asked if asked >= 0 else float(cluster_resources().get("GPU", 0) > 0)


def run_train_workers(
    work: Callable[[dict[str, Any]], None],
    recipe: Recipe,
    job: Job,
    name: str,
    workers: tuple[int, ...],
    callbacks: tuple[Any, ...] = (),
) -> None:
    """Runs `work(vars(job))` on every worker, to its end or until a signal stops it.

    Args:
        name: what the dashboard shows.
        workers: so many, or between two numbers.

    Raises:
        RunFailedError: workers died more often than cluster.max_failures allows, there was no room
            for them, or one failed in a way that no retry cures (with that error's exit code).
        KeyboardInterrupt: Ctrl-C stopped it, its checkpoint is written.
        SystemExit: SIGTERM did.
    """
    folder, attempt, gpus = job.folder, job.attempt, worker_gpus(recipe)
    if workers_that_fit(job.threads, gpus) < workers[0]:
        has = cluster_resources()
        tell(
            f"waiting for room for {workers[0]} workers of {job.threads} CPUs and {gpus:g} GPUs "
            f"each: the nodes that are there have {has['CPU']:g} CPUs and {has['GPU']:g} GPUs; "
            "Ctrl-C ends it",
        )
    trainer = _trainer(work, recipe, job, name, workers, gpus, callbacks)
    with StopSignals(folder, attempt) as stop:
        try:
            with Watchdog(attempt) as monitor:
                stop.run(lambda: _fit(trainer, len(workers) == 2), monitor.working)
        except ray.train.TrainingFailedError as error:
            stop.raise_if_stopped()
            _raise_noted(folder, attempt)
            _raise_told(error)
            raise RunFailedError(failure_reason(error, recipe, job, workers, gpus)) from error
        except ray.exceptions.RayError as error:
            # The head is gone, or what ran the run on it.
            stop.raise_if_stopped()
            raise RunFailedError(
                f"the cluster broke off under {folder} ({type(error).__name__}: {error}). "
                f"{next_call_text(folder, 'once it is there again')}"
            ) from error
        finally:
            files.remove(files.join(folder, RAY))
    stop.raise_if_stopped()
    _raise_noted(folder, attempt)
    files.remove(_place(folder))


def _trainer(
    work: Callable[[dict[str, Any]], None],
    recipe: Recipe,
    job: Job,
    name: str,
    workers: tuple[int, ...],
    gpus: float,
    callbacks: tuple[Any, ...],
) -> TorchTrainer:
    # A little less than whole CPUs, so that the drivers of trials fit beside the workers.
    per_worker: dict[str, float] = {"CPU": job.threads - 0.05} | ({"GPU": gpus} if gpus else {})
    elastic = len(workers) == 2
    return TorchTrainer(
        work,
        train_loop_config=vars(job),
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo", timeout_s=COLLECTIVE_TIMEOUT),
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers if elastic else workers[0],
            use_gpu=gpus > 0,
            resources_per_worker=per_worker,
        ),
        run_config=ray.train.RunConfig(
            # A name of its own for every attempt: Ray would otherwise continue from its own
            # snapshot, which is not written atomically. Our checkpoints decide where a run stands.
            name=f"{name}-{job.attempt[:4]}",
            storage_path=files.join(job.folder, RAY),
            failure_config=ray.train.FailureConfig(
                max_failures=recipe.cluster.max_failures,
                controller_failure_limit=ELASTIC_STARTS if elastic else STARTS,
            ),
            logging_config=ray.train.LoggingConfig(log_level="WARNING"),
            callbacks=list(callbacks),
        ),
    )


def _fit(trainer: TorchTrainer, elastic: bool) -> None:
    with temporary_environment({START_TIMEOUT: ELASTIC_TIMEOUT} if elastic else {}):
        trainer.fit()


def failure_reason(
    error: ray.train.TrainingFailedError,
    recipe: Recipe,
    job: Job,
    workers: tuple[int, ...],
    gpus: float,
) -> str:
    """Why Ray gave up: no room for the workers, something of its own, or workers that died."""
    cause = getattr(error, "controller_failure", None)
    if isinstance(cause, (WorkerGroupStartupTimeoutError, InsufficientClusterResourcesError)):
        has = cluster_resources()
        never = isinstance(cause, InsufficientClusterResourcesError)
        found = "it can never hold" if never else "waiting in vain for"
        return (
            f"{job.folder}: no room in the cluster, {found} {workers[0]} workers of {job.threads} "
            f"CPUs and {gpus:g} GPUs each; its nodes have {has['CPU']:g} CPUs and {has['GPU']:g} "
            "GPUs, shared with other jobs. Ask for less with cluster.workers, cluster.cpus or "
            f"cluster.gpus. {next_call_text(job.folder, 'once there is room')}"
        )
    if cause is not None:
        return (
            f"Ray could not run {job.folder}: {type(cause).__name__}: {cause}. "
            f"{next_call_text(job.folder)}"
        )
    return (
        f"training in {job.folder} failed {recipe.cluster.max_failures + 1} times: {error}. "
        f"{next_call_text(job.folder)}"
    )


def next_call_text(folder: str, when: str = "") -> str:
    """What the same command does after a run that failed: it goes on, or begins anew where the run
    never came to a checkpoint."""
    saved = files.list_dir(files.join(folder, "checkpoints"))
    does = "goes on from the last checkpoint" if saved else "begins anew, as nothing was saved yet"
    return f"The same command {f'given {when} ' if when else ''}{does}."


def _place(folder: str) -> str:
    """Where a worker notes what no retry cures."""
    return files.join(folder, "failure.json")


def failure_noted(job: Job) -> bool:
    """Whether a worker of this attempt has noted a failure; its replacement leaves then, instead of
    failing the same way again."""
    return bool(_note_of(job.folder, job.attempt))


def note_failure(job: Job, error: FundusError) -> None:
    """Writes down an error that another attempt cannot cure, for the driver; the first one counts.

    Any rank may: one of them alone may have met the bad image or the damaged shard.
    """
    said = {"attempt": job.attempt, "reason": str(error), "code": error.exit_code}
    try:
        if not failure_noted(job):
            files.write_json(_place(job.folder), said)
    except (OSError, FundusError) as second:
        # On a full disk the error itself, which Ray carries, has to tell the driver.
        tell(f"cannot write {_place(job.folder)}: {second}")


def _note_of(folder: str, attempt: str) -> dict[str, Any]:
    try:
        found = files.read_json(_place(folder))
    except FileNotFoundError:
        return {}
    except DamagedError as error:
        # What an earlier attempt noted does not count anyway, and this one's error Ray carries.
        tell(f"passed over: {error}")
        return {}
    return found if found["attempt"] == attempt else {}


def _raise_noted(folder: str, attempt: str) -> None:
    """Raises what a worker noted as past curing, with its own exit code."""
    if found := _note_of(folder, attempt):
        error = RunFailedError(found["reason"])
        error.exit_code = found["code"]
        raise error


def _raise_told(error: ray.train.TrainingFailedError) -> None:
    """Raises what a worker could not even note, its disk being full, with its own exit code."""
    for cause in getattr(error, "worker_failures", {}).values():
        if isinstance(cause, FundusError):
            found = RunFailedError(str(cause))
            found.exit_code = cause.exit_code
            raise found from error
