"""Classification: one class of several for each photograph."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from fundusray.config import Loss, Recipe
from fundusray.errors import InputError
from fundusray.losses import compute_loss
from fundusray.metrics import (
    METRICS,
    constant_answer,
    metric_of,
    needing_order,
    point_figures,
    predictions_table,
    selectors,
)
from fundusray.models import Classifier, build_model, fit_thresholds
from fundusray.models.heads import border_class_logits, raw_width
from fundusray.pipeline.loader import Batch
from fundusray.tasks.task import TASKS, Columns, Task

AUXILIARY_WEIGHT = 0.4
"""Weight of Inception's auxiliary head in the loss (Szegedy et al. 2015; torchvision's custom)."""
LOGIT = "logit_"


@dataclass(frozen=True)
class Objective:
    """The loss of a recipe over class counts of its train rows."""

    loss: Loss
    counts: Tensor
    """[K] float, on the device that trains."""

    def per_sample(
        self,
        output: Tensor | tuple[Tensor, Tensor],
        target: Tensor,
        valid: Tensor,
        progress: float,
        batch_counts: Tensor | None = None,
    ) -> Tensor:
        """[B] losses of raw outputs, of (outputs, auxiliary outputs) in training Inception, or with
        `loss.sparsity` of (outputs, evidence of every place [B, W, h, w]).

        Evidence costs the L1 norm of an image's map (Djoumessi et al. 2024, sparse BagNet), so that
        what says nothing of the class says nothing at all.

        `progress` is the share of the run's steps done, `batch_counts` [K] what the global batch
        holds of each class; losses that change with them ask for them.
        """
        of = partial(
            compute_loss,
            self.loss.name,
            self.loss.args,
            target=target,
            counts=self.counts,
            progress=progress,
            valid=valid,
            batch_counts=batch_counts,
        )
        if isinstance(output, tuple):
            main, other = output
            if self.loss.sparsity:
                return of(main) + self.loss.sparsity * other.float().abs().sum(dim=(1, 2, 3))
            return of(main) + AUXILIARY_WEIGHT * of(other)
        return of(output)


@TASKS.register("classification")
@dataclass(frozen=True)
class Classification:
    """A class index int64 [B] and class logits [B, K]; see `task.Task`."""

    recipe: Recipe
    classes: tuple[str, ...]
    ordered: bool = True

    chooses = True

    @property
    def raw_width(self) -> int:
        """Of the last layer.

        Raises:
            InputError: an output that these classes cannot have.
        """
        return raw_width(self.recipe.model.output, len(self.classes))

    @property
    def selector(self) -> str:
        return self.recipe.train.select

    @property
    def clean_selector(self) -> str:
        if self.selector in METRICS:
            return self.selector
        ordered = self.ordered or len(self.classes) == 2
        return "kappa" if ordered else "balanced_accuracy"

    @property
    def selectors(self) -> tuple[str, ...]:
        return tuple(selectors())

    @property
    def calibrates(self) -> bool:
        """A regression's thresholds are fitted."""
        return self.recipe.model.output == "regression"

    def network(self) -> Classifier:
        built = build_model(self.recipe.model, len(self.classes), self.recipe.seed)
        built.pairs_evidence = bool(self.recipe.loss.sparsity)
        return built

    def bundled(self, network: nn.Module) -> nn.Module:
        return network

    def of_bundle(self) -> Task:
        return self

    def target(self, batch: Batch) -> Tensor:
        return batch.target

    def losses(self, counts: Tensor) -> Objective:
        return Objective(self.recipe.loss, counts)

    def columns(self, outputs: Tensor, target: Tensor) -> Columns:
        """target, and logit_<k> of each class in float32."""
        logits = outputs.float().cpu().numpy()
        return {"target": target.cpu().numpy()} | with_logits({}, logits)

    def answers(self, outputs: Tensor) -> Tensor:
        """The most likely class."""
        return outputs.argmax(dim=1)

    def attack_success(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Whether the most likely class is another one."""
        return self.answers(outputs) != target

    def figures(self, columns: Columns) -> dict[str, float | None]:
        """METRICS, without those that need an order of more than two classes where none is known;
        and `loss`, the cross entropy of the class logits."""
        targets, logits = columns["target"], logits_of(columns)
        values = point_figures(targets, logits)
        meant = self.ordered or logits.shape[1] == 2
        names = [name for name in METRICS if meant or name not in needing_order()]
        return {name: values[name] for name in names} | {"loss": _cross_entropy(logits, targets)}

    def constant_answer(self, metric: str, targets: np.ndarray) -> float:
        return constant_answer(metric, targets)

    def undefined(self, metric: str, targets: np.ndarray) -> bool:
        return is_undefined(metric, targets, len(self.classes))

    def calibrated(self, network: nn.Module, columns: Columns) -> Columns:
        """Cuts a regression's scores where kappa is best on these rows."""
        if not self.calibrates:
            return columns
        logits, thresholds = logits_of(columns), network.get_buffer("thresholds")
        # The ladder's first rung is score - threshold_0.
        scores = logits[:, 1] - logits[:, 0] + float(thresholds[0])
        fitted = fit_thresholds(scores, columns["target"], logits.shape[1])
        thresholds.copy_(torch.as_tensor(fitted, dtype=thresholds.dtype))
        raw = torch.as_tensor(scores, dtype=thresholds.dtype)[:, None].to(thresholds.device)
        return with_logits(columns, network.class_logits(raw).float().cpu().numpy())

    def recalibrated(self, columns: Columns, known: np.ndarray) -> Columns:
        if not self.calibrates:
            return columns
        logits = logits_of(columns)
        # A shift of all scores changes nothing.
        scores = logits[:, 1] - logits[:, 0]
        fitted = fit_thresholds(scores[known], columns["target"][known], logits.shape[1])
        cut = border_class_logits(torch.from_numpy(scores)[:, None] - fitted).numpy()
        return with_logits(columns, cut)

    def table(
        self,
        image_ids: Sequence[str],
        patient_ids: Sequence[str],
        columns: Columns,
        half: np.ndarray | None = None,
    ) -> pa.Table:
        """`metrics.predictions_table`, and whatever else the columns hold."""
        targets, logits = columns["target"], logits_of(columns)
        table = predictions_table(image_ids, patient_ids, targets, logits, half, self.ordered)
        for name, values in columns.items():
            if name != "target" and not name.startswith(LOGIT):
                table = table.append_column(name, pa.array(values))
        return table

    def columns_of(self, table: pa.Table) -> Columns:
        names = [name for name in table.column_names if name.startswith(LOGIT)]
        targets = table["target"].to_numpy().astype(np.int64)
        return {"target": targets} | {name: table[name].to_numpy() for name in names}


def logits_of(columns: Columns) -> np.ndarray:
    """Class logits [N, K] of what was written."""
    parts = [values for name, values in columns.items() if name.startswith(LOGIT)]
    return np.stack(parts, axis=1) if parts else np.zeros((0, 0), np.float32)


def with_logits(columns: Columns, logits: np.ndarray) -> Columns:
    """The columns with these class logits [N, K]."""
    return columns | {f"{LOGIT}{k}": column for k, column in enumerate(logits.T)}


def _cross_entropy(logits: np.ndarray, targets: np.ndarray) -> float:
    """The mean of logits [N, K]."""
    parts = (torch.from_numpy(np.ascontiguousarray(part)) for part in (logits, targets))
    return nn.functional.cross_entropy(*parts).item()


def is_undefined(metric: str, targets: np.ndarray, num_classes: int) -> bool:
    """Whether rows of these targets [N] give no value, or the same to every network."""
    if len(np.unique(targets)) < 2:
        return True
    metric = metric_of(metric)
    return (
        metric in METRICS and point_figures(targets, np.eye(num_classes)[targets])[metric] is None
    )


def check_choice(metric: str, targets: np.ndarray, classes: tuple[str, ...]) -> None:
    """Refuses validation rows, of targets [N], that cannot choose an epoch by this metric.

    Raises:
        InputError: they are of one class, or of grades that are all on one side of "referable".
    """
    present = [classes[k] for k in np.unique(targets)]
    if len(present) < 2:
        raise InputError(
            f"the {len(targets)} validation images are all of class {present[0]!r}, which a "
            "network that always answers it gets right, so they choose no epoch; give more images, "
            "or other data.fractions or data.split_file"
        )
    if is_undefined(metric, targets, len(classes)):
        raise InputError(
            f"train.select={metric} is not defined on validation images of classes "
            f"{', '.join(present)} alone; give train.select=kappa, or other data.fractions"
        )
