"""What a training needs to know of what is learned; everything else is the same for all tasks.

A task says what a batch is held against, what a network puts out for it, what is written of each
image, and which figures follow from what was written. The trainer, validation, evaluation and
attacks know this interface alone.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from torch import Tensor, nn

from fundusray.config import Recipe
from fundusray.pipeline.loader import Batch
from fundusray.registry import Registry

Columns = dict[str, np.ndarray]
"""What is written of some images: name -> values [N]."""


class SampleLosses(Protocol):
    """The loss of a task over class counts of its train rows."""

    def per_sample(
        self,
        output: Any,
        target: Any,
        valid: Tensor,
        progress: float,
        batch_counts: Tensor | None = None,
    ) -> Tensor:
        """[B] losses of what a network puts out in training mode.

        Args:
            target: what `Task.target` gives of the batch.
            valid: bool [B], False on padding.
            progress: the share of the run's steps done.
            batch_counts: what the global batch holds of each class [K].
        """


class Task(Protocol):
    """One kind of answer, of a recipe, for some classes."""

    classes: tuple[str, ...]
    ordered: bool
    """Whether the order of the classes is known."""

    @property
    def raw_width(self) -> int:
        """How many numbers the network puts out: of an image, or of each of its pixels."""

    @property
    def selector(self) -> str:
        """The metric that ranks networks and, with `chooses`, epochs."""

    @property
    def clean_selector(self) -> str:
        """The same without an attack: one of `figures`."""

    @property
    def selectors(self) -> tuple[str, ...]:
        """All metrics that could."""

    @property
    def chooses(self) -> bool:
        """Whether the bundle is of the best epoch; else it is of the last."""

    @property
    def calibrates(self) -> bool:
        """Whether validation rows fit something of the network after each epoch."""

    def network(self) -> nn.Module:
        """The network as it begins, on the CPU; `notes` of it are for who reads the run.

        Raises:
            InputError: an unknown name, or a start that does not fit.
        """

    def bundled(self, network: nn.Module) -> nn.Module:
        """That part of the network which the bundle holds."""

    def of_bundle(self) -> "Task":
        """What the bundle answers; the task itself unless a part of the network is left out."""

    def target(self, batch: Batch) -> Any:
        """What a batch is held against; tensors in it begin with [B]."""

    def losses(self, counts: Tensor) -> SampleLosses:
        """The loss; `counts` float [K] are the train rows of each class, on the device."""

    def columns(self, outputs: Any, target: Any) -> Columns:
        """What is written of each image [B], from what the network puts out in evaluation mode.

        A number or a few: dense maps stay on the worker that made them.
        """

    def answers(self, outputs: Any) -> Tensor:
        """What the network answers of each image as one number, the class, int64 [B]."""

    def attack_success(self, outputs: Any, target: Any) -> Tensor:
        """Whether an attack has reached its end with each image, bool [B]."""

    def figures(self, columns: Columns) -> dict[str, float | None]:
        """The metrics of some images by what was written of them, and `loss`, their mean loss;
        None where the images do not define one."""

    def constant_answer(self, metric: str, targets: np.ndarray) -> float:
        """What a network that always answers the same reaches at most, on rows of these classes
        [N]."""

    def undefined(self, metric: str, targets: np.ndarray) -> bool:
        """Whether rows of these classes [N] give no value of a metric, or the same to all."""

    def calibrated(self, network: nn.Module, columns: Columns) -> Columns:
        """The columns after the network, changed in place, was fitted to these rows."""

    def recalibrated(self, columns: Columns, known: np.ndarray) -> Columns:
        """The columns as if only the rows `known`, bool [N], had been fitted to."""

    def table(
        self,
        image_ids: Sequence[str],
        patient_ids: Sequence[str],
        columns: Columns,
        half: np.ndarray | None = None,
    ) -> pa.Table:
        """The table of some images, a row each; `half` as in `metrics.predictions_table`."""

    def columns_of(self, table: pa.Table) -> Columns:
        """What was written into a table."""


TASKS: Registry[Callable[[Recipe, tuple[str, ...], bool], Task]] = Registry("task")
"""Name -> (recipe, classes, whether their order is known) to the task."""
