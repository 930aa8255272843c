"""What each Ray Train worker does: loader, model, objective, loop with report and checkpoint.

The order of rows and the augmentation are functions of (seed, epoch, row), starts of attacks of
(seed, step, row), dropout of (seed, step, rank); a checkpoint holds everything else. A worker that
is killed and replaced therefore ends with the same bits as one that never was.
"""

import gc
import json
import sys
import time
from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np
import ray.train
import ray.train.torch
import torch

from fundusray import files
from fundusray.cluster.judging import Judge
from fundusray.cluster.keeping import Job, Keeper
from fundusray.cluster.modes import agreed_mode, described
from fundusray.cluster.pulse import Pulse
from fundusray.cluster.quarantine import Quarantine
from fundusray.cluster.ranks import Ranks
from fundusray.cluster.results import outcome_of, write_outcome
from fundusray.cluster.running import note, noted
from fundusray.cluster.stopping import Watcher
from fundusray.config import Recipe, from_json
from fundusray.data.epochs import epoch_plan
from fundusray.data.mixing import beside
from fundusray.data.sampling import Plan, share
from fundusray.data.shards import PreparedSet, open_set
from fundusray.errors import FundusError
from fundusray.metrics import selectors
from fundusray.models import build_model
from fundusray.models.bundle import load_bundle
from fundusray.pipeline import Batch, Loader, augment, make_loader
from fundusray.progress import Progress
from fundusray.runs.split_of_run import written_split
from fundusray.training import average, checkpoints, mode
from fundusray.training.checkpoints import Position
from fundusray.training.choosing import best_by, overtaking
from fundusray.training.loop import (
    Objective,
    Way,
    diverged,
    set_rate,
    step_seed,
    timed,
    to_device,
    train_step,
)
from fundusray.training.optimizers import build_optimizer
from fundusray.training.robustness import alarm
from fundusray.training.timetable import Timetable, enter, passes, train_mode

BEFORE_JUDGING = 5.0
"""Seconds of training that a run which is ended while it judges may lose."""
STEP_DRAWS = -1
"""In place of a rank: draws of a step that are made per row, the same on every worker."""


class StoppedError(Exception):
    """Somebody asked for the run to stop; its checkpoint is written."""


def work(config: dict[str, Any]) -> None:
    """The training function of one worker.

    An error that another attempt cannot cure is noted for the driver, and the replacement workers
    leave at once instead of failing the same way again.
    """
    job = Job(**config)
    if noted(job):
        return
    torch.set_num_threads(job.threads)
    try:
        Training(job).run()
    except StoppedError:
        return
    except FundusError as error:
        note(job, error)
        raise


class Training:
    """One rank's side of a run."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.recipe: Recipe = from_json(job.recipe)
        self.device = ray.train.torch.get_device()
        self.ranks = Ranks(self.device)
        self.keeper = Keeper(job, self.ranks)
        self.prepared = open_set(job.prepared)
        self.sides = written_split(job.folder, self.prepared, job.split).rows
        self.targets = self.prepared.targets()
        self.judged = self.targets[self.sides["val"]]
        self.num_classes = len(self.prepared.classes)
        learned = self.targets[self.sides["train"]]
        self.counts = np.bincount(learned, minlength=self.num_classes).tolist()
        self.objective = Objective(
            self.recipe.loss, torch.tensor(self.counts, dtype=torch.float32, device=self.device)
        )
        self.model = build_model(self.recipe.model, self.num_classes, self.recipe.seed)
        for said in self.model.notes:
            self._say(said)
        self.model.to(self.device)
        self.mode, self.mode_told = agreed_mode(self.model, self.recipe, job, self.ranks)
        mode.prepare(self.model, self.mode)
        self.timetable = Timetable(passes(self.recipe), len(self._plan(0).rows))
        self.position = self._resume()
        data = self.recipe.data
        shown = self.prepared
        if data.mix:
            shown = beside(shown, open_set(data.mix))
        self.loader = self._loader(shown, augment.train_text(data))
        view = self._loader(self.prepared, augment.view_text(data))
        self.judge = Judge(
            self.recipe, self.prepared, self.sides, self.model, view, self.mode, self.ranks,
            job.folder,
        )  # fmt: skip
        self.quarantine = Quarantine([self.loader, view], self.prepared)
        self.watcher = Watcher(job.folder, job.attempt)

    def _resume(self) -> Position:
        """Where the run stands; model and optimiser as they were there.

        One that has come to its end needs no checkpoint: its bundle predicts what is missing.
        """
        self.ended = self.ranks.agree(lambda: outcome_of(self.job.folder, self.job.key))
        if self.ended:
            self._enter(0)
            return Position(**{part.name: self.ended[part.name] for part in fields(Position)})
        newest = self.keeper.newest()
        self._enter(checkpoints.stage_of(newest) if newest else 0)
        if not newest:
            return Position()
        position = checkpoints.load(newest, self.model, self.optimizer)
        self._say(f"resuming from step {position.step}")
        return position

    def _enter(self, stage: int) -> None:
        """Begins a stage: who learns, a fresh optimiser, gradients shared anew."""
        train = self.recipe.train
        phase = next(span.phase for span in self.timetable.spans if span.stage == stage)
        # What shares gradients has hooks on the parameters until it is gone for good.
        self.way = None
        gc.collect()
        self.stage, self.learning = stage, enter(self.model, phase)
        self.optimizer = build_optimizer(self.model, train)
        self.way = Way(
            network=self.ranks.distributed(self.model),
            model=self.model,
            optimizer=self.optimizer,
            objective=self.objective,
            adversarial=self.recipe.adversarial,
            precision=mode.autocast(self.mode, self.device),
            mixup=train.mixup,
            clip=train.clip,
        )
        train_mode(self.way.network, phase)

    def _loader(self, shown: PreparedSet, text: str) -> Loader:
        return make_loader(
            shown,
            # The largest slice that falls to one worker.
            batch=self.recipe.train.batch // self.ranks.world + 3,
            augment=text,
            max_bad=self.recipe.data.max_bad,
            engine=self.recipe.data.pipeline,
            device="gpu" if self.device.type == "cuda" else "cpu",
            threads=self.job.threads,
        )

    def _say(self, text: str) -> None:
        if self.ranks.first:
            print(text, file=sys.stderr, flush=True)

    def _plan(self, epoch: int) -> Plan:
        return epoch_plan(self.recipe, self.prepared, self.sides["train"], epoch)

    def run(self) -> None:
        """Trains from where the run stands to its end, then predicts the rows it reports on.

        Raises:
            StoppedError: it was asked to stop, and has saved where it stands.
        """
        name, images = files.base_name(self.job.folder), len(self.sides["train"])
        self._say(f"{name}: training on {images} images, {described(self.mode_told)}")
        with Pulse(self.job.attempt, self.ranks.rank) as self.pulse:
            for epoch in range(len(self.position.history), self.timetable.epochs):
                if self.position.ended:
                    break
                row = self._epoch(epoch)
                self.position.history.append(row)
                self.position.ended = self._alarm()
                if self.position.ended:
                    self._say(self.position.ended)
                else:
                    self._keep_best(row)
                self.position.loss_sum, self.position.seen = 0.0, 0
                self._checkpoint()
                ray.train.report(json.loads(json.dumps(row)))
            self._finish()

    def _epoch(self, epoch: int) -> dict[str, Any]:
        first, steps = epoch * self.timetable.steps_per_epoch, self.timetable.steps_of(epoch)
        start = self.position.step - first
        began, waited, trained = time.monotonic(), 0.0, 0
        name = files.base_name(self.job.folder)
        bar = Progress(f"{name} epoch {epoch + 1}/{self.timetable.epochs}", steps)
        plan = Plan(*(part[:steps] for part in self._plan(epoch)))
        mine = share(plan, self.ranks.rank, self.ranks.world)
        batches = to_device(
            self.loader.epoch(mine, seed=self.recipe.seed, epoch=epoch, start=start),
            self.device,
            self.mode.layout == "contiguous",
        )
        train_mode(self.way.network, self.timetable.span(self.position.step).phase)
        for index, (batch, wait) in enumerate(timed(batches), start):
            clock, rows = time.monotonic(), plan.rows[index][plan.valid[index]]
            asked, leaving = self._step(batch, first + index, rows)
            waited, trained = waited + wait, trained + len(rows)
            self.position.seconds += wait + time.monotonic() - clock
            if self.ranks.first:
                loss = self.position.loss_sum / max(self.position.seen, 1)
                bar.update(index + 1, f"loss {loss:.4f}")
            if asked:
                self._checkpoint()
                raise StoppedError
            if leaving or self.keeper.age > self.recipe.train.checkpoint_seconds:
                self._checkpoint()
        if self.keeper.age > BEFORE_JUDGING:
            self._checkpoint()
        taken = max(time.monotonic() - began, 1e-9)
        row = self._told(epoch) | {
            "images_per_second": trained / taken,
            "wait_share": waited / taken,
        }
        clock = time.monotonic()
        with average.averaged(self.model, self.optimizer):
            row |= self.judge.validate(epoch + 1)
        self.quarantine.tell()
        self.position.seconds += time.monotonic() - clock
        row["seconds"] = self.position.seconds
        if self.ranks.first:
            keys = ("train_loss", f"val_{self.recipe.train.select}")
            shown = ", ".join(f"{key} {row[key]:.3f}" for key in keys)
            bar.update(steps, f"{shown}, {row['images_per_second']:.0f} images/s")
            bar.close()
        return row

    def _alarm(self) -> str:
        """Why the run ends early: robustness that was only apparent; "" where it does not."""
        if not self.recipe.adversarial.method:
            return ""
        found = alarm(self.position.history, self.recipe.adversarial)
        return found.sentence if found else ""

    def _told(self, epoch: int) -> dict[str, Any]:
        """What an epoch's steps come to."""
        last = epoch * self.timetable.steps_per_epoch + self.timetable.steps_of(epoch) - 1
        return {
            "epoch": epoch + 1,
            "train_loss": self.position.loss_sum / max(self.position.seen, 1),
            "lr": self.timetable.rate(last),
            "phase": self.timetable.span(last).phase.trainable,
            "learning": self.learning,
        }

    def _step(self, batch: Batch, step: int, rows: np.ndarray) -> tuple[bool, bool]:
        """One step; whether the run is asked to stop, and whether a node is about to go.

        The number of the global batch's `rows` divides the gradient; of photographs that turn out
        not to decode all ranks know only afterwards, so those make that one step a little smaller.
        """
        span = self.timetable.span(step)
        if span.stage != self.stage:
            self._enter(span.stage)
        self.pulse.step = step
        seed = self.recipe.seed
        torch.manual_seed(step_seed(seed, step, self.ranks.rank))
        set_rate(self.optimizer, self.timetable.rate(step))
        if self.recipe.adversarial.method:
            # Attacks look at the model before data-parallel training hands out its statistics.
            self.ranks.share_buffers(self.model)
        # Rows beyond the set are of its copies.
        held = np.bincount(self.targets[rows % len(self.targets)], minlength=self.num_classes)
        total = train_step(
            self._way_of(step),
            batch,
            scale=self.ranks.world / len(rows),
            seed=step_seed(seed, step, STEP_DRAWS),
            progress=step / self.timetable.steps,
            batch_counts=torch.from_numpy(held).to(self.device),
        )
        # Summed over ranks at every step, so that all ranks stop together at the same step when
        # it is no number or a stop is asked for, and a resumed epoch reports the same mean as an
        # unbroken one.
        first = self.ranks.first
        wishes = [first and self.watcher.asked(), first and self.watcher.leaving()]
        told = torch.tensor(wishes, dtype=total.dtype, device=self.device)
        told = torch.hstack([total, batch.valid.sum().to(total.dtype), told])
        summed, seen, stop, leave = self.ranks.total(told).tolist()
        if not np.isfinite(summed):
            ids, lr = self.prepared.image_ids(), self.optimizer.param_groups[0]["lr"]
            raise diverged(
                summed, step, lr, [ids[row % len(ids)] for row in rows], self.keeper.folder
            )
        self.position.loss_sum += summed
        self.position.seen += int(seen)
        self.position.step, self.position.stage = step + 1, self.stage
        return stop > 0, leave > 0

    def _way_of(self, step: int) -> Way:
        """How this step is taken: without mixup where its epochs are over."""
        train = passes(self.recipe)
        over = train.mixup_epochs and step >= train.mixup_epochs * self.timetable.steps_per_epoch
        return replace(self.way, mixup=0.0) if over else self.way

    def _keep_best(self, row: dict[str, Any]) -> None:
        """Writes the bundle where the newest epoch is the best so far; see choosing.py."""
        best = overtaking(row, self.position.best, self.recipe.train.select, self.judged)
        if best:
            self.position.best, told = best, {"best": best, "counts": self.counts}
            with average.averaged(self.model, self.optimizer):
                self.keeper.bundle(self.model, self.recipe, self.prepared, told)

    def _checkpoint(self) -> None:
        self.keeper.checkpoint(self.model, self.optimizer, self.position)

    def _finish(self) -> None:
        """The best epoch's predictions of the rows the run reports on, then `outcome.json`."""
        self.ranks.wait()  # the first worker may still be writing the bundle
        best = load_bundle(files.join(self.job.folder, "bundle"))
        self.model.load_state_dict(best.model.state_dict(), strict=True)
        history = self.position.history
        good = history[:-1] if self.position.ended else history
        told = self.judge.conclude(good)
        self.quarantine.tell()
        quarantined = self.quarantine.gathered(self.ranks.world)
        if self.ranks.first:
            outcome = asdict(self.position) | told | {"mode": described(self.mode_told)}
            outcome |= {"counts": self.counts, "best_by": best_by(good, self.judged, selectors())}
            # Of a run that had ended, the epochs that met them are not gone through again.
            outcome |= {"quarantined": self.ended.get("quarantined", quarantined)}
            outcome |= {"way": self.mode_told}
            write_outcome(self.job.folder, self.job.key, outcome)
