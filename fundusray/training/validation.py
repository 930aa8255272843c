"""How a network that is being trained is judged: on validation rows after each epoch, under attack
where the recipe asks for it, and at the end on the rows the run reports on."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from fundusray import files
from fundusray.attacks import Budget, judging_budget, training_budget
from fundusray.conditions import AttackCondition, with_condition
from fundusray.config import Recipe
from fundusray.data.sampling import plan_eval, worker_share
from fundusray.data.split.assign_sides import reported_split
from fundusray.errors import DamagedError
from fundusray.metrics import UNDER_CORRUPTION
from fundusray.pipeline.loader import Batch
from fundusray.tasks import Columns, Task
from fundusray.training import numeric_precision
from fundusray.training.best_epoch import held_out
from fundusray.training.examples import Examples
from fundusray.training.predicting import predictions_under, split_measured
from fundusray.training.ranks import Ranks
from fundusray.training.robustness import robust_figures, spread_evenly
from fundusray.training.step import predict_batches, to_device


@dataclass
class Validation:
    """Judges one network; every worker calls it in the same order."""

    recipe: Recipe
    task: Task
    examples: Examples
    model: nn.Module
    way: numeric_precision.Precision
    ranks: Ranks
    folder: str
    """The run's."""

    def _batches(self, rows: np.ndarray, damaged: bool = False) -> Iterator[Batch]:
        plan = plan_eval(rows, self.recipe.train.batch)
        mine = worker_share(plan, self.ranks.rank, self.ranks.world)
        batches = self.examples.judged(mine, damaged)
        return to_device(batches, self.ranks.device, self.way.layout == "contiguous")

    def predict(self, rows: np.ndarray, damaged: bool = False) -> tuple[np.ndarray, Columns]:
        """(rows [N], columns [N]) sorted by row, on every worker; of photographs as they are, or
        damaged as data.judge_corrupt says."""
        self.ranks.share_buffers(self.model)
        precision = numeric_precision.autocast(self.way, self.ranks.device)
        batches = self._batches(rows, damaged)
        found = predict_batches(self.model, batches, precision, self.task)
        return self.ranks.sorted_rows(*found)

    def attacked(self, rows: np.ndarray, budget: Budget) -> tuple[np.ndarray, Columns]:
        """As `predict_batches`, of images under an attack; in full precision."""
        self.ranks.share_buffers(self.model)
        precision = torch.autocast(self.ranks.device.type, enabled=False)
        found = predictions_under(
            self._attack(budget), self.model, self._batches(rows), precision, self.task
        )
        return self.ranks.sorted_rows(*found)

    def _attack(self, budget: Budget) -> AttackCondition:
        return AttackCondition("pgd", budget, self.recipe.seed)

    def validate(self, epoch: int) -> dict[str, Any]:
        """The epoch's validation figures, None where these rows cannot define one: none such
        chooses (`check_choice`). What was written of each row is kept in `epochs/`."""
        rows, columns = self.predict(self.examples.sides["val"])
        columns = self.task.calibrated(self.model, columns)
        row = {f"val_{name}": value for name, value in self.task.figures(columns).items()}
        if self.recipe.adversarial.eps:
            row |= self._robust()
        if self.recipe.data.judge_corrupt:
            _, damaged = self.predict(rows, damaged=True)
            values = self.task.figures(damaged)
            row |= {f"val_{UNDER_CORRUPTION}{name}": value for name, value in values.items()}
        if self.ranks.first:
            files.write_table(self._kept(epoch), self._table(rows, columns))
        return row

    def _table(
        self, rows: np.ndarray, columns: Columns, half: np.ndarray | None = None
    ) -> pa.Table:
        ids, patients = self.examples.image_ids, self.examples.patients
        named = [ids[row] for row in rows], [patients[row] for row in rows]
        return self.task.table(*named, columns, half)

    def _kept(self, epoch: int) -> str:
        """Where an epoch's validation predictions are, epochs counted from 1."""
        return files.join(self.folder, "epochs", f"{epoch:04d}.parquet")

    def _read_kept(self, epoch: int) -> pa.Table:
        place = self._kept(epoch)
        try:
            return files.read_table(place)
        except (FileNotFoundError, DamagedError) as error:
            raise DamagedError(
                f"{place} is missing or damaged, and the network that predicted it is no more: "
                f"restore it from a copy, or delete {self.folder} to train anew"
            ) from error

    def _robust(self) -> dict[str, Any]:
        """Figures of some validation rows, as many of each class, under the attack that judges,
        and under training's own where it has one."""
        val, settings = self.examples.sides["val"], self.recipe.adversarial
        whole, seed = self.examples.targets[val], self.recipe.split_seed
        rows = val[spread_evenly(whole, settings.judge_rows, seed)]
        row = self._robust_figures(rows, judging_budget(settings))
        if settings.method:
            own = self._robust_figures(rows, training_budget(settings))
            row["own_balanced_accuracy"] = own["robust_balanced_accuracy"]
        return {f"val_{name}": value for name, value in row.items()}

    def _robust_figures(self, rows: np.ndarray, budget: Budget) -> dict[str, Any]:
        found, columns = self.attacked(rows, budget)
        targets = self.examples.targets
        whole = targets[self.examples.sides["val"]]
        # An image that is wrong from the beginning is left as it is.
        wrong = columns["success"] | (columns["clean_prediction"] != targets[found])
        return robust_figures(self.task, targets[found], wrong, whole)

    def conclude(self, history: list[dict[str, Any]]) -> dict[str, Any]:
        """Writes `predictions.parquet` of the rows the run reports on, and `attacked.parquet`.

        The model holds the best epoch's weights. Returns what is reported: the side, by which
        epochs, and whether the figures flatter.
        """
        sides, task = self.examples.sides, self.task
        side = reported_split(sides)
        # Where one epoch was trained none was chosen, and nothing flatters; but what is calibrated
        # is always fitted to the validation rows.
        chosen = side == "val" and ((task.chooses and len(history) > 1) or task.calibrates)
        told: dict[str, Any] = {"reported_split": side, "optimistic": chosen}
        if chosen and self.recipe.train.report == "held_out":
            told = self._by_halves(history)
        else:
            self._write("predictions", *self.predict(sides[side]))
        if self.recipe.adversarial.eps:
            self._write_attacked(sides[side])
            # One network only is attacked: that of the epoch which all validation rows chose.
            told["robust_optimistic"] = chosen
        return told

    def _by_halves(self, history: list[dict[str, Any]]) -> dict[str, Any]:
        """Each half of the validation patients predicted by the epoch that is best on the other.

        The number reported is then not the maximum it was chosen by. The table says which half a
        row is of where two epochs predict them (or one that is cut in two ways): their scores have
        no common scale to be ranked on.
        """
        kept = {row["epoch"]: self._read_kept(row["epoch"]) for row in history}
        row_of = {name: row for row, name in enumerate(self.examples.image_ids)}
        # An image that stopped decoding under way is missing from later epochs.
        known = [[row_of[name] for name in t["image_id"].to_pylist()] for t in kept.values()]
        rows = np.array(sorted(set.intersection(*map(set, known))), np.int64)
        columns = {}
        for (epoch, table), own in zip(kept.items(), known, strict=True):
            there = np.searchsorted(own, rows)
            written = self.task.columns_of(table)
            columns[epoch] = {name: values[there] for name, values in written.items()}
        side, targets = self.examples.halves(rows), self.examples.targets[rows]
        # An attack judges one slice of the rows, too few for two halves.
        metric = self.task.clean_selector
        joined, chosen = held_out(columns, targets, side, metric, self.task)
        two = chosen[0] != chosen[1] or self.task.calibrates
        self._write("predictions", rows, joined, side if two else None)
        told = {"held_out_epochs": chosen, "held_out_by": metric}
        # The half that chooses is the other one.
        told["held_out_undefined"] = [
            half for half in (0, 1) if self.task.undefined(metric, targets[side != half])
        ]
        return {"reported_split": "val", "optimistic": False} | told

    def _write(
        self, name: str, rows: np.ndarray, columns: Columns, half: np.ndarray | None = None
    ) -> None:
        if self.ranks.first:
            place = files.join(self.folder, f"{name}.parquet")
            files.write_table(place, self._table(rows, columns, half))

    def _write_attacked(self, rows: np.ndarray) -> None:
        budget = judging_budget(self.recipe.adversarial)
        found, columns = self.attacked(rows, budget)
        if self.ranks.first:
            own, measured = split_measured(columns)
            place = files.join(self.folder, "attacked.parquet")
            table = self._table(found, own)
            files.write_table(place, with_condition(table, self._attack(budget), measured))
