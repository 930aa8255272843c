"""A table ready to be measured: the figures of all patients, and those without each one of them."""

from functools import cached_property

import numpy as np
import pyarrow as pa

from fundusray.metrics.auc import OrderedPairs
from fundusray.metrics.confusion import confusion_cells, confusion_figures
from fundusray.metrics.predictions import PredictionRows, read_predictions
from fundusray.metrics.registered import METRICS


class PatientFigures:
    """P patients with their eyes as one network, or one for each part, sees them."""

    def __init__(self, rows: PredictionRows) -> None:
        self.num_patients = int(rows.patient.max()) + 1
        self.num_classes = rows.logits.shape[1]
        self.num_networks = int(rows.part.max()) + 1
        size = self.num_classes**2
        flat = rows.patient * size + confusion_cells(rows.targets, rows.logits)
        counts = np.bincount(flat, minlength=self.num_patients * size).astype(np.float64)
        self.counts = counts.reshape(self.num_patients, self.num_classes, self.num_classes)
        """[P, K, K] confusion matrix of each patient."""
        self.confusion = self.counts.sum(axis=0)
        self.rows = rows
        self.ranks = OrderedPairs(rows.targets, rows.logits, rows.part)

    @classmethod
    def of(cls, predictions: pa.Table) -> "PatientFigures":
        """The patients of a table of predictions.

        Raises:
            InputError: no rows.
        """
        return cls(read_predictions(predictions))

    @cached_property
    def values(self) -> dict[str, float]:
        """Each figure, METRICS first; NaN where undefined."""
        found = dict(self.standard)
        found |= {
            name: float(METRICS.find(name)(self.rows)) for name in METRICS if name not in found
        }
        order = dict.fromkeys((*METRICS, *found))
        return {name: found[name] for name in order}

    @cached_property
    def standard(self) -> dict[str, float]:
        """The figures that have an interval of their own kind, from counts that are there."""
        found = {
            name: float(value[0]) for name, value in confusion_figures(self.confusion[None]).items()
        }
        return found | {"auc_referable": self.ranks.auc()}

    @cached_property
    def left_out(self) -> dict[str, np.ndarray]:
        """kappa, cohen_kappa and auc_referable without each patient, [P]; NaN where undefined."""
        found = confusion_figures(self.confusion - self.counts)
        auc = self.ranks.left_out(self.rows.patient, self.num_patients)
        return {name: found[name] for name in ("kappa", "cohen_kappa")} | {"auc_referable": auc}

    @cached_property
    def referable(self) -> tuple[np.ndarray, np.ndarray]:
        """Whether a patient has a referable image, and whether another one, bool [P] each; of the
        images that any pair holds."""
        positive, part = self.ranks.positive, self.rows.part
        paired = np.isin(part, np.intersect1d(part[positive], part[~positive]))
        flags = np.zeros((2, self.num_patients), bool)
        for flag, kind in zip(flags, (positive, ~positive), strict=True):
            flag[self.rows.patient[kind & paired]] = True
        return flags[0], flags[1]
