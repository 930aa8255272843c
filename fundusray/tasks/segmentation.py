"""Segmentation: one class of several for each pixel of a photograph."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from fundusray.config import Recipe
from fundusray.losses.pixel_losses import pixel_loss
from fundusray.metrics.registered import OF_MASKS
from fundusray.metrics.segmentation import (
    segmentation_columns_of,
    segmentation_figures,
    segmentation_table,
)
from fundusray.metrics.segmentation.counts import lesion_columns, pixel_columns
from fundusray.models.segmenters import build_segmenter
from fundusray.pipeline.loader import Batch
from fundusray.tasks.task import TASKS, Columns, Task


def class_map(masks: Tensor) -> Tensor:
    """The class of every pixel, int64 [B, H, W], of masks [B, M, H, W]: 1 + the first kind that is
    marked there, 0 where none is."""
    marked = masks.bool()
    first = marked.to(torch.uint8).argmax(dim=1) + 1
    return torch.where(marked.any(dim=1), first, 0)


@dataclass(frozen=True)
class PixelLosses:
    """What a recipe minimises."""

    text: str

    def per_sample(
        self,
        output: Tensor,
        target: Tensor,
        valid: Tensor,
        progress: float = 0.0,
        batch_counts: Tensor | None = None,
    ) -> Tensor:
        """[B] losses, see `task.SampleLosses`."""
        return pixel_loss(self.text, output.float(), target)


@TASKS.register("segmentation")
@dataclass(frozen=True)
class Segmentation:
    """The task of a recipe on a set with these classes, the background first; see `task.Task`."""

    recipe: Recipe
    classes: tuple[str, ...]
    ordered: bool = False
    lesions: bool = False
    """Whether lesions are counted one by one, too, which takes longer than a step."""

    chooses = True
    calibrates = False

    @property
    def raw_width(self) -> int:
        return len(self.classes)

    @property
    def selector(self) -> str:
        return "dice"

    clean_selector = selector

    @property
    def selectors(self) -> tuple[str, ...]:
        return OF_MASKS

    def network(self) -> nn.Module:
        built = build_segmenter(self.recipe.model, len(self.classes), self.recipe.seed)
        built.tile, built.overlap = self.recipe.segmentation.tile, self.recipe.segmentation.overlap
        return built

    def bundled(self, network: nn.Module) -> nn.Module:
        return network

    def of_bundle(self) -> Task:
        """The task itself, which then counts lesions."""
        return replace(self, lesions=True)

    def target(self, batch: Batch) -> Tensor:
        """The class of every pixel, int64 [B, H, W]; see `class_map`."""
        assert batch.masks is not None, "the prepared set keeps no masks"
        return class_map(batch.masks)

    def losses(self, counts: Tensor) -> PixelLosses:
        return PixelLosses(self.recipe.segmentation.loss)

    def columns(self, outputs: Tensor, target: Tensor) -> Columns:
        """Counts and histograms of each image; see `metrics.segmentation`."""
        outputs = outputs.float()
        counted = lesion_columns(outputs, target) if self.lesions else {}
        return pixel_columns(outputs, target) | counted

    def answers(self, outputs: Tensor) -> Tensor:
        """The class, besides the background, that most pixels are called, int64 [B]; 0: none."""
        called = outputs.argmax(dim=1).flatten(1)
        sizes = torch.stack([(called == k).sum(dim=1) for k in range(1, outputs.shape[1])], dim=1)
        return torch.where(sizes.amax(dim=1) > 0, sizes.argmax(dim=1) + 1, 0)

    def attack_success(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Whether no pixel of what is to be found is called right any more, bool [B]."""
        right = (outputs.argmax(dim=1) == target) & (target > 0)
        return ~right.flatten(1).any(dim=1)

    def figures(self, columns: Columns) -> dict[str, float | None]:
        return segmentation_figures(columns, self.classes)

    def constant_answer(self, metric: str, targets: np.ndarray) -> float:
        """Everything called one class has a Dice of no more than that class's share in pixels, of
        the lesions in a photograph a few percent; 0 stands for calling everything background."""
        return 0.0

    def undefined(self, metric: str, targets: np.ndarray) -> bool:
        return not len(targets)

    def calibrated(self, network: nn.Module, columns: Columns) -> Columns:
        return columns

    def recalibrated(self, columns: Columns, known: np.ndarray) -> Columns:
        return columns

    def table(
        self,
        image_ids: Sequence[str],
        patient_ids: Sequence[str],
        columns: Columns,
        half: np.ndarray | None = None,
    ) -> pa.Table:
        return segmentation_table(image_ids, patient_ids, columns, self.classes, half)

    def columns_of(self, table: pa.Table) -> Columns:
        return segmentation_columns_of(table)
