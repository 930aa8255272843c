"""What learns, and how."""

import math
from dataclasses import dataclass, field
from typing import Any

from fundusray.phases import parse_phases
from fundusray.registry import unknown_name
from fundusray.settings.choices import registry, require_choice
from fundusray.settings.deciding import SILENT
from fundusray.settings.need import require

FLIPS: dict[str, tuple[tuple[int, ...], ...]] = {
    "none": ((),),
    "horizontal": ((), (3,)),
    "vertical": ((), (2,)),
    "both": ((), (3,), (2,), (2, 3)),
}
"""What an image [B, C, H, W] is judged under -> the dimensions that are turned round each time."""
PUBLISHED_WORD = "imagenet"
"""What `model.weights` calls published weights: installed with a package, or fetched."""


def is_published(weights: str) -> bool:
    """Whether `model.weights` names published weights (imagenet, imagenet/<tag>) and no file."""
    return weights == PUBLISHED_WORD or weights.startswith(f"{PUBLISHED_WORD}/")


@dataclass(frozen=True, kw_only=True)
class Model:
    """Which network, started from where."""

    name: str = "efficientnet_b0"
    """A registered network, or timm/<name> for any other classifier of timm; of masks unet, or
    unet/<classifier> with its features as the encoder."""
    image_size: int = 0
    """Of timm/<name>: the side in pixels for which positions and windows are laid out; 0: timm's
    own. A vision transformer takes other sizes too, by interpolated positions."""
    weights: str = field(default="", metadata=SILENT)
    """Empty: random start; imagenet: of an installed package (efficientnet_lite0's always is), else
    fetched, as is imagenet/<tag> for one of timm's (imagenet/tv2_in1k of resnet50 is torchvision's
    second version); otherwise a .safetensors or .pth file, whose last layers are replaced where
    they do not fit. What is in it decides."""
    init_from: str = field(default="", metadata=SILENT)
    """A bundle to go on from, last layers included: the same network and the same classes. What
    is in it decides."""
    hidden: tuple[int, ...] = ()
    """Widths of fully connected layers between the features and the outputs, e.g. 1024,1024."""
    output: str = "softmax"
    """softmax: one logit per class; binary: one logit for two classes; regression: one number cut
    at fitted thresholds; coral, corn: one logit per border between ordered classes."""
    flips: str = "none"
    """Under which flips an image is judged: horizontal, vertical or both; the outputs of the image
    and of its flips are averaged. none: as it is."""
    dropout: float = 0.0
    """Share of features dropped before each fully connected layer."""
    mean: tuple[float, ...] = ()
    """Per-channel mean taken off inside the model; pixels are in [0, 1]. Empty: that of the
    published weights or the bundle it starts from; 0.5 for a random start and for files that do
    not hold it."""
    std: tuple[float, ...] = ()
    """Per-channel divisor inside the model; empty: as for the mean."""

    def __post_init__(self) -> None:
        require(self.image_size >= 0, "model.image_size", "pixels, or 0", self.image_size)
        require(0 <= self.dropout < 1, "model.dropout", "a share in [0, 1)", self.dropout)
        require_choice("model.output", self.output)
        if self.flips not in FLIPS:
            raise unknown_name("model.flips", self.flips, FLIPS)
        require(all(n >= 1 for n in self.hidden), "model.hidden", "widths above 0", self.hidden)
        both = not (self.weights and self.init_from)
        require(both, "model.weights/init_from", "one of them", (self.weights, self.init_from))
        good = len(self.mean) in (0, 3) and len(self.std) in (0, 3)
        good = good and all(map(math.isfinite, (*self.mean, *self.std)))
        good = good and min(self.std, default=1) > 0
        need = "three numbers each or none, std above 0"
        require(good, "model.mean/std", need, (self.mean, self.std))


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What is minimised."""

    name: str = "cross_entropy"
    """A registered loss."""
    args: dict[str, Any] = field(default_factory=dict)
    """Its keywords, e.g. {"gamma": 2.0}."""
    sparsity: float = 0.0
    """Of networks with evidence maps (bagnet9, bagnet17, bagnet33): what is added to an image's
    loss for each unit of its evidence, the sum of magnitudes over places and outputs; 0: nothing.
    Djoumessi et al. (2024) give between 4e-6 and 9e-5 at 512 pixels."""

    def __post_init__(self) -> None:
        need = "a finite weight, 0 or more"
        require(0 <= self.sparsity < math.inf, "loss.sparsity", need, self.sparsity)


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Which rows an epoch shows, in which order."""

    name: str = "natural"
    """natural, oversample, quotas."""
    quotas: tuple[float, ...] = ()
    """Share of each class in a global batch, for quotas; empty: equal shares."""

    def __post_init__(self) -> None:
        require_choice("sampling.name", self.name)
        good = not self.quotas or (abs(sum(self.quotas) - 1) < 1e-6 and min(self.quotas) >= 0)
        require(good, "sampling.quotas", "shares that sum to 1, one per class", self.quotas)
        taken = not self.quotas or registry("sampling.name").facts(self.name).takes_quotas
        need = f"needs sampling.name=quotas, not {self.name}"
        require(taken, "sampling.quotas", need, self.quotas)


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
    keep: str = "last"
    """Which images of an attack are trained on: those of its last step, or the best, those of the
    step with the largest loss, as MadryLab's robustness does (use_best)."""
    beta: float = 6.0
    """Weight of the robust term of trades and mart."""
    replays: int = 4
    """Of free: how often a batch is shown in a row; epochs and steps of train are divided by it, so
    that a run makes as many updates as with another method."""
    share: float = 1.0
    """Share of every batch that is attacked; the rest is learned as it is."""
    judge_eps: str = ""
    """The budget under which robustness is measured, with its unit; empty: eps. With it networks
    that are trained at several eps can be compared."""
    judge_steps: int = 20
    """Steps of the attack by which robustness is measured, with a random start; should be more than
    training's own."""
    judge_rows: int = 240
    """Validation images attacked after each epoch, as many of each class as there are."""

    def __post_init__(self) -> None:
        require_choice("adversarial.method", self.method)
        for key, choices in {
            "norm": ("linf", "l2"),
            "keep": ("last", "best"),
        }.items():
            if getattr(self, key) not in choices:
                raise unknown_name(f"adversarial.{key}", getattr(self, key), choices)
        searched = self.keep == "last" or self.method != "free"
        require(searched, "adversarial.keep", "last, as free trains on every step", self.keep)
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
    clip: float = 0.0
    """Longest gradient, the L2 norm over all weights; longer ones are scaled to it; 0: none is."""
    average: float = 0.0
    """Decay per step of an exponential moving average of the weights, which is judged and kept in
    their place, e.g. 0.99; 0: the weights themselves."""
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
    plateau: int = 0
    """Epochs without a lower validation loss after which the rate is multiplied by step_factor,
    beside what the schedule says (an adaptive rate); 0: never."""
    drop_last: bool = False
    """Leave out an epoch's incomplete last batch; else rows that do not count fill it up."""
    precision: str = "auto"
    """fp32, bf16 or auto (a short probe picks the faster, and records it)."""
    layout: str = "auto"
    """contiguous, channels_last or auto."""
    select: str = "kappa"
    """The validation metric by which the best epoch is chosen: kappa, accuracy, balanced_accuracy,
    auc_referable, or under attack robust_balanced_accuracy, robust_accuracy, or under
    data.judge_corrupt corrupted_ and a metric's name; of masks dice. Epochs that are no
    better than always answering one class come after those that are, by their validation loss."""
    report: str = "held_out"
    """Where there are no test rows: held_out, each half of the validation patients is judged by
    the epoch that was best on the other half, so that figures are of two networks; selected, all by
    the epoch that was best on them, as the papers do, which flatters."""
    checkpoint_seconds: float = field(default=60.0, metadata=SILENT)
    """Seconds between checkpoints within an epoch; every epoch ends with one."""
    keep_checkpoints: bool = field(default=False, metadata=SILENT)
    """Keep a finished run's last checkpoints, optimiser included; its bundle stays anyway."""

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "train.epochs", "at least 1", self.epochs)
        require(self.batch >= 2 or self.batch == 0, "train.batch", "auto or at least 2", self.batch)
        parse_phases(self.phases, self.epochs)
        require(self.lr_batch >= 1, "train.lr_batch", "at least 1", self.lr_batch)
        require(self.clip >= 0, "train.clip", "0 or more", self.clip)
        require(0 <= self.average < 1, "train.average", "a decay in [0, 1)", self.average)
        require(self.mixup >= 0, "train.mixup", "0 or more", self.mixup)
        require(self.mixup_epochs >= 0, "train.mixup_epochs", "0 or more", self.mixup_epochs)
        require(self.lr > 0, "train.lr", "above 0", self.lr)
        require(0 <= self.warmup < 1, "train.warmup", "a share in [0, 1)", self.warmup)
        require(self.weight_decay >= 0, "train.weight_decay", "0 or more", self.weight_decay)
        require(0 <= self.momentum < 1, "train.momentum", "a share in [0, 1)", self.momentum)
        moving = self.momentum > 0 or not self.nesterov
        require(moving, "train.nesterov", "needs train.momentum above 0", self.momentum)
        require(self.step_epochs >= 1, "train.step_epochs", "at least 1", self.step_epochs)
        seconds = self.checkpoint_seconds
        require(seconds >= 0, "train.checkpoint_seconds", "0 (each step) or more", seconds)
        require(self.plateau >= 0, "train.plateau", "epochs, or 0", self.plateau)
        for key in ("optimizer", "schedule", "select"):
            require_choice(f"train.{key}", getattr(self, key))
        for key, choices in {
            "lr_scaling": ("none", "linear", "sqrt"),
            "report": ("held_out", "selected"),
            "precision": ("auto", "fp32", "bf16"),
            "layout": ("auto", "contiguous", "channels_last"),
        }.items():
            given = getattr(self, key)
            if given not in choices:
                raise unknown_name(f"train.{key}", given, choices)
