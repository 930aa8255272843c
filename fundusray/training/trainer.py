"""The one training loop: steps, epochs, validation, checkpoints, and going on from them.

It knows neither Ray nor a data set: what is learned from is handed in as `Examples`, what is
learned as a `Task`, the other workers as `Ranks`, who watches as a `Supervisor`.

The order of rows and the augmentation are functions of (seed, epoch, row), starts of attacks of
(seed, step, row), dropout of (seed, step, rank); a checkpoint holds everything else. A worker that
is killed and replaced therefore ends with the same bits as one that never was.
"""

import gc
import time
from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np
import torch

from fundusray import files
from fundusray.config import Recipe, from_json
from fundusray.data.sampling import EpochPlan, worker_share
from fundusray.models.bundle import load_bundle
from fundusray.pipeline.loader import Batch
from fundusray.progress import Progress
from fundusray.tasks import Task
from fundusray.terminal import tell
from fundusray.training import average, checkpoints, numeric_precision
from fundusray.training.best_epoch import best_by, new_best_epoch
from fundusray.training.checkpointer import Checkpointer
from fundusray.training.checkpoints import Position
from fundusray.training.examples import Examples
from fundusray.training.job import Job
from fundusray.training.optimizers import build_optimizer, plateau_factor
from fundusray.training.precision_choice import agreed_mode, described
from fundusray.training.ranks import Ranks
from fundusray.training.robustness import collapse_alarm
from fundusray.training.step import (
    StepSettings,
    diverged_error,
    set_learning_rate,
    step_seed,
    timed_batches,
    to_device,
    train_step,
)
from fundusray.training.supervision import StoppedError, Supervisor, Unsupervised
from fundusray.training.timetable import Timetable, enter_phase, passes_over_rows, train_mode
from fundusray.training.undecodable import Undecodable
from fundusray.training.validation import Validation

BEFORE_JUDGING = 5.0
"""Seconds of training that a run which is ended while it judges may lose."""
STEP_DRAWS = -1
"""In place of a rank: draws of a step that are made per row, the same on every worker."""


class Trainer:
    """One worker's side of a training.

        Trainer(job, examples, task_of(recipe, classes, ordered)).run()

    Without `ranks` it is alone and on the CPU. What comes out lies in the job's folder: the bundle,
    predictions.parquet of the rows it reports on, and, last of all, outcome.json.
    """

    def __init__(
        self,
        job: Job,
        examples: Examples,
        task: Task,
        ranks: Ranks | None = None,
        supervisor: Supervisor | None = None,
    ) -> None:
        self.job, self.examples, self.task = job, examples, task
        self.recipe: Recipe = from_json(job.recipe)
        self.ranks = ranks or Ranks()
        self.supervisor = supervisor or Unsupervised()
        self.checkpointer = Checkpointer(job.folder, job.key, self.ranks)
        targets, sides = examples.targets, examples.sides
        self.judged = targets[sides["val"]]
        self.counts = np.bincount(targets[sides["train"]], minlength=len(task.classes)).tolist()
        counts = torch.tensor(self.counts, dtype=torch.float32, device=self.ranks.device)
        self.losses = task.losses(counts)
        self.model = task.network()
        for note in getattr(task.bundled(self.model), "notes", []):
            self._say(f"{job.shown}: {note}")
        self.model.to(self.ranks.device)
        self.mode, self.mode_told = agreed_mode(self.model, self.recipe, job, self.ranks)
        numeric_precision.prepare_model(self.model, self.mode)
        self.timetable = Timetable(passes_over_rows(self.recipe), len(examples.plan(0).rows))
        self.position = self._resume()
        self.validation = self._validation(self.model, task)
        self.undecodable = Undecodable(examples, self.ranks)

    def _validation(self, model: torch.nn.Module, task: Task) -> Validation:
        return Validation(
            self.recipe, task, self.examples, model, self.mode, self.ranks, self.job.folder
        )

    def _resume(self) -> Position:
        """Where the run stands; model and optimiser as they were there.

        One that has come to its end needs no checkpoint: its bundle predicts what is missing.
        """
        self.ended = self.checkpointer.outcome()
        if self.ended:
            self._enter(0)
            return Position(**{part.name: self.ended[part.name] for part in fields(Position)})
        newest = self.checkpointer.newest()
        self._enter(checkpoints.stage_of(newest) if newest else 0)
        if not newest:
            return Position()
        position = checkpoints.load_checkpoint(newest, self.model, self.optimizer)
        self._say(f"{self.job.shown}: resuming from step {position.step}")
        return position

    def _enter(self, stage: int) -> None:
        """Begins a stage: who learns, a fresh optimiser, gradients shared anew."""
        train = self.recipe.train
        phase = next(span.phase for span in self.timetable.spans if span.stage == stage)
        # What shares gradients has hooks on the parameters until it is gone for good.
        self.way = None
        gc.collect()
        self.stage, self.learning = stage, enter_phase(self.model, phase)
        self.optimizer = build_optimizer(self.model, train)
        self.way = StepSettings(
            network=self.ranks.distributed(self.model),
            model=self.model,
            optimizer=self.optimizer,
            objective=self.losses,
            adversarial=self.recipe.adversarial,
            precision=numeric_precision.autocast(self.mode, self.ranks.device),
            mixup=train.mixup,
            clip=train.clip,
        )
        train_mode(self.way.network, phase)

    def _say(self, text: str) -> None:
        if self.ranks.first:
            tell(text)

    def run(self) -> None:
        """Trains from where the run stands to its end, then predicts the rows it reports on.

        Raises:
            StoppedError: it was asked to stop, and has saved where it stands.
            DivergedError: the loss is no number.
        """
        name, images = self.job.shown, len(self.examples.sides["train"])
        self._say(f"{name}: training on {images} images, {described(self.mode_told)}")
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
            self.supervisor.report(row)
        self._finish()

    def _epoch(self, epoch: int) -> dict[str, Any]:
        """Trains an epoch from where the run stands in it; its figures."""
        start = self.position.step - epoch * self.timetable.steps_per_epoch
        steps = self.timetable.steps_of(epoch)
        began, waited, trained = time.monotonic(), 0.0, 0
        bar = Progress(f"{self.job.shown} epoch {epoch + 1}/{self.timetable.epochs}", steps)
        plan = EpochPlan(*(part[:steps] for part in self.examples.plan(epoch)))
        train_mode(self.way.network, self.timetable.span(self.position.step).phase)
        for index, (batch, wait) in enumerate(
            timed_batches(self._batches(plan, epoch, start)), start
        ):
            clock, rows = time.monotonic(), plan.rows[index][plan.valid[index]]
            asked, leaving = self._step(batch, self.position.step, rows)
            waited, trained = waited + wait, trained + len(rows)
            self.position.seconds += wait + time.monotonic() - clock
            if self.ranks.first:
                loss = self.position.loss_sum / max(self.position.seen, 1)
                bar.update(index + 1, f"loss {loss:.4f}")
            if asked:
                self._checkpoint()
                raise StoppedError
            if leaving or self.checkpointer.age > self.recipe.train.checkpoint_seconds:
                self._checkpoint()
        if self.checkpointer.age > BEFORE_JUDGING:
            self._checkpoint()
        taken = max(time.monotonic() - began, 1e-9)
        speed = {"images_per_second": trained / taken, "wait_share": waited / taken}
        clock = time.monotonic()
        with average.averaged(self.model, self.optimizer):
            row = self._learned(epoch) | speed | self.validation.validate(epoch + 1)
        self.undecodable.name_new()
        self.position.seconds += time.monotonic() - clock
        row["seconds"] = self.position.seconds
        if self.ranks.first:
            keys = ("train_loss", f"val_{self.task.selector}")
            figures = ", ".join(f"{key} {row[key]:.3f}" for key in keys)
            bar.update(steps, f"{figures}, {row['images_per_second']:.0f} images/s")
            bar.close()
        return row

    def _batches(self, plan: EpochPlan, epoch: int, start: int) -> Any:
        """This worker's batches of an epoch from a step on, on its device."""
        mine = worker_share(plan, self.ranks.rank, self.ranks.world)
        batches = self.examples.learned(mine, epoch, start)
        return to_device(batches, self.ranks.device, self.mode.layout == "contiguous")

    def _alarm(self) -> str:
        """Why the run ends early: robustness that was only apparent; "" where it does not."""
        if not self.recipe.adversarial.method:
            return ""
        found = collapse_alarm(self.position.history, self.recipe.adversarial)
        return found.sentence if found else ""

    def _learned(self, epoch: int) -> dict[str, Any]:
        """What an epoch's steps come to."""
        last = epoch * self.timetable.steps_per_epoch + self.timetable.steps_of(epoch) - 1
        return {
            "epoch": epoch + 1,
            "train_loss": self.position.loss_sum / max(self.position.seen, 1),
            "lr": self.timetable.rate(last) * self._plateau(),
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
        self.supervisor.heartbeat(step)
        seed = self.recipe.seed
        torch.manual_seed(step_seed(seed, step, self.ranks.rank))
        set_learning_rate(self.optimizer, self.timetable.rate(step) * self._plateau())
        if self.recipe.adversarial.method:
            # Attacks look at the model before data-parallel training hands out its statistics.
            self.ranks.share_buffers(self.model)
        # Rows beyond the set are of its copies.
        targets = self.examples.targets
        held = np.bincount(targets[rows % len(targets)], minlength=len(self.task.classes))
        total = train_step(
            self._way_of(step),
            batch._replace(target=self.task.target(batch)),
            scale=self.ranks.world / len(rows),
            seed=step_seed(seed, step, STEP_DRAWS),
            progress=step / self.timetable.steps,
            batch_counts=torch.from_numpy(held).to(self.ranks.device),
        )
        summed, seen, stop, leave = self._summed(total, batch)
        if not np.isfinite(summed):
            raise self._diverged(summed, step, rows)
        self.position.loss_sum += summed
        self.position.seen += int(seen)
        self.position.step, self.position.stage = step + 1, self.stage
        return stop > 0, leave > 0

    def _plateau(self) -> float:
        """What the epochs so far, which a checkpoint holds, make of the rate."""
        losses = [row["val_loss"] for row in self.position.history]
        return plateau_factor(losses, self.recipe.train)

    def _summed(self, total: torch.Tensor, batch: Batch) -> list[float]:
        """(loss, images that count, wishes to stop, notices of leaving) over all ranks.

        At every step, so that all ranks stop together at the same step when the loss is no number
        or a stop is asked for, and a resumed epoch reports the same mean as an unbroken one.
        """
        first, supervisor = self.ranks.first, self.supervisor
        wishes = [first and supervisor.stop_asked(), first and supervisor.node_leaving()]
        told = torch.tensor(wishes, dtype=total.dtype, device=total.device)
        told = torch.hstack([total, batch.valid.sum().to(total.dtype), told])
        return self.ranks.total(told).tolist()

    def _diverged(self, loss: float, step: int, rows: np.ndarray) -> Exception:
        ids, lr = self.examples.image_ids, self.optimizer.param_groups[0]["lr"]
        names = [ids[row % len(ids)] for row in rows]
        return diverged_error(loss, step, lr, names, self.checkpointer.folder)

    def _way_of(self, step: int) -> StepSettings:
        """How this step is taken: without mixup where its epochs are over."""
        train = passes_over_rows(self.recipe)
        over = train.mixup_epochs and step >= train.mixup_epochs * self.timetable.steps_per_epoch
        return replace(self.way, mixup=0.0) if over else self.way

    def _keep_best(self, row: dict[str, Any]) -> None:
        """Writes the bundle where the newest epoch is the best so far; see best_epoch.py. A task
        that chooses none has its last one there."""
        if not self.task.chooses and len(self.position.history) < self.timetable.epochs:
            return
        best = new_best_epoch(row, self.position.best, self.task, self.judged)
        if not best:
            return
        self.position.best = best
        info = {"prepared": files.base_name(self.job.prepared)} | self.examples.about
        info |= {"best": best if self.task.chooses else {}, "counts": self.counts}
        network, classes = self.task.bundled(self.model), self.task.classes
        with average.averaged(self.model, self.optimizer):
            self.checkpointer.write_bundle(network, self.recipe, classes, info)

    def _checkpoint(self) -> None:
        self.checkpointer.checkpoint(self.model, self.optimizer, self.position)

    def _finish(self) -> None:
        """The bundle's predictions of the rows the run reports on, then `outcome.json`."""
        self.ranks.wait()  # the first worker may still be writing the bundle
        best = load_bundle(self.checkpointer.bundle)
        network = self.task.bundled(self.model)
        network.load_state_dict(best.model.state_dict(), strict=True)
        history = self.position.history
        good = history[:-1] if self.position.ended else history
        told = self._validation(network, self.task.of_bundle()).conclude(good)
        self.undecodable.name_new()
        quarantined = self.undecodable.of_all_workers()
        outcome = asdict(self.position) | told | {"mode": described(self.mode_told)}
        outcome |= {"counts": self.counts, "best_by": best_by(good, self.task, self.judged)}
        # Of a run that had ended, the epochs that met them are not gone through again.
        outcome |= {"quarantined": self.ended.get("quarantined", quarantined)}
        self.checkpointer.write_outcome(outcome | {"way": self.mode_told})
