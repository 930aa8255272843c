"""The recipe: everything that decides a result, as one frozen value of sections.

Each field's docstring is its help; `__post_init__` refuses what cannot be.
"""

import math
from dataclasses import dataclass, field
from typing import Any

from fundusray.errors import InputError
from fundusray.registry import unknown_name


def require(condition: bool, setting: str, need: str, given: Any) -> None:
    """Raises InputError naming the setting, what it needs and what was given."""
    if not condition:
        raise InputError(f"{setting}: {need}, got {given!r}")


@dataclass(frozen=True, kw_only=True)
class Data:
    """Which photographs, prepared how, split how."""

    source: str = "synthetic"
    """A registered source (synthetic, eyepacs, folder, csv, ...), or several with commas."""
    root: str = ""
    """Folder or URI of the photographs, one per source; empty for synthetic."""
    target: str = "grade"
    """The label that is learned: grade, edema, sex, whatever the source has."""
    keywords: str = ""
    """Keep only eyes whose diagnostic keywords hold this text, e.g. "normal fundus"."""
    table: str = ""
    """Of source csv: the table, seen from the root."""
    columns: dict[str, str] = field(default_factory=dict)
    """Of source csv: what its columns are called, e.g. {"image": "file", "grade": "dx"}."""
    id_key: str = ""
    """A file with a secret: ids of photographs and patients are replaced by hashes keyed by it."""
    num_images: int = 400
    """How many photographs the synthetic source draws; other sources ignore it."""
    size: int = 256
    """Side of a prepared image, pixels."""
    preprocess: str = "graham"
    """A registered preprocessing: graham, diameter, contour, resize, center_crop."""
    preprocess_args: dict[str, Any] = field(default_factory=dict)
    """Its keywords, e.g. {"clip": 0.9}."""
    encoding: str = "jpeg"
    """How prepared images are kept: jpeg (quality 95; small) or raw (uint8; fast, about 9 times as
    large)."""
    split: str = "patient"
    """patient: patients and near-duplicates stay on one side; image: eyes of a patient may
    straddle, as in the papers; given: the publisher's own."""
    split_file: str = ""
    """A CSV (image_id,split) that says where each image goes; wins over data.split."""
    allow_leak: bool = False
    """Go on although a patient or near-duplicate is on two sides; every table then says so."""
    fractions: tuple[float, ...] = (0.7, 0.1, 0.2)
    """Shares of train, val, test; a test share of 0 reports on val, and says so."""
    augment: str = "wu"
    """What is done to training images: a preset (wu, yu, kon, none) or a composition of
    operations, e.g. "random_crop(224) + hflip(0.5)"."""
    view: str = ""
    """What is done to images that are judged, e.g. "resize(224)"; empty: as the preset has it."""
    max_bad: float = 0.01
    """Share of unusable rows and images above which the job stops."""
    pipeline: str = "dali"
    """dali; plain (torch and numpy, the slow reference); memory (raw sets, held in memory)."""

    def __post_init__(self) -> None:
        require(self.size >= 16, "data.size", "needs at least 16 pixels", self.size)
        require(self.num_images >= 20, "data.num_images", "needs at least 20", self.num_images)
        for key, choices in {
            "split": ("patient", "image", "given"),
            "encoding": ("jpeg", "raw"),
            "pipeline": ("dali", "plain", "memory"),
        }.items():
            if getattr(self, key) not in choices:
                raise unknown_name(f"data.{key}", getattr(self, key), choices)
        raw = self.encoding == "raw" or self.pipeline != "memory"
        require(raw, "data.pipeline=memory", "data.encoding=raw", self.encoding)
        good = len(self.fractions) == 3 and min(self.fractions) >= 0 and self.fractions[0] > 0
        good = good and abs(sum(self.fractions) - 1) < 1e-6 and self.fractions[1] > 0
        need = "three shares (train, val, test) that sum to 1, train and val above 0"
        require(good, "data.fractions", need, self.fractions)
        require(0 <= self.max_bad <= 1, "data.max_bad", "a share in [0, 1]", self.max_bad)


@dataclass(frozen=True, kw_only=True)
class Model:
    """Which network, started from where."""

    name: str = "efficientnet_b0"
    """A registered network."""
    weights: str = ""
    """Empty: random start; imagenet: fetched; otherwise a .safetensors or .pth file."""
    dropout: float = 0.0
    """Share of features dropped before the last layer."""
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    """Per-channel mean taken off inside the model; pixels are in [0, 1]."""
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    """Per-channel divisor inside the model."""

    def __post_init__(self) -> None:
        require(0 <= self.dropout < 1, "model.dropout", "a share in [0, 1)", self.dropout)
        good = len(self.mean) == 3 and len(self.std) == 3
        good = good and all(map(math.isfinite, (*self.mean, *self.std))) and min(self.std) > 0
        require(good, "model.mean/std", "three numbers each, std above 0", (self.mean, self.std))


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What is minimised."""

    name: str = "cross_entropy"
    """A registered loss."""
    args: dict[str, Any] = field(default_factory=dict)
    """Its keywords, e.g. {"gamma": 2.0}."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Which rows an epoch shows, in which order."""

    name: str = "natural"
    """natural, oversample, quotas."""
    quotas: tuple[float, ...] = ()
    """Share of each class in a global batch, for quotas; empty: equal shares."""

    def __post_init__(self) -> None:
        if self.name not in ("natural", "oversample", "quotas"):
            raise unknown_name("sampling", self.name, ("natural", "oversample", "quotas"))
        good = not self.quotas or (abs(sum(self.quotas) - 1) < 1e-6 and min(self.quotas) >= 0)
        require(good, "sampling.quotas", "shares that sum to 1, one per class", self.quotas)


@dataclass(frozen=True, kw_only=True)
class Train:
    """How the network learns."""

    epochs: int = 20
    batch: int = 48
    """Global batch size; workers divide it."""
    lr: float = 1e-4
    """Peak learning rate."""
    optimizer: str = "adamw"
    """adam, adamw, sgd."""
    weight_decay: float = 0.0
    momentum: float = 0.9
    """Of sgd."""
    schedule: str = "cosine"
    """cosine, onecycle, step, constant; per step."""
    warmup: float = 0.0
    """Share of all steps over which a cosine or constant rate rises from 0."""
    step_epochs: int = 7
    """Of schedule=step: the rate is multiplied by step_factor every so many epochs."""
    step_factor: float = 0.1
    drop_last: bool = False
    """Leave out an epoch's incomplete last batch; else rows that do not count fill it up."""
    precision: str = "auto"
    """fp32, bf16 or auto (a short probe picks the faster, and records it)."""
    layout: str = "auto"
    """contiguous, channels_last or auto."""
    select: str = "kappa"
    """The validation metric by which the best epoch is chosen."""
    checkpoint_seconds: float = 60.0
    """Seconds between checkpoints within an epoch; every epoch ends with one."""

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "train.epochs", "at least 1", self.epochs)
        require(self.batch >= 2, "train.batch", "at least 2", self.batch)
        require(self.lr > 0, "train.lr", "above 0", self.lr)
        require(0 <= self.warmup < 1, "train.warmup", "a share in [0, 1)", self.warmup)
        require(self.weight_decay >= 0, "train.weight_decay", "0 or more", self.weight_decay)
        require(0 <= self.momentum < 1, "train.momentum", "a share in [0, 1)", self.momentum)
        require(self.step_epochs >= 1, "train.step_epochs", "at least 1", self.step_epochs)
        seconds = self.checkpoint_seconds
        require(seconds >= 0, "train.checkpoint_seconds", "0 (each step) or more", seconds)
        for key, choices in {
            "optimizer": ("adam", "adamw", "sgd"),
            "schedule": ("cosine", "onecycle", "step", "constant"),
            "precision": ("auto", "fp32", "bf16"),
            "layout": ("auto", "contiguous", "channels_last"),
            "select": ("kappa", "accuracy", "balanced_accuracy", "auc_referable"),
        }.items():
            given = getattr(self, key)
            if given not in choices:
                raise unknown_name(f"train.{key}", given, choices)


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """How much of the cluster one training uses."""

    workers: int = 1
    cpus: int = 0
    """CPUs per worker; 0: what the cluster has over the workers, at most 8."""
    gpus: float = -1.0
    """GPUs per worker; -1: 1 where the cluster has any, else 0."""
    max_failures: int = 3
    """Times a dead worker is replaced before the run gives up."""

    def __post_init__(self) -> None:
        require(self.workers >= 1, "cluster.workers", "at least 1", self.workers)
        require(self.cpus >= 0, "cluster.cpus", "0 (automatic) or more", self.cpus)
        good = self.gpus == -1 or self.gpus >= 0
        require(good, "cluster.gpus", "-1 (automatic), 0 or more", self.gpus)
        require(self.max_failures >= 0, "cluster.max_failures", "0 or more", self.max_failures)


@dataclass(frozen=True, kw_only=True)
class Tune:
    """How large a search is."""

    trials: int = 10
    concurrent: int = 0
    """Trials at a time; 0: as many as the cluster's resources carry."""
    grace: int = 3
    """Epochs every proposed trial gets before it can be stopped early."""

    def __post_init__(self) -> None:
        require(self.trials >= 1, "tune.trials", "at least 1", self.trials)
        require(self.concurrent >= 0, "tune.concurrent", "0 (automatic) or more", self.concurrent)
        require(self.grace >= 1, "tune.grace", "at least 1 epoch", self.grace)


@dataclass(frozen=True, kw_only=True)
class Run:
    """Where results go."""

    storage: str = ""
    """Folder or URI; empty: ./runs, or ~/fundusray-runs in a submitted job."""
    name: str = ""
    """Empty: the recipe's name."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One run, whole."""

    name: str = "custom"
    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    loss: Loss = field(default_factory=Loss)
    sampling: Sampling = field(default_factory=Sampling)
    train: Train = field(default_factory=Train)
    cluster: Cluster = field(default_factory=Cluster)
    tune: Tune = field(default_factory=Tune)
    run: Run = field(default_factory=Run)
    seed: int = 0
    published: dict[str, Any] = field(default_factory=dict)
    """The paper's figures for this row, shown beside measured ones."""
