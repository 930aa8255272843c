"""Where it runs, how much of it, and where its results go."""

from dataclasses import dataclass

from fundusray.settings.choices import require_choice
from fundusray.settings.need import require, require_name


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """How much of the cluster one training uses."""

    workers: tuple[int, ...] = (1,)
    """Workers of a training: a number, or fewest and most (1,4): as many as the cluster has room
    for, also while it runs."""
    cpus: int = 0
    """CPUs per worker; 0: what the cluster has over the workers, at most 8."""
    gpus: float = -1.0
    """GPUs per worker; -1: 1 where the cluster has any, else 0."""
    max_failures: int = 3
    """Times a dead worker is replaced before the run gives up."""

    def __post_init__(self) -> None:
        if isinstance(self.workers, int):
            object.__setattr__(self, "workers", (self.workers,))
        good = len(self.workers) in (1, 2) and 1 <= self.workers[0] <= self.workers[-1]
        need = "a number of at least 1, or fewest and most of them"
        require(good, "cluster.workers", need, self.workers)
        require(self.cpus >= 0, "cluster.cpus", "0 (automatic) or more", self.cpus)
        good = self.gpus == -1 or self.gpus >= 0
        require(good, "cluster.gpus", "-1 (automatic), 0 or more", self.gpus)
        require(self.max_failures >= 0, "cluster.max_failures", "0 or more", self.max_failures)

    @property
    def fewest(self) -> int:
        """Workers a training needs."""
        return self.workers[0]

    @property
    def most(self) -> int:
        """Workers a training can use."""
        return self.workers[-1]


@dataclass(frozen=True, kw_only=True)
class Tune:
    """How large a search is."""

    trials: int = 10
    concurrent: int = 0
    """Trials at a time; 0: as many as the cluster's resources carry."""
    grace: int = 3
    """Epochs every proposed trial gets before it can be stopped early."""
    repeats: int = 1
    """Trainings of every trial on the same split, with the seeds seed, seed + 1, ...; a trial is
    worth the mean of their best validation values."""

    objectives: tuple[str, ...] = ()
    """Validation metrics that the search trades off, e.g. kappa,robust_accuracy: it then proposes
    what may beat the others in one of them, and stops no trial early. Empty: train.select alone."""

    def __post_init__(self) -> None:
        for name in self.objectives:
            require_choice("train.select", name)
        good = len(set(self.objectives)) == len(self.objectives) != 1
        require(good, "tune.objectives", "two or more different metrics, or none", self.objectives)
        require(self.trials >= 1, "tune.trials", "at least 1", self.trials)
        require(self.concurrent >= 0, "tune.concurrent", "0 (automatic) or more", self.concurrent)
        require(self.grace >= 1, "tune.grace", "at least 1 epoch", self.grace)
        require(self.repeats >= 1, "tune.repeats", "at least 1", self.repeats)


@dataclass(frozen=True, kw_only=True)
class Results:
    """Where results go."""

    storage: str = ""
    """Folder or URI; empty: ./runs, or ~/fundusray-runs in a submitted job."""
    name: str = ""
    """Of the run's folder; empty: the recipe's name."""

    def __post_init__(self) -> None:
        if self.name:
            require_name("run.name", self.name)
