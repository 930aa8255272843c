"""A start without downloads: a network learns grades and lesion masks on drawn photographs.

What is kept is the classification network. The mask head, a light decoder on its feature maps, only
shapes them: masks tell of every photograph where the disease is, so that far fewer are needed.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from fundusray import files
from fundusray.config import Recipe, Train
from fundusray.data.found import GRADES
from fundusray.metrics import METRICS, point, predictions_table
from fundusray.models import build_model, head_parameters
from fundusray.models.bundle import save_bundle
from fundusray.models.classifiers import Classifier
from fundusray.pipeline import augment
from fundusray.progress import Progress
from fundusray.training import checkpoints
from fundusray.training.checkpoints import Position
from fundusray.training.loop import AUXILIARY_WEIGHT, DivergedError, set_rate, step_seed
from fundusray.training.mode import Mode, autocast, memory_format, prepare
from fundusray.training.optimizers import build_optimizer, rate
from fundusray.training.sketches import MAPS, Sketches, read_parts, shown

WIDTH = 48
"""Channels of the mask head."""
MASK_WEIGHT = 1.0


class Pretrained(nn.Module):
    """A classifier and its mask head; images [B, 3, S, S] to what `losses` takes.

    The head adds up feature maps from coarse to fine, each through one linear layer, as a feature
    pyramid does (Lin et al. 2017), and reads the masks off the finest, a quarter of the image's
    side where the network has such a map.
    """

    def __init__(self, model: Classifier, size: int) -> None:
        super().__init__()
        self.model = model
        channels = feature_maps(model, size)
        self._maps: dict[str, Tensor] = {}
        for name in channels:
            model.get_submodule(name).register_forward_hook(self._keep(name))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            self.lateral = nn.ModuleList(nn.Conv2d(c, WIDTH, 1) for c in channels.values())
            self.read = nn.Sequential(
                nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(WIDTH, len(MAPS), 1),
            )
        # Most pixels show nothing; the head need not learn that first.
        nn.init.constant_(self.read[-1].bias, -3.0)

    def _keep(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            self._maps[name] = output

        return hook

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """(class logits [B, K], those of an auxiliary head or None, mask logits [B, M, h, w])."""
        raw = self.model.raw(image)
        auxiliary = self.model.class_logits(raw[1]) if isinstance(raw, tuple) else None
        total: Tensor | None = None
        for lateral, kept in zip(self.lateral, list(self._maps.values())[::-1], strict=True):
            here = lateral(kept)
            if total is not None:
                here = here + F.interpolate(total, size=here.shape[-2:], mode="nearest")
            total = here
        self._maps.clear()
        return self.model.class_logits(raw), auxiliary, self.read(total)


def feature_maps(model: Classifier, size: int) -> dict[str, int]:
    """Module name -> channels of the last feature map of every side, the coarsest first, from 2
    pixels up to a quarter of the image's side."""
    found: dict[int, tuple[str, int]] = {}
    handles = []
    for name, module in model.named_modules():

        def note(module: nn.Module, inputs: Any, output: Any, name: str = name) -> None:
            if isinstance(output, Tensor) and output.ndim == 4:
                found[output.shape[-1]] = (name, output.shape[1])

        if name.startswith("net."):
            handles.append(module.register_forward_hook(note))
    training = model.training
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, size, size))
    model.train(training)
    for handle in handles:
        handle.remove()
    sides = [side for side in sorted(found) if 2 <= side <= (size + 3) // 4]
    return dict(found[side] for side in sides)


@torch.no_grad()
def calm(model: Classifier) -> None:
    """Makes the head of a random start a tenth as wide.

    timm begins efficientnet's last layer so wide that its logits are off by 4 and a short training
    spends its first hundred steps on unlearning them.
    """
    parameters = dict(model.named_parameters())
    for name in head_parameters(model):
        if parameters[name].ndim > 1:
            parameters[name].mul_(0.1)


def losses(out: tuple[Tensor, Tensor | None, Tensor], masks: Tensor, grade: Tensor) -> Tensor:
    """The mean loss of a batch: cross entropy of the grades; of the masks cross entropy and
    1 - Dice of each kind over the batch (Milletari et al. 2016), so that a kind seldom seen counts.

    A place of the coarser mask shows what any pixel within it shows.
    """
    logits, auxiliary, read = (None if part is None else part.float() for part in out)
    graded = F.cross_entropy(logits, grade)
    if auxiliary is not None:
        graded = graded + AUXILIARY_WEIGHT * F.cross_entropy(auxiliary, grade)
    wanted = F.adaptive_max_pool2d(masks, read.shape[-2:])
    share = torch.sigmoid(read)
    dims = (0, 2, 3)
    dice = (2 * (share * wanted).sum(dims) + 1) / (share.sum(dims) + wanted.sum(dims) + 1)
    masked = F.binary_cross_entropy_with_logits(read, wanted) + (1 - dice).mean()
    return graded + MASK_WEIGHT * masked


@dataclass(frozen=True)
class Place:
    """Where a rank works, and on what."""

    folder: str
    """The run's folder."""
    parts: tuple[str, ...]
    """Where the drawn photographs are."""
    key: str
    """The run's hash; checkpoints of another run are refused."""
    device: torch.device
    rank: int = 0
    world: int = 1
    watch: Callable[[int], bool] = lambda step: False
    """Told the steps done; what it says on the first rank is whether to save and stop there."""


def sides(recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """(rows to learn from, rows to judge by): the val share of the patients, the last ones."""
    num = recipe.data.num_images
    held = 2 * max(1, round(num * recipe.data.fractions[1] / 2))
    return np.arange(num - held), np.arange(num - held, num)


def order(recipe: Recipe, epoch: int) -> np.ndarray:
    """The rows of an epoch's global batches [steps, batch], a function of (seed, epoch); what does
    not fill a batch waits for another epoch."""
    rows, batch = sides(recipe)[0], recipe.train.batch
    mixed = np.random.default_rng([recipe.seed % 2**32, epoch]).permutation(rows)
    return mixed[: len(rows) // batch * batch].reshape(-1, batch)


def mode_of(train: Train, device: torch.device) -> Mode:
    """How steps are computed: as asked; else channels last, in bf16 on a GPU and fp32 on a CPU."""
    precision = {"cuda": "bf16"}.get(device.type, "fp32")
    return Mode(
        precision if train.precision == "auto" else train.precision,
        "channels_last" if train.layout == "auto" else train.layout,
    )


class Pretraining:
    """One rank's side of a pretraining; knows nothing of Ray."""

    def __init__(self, recipe: Recipe, place: Place) -> None:
        self.recipe, self.place = recipe, place
        self.sketches: Sketches = read_parts(list(place.parts))
        data = recipe.data
        self.views = [augment.parse(text(data)) for text in (augment.train_text, augment.view_text)]
        model = build_model(recipe.model, len(GRADES), recipe.seed)
        size = self.views[0].side(data.size)
        if not (recipe.model.weights or recipe.model.init_from):
            calm(model)
        self.net = Pretrained(model, size).to(place.device)
        self.mode = mode_of(recipe.train, place.device)
        prepare(self.net, self.mode)
        self.optimizer = build_optimizer(self.net, recipe.train)
        self.position = self._resume()
        self.network: nn.Module = self.net
        if place.world > 1:
            ids = [place.device.index] if place.device.type == "cuda" else None
            self.network = nn.parallel.DistributedDataParallel(self.net, device_ids=ids)
        self.checkpointed = time.monotonic()

    def _resume(self) -> Position:
        folder = files.join(self.place.folder, "checkpoints")
        found: list[Any] = [None]
        if self.place.rank == 0:
            checkpoints.sweep(folder)
            name, problems = checkpoints.newest(folder, self.place.key)
            for problem in problems:
                print(f"checkpoint refused: {problem}", file=sys.stderr, flush=True)
            found = [name]
        if self.place.world > 1:
            dist.broadcast_object_list(found)
        if not found[0]:
            return Position()
        position = checkpoints.load(files.join(folder, found[0]), self.net, self.optimizer)
        if self.place.rank == 0:
            print(f"resuming from step {position.step}", file=sys.stderr, flush=True)
        return position

    def run(self) -> bool:
        """Trains from where the run stands to its end, then writes bundle and predictions.

        Returns:
            False where it was asked to stop: then a checkpoint says where it stands.
        """
        for epoch in range(len(self.position.history), self.recipe.train.epochs):
            row = self._epoch(epoch)
            if row is None:
                return False
            self.position.history.append(row)
            self.position.loss_sum, self.position.seen = 0.0, 0
            self._checkpoint()
        if self.place.rank == 0:
            self._finish()
        return True

    def _epoch(self, epoch: int) -> dict[str, Any] | None:
        """What an epoch came to; None where the run was stopped in it."""
        rows, train, place = order(self.recipe, epoch), self.recipe.train, self.place
        steps = len(rows)
        name = files.base_name(place.folder)
        bar = Progress(f"{name} epoch {epoch + 1}/{train.epochs}", steps)
        self.network.train()
        for index in range(self.position.step - epoch * steps, steps):
            clock, step = time.monotonic(), epoch * steps + index
            mine = np.array_split(rows[index], place.world)[place.rank]
            set_rate(self.optimizer, rate(step, steps * train.epochs, steps, train))
            stop = self._step(mine, step, epoch)
            self.position.seconds += time.monotonic() - clock
            if place.rank == 0:
                bar.update(index + 1, f"loss {self.position.loss_sum / self.position.seen:.4f}")
            if stop or time.monotonic() - self.checkpointed > train.checkpoint_seconds:
                self._checkpoint()
            if stop:
                return None
        row = {
            "epoch": epoch + 1,
            "train_loss": self.position.loss_sum / max(self.position.seen, 1),
            "seconds": self.position.seconds,
        }
        if place.rank == 0:
            row |= self._judged(*self._predict())
            note = ", ".join(f"{key} {row[key]:.3f}" for key in ("train_loss", "kappa", "dice"))
            bar.update(steps, note)
            bar.close()
        return row

    def _step(self, rows: np.ndarray, step: int, epoch: int) -> bool:
        """One update, the mean over ranks of each rank's own mean; whether to save and stop."""
        torch.manual_seed(step_seed(self.recipe.seed, step, self.place.rank))
        image, masks, grade = self._batch(rows, train=True, epoch=epoch)
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.mode, self.place.device):
            out = self.network(image)
        loss = losses(out, masks, grade)
        loss.backward()
        # Together, so that all ranks stop at the same step.
        told = torch.stack([loss.detach(), torch.zeros_like(loss.detach())])
        told[1] = self.place.watch(step + 1) and self.place.rank == 0
        if self.place.world > 1:
            dist.all_reduce(told)
        summed, stop = told.tolist()
        if not np.isfinite(summed):
            raise DivergedError(f"loss is {summed} at step {step}; lower train.lr")
        self.optimizer.step()
        self.position.loss_sum += summed / self.place.world
        self.position.seen += 1
        self.position.step = step + 1
        return stop > 0

    def _batch(self, rows: np.ndarray, train: bool, epoch: int = 0) -> tuple[Tensor, ...]:
        view = self.views[0 if train else 1]
        seed = self.recipe.seed
        parts = shown(self.sketches, rows, view, self.recipe.data, seed=seed, epoch=epoch)
        image, *rest = (part.to(self.place.device) for part in parts)
        return image.contiguous(memory_format=memory_format(self.mode)), *rest

    @torch.inference_mode()
    def _predict(self) -> tuple[np.ndarray, np.ndarray]:
        """(class logits [N, K], Dice of every kind [M]) of the rows to judge by."""
        self.net.eval()
        logits, sums = [], np.zeros((2, len(MAPS)))
        rows = sides(self.recipe)[1]
        for chunk in np.array_split(rows, -(-len(rows) // self.recipe.train.batch)):
            image, masks, _ = self._batch(chunk, train=False)
            with autocast(self.mode, self.place.device):
                known, _, read = self.net(image)
            wanted = F.adaptive_max_pool2d(masks, read.shape[-2:]) > 0.5
            said = read > 0
            logits.append(known.float().cpu().numpy())
            sums[0] += (wanted & said).sum((0, 2, 3)).cpu().numpy()
            sums[1] += (wanted.sum((0, 2, 3)) + said.sum((0, 2, 3))).cpu().numpy()
        return np.concatenate(logits), 2 * sums[0] / np.maximum(sums[1], 1)

    def _judged(self, logits: np.ndarray, dice: np.ndarray) -> dict[str, Any]:
        values = point(self.sketches.grade[sides(self.recipe)[1]], logits)
        found = {name: round(float(value), 4) for name, value in zip(MAPS, dice, strict=True)}
        known = {metric: values[metric] or 0.0 for metric in METRICS}
        return known | {"dice": float(dice.mean()), "dice_of": found}

    def _checkpoint(self) -> None:
        if self.place.rank == 0:
            folder = files.join(self.place.folder, "checkpoints")
            checkpoints.save(folder, self.net, self.optimizer, self.position, self.place.key)
        self.checkpointed = time.monotonic()

    def _finish(self) -> None:
        """Writes the bundle, the predictions on drawn eyes and, last, `outcome.json`."""
        place, rows = self.place, sides(self.recipe)[1]
        logits, dice = self._predict()
        judged = self._judged(logits, dice)
        names = [
            f"{self.recipe.split_seed}-{row // 2 + 1}_{('left', 'right')[row % 2]}" for row in rows
        ]
        patients = [name.split("_")[0] for name in names]
        table = predictions_table(names, patients, self.sketches.grade[rows], logits)
        counts = np.bincount(self.sketches.grade[sides(self.recipe)[0]], minlength=len(GRADES))
        info = {"key": place.key, "pretrained": "on drawn photographs", "counts": counts.tolist()}
        info |= {"kappa on drawn photographs": judged["kappa"], "best": {}}
        state = checkpoints.plain(self.net.model.state_dict())
        save_bundle(files.join(place.folder, "bundle"), state, self.recipe, GRADES, info)
        predictions = files.join(place.folder, "predictions.parquet")
        files.write_table(predictions, table)
        tables = {"predictions.parquet": files.sha256_file(predictions)}
        outcome = asdict(self.position) | {"key": place.key, "tables": tables}
        files.write_json(files.join(place.folder, "outcome.json"), outcome)
