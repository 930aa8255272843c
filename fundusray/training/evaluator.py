"""A trained network and the photographs it is asked about, both open, on one device."""

import numpy as np
import torch

from fundusray.conditions import Condition
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.data.sampling import plan_eval
from fundusray.models.bundle import Bundle
from fundusray.pipeline.augment import augmentation
from fundusray.pipeline.loader import make_loader
from fundusray.tasks import Columns, Task
from fundusray.training.predicting import predictions_under
from fundusray.training.step import to_device

BATCH = 32


class Evaluator:
    """What is costly to open for an evaluation; predicts any rows under any condition."""

    def __init__(
        self, bundle: Bundle, task: Task, prepared: PreparedSet, threads: int, gpu: bool
    ) -> None:
        data, self.task = bundle.recipe.data, task
        self.device = torch.device("cuda" if gpu else "cpu")
        self.model = bundle.model.to(self.device, memory_format=torch.channels_last)
        self.loader = make_loader(
            prepared,
            batch=BATCH,
            augment=augmentation.view_text(data),
            engine=data.pipeline,
            max_bad=data.max_bad,
            device="gpu" if gpu else "cpu",
            threads=threads,
        )

    def predictions(self, rows: np.ndarray, condition: Condition) -> tuple[np.ndarray, Columns]:
        """(rows [N], columns [N]), see `predictions_under`; fp32, however it was trained."""
        plan = plan_eval(rows, min(BATCH, max(len(rows), 1)))
        epoch = self.loader.epoch(plan, seed=0, epoch=0)
        batches = to_device(epoch, self.device, contiguous=False)
        precision = torch.autocast(self.device.type, enabled=False)
        return predictions_under(condition, self.model, batches, precision, self.task)
