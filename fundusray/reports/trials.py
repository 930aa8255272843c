"""One training as the report sees it, and what is measured from its predictions."""

from dataclasses import dataclass, field
from typing import Any, TypedDict

import numpy as np
import pyarrow as pa

from fundusray import files, metrics


@dataclass(frozen=True, kw_only=True)
class ReportTrial:
    """One training: its settings, how it went, where its results are."""

    method: str
    """What a reader calls it, e.g. "focal, gamma 2"."""
    loss: str
    sampler: str
    batch: int
    """Global batch size."""
    epochs_run: int
    epochs_asked: int
    """0: not known here."""
    best_epoch: int
    selected_by: str
    """The validation metric by which the best epoch was chosen."""
    optimistic: bool
    """The figures are measured on the very rows by which the epoch was chosen."""
    seconds: float
    weight_ratio: float
    """Largest over smallest class weight in effect."""
    weighs_cross_entropy: bool = False
    """The loss is cross entropy where its class weights are equal."""
    overrides: dict[str, Any] = field(default_factory=dict)
    side: str = "test"
    """The side of the split it is measured on."""
    published: dict[str, Any] = field(default_factory=dict)
    """The paper's accuracy, balanced_accuracy, kappa, time; may be empty."""
    bundle: str = ""
    predictions: str = ""
    """Location of predictions.parquet; empty where there is none."""
    repeats: tuple[str, ...] = ()
    """Of a method that was trained more than once: the predictions of every training, in the order
    of their seeds; "" for one that failed. Trials are compared training by training."""
    held_out_epochs: tuple[int, ...] = ()
    """Where each half of the validation patients was judged by the epoch that the other half chose:
    these two. `best_epoch` is then a third choice, the bundle's."""
    precision: str = ""
    """How steps were computed: fp32 or bf16; empty where it is not known."""
    start_chosen: bool = False
    """The rows it is measured on chose the epoch of the network that it began from."""
    validation: float | None = None
    """What it is worth on validation rows, by `selected_by`; of a search's trials."""
    chosen: bool = False
    """Whether its search chose it, on validation rows."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """One row per epoch: epoch, train_loss, val_<metric>, ..."""
    baseline: bool = False
    status: str = "finished"
    """finished, stopped early, failed."""
    reason: str = ""
    """Why it stopped or failed."""


class PageFacts(TypedDict, total=False):
    """What the page says around the figures; whatever is left out is not shown."""

    title: str
    command: str
    recipe: str
    source: str
    splits: dict[str, dict[str, Any]]
    """Split name -> n, patients, counts (photographs per class)."""
    split: str
    """How rows came to their side, and what was not met on two, in a sentence."""
    patients: str
    """That and of which photographs patients are unknown; empty where all are known."""
    leak: str
    """What is known to be on two sides of the split, in a sentence; empty when nothing is."""
    classes: list[str]
    ordered: bool
    """Whether the order of the classes is known; of two, which one is the positive."""
    preprocess: str
    model: str
    mode: str | dict[str, Any]
    """Precision, layout."""
    seed: int | str
    prepared: dict[str, Any]
    """kept, repaired, unlabelled, ungradable (which are of the unlabelled); skipped: rows of
    image_id, where, reason, also of the ungradable; untaken: lines on image files not taken."""
    resources: str | dict[str, Any]
    versions: str | dict[str, Any]
    notes: list[str]


@dataclass(frozen=True, kw_only=True)
class MeasuredTrial:
    """A trial with what its predictions say; `summary` is empty where there are none."""

    trial: ReportTrial
    summary: dict[str, Any] = field(default_factory=dict)
    """metrics.figure_summary of its predictions; metrics.repeated_summary of several trainings."""
    versus: dict[str, dict[str, Any]] = field(default_factory=dict)
    """metrics.paired_differences against the baseline, or metrics.repeated_differences; empty for
    the baseline and where rows differ."""
    confusion: np.ndarray | None = None
    """[K, K] counts: true class, predicted class."""

    @property
    def kappa(self) -> float | None:
        return self.summary.get("kappa")


def measure_trials(trials: list[ReportTrial]) -> list[MeasuredTrial]:
    """Every trial measured, best kappa first, those without one after, failed ones last.

    Where none has a kappa, as the order of the classes is not known, the best balanced accuracy is
    first.

    Raises:
        FileNotFoundError: a trial names predictions that are not there.
    """
    baseline = next((t for t in trials if t.baseline and _has_predictions(t)), None)
    base = _tables(baseline) if baseline else []
    measured = [_measure(t, [] if t is baseline else base) for t in trials]
    return sorted(measured, key=_place)


def _measure(trial: ReportTrial, base: list[pa.Table | None]) -> MeasuredTrial:
    if not _has_predictions(trial):
        return MeasuredTrial(trial=trial)
    tables = _tables(trial)
    own = [table for table in tables if table is not None]
    return MeasuredTrial(
        trial=trial,
        summary=metrics.repeated_summary(own) if len(own) > 1 else metrics.figure_summary(own[0]),
        versus=_versus(tables, base),
        confusion=metrics.confusion_matrix(own[0]),
    )


def _tables(trial: ReportTrial) -> list[pa.Table | None]:
    """The predictions of every training, None for one that failed."""
    places = trial.repeats or (trial.predictions,)
    return [files.read_table(place) if place else None for place in places]


def _versus(
    tables: list[pa.Table | None], base: list[pa.Table | None]
) -> dict[str, dict[str, Any]]:
    """The differences of the trainings that both have; {} where there are none, or rows differ."""
    both = [(a, b) for a, b in zip(tables, base, strict=False) if a is not None and b is not None]
    if not both or any(_rows(a) != _rows(b) for a, b in both):
        return {}
    if len(both) == 1:
        return metrics.paired_differences(*both[0])
    ours, theirs = zip(*both, strict=True)
    return metrics.repeated_differences(ours, theirs)


def _has_predictions(trial: ReportTrial) -> bool:
    return trial.status != "failed" and bool(trial.predictions or any(trial.repeats))


def _rows(table: pa.Table) -> tuple[list[str], list[tuple]]:
    """Photographs, patients and grades: what two tables must share to be compared in pairs."""
    columns = [table[name].to_pylist() for name in ("image_id", "patient_id", "target")]
    names = [name for name in table.column_names if name != "half"]
    return names, sorted(zip(*columns, strict=True))


def _place(measured: MeasuredTrial) -> tuple[bool, bool, float, float]:
    kappa, balanced = measured.kappa, measured.summary.get("balanced_accuracy")
    failed = measured.trial.status == "failed"
    return failed, kappa is None, -(kappa or 0.0), 0.0 if kappa is not None else -(balanced or 0.0)


def baseline_of(measured: list[MeasuredTrial]) -> MeasuredTrial | None:
    """The trial the others were compared with, or None."""
    return next((m for m in measured if m.trial.baseline and m.summary), None)


def baseline_first(measured: list[MeasuredTrial]) -> list[MeasuredTrial]:
    """Those with figures, the baseline before the others, as the paper's Figure 2 shows them."""
    base = baseline_of(measured)
    rest = [m for m in measured if m.summary and m is not base]
    return [base, *rest] if base else rest


def chosen_of(measured: list[MeasuredTrial]) -> MeasuredTrial | None:
    """The trial that its search chose, or None."""
    return next((m for m in measured if m.trial.chosen), None)


def is_search(measured: list[MeasuredTrial]) -> bool:
    """Whether these are the trials of a search, each with a value on validation rows."""
    return any(m.trial.validation is not None for m in measured)
