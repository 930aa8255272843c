"""How a network that is being trained is judged: on validation rows after each epoch, under attack
where the recipe asks for it, and at the end on the rows the run reports on."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from fundusray import files
from fundusray.attacks import Budget, judging_budget, training_budget
from fundusray.cluster.ranks import Ranks
from fundusray.cluster.rows import predictions_of
from fundusray.conditions import AttackCondition, described
from fundusray.config import Recipe
from fundusray.data.sampling import plan_eval, share
from fundusray.data.shards import PreparedSet
from fundusray.data.splits import halves, reported_split
from fundusray.errors import DamagedError
from fundusray.metrics import METRICS, needing_order, point
from fundusray.models import Classifier, fit_thresholds
from fundusray.models.heads import ladder
from fundusray.pipeline import Loader
from fundusray.training import mode
from fundusray.training.choosing import constant_answer, standing, undefined
from fundusray.training.loop import predict, to_device
from fundusray.training.predicting import Predictions, predictions_under
from fundusray.training.robustness import robustness, spread_evenly


@dataclass
class Judge:
    """Judges one model; every worker calls it in the same order."""

    recipe: Recipe
    prepared: PreparedSet
    sides: dict[str, np.ndarray]
    """Rows of train, val and test."""
    model: Classifier
    loader: Loader
    way: mode.Mode
    ranks: Ranks
    folder: str
    """The run's."""

    def __post_init__(self) -> None:
        self.targets = self.prepared.targets()
        self.regression = self.recipe.model.output == "regression"

    def _batches(self, rows: np.ndarray) -> Any:
        plan = plan_eval(rows, self.recipe.train.batch)
        mine = share(plan, self.ranks.rank, self.ranks.world)
        batches = self.loader.epoch(mine, seed=0, epoch=0)
        return to_device(batches, self.ranks.device, self.way.layout == "contiguous")

    def predict(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(rows [N], class logits [N, K]) sorted by row, on every worker."""
        self.ranks.share_buffers(self.model)
        precision = mode.autocast(self.way, self.ranks.device)
        return self.ranks.sorted_rows(*predict(self.model, self._batches(rows), precision))

    def attacked(self, rows: np.ndarray, condition: AttackCondition) -> Predictions:
        """As `predict`, of images under an attack; in full precision."""
        self.ranks.share_buffers(self.model)
        precision = torch.autocast(self.ranks.device.type, enabled=False)
        found = predictions_under(condition, self.model, self._batches(rows), precision)
        return found.gathered(self.ranks.sorted_rows)

    def _attack(self, budget: Budget) -> AttackCondition:
        return AttackCondition("pgd", budget, self.recipe.seed)

    def validate(self, epoch: int) -> dict[str, Any]:
        """The epoch's validation figures; its predictions are kept in `epochs/`."""
        rows, logits = self.predict(self.sides["val"])
        if self.regression:
            logits = self._fit_thresholds(rows, logits)
        targets = self.targets[rows]
        values = point(targets, logits)
        # What needs an order of the classes that is not known is not told at all; None where these
        # rows cannot define a metric: none such chooses (choosing.check_choice).
        meant = self.prepared.ordered or logits.shape[1] == 2
        names = [m for m in METRICS if meant or m not in needing_order()]
        row: dict[str, Any] = {f"val_{m}": values[m] for m in names}
        row["val_loss"] = _loss(logits, targets)
        if self.recipe.adversarial.eps:
            row |= self._robust()
        if self.ranks.first:
            table = predictions_of(self.prepared, rows, logits)
            files.write_table(self._kept(epoch), table)
        return row

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

    def _fit_thresholds(self, rows: np.ndarray, logits: np.ndarray) -> np.ndarray:
        """Cuts the regression's scores where kappa is best on the validation rows."""
        thresholds = self.model.get_buffer("thresholds")
        # The ladder's first rung is score - threshold_0.
        scores = logits[:, 1] - logits[:, 0] + float(thresholds[0])
        fitted = fit_thresholds(scores, self.targets[rows], logits.shape[1])
        thresholds.copy_(torch.as_tensor(fitted, dtype=thresholds.dtype))
        raw = torch.as_tensor(scores, dtype=thresholds.dtype)[:, None].to(thresholds.device)
        return self.model.class_logits(raw).float().cpu().numpy()

    def _robust(self) -> dict[str, Any]:
        """Figures of some validation rows, as many of each class, under the attack that judges,
        and under training's own where it has one."""
        val, settings = self.sides["val"], self.recipe.adversarial
        rows = val[spread_evenly(self.targets[val], settings.judge_rows, self.recipe.split_seed)]
        found = self.attacked(rows, self._attack(judging_budget(settings)))
        whole = self.targets[val]
        row = robustness(self.targets[found.rows], found.logits.argmax(axis=1), whole)
        if settings.method:
            found = self.attacked(rows, self._attack(training_budget(settings)))
            own = robustness(self.targets[found.rows], found.logits.argmax(axis=1), whole)
            row["own_balanced_accuracy"] = own["robust_balanced_accuracy"]
        return {f"val_{name}": value for name, value in row.items()}

    def conclude(self, history: list[dict[str, Any]]) -> dict[str, Any]:
        """Writes `predictions.parquet` of the rows the run reports on, and `attacked.parquet`.

        The model holds the best epoch's weights. Returns what is reported: the side, by which
        epochs, and whether the figures flatter.
        """
        side = reported_split(self.sides)
        # Where one epoch was trained none was chosen, and nothing flatters; but the thresholds of
        # a regression are always fitted to the validation rows.
        chosen = side == "val" and (len(history) > 1 or self.regression)
        told: dict[str, Any] = {"reported_split": side, "optimistic": chosen}
        if chosen and self.recipe.train.report == "held_out":
            told = self._by_halves(history)
        else:
            rows, logits = self.predict(self.sides[side])
            self._write("predictions", rows, logits)
        if self.recipe.adversarial.eps:
            attack = self._attack(judging_budget(self.recipe.adversarial))
            found = self.attacked(self.sides[side], attack)
            if self.ranks.first:
                table = predictions_of(self.prepared, found.rows, found.logits)
                place = files.join(self.folder, "attacked.parquet")
                files.write_table(place, described(table, attack, found.columns))
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
        row_of = {name: row for row, name in enumerate(self.prepared.image_ids())}
        # An image that stopped decoding under way is missing from later epochs.
        known = [[row_of[name] for name in t["image_id"].to_pylist()] for t in kept.values()]
        rows = np.array(sorted(set.intersection(*map(set, known))), np.int64)
        logits = {
            epoch: _logits(table)[np.searchsorted(own, rows)]
            for (epoch, table), own in zip(kept.items(), known, strict=True)
        }
        side = halves(self.prepared.table, rows, self.recipe.split_seed)
        metric = self.recipe.train.select
        # An attack judges one slice of the rows, too few for two halves.
        ordered = self.prepared.ordered or len(self.prepared.classes) == 2
        metric = metric if metric in METRICS else ("kappa" if ordered else "balanced_accuracy")
        targets, classes = self.targets[rows], len(self.prepared.classes)
        joined, chosen = held_out(logits, targets, side, metric, self.regression)
        two = chosen[0] != chosen[1] or self.regression
        self._write("predictions", rows, joined, side if two else None)
        told = {"held_out_epochs": chosen, "held_out_by": metric}
        # The half that chooses is the other one.
        told["held_out_undefined"] = [
            half for half in (0, 1) if undefined(metric, targets[side != half], classes)
        ]
        return {"reported_split": "val", "optimistic": False} | told

    def _write(
        self, name: str, rows: np.ndarray, logits: np.ndarray, half: np.ndarray | None = None
    ) -> None:
        if self.ranks.first:
            table = predictions_of(self.prepared, rows, logits, half)
            files.write_table(files.join(self.folder, f"{name}.parquet"), table)


def held_out(
    logits: dict[int, np.ndarray],
    targets: np.ndarray,
    half: np.ndarray,
    metric: str,
    regression: bool = False,
) -> tuple[np.ndarray, list[int]]:
    """Each half of some rows as the epoch sees it that is best on the other half.

    Args:
        logits: of each epoch [N, K].
        targets: int64 [N].
        half: 0 or 1 of each row [N].
        metric: what is best, by its name in METRICS; of equal epochs the earliest is. Where no
            epoch is above the constant answer there, the validation loss decides (`standing`).
        regression: the logits are a regression's, whose thresholds were fitted to all rows; they
            are fitted anew, to the other half alone.

    Returns:
        (logits [N, K], the epochs of half 0 and of half 1).
    """
    joined, chosen = np.empty_like(next(iter(logits.values()))), []
    for mine in (0, 1):
        other = half != mine
        seen = {e: _recut(g, targets, other) if regression else g for e, g in logits.items()}
        there, constant = targets[other], constant_answer(metric, targets[other])
        values = {
            e: standing(point(there, g[other])[metric], constant, _loss(g[other], there))
            for e, g in seen.items()
        }
        best = max(values, key=lambda epoch: (values[epoch], -epoch))
        joined[~other] = seen[best][~other]
        chosen.append(best)
    return joined, chosen


def _recut(logits: np.ndarray, targets: np.ndarray, known: np.ndarray) -> np.ndarray:
    """A regression's logits with thresholds that are fitted to the known rows alone."""
    # The ladder's first rung is the score less a threshold; a shift of all scores changes nothing.
    scores = logits[:, 1] - logits[:, 0]
    fitted = fit_thresholds(scores[known], targets[known], logits.shape[1])
    return ladder(torch.from_numpy(scores)[:, None] - fitted).numpy()


def _loss(logits: np.ndarray, targets: np.ndarray) -> float:
    """Mean cross entropy of logits [N, K]."""
    given, wanted = (torch.from_numpy(np.ascontiguousarray(part)) for part in (logits, targets))
    return nn.functional.cross_entropy(given, wanted).item()


def _logits(table: Any) -> np.ndarray:
    """[N, K] of a predictions table."""
    names = [name for name in table.column_names if name.startswith("logit_")]
    return np.stack([table[name].to_numpy() for name in names], axis=1)
