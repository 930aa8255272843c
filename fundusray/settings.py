"""The recipe: everything that decides a result, as one frozen value of sections.

Each field's docstring is its help; `__post_init__` refuses what cannot be.
"""

import math
from dataclasses import dataclass, field
from typing import Any

from fundusray.errors import InputError
from fundusray.phases import parse
from fundusray.registry import unknown_name

SELECTORS = ("kappa", "accuracy", "balanced_accuracy", "auc_referable", "robust_accuracy")
"""What can choose the best epoch."""


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
    mix: str = ""
    """A prepared set of corrupted or attacked copies of the same images, to train on both."""
    mix_share: float = 0.5
    """Share of showings that are of the copy."""
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
        require(0 <= self.mix_share <= 1, "data.mix_share", "a share in [0, 1]", self.mix_share)
        require(0 <= self.max_bad <= 1, "data.max_bad", "a share in [0, 1]", self.max_bad)


@dataclass(frozen=True, kw_only=True)
class Model:
    """Which network, started from where."""

    name: str = "efficientnet_b0"
    """A registered network."""
    weights: str = ""
    """Empty: random start; imagenet: fetched; otherwise a .safetensors or .pth file, whose last
    layers are replaced where they do not fit."""
    init_from: str = ""
    """A bundle to go on from, last layers included: the same network and the same classes."""
    hidden: tuple[int, ...] = ()
    """Widths of fully connected layers between the features and the outputs, e.g. 1024,1024."""
    output: str = "softmax"
    """softmax: one logit per class; binary: one logit for two classes; regression: one number cut
    at fitted thresholds; coral, corn: one logit per border between ordered classes."""
    dropout: float = 0.0
    """Share of features dropped before each fully connected layer."""
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    """Per-channel mean taken off inside the model; pixels are in [0, 1]."""
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    """Per-channel divisor inside the model."""

    def __post_init__(self) -> None:
        require(0 <= self.dropout < 1, "model.dropout", "a share in [0, 1)", self.dropout)
        outputs = ("softmax", "binary", "regression", "coral", "corn")
        if self.output not in outputs:
            raise unknown_name("model.output", self.output, outputs)
        require(all(n >= 1 for n in self.hidden), "model.hidden", "widths above 0", self.hidden)
        both = not (self.weights and self.init_from)
        require(both, "model.weights/init_from", "one of them", (self.weights, self.init_from))
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
class Adversarial:
    """Attacked training images, and the attack under which a network is judged."""

    method: str = ""
    """pgd (Madry), trades, mart, fast (FGSM with random start), free; empty: images as they are."""
    norm: str = "linf"
    """linf or l2."""
    eps: str = ""
    """The budget with its unit: 2/255 or 2px255 (8-bit levels), 0.5unit01 (pixels in [0, 1]),
    0.1norm (pixels in [-1, 1]). Given without a method: images as they are are trained on, and the
    network is judged under attack."""
    steps: int = 7
    """Of the attack in training."""
    step_size: str = ""
    """With its unit; empty: 2.5 eps / steps, and 1.25 eps for fast."""
    random_start: bool = True
    """Begin at a random place of the budget."""
    beta: float = 6.0
    """Weight of the robust term of trades and mart."""
    replays: int = 4
    """Of free: how often a batch is shown in a row."""
    share: float = 1.0
    """Share of every batch that is attacked; the rest is learned as it is."""
    judge_steps: int = 20
    """Steps of the stronger attack by which robust accuracy is measured."""
    judge_rows: int = 240
    """Validation images attacked after each epoch."""

    def __post_init__(self) -> None:
        for key, choices in {
            "method": ("", "pgd", "trades", "mart", "fast", "free"),
            "norm": ("linf", "l2"),
        }.items():
            if getattr(self, key) not in choices:
                raise unknown_name(f"adversarial.{key}", getattr(self, key), choices)
        for key in ("steps", "replays", "judge_steps", "judge_rows"):
            require(getattr(self, key) >= 1, f"adversarial.{key}", "at least 1", getattr(self, key))
        require(self.beta >= 0, "adversarial.beta", "0 or more", self.beta)
        require(0 < self.share <= 1, "adversarial.share", "a share in (0, 1]", self.share)
        need = "a budget with its unit, e.g. 2/255"
        require(bool(self.eps) or not self.method, "adversarial.eps", need, self.eps)


@dataclass(frozen=True, kw_only=True)
class Train:
    """How the network learns."""

    epochs: int = 20
    """Passes over the training rows; where phases are given, they say how long."""
    phases: str = ""
    """What is trained how long, e.g. "head(epochs=5) + all(epochs=20)" or "all(steps=550) +
    all(steps=350, lr=0.2)"; see phases.py."""
    batch: int = 48
    """Global batch size; workers divide it. auto (0): the largest that fits."""
    lr: float = 1e-4
    """Peak learning rate."""
    lr_scaling: str = "none"
    """How the rate follows the batch: none; linear, lr batch / lr_batch; sqrt, its root."""
    lr_batch: int = 256
    """The batch for which lr is meant."""
    optimizer: str = "adamw"
    """adam, adamw, sgd, rmsprop."""
    weight_decay: float = 0.0
    decay_norms: bool = False
    """Whether biases and norms decay, too."""
    momentum: float = 0.9
    """Of sgd and rmsprop."""
    nesterov: bool = False
    """Of sgd."""
    mixup: float = 0.0
    """Alpha of mixup; 0: none."""
    mixup_epochs: int = 0
    """Epochs with mixup, from the first; 0: all."""
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
    """The validation metric by which the best epoch is chosen; robust_accuracy under attack."""
    report: str = "held_out"
    """Where there are no test rows: held_out, each half of the validation patients is judged by
    the epoch that was best on the other half; selected, all by the epoch that was best on them, as
    the papers do, which flatters."""
    checkpoint_seconds: float = 60.0
    """Seconds between checkpoints within an epoch; every epoch ends with one."""

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "train.epochs", "at least 1", self.epochs)
        require(self.batch >= 2 or self.batch == 0, "train.batch", "auto or at least 2", self.batch)
        parse(self.phases, self.epochs)
        require(self.lr_batch >= 1, "train.lr_batch", "at least 1", self.lr_batch)
        require(self.mixup >= 0, "train.mixup", "0 or more", self.mixup)
        require(self.mixup_epochs >= 0, "train.mixup_epochs", "0 or more", self.mixup_epochs)
        require(self.lr > 0, "train.lr", "above 0", self.lr)
        require(0 <= self.warmup < 1, "train.warmup", "a share in [0, 1)", self.warmup)
        require(self.weight_decay >= 0, "train.weight_decay", "0 or more", self.weight_decay)
        require(0 <= self.momentum < 1, "train.momentum", "a share in [0, 1)", self.momentum)
        require(self.step_epochs >= 1, "train.step_epochs", "at least 1", self.step_epochs)
        seconds = self.checkpoint_seconds
        require(seconds >= 0, "train.checkpoint_seconds", "0 (each step) or more", seconds)
        for key, choices in {
            "optimizer": ("adam", "adamw", "sgd", "rmsprop"),
            "lr_scaling": ("none", "linear", "sqrt"),
            "report": ("held_out", "selected"),
            "schedule": ("cosine", "onecycle", "step", "constant"),
            "precision": ("auto", "fp32", "bf16"),
            "layout": ("auto", "contiguous", "channels_last"),
            "select": SELECTORS,
        }.items():
            given = getattr(self, key)
            if given not in choices:
                raise unknown_name(f"train.{key}", given, choices)


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
    adversarial: Adversarial = field(default_factory=Adversarial)
    cluster: Cluster = field(default_factory=Cluster)
    tune: Tune = field(default_factory=Tune)
    run: Run = field(default_factory=Run)
    seed: int = 0
    published: dict[str, Any] = field(default_factory=dict)
    """The paper's figures for this row, shown beside measured ones."""
