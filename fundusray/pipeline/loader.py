"""From rows of a prepared set to batches a model can take."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from fundusray.data.photographs.decode import BadImage
from fundusray.data.prepared.lesion_points import LesionPoints
from fundusray.data.prepared.masks import num_planes
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.data.sampling import EpochPlan
from fundusray.errors import InputError
from fundusray.pipeline.augment.augmentation import UNSEEN, Augmentation, parse_augmentation
from fundusray.pipeline.engines.memory import MemoryEngine
from fundusray.pipeline.engines.plain import (
    EngineFrame,
    Made,
    PlainEngine,
    Work,
    fill_level,
    unpacked,
)
from fundusray.pipeline.undecodable import UndecodableImages
from fundusray.registry import Registry, unknown_name


class Batch(NamedTuple):
    """A worker's share of a global batch, all on the loader's device."""

    image: Tensor
    """[B, 3, S, S] RGB, laid out channels last: float32 in [0, 1]; or uint8 where an image is as
    stored or only moved in whole levels, which `training.step.to_device` turns into float where it
    is cheapest."""
    target: Tensor  # [B] int64 class
    row: Tensor  # [B] int64 position in the prepared set
    valid: Tensor  # [B] bool, False on padding and on images that do not decode
    masks: Tensor | None = None
    """[B, M, S, S] uint8, 0 or 1, of each of the set's `mask_kinds`, moved as its image is; None
    where the set keeps no masks."""


class PixelChange(Protocol):
    """What is done to stored pixels before they are augmented: damage, say, and the last step of a
    preprocessing."""

    fill: float
    """Value outside the fundus afterwards, in [0, 1]."""

    def __call__(
        self, pixels: np.ndarray, rows: np.ndarray, *, seed: int, epoch: int, repeat: np.ndarray
    ) -> np.ndarray:
        """The changed pixels, uint8 [B, S, S, 3], of those of some rows; `repeat` [B] is how often
        a row came before in the epoch."""


class Engine(Protocol):
    """What decodes and augments."""

    ahead: int
    """How many works it may have taken and not yet given back."""

    def batches(self, works: Iterator[Work]) -> Iterator[Made]:
        """A batch for each work, in order.

        What a former call has not given back is dropped. After a RuntimeError or BadImage, which
        says that some image does not decode, the next call starts clean.
        """

    def faults(self, contents: list[np.ndarray]) -> list[str]:
        """Why it cannot decode each encoded image by itself; empty where it can."""


@dataclass(frozen=True, kw_only=True)
class EngineFacts:
    """What is to be known of an engine."""

    encodings: tuple[str, ...] = ("jpeg", "raw")
    """Of prepared sets that it reads."""


ENGINES: Registry[Callable[["Needs"], Engine]] = Registry("data.pipeline", EngineFacts)


class Needs(NamedTuple):
    """What an engine is made for."""

    prepared: PreparedSet
    frame: EngineFrame
    batch: int
    """Rows of the largest batch."""
    device: str
    """cpu or gpu."""
    threads: int


class Loader:
    """Batches of a prepared set: one epoch at a time, any number of epochs."""

    def __init__(
        self,
        prepared: PreparedSet,
        batch: int,
        augmentation: Augmentation,
        engine: Engine,
        quarantine: UndecodableImages,
        change: PixelChange | None = None,
    ) -> None:
        self._prepared, self._batch, self._change = prepared, batch, change
        self._augmentation, self._engine, self._quarantine = augmentation, engine, quarantine
        self._read = _reader(prepared, engine, quarantine)
        self._lesions = LesionPoints(prepared) if augmentation.seeking else None
        self._targets = np.asarray(prepared.targets(), np.int64)
        self._turn = 0

    @property
    def quarantined(self) -> dict[int, str]:
        """Rows found not to decode, with the reason; their places in a batch are not valid."""
        return self._quarantine.rows

    def epoch(self, plan: EpochPlan, *, seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of a plan from step `start` on; augmentation depends on (seed, epoch).

        It may be left at any step; beginning another epoch ends it. An image that does not decode
        is set aside; a flat picture, not valid, takes its place, and nothing else changes.

        Raises:
            BadInputsError: more images do not decode than max_bad allows; they are named.
            RuntimeError: an engine fails though every image decodes, or a batch is asked for
                after another epoch was begun.
        """
        assert plan.rows.shape[1] <= self._batch, "the loader was made for smaller batches"
        self._turn += 1
        return self._batches(plan, seed, epoch, start, self._turn)

    def _batches(
        self, plan: EpochPlan, seed: int, epoch: int, start: int, turn: int
    ) -> Iterator[Batch]:
        self._quarantine.check_share()
        made: Iterator[Made] | None = None
        kinds = len(self._prepared.mask_kinds)
        step = start
        while step < len(plan.rows):
            if turn != self._turn:
                raise RuntimeError("this epoch ended when another one was begun")
            try:
                if made is None:
                    made = self._engine.batches(self._works(plan, seed, epoch, step))
                image, planes = next(made)
            except (RuntimeError, BadImage) as error:
                self._examine(plan.rows[step : step + self._engine.ahead], error)
                made = None
                continue
            rows = plan.rows[step]
            valid = plan.valid[step] & ~self._quarantine.holds(rows)
            rest = (self._targets[rows], rows, valid)
            parts = (torch.tensor(part, device=image.device) for part in rest)
            yield Batch(image, *parts, None if planes is None else unpacked(planes, kinds))
            step += 1

    def _works(self, plan: EpochPlan, seed: int, epoch: int, start: int) -> Iterator[Work]:
        masked = bool(self._prepared.mask_kinds)
        for rows, repeat in zip(plan.rows[start:], plan.repeat[start:], strict=True):
            keys = {"seed": seed, "epoch": epoch, "rows": rows, "repeat": repeat}
            planes = self._prepared.mask_planes(rows) if masked else None
            lesions = None if self._lesions is None else self._lesions.of(rows, planes)
            draws = self._augmentation.draw(self._prepared.size, **keys, lesions=lesions)
            content = self._read(rows)
            if self._change is not None:
                content = self._change(content, **keys)
            yield Work(content, draws, planes)

    def _examine(self, rows: np.ndarray, error: Exception) -> None:
        """Sets aside the images at fault among `rows`, each decoded alone."""
        if self._prepared.encoding == "jpeg" and self._quarantine.examine(
            rows, self._engine.faults
        ):
            return
        ids = self._prepared.image_ids()
        names = ", ".join(repr(ids[row]) for row in np.unique(rows))
        raise RuntimeError(
            f"the engine failed on a batch of these images, though each decodes alone: {names}: "
            f"{error}"
        ) from error


def _reader(
    prepared: PreparedSet, engine: Engine, quarantine: UndecodableImages
) -> Callable[[np.ndarray], Any]:
    """What an engine is given of some rows."""
    if isinstance(engine, MemoryEngine):
        return np.asarray
    return prepared.pixels if prepared.encoding == "raw" else quarantine.encoded


def make_loader(
    prepared: PreparedSet,
    *,
    batch: int,
    augment: str,
    engine: str = "dali",
    device: str = "cpu",
    threads: int = 1,
    max_bad: float = 0.01,
    change: PixelChange | None = None,
) -> Loader:
    """A loader of batches of up to `batch` rows.

    augment: a preset's name or a text of operations (augmentation.py); for evaluation what
    `augmentation.view_text` gives. engine: dali; plain, the slow reference; or memory, for raw
    sets.
    device: cpu or gpu, where the engine works and batches end up. threads: that decode and augment.
    max_bad: share of the set that may turn out not to decode.
    change: of the stored pixels; of raw sets.

    Raises:
        InputError: an unknown name, a text that does not fit, or that looks for lesions in a set
            without masks, no such device, an engine that does not read such a set, or DALI is not
            installed.
    """
    assert change is None or prepared.encoding == "raw", "only stored pixels can be changed"
    if change is not None and engine == "memory":
        engine = "dali"  # pixels that rest on the device would be changed once for all epochs
    _check(prepared, engine, device)
    augmentation = parse_augmentation(augment)
    if augmentation.seeking and not prepared.mask_kinds:
        raise InputError(f"{prepared.folder}: augmentation: {UNSEEN}")
    side = augmentation.side(prepared.size)
    raw, augmented = prepared.encoding == "raw", bool(augmentation.steps)
    frame = EngineFrame(
        prepared.size,
        side,
        fill_level(prepared.fill if change is None else change.fill),
        encoded=not raw,
        augmented=augmented,
        coloured=not augmentation.geometric,
        planes=num_planes(len(prepared.mask_kinds)),
    )
    needs = Needs(prepared, frame, batch, device, threads)
    if raw and not augmented and change is not None:
        made: Engine = PlainEngine(frame, device)
    elif raw and not augmented and engine != "memory":
        # What is not touched needs no engine: the other ones would only copy it once more.
        made = MemoryEngine(prepared, frame, device, resident=False)
    else:
        made = ENGINES.find(engine)(needs)
    return Loader(prepared, batch, augmentation, made, UndecodableImages(prepared, max_bad), change)


def _check(prepared: PreparedSet, engine: str, device: str) -> None:
    if device not in ("cpu", "gpu"):
        raise unknown_name("device of the pipeline", device, ("cpu", "gpu"))
    if device == "gpu" and not torch.cuda.is_available():
        raise InputError("the pipeline is to run on a GPU, but torch sees none; give device=cpu")
    if engine not in ENGINES:
        raise unknown_name("data.pipeline", engine, ENGINES)
    read = ENGINES.facts(engine).encodings
    if prepared.encoding not in read:
        raise InputError(
            f"data.pipeline={engine} reads {' and '.join(read)} sets, and this one holds "
            f"{prepared.encoding.upper() if prepared.encoding == 'jpeg' else prepared.encoding}; "
            f"give data.encoding={read[0]} and prepare it, or data.pipeline=dali"
        )


@ENGINES.register("memory", encodings=("raw",))
def _memory(needs: Needs) -> Engine:
    return MemoryEngine(needs.prepared, needs.frame, needs.device, resident=True)


@ENGINES.register("plain")
def _plain(needs: Needs) -> Engine:
    return PlainEngine(needs.frame, needs.device)


@ENGINES.register("dali")
def _dali(needs: Needs) -> Engine:
    try:
        from fundusray.pipeline.engines.dali import DaliEngine
    except ModuleNotFoundError as error:
        raise InputError(
            f"NVIDIA DALI is not installed ({error}); "
            f"give data.pipeline=plain, the slower reference, or install the lock file"
        ) from error
    return DaliEngine(needs.frame, batch=needs.batch, device=needs.device, threads=needs.threads)
