"""What each Ray Train worker does: loader, model, objective, loop with report and checkpoint.

The order of rows, the augmentation and dropout are functions of (seed, epoch, row) and
(seed, step, rank); a checkpoint holds everything else. A worker that is killed and replaced
therefore ends with the same bits as one that never was.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import ray.train
import ray.train.torch
import torch
import torch.distributed as dist
from torch import nn

from fundusray import files
from fundusray.cluster.modes import described, known_mode
from fundusray.cluster.quarantine import Quarantine
from fundusray.cluster.rows import predictions_of, reported_split, split_rows
from fundusray.config import Recipe, from_json
from fundusray.data.sampling import Plan, plan_epoch, plan_eval, share
from fundusray.data.shards import open_set
from fundusray.errors import FundusError
from fundusray.metrics import METRICS, point
from fundusray.models import build_model
from fundusray.models.bundle import load_bundle, save_bundle
from fundusray.pipeline import Loader, augment, make_loader
from fundusray.progress import Progress
from fundusray.training import checkpoints, mode
from fundusray.training.checkpoints import Position
from fundusray.training.loop import (
    DivergedError,
    Objective,
    predict,
    set_rate,
    step_seed,
    to_device,
    train_step,
)
from fundusray.training.optimizers import build_optimizer, rate


@dataclass(frozen=True)
class Job:
    """What a driver tells its workers; plain values, so that it travels as JSON."""

    recipe: str
    """The recipe as JSON."""
    prepared: str
    """Folder of the prepared set."""
    folder: str
    """The run's folder."""
    key: str
    """The run's hash; checkpoints of another run are refused."""
    storage: str
    threads: int
    attempt: str
    """Names this call of fit, so that a failure noted by an earlier one does not count."""


def work(config: dict[str, Any]) -> None:
    """The training function of one worker.

    An error that another attempt cannot cure is written to `failure.json` for the driver, and the
    replacement workers leave at once instead of failing the same way again.
    """
    job = Job(**config)
    failure = files.join(job.folder, "failure.json")
    if files.exists(failure) and files.read_json(failure)["attempt"] == job.attempt:
        return
    torch.set_num_threads(job.threads)
    try:
        Training(job).run()
    except FundusError as error:
        if dist.get_rank() == 0:
            note = {"attempt": job.attempt, "reason": str(error), "code": error.exit_code}
            files.write_json(failure, note)
        raise


class Training:
    """One rank's side of a run."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.recipe: Recipe = from_json(job.recipe)
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.device = ray.train.torch.get_device()
        self.prepared = open_set(job.prepared, cache=os.path.expanduser("~/.cache/fundusray"))
        self.sides = split_rows(self.prepared, self.recipe)
        self.targets = self.prepared.targets()
        self.num_classes = len(self.prepared.classes)
        train_targets = self.targets[self.sides["train"]]
        counts = np.bincount(train_targets, minlength=self.num_classes)
        self.counts = [int(count) for count in counts]
        self.objective = Objective(
            self.recipe.loss, torch.tensor(self.counts, dtype=torch.float32, device=self.device)
        )
        self.model = build_model(self.recipe.model, self.num_classes, self.recipe.seed)
        for note in self.model.notes:
            self._say(note)
        self.model.to(self.device)
        self.mode, self.mode_note = self._choose_mode()
        mode.prepare(self.model, self.mode)
        self.optimizer = build_optimizer(self.model, self.recipe.train)
        self.position = self._resume()
        self.network = self._distribute()
        data = self.recipe.data
        self.train_loader = self._loader(augment.train_text(data))
        self.eval_loader = self._loader(augment.view_text(data))
        self.quarantine = Quarantine([self.train_loader, self.eval_loader], self.prepared)
        self.checkpointed = time.monotonic()

    def _choose_mode(self) -> tuple[mode.Mode, str]:
        """Precision and layout, equal on every rank, and words for them."""
        told: list[Any] = [None]
        if self.rank == 0:
            batch = max(self.recipe.train.batch // self.world, 2)
            data = self.recipe.data
            side = augment.output_size(augment.train_text(data), data.size)
            shape = (batch, 3, side, side)
            told = [known_mode(self.model, shape, self.device, self.recipe, self.job.storage)]
        dist.broadcast_object_list(told)
        return mode.Mode(**told[0]["mode"]), described(told[0])

    def _resume(self) -> Position:
        folder = files.join(self.job.folder, "checkpoints")
        found: list[Any] = [None]
        if self.rank == 0:
            files.sweep(folder)
            name, problems = checkpoints.newest(folder, self.job.key)
            for problem in problems:
                print(f"checkpoint refused: {problem}", file=sys.stderr, flush=True)
            found = [name]
        dist.broadcast_object_list(found)
        if not found[0]:
            return Position()
        position = checkpoints.load(files.join(folder, found[0]), self.model, self.optimizer)
        self._say(f"resuming from step {position.step}")
        return position

    def _distribute(self) -> nn.Module:
        if self.world == 1:
            return self.model
        ids = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(self.model, device_ids=ids)

    def _loader(self, text: str) -> Loader:
        return make_loader(
            self.prepared,
            batch=self.recipe.train.batch // self.world,
            augment=text,
            max_bad=self.recipe.data.max_bad,
            engine=self.recipe.data.pipeline,
            device="gpu" if self.device.type == "cuda" else "cpu",
            threads=self.job.threads,
        )

    def _say(self, text: str) -> None:
        if self.rank == 0:
            print(text, file=sys.stderr, flush=True)

    def _plan(self, epoch: int) -> Plan:
        rows, train = self.sides["train"], self.recipe.train
        return plan_epoch(
            self.recipe.sampling,
            rows,
            self.targets[rows],
            num_classes=self.num_classes,
            batch=train.batch,
            seed=self.recipe.seed,
            epoch=epoch,
            drop_last=train.drop_last,
        )

    def run(self) -> None:
        """Trains from where the run stands to its end, then predicts the rows it reports on."""
        epochs = self.recipe.train.epochs
        steps = len(self._plan(0).rows)
        name, images = files.base_name(self.job.folder), len(self.sides["train"])
        self._say(f"{name}: training on {images} images, {self.mode_note}")
        for epoch in range(len(self.position.history), epochs):
            row = self._epoch(epoch, steps)
            self._keep_best(row)
            self.position.history.append(row)
            self.position.loss_sum, self.position.seen = 0.0, 0
            self._checkpoint()
            ray.train.report(_numbers(row))
        self._finish()

    def _epoch(self, epoch: int, steps: int) -> dict[str, Any]:
        start = self.position.step - epoch * steps
        began, waited, trained = time.monotonic(), 0.0, 0
        name = files.base_name(self.job.folder)
        bar = Progress(f"{name} epoch {epoch + 1}/{self.recipe.train.epochs}", steps)
        plan = self._plan(epoch)
        mine = share(plan, self.rank, self.world)
        batches = to_device(
            self.train_loader.epoch(mine, seed=self.recipe.seed, epoch=epoch, start=start),
            self.device,
            self.mode.layout == "contiguous",
        )
        self.network.train()
        for index, (batch, wait) in enumerate(_timed(batches), start):
            clock = time.monotonic()
            self._step(batch, int(plan.valid[index].sum()), epoch * steps + index, steps, plan)
            waited, trained = waited + wait, trained + int(plan.valid[index].sum())
            self.position.seconds += wait + time.monotonic() - clock
            if self.rank == 0:
                bar.update(index + 1, f"loss {self.position.loss_sum / self.position.seen:.4f}")
            if time.monotonic() - self.checkpointed > self.recipe.train.checkpoint_seconds:
                self._checkpoint()
        taken = max(time.monotonic() - began, 1e-9)
        row = {
            "epoch": epoch + 1,
            "train_loss": self.position.loss_sum / max(self.position.seen, 1),
            "lr": rate(epoch * steps + steps - 1, self._total(steps), steps, self.recipe.train),
            "images_per_second": trained / taken,
            "wait_share": waited / taken,
        }
        clock = time.monotonic()
        row |= self._validate()
        self.quarantine.tell()
        self.position.seconds += time.monotonic() - clock
        row["seconds"] = self.position.seconds
        if self.rank == 0:
            shown = ", ".join(f"{k} {row[k]:.3f}" for k in ("train_loss", "val_kappa"))
            bar.update(steps, f"{shown}, {row['images_per_second']:.0f} images/s")
            bar.close()
        return row

    def _total(self, steps: int) -> int:
        return steps * self.recipe.train.epochs

    def _step(self, batch: Any, valid: int, step: int, steps: int, plan: Plan) -> None:
        torch.manual_seed(step_seed(self.recipe.seed, step, self.rank))
        set_rate(self.optimizer, rate(step, self._total(steps), steps, self.recipe.train))
        precision = mode.autocast(self.mode, self.device)
        total = train_step(
            self.network, self.optimizer, batch, self.objective, precision, self.world / valid
        )
        # Summed over ranks at every step, so that all ranks stop together at the same step when
        # it is no number, and a resumed epoch reports the same mean as an unbroken one.
        if self.world > 1:
            dist.all_reduce(total)
        if not torch.isfinite(total):
            ids = self.prepared.image_ids()
            names = ", ".join(ids[row] for row in plan.rows[step % steps][:8])
            raise DivergedError(
                f"loss is {total.item()} at step {step} (rate "
                f"{self.optimizer.param_groups[0]['lr']:.2e}; images {names}, ...); "
                f"the last good checkpoint is in {self.job.folder}/checkpoints. "
                "Lower train.lr or set train.precision=fp32."
            )
        self.position.loss_sum += total.item()
        self.position.seen += valid
        self.position.step = step + 1

    def _predict(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(rows, logits) of all ranks together, on every rank, sorted by row."""
        # Batch statistics are each rank's own between steps; everyone judges with rank 0's.
        if self.world > 1:
            for buffer in self.model.buffers():
                dist.broadcast(buffer, 0)
        mine = share(plan_eval(rows, self.recipe.train.batch), self.rank, self.world)
        batches = to_device(
            self.eval_loader.epoch(mine, seed=0, epoch=0),
            self.device,
            self.mode.layout == "contiguous",
        )
        got = predict(self.model, batches, mode.autocast(self.mode, self.device))
        parts: list[Any] = [got]
        if self.world > 1:
            parts = [None] * self.world
            dist.all_gather_object(parts, got)
        parts = [part for part in parts if len(part[0])]
        found = np.concatenate([part[0] for part in parts])
        order = np.argsort(found, kind="stable")
        return found[order], np.concatenate([part[1] for part in parts])[order]

    def _validate(self) -> dict[str, float]:
        rows, logits = self._predict(self.sides["val"])
        targets = self.targets[rows]
        loss = nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(targets))
        values = point(targets, logits)
        # A metric that these rows cannot define (one class only) says nothing for any epoch.
        known = {f"val_{m}": values[m] if values[m] is not None else 0.0 for m in METRICS}
        return known | {"val_loss": loss.item()}

    def _keep_best(self, row: dict[str, Any]) -> None:
        metric = f"val_{self.recipe.train.select}"
        if self.position.best and row[metric] <= self.position.best["value"]:
            return
        self.position.best = {"epoch": row["epoch"], "metric": metric, "value": row[metric]}
        if self.rank == 0:
            save_bundle(
                files.join(self.job.folder, "bundle"),
                checkpoints.plain(self.model.state_dict()),
                self.recipe,
                self.prepared.classes,
                {"key": self.job.key, "best": self.position.best, "counts": self.counts}
                | {"prepared": self.job.prepared, "manifest": self.prepared.info["manifest"]},
            )

    def _checkpoint(self) -> None:
        if self.rank == 0:
            folder = files.join(self.job.folder, "checkpoints")
            checkpoints.save(folder, self.model, self.optimizer, self.position, self.job.key)
        self.checkpointed = time.monotonic()

    def _finish(self) -> None:
        """The best epoch's predictions of the rows the run reports on, then `outcome.json`."""
        if self.world > 1:
            dist.barrier()  # rank 0 may still be writing the bundle
        best = load_bundle(files.join(self.job.folder, "bundle"))
        self.model.load_state_dict(best.model.state_dict(), strict=True)
        rows, logits = self._predict(self.sides[reported_split(self.sides)])
        self.quarantine.tell()
        quarantined = self.quarantine.gathered(self.world)
        if self.rank == 0:
            table = predictions_of(self.prepared, rows, logits)
            files.write_table(files.join(self.job.folder, "predictions.parquet"), table)
            outcome = asdict(self.position) | {"mode": self.mode_note, "counts": self.counts}
            outcome |= {"quarantined": quarantined}
            files.write_json(files.join(self.job.folder, "outcome.json"), outcome)


def _timed(batches: Iterator[Any]) -> Iterator[tuple[Any, float]]:
    """Each batch with the seconds it was waited for."""
    while True:
        clock = time.monotonic()
        batch = next(batches, None)
        if batch is None:
            return
        yield batch, time.monotonic() - clock


def _numbers(row: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(row))
