"""A trained network and the photographs it is asked about, both open, on one device."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fundusray.attacks import Budget, evaluation_mode
from fundusray.attacks.universal import UniversalPerturbation
from fundusray.certificates import Smoothing, certify, certify_referable
from fundusray.conditions import (
    AttackCondition,
    Condition,
    CorruptionCondition,
    SegmentationAttack,
)
from fundusray.conditions.damage import Damage, finishing
from fundusray.conditions.worst_case import WorstCase
from fundusray.corruptions import Receipt
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.data.sampling import plan_eval
from fundusray.models.bundle import Bundle
from fundusray.models.classifiers import Classifier, feature_layers
from fundusray.models.networks import network_of
from fundusray.pipeline.augment import augmentation
from fundusray.pipeline.loader import Batch, Loader, make_loader
from fundusray.tasks import Columns, Task
from fundusray.training.attacked_segmentation import attacked_segmentation_columns
from fundusray.training.attacking import attacked_columns
from fundusray.training.predicting import predictions_under
from fundusray.training.step import predict_batches, to_device
from fundusray.training.universal import learned_universal, universal_columns
from fundusray.training.worst_damage import SmoothFinish, worst_damage

BATCH = 32


class Evaluator:
    """What is costly to open for an evaluation; predicts any rows under any condition."""

    def __init__(
        self, bundle: Bundle, task: Task, prepared: PreparedSet, threads: int, gpu: bool
    ) -> None:
        self.data, self.task, self.prepared = bundle.recipe.data, task, prepared
        self.device = torch.device("cuda" if gpu else "cpu")
        self.model = bundle.model.to(self.device, memory_format=torch.channels_last)
        self.layers = layers_of(bundle)
        self._threads = threads
        self._loaders: dict[str, Loader] = {}

    def predictions(self, rows: np.ndarray, condition: Condition) -> tuple[np.ndarray, Columns]:
        """(rows [N], columns [N]), see `predictions_under`; fp32, however it was trained."""
        if isinstance(condition, WorstCase):
            return rows, self._worst(rows, condition)
        batches = self.batches(rows, condition)
        precision = torch.autocast(self.device.type, enabled=False)
        found, columns = predictions_under(condition, self.model, batches, precision, self.task)
        if isinstance(condition, CorruptionCondition):
            columns |= condition.columns(found, self.prepared.size)
        return found, columns

    def _worst(self, rows: np.ndarray, condition: WorstCase) -> Columns:
        """The columns of some rows under the worst damage that is found for each."""
        finish = SmoothFinish(self.prepared, self.data, self.device)

        def look(receipts: Sequence[Receipt]) -> Columns:
            given = dict(zip(rows.tolist(), receipts, strict=True))
            loader = self._opened(Damage(self.prepared, self.data, given=given))
            precision = torch.autocast(self.device.type, enabled=False)
            batches = self._batches_of(loader, rows)
            return predict_batches(self.model, batches, precision, self.task)[1]

        def loss(places: np.ndarray, name: str, parameters: dict[str, Tensor]) -> Tensor:
            target = torch.from_numpy(self.prepared.targets()[rows[places]]).to(self.device)
            parts = []
            for start in range(0, len(places), BATCH):
                some = slice(start, start + BATCH)
                own = {key: values[some].to(self.device) for key, values in parameters.items()}
                shown = finish.shown(rows[places[some]], name, own)
                logits = self.model(shown).float()
                parts.append(F.cross_entropy(logits, target[some], reduction="none"))
            return torch.cat(parts)

        with evaluation_mode(self.model):
            columns, done = worst_damage(condition, rows, self.prepared.size, look, loss)
        kinds = np.array([one.name for one in done], dtype=object)
        levels = np.array([one.level for one in done], np.int32)
        return columns | {"corruption": kinds, "level": levels}

    def attacked(
        self,
        rows: np.ndarray,
        attacks: Sequence[AttackCondition],
        condition: Condition,
        surrogate: Bundle | None = None,
    ) -> dict[str, np.ndarray]:
        """What an attack at its budgets makes of some rows, of photographs as the condition's
        camera takes them; see `attacking.attacked_columns`."""
        other = None
        if surrogate is not None:
            other = surrogate.model.to(self.device, memory_format=torch.channels_last).eval()
        precision = torch.autocast(self.device.type, enabled=False)
        return attacked_columns(
            attacks, self.model, self.batches(rows, condition), precision, self.task, other
        )

    def attacked_segmentations(
        self, rows: np.ndarray, attacks: Sequence[SegmentationAttack], condition: Condition
    ) -> Columns:
        """The same of segmentations; see `attacked_segmentation.attacked_segmentation_columns`."""
        precision = torch.autocast(self.device.type, enabled=False)
        batches = self.batches(rows, condition)
        return attacked_segmentation_columns(attacks, self.model, batches, precision, self.task)

    def certificates(
        self, rows: np.ndarray, smoothing: Smoothing, condition: Condition
    ) -> dict[str, np.ndarray]:
        """row, answer and radius of the smoothed network, and both of "referable or not" where the
        order of the classes is known, [N] each; see `certificates.smoothing`."""
        classes = len(self.task.classes)
        kinds = {"": certify} | ({"referable_": certify_referable} if self.task.ordered else {})

        def network(image: Tensor) -> Tensor:
            return self.model(image).float()

        parts: list[dict[str, np.ndarray]] = []
        with evaluation_mode(self.model):
            for batch in self.batches(rows, condition):
                image, row = batch.image[batch.valid], batch.row[batch.valid]
                part = {"row": row.cpu().numpy()}
                for name, certified in kinds.items():
                    found = certified(network, image, row, smoothing, classes)
                    part |= {f"{name}answer": found.answer.cpu().numpy()}
                    part |= {f"{name}radius": found.radius.cpu().numpy()}
                parts.append(part)
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def universal(
        self, rows: np.ndarray, budget: Budget, goal: int | None, seed: int, condition: Condition
    ) -> UniversalPerturbation:
        """One change for all photographs, learned from some rows in this order."""
        learned = learned_universal(
            self.model, lambda: self.batches(rows, condition), budget, goal, seed
        )
        return UniversalPerturbation(learned.perturbation.cpu(), learned.row)

    def under_universal(
        self,
        rows: np.ndarray,
        learned: UniversalPerturbation,
        budget: Budget,
        seed: int,
        condition: Condition,
    ) -> dict[str, np.ndarray]:
        """What a perturbation, and noise of its length, make of some rows; see
        `universal.universal_columns`."""
        here = UniversalPerturbation(learned.perturbation.to(self.device), learned.row)
        return universal_columns(
            self.model, lambda: self.batches(rows, condition), here, budget, seed
        )

    def batches(self, rows: np.ndarray, condition: Condition) -> Iterator[Batch]:
        """Some rows in their order as the condition's camera takes them, on the device; rows that
        fill the last batch up are not `valid`."""
        return self._batches_of(self._loader(condition), rows)

    def _batches_of(self, loader: Loader, rows: np.ndarray) -> Iterator[Batch]:
        plan = plan_eval(rows, min(BATCH, max(len(rows), 1)))
        epoch = loader.epoch(plan, seed=0, epoch=0)
        return to_device(epoch, self.device, contiguous=False)

    def _loader(self, condition: Condition) -> Loader:
        """The photographs as the condition's camera takes them."""
        change: Damage | None = finishing(self.data, self.prepared)
        name = ""
        if isinstance(condition, CorruptionCondition):
            change, name = condition.damage(self.data, self.prepared), str(condition)
        if name not in self._loaders:
            # One at a time: an engine holds threads and buffers.
            self._loaders = {name: self._opened(change)}
        return self._loaders[name]

    def _opened(self, change: Damage | None) -> Loader:
        return make_loader(
            self.prepared,
            batch=BATCH,
            augment=augmentation.view_text(self.data),
            engine=self.data.pipeline,
            max_bad=self.data.max_bad,
            device="gpu" if self.device.type == "cuda" else "cpu",
            threads=self._threads,
            change=change,
        )


def layers_of(bundle: Bundle) -> dict[str, str]:
    """ "early" and "last" -> where such a layer is in the bundle's network; nothing of a network
    without feature maps, or of one that is several."""
    if not isinstance(bundle.model, Classifier) or not network_of(bundle.recipe.model).last:
        return {}
    return feature_layers(bundle.recipe.model.name)
