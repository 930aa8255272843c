"""From rows of a prepared set to batches a model can take."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from fundusray.data.images import BadImage
from fundusray.data.sampling import Plan
from fundusray.data.shards import PreparedSet
from fundusray.errors import InputError
from fundusray.pipeline.augment import Augmentation, parse
from fundusray.pipeline.draws import Draws
from fundusray.pipeline.memory import Memory
from fundusray.pipeline.plain import Frame, Plain, fill_level
from fundusray.pipeline.quarantine import Quarantine
from fundusray.registry import unknown_name

ENGINES = ("dali", "memory", "plain")


class Batch(NamedTuple):
    """A worker's share of a global batch, all on the loader's device."""

    image: Tensor
    """[B, 3, S, S] RGB, laid out channels last: float32 in [0, 1]; or uint8, as stored, of a raw
    set to which nothing is done, which `training.loop.to_device` turns into float where it is
    cheapest."""
    target: Tensor  # [B] int64 class
    row: Tensor  # [B] int64 position in the prepared set
    valid: Tensor  # [B] bool, False on padding and on images that do not decode
    masks: Tensor | None = None
    """[B, M, S, S] uint8 0 or 1, what is where on the image as it is here, augmented; None where
    the set has no masks."""


class Engine(Protocol):
    """What decodes and augments."""

    ahead: int
    """How many works it may have taken and not yet given back."""

    def images(self, works: Iterator[Any]) -> Iterator[Tensor]:
        """A tensor [B, 3, out, out] for each work, in order.

        What a former call has not given back is dropped. After a RuntimeError or BadImage, which
        says that some image does not decode, the next call starts clean.
        """

    def faults(self, contents: list[np.ndarray]) -> list[str]:
        """Why it cannot decode each encoded image by itself; empty where it can."""


class Loader:
    """Batches of a prepared set: one epoch at a time, any number of epochs."""

    def __init__(
        self,
        prepared: PreparedSet,
        batch: int,
        augmentation: Augmentation,
        engine: Engine,
        quarantine: Quarantine,
    ) -> None:
        self._prepared, self._batch = prepared, batch
        self._augmentation, self._engine, self._quarantine = augmentation, engine, quarantine
        self._read = _reader(prepared, engine, quarantine)
        self._targets = np.asarray(prepared.targets(), np.int64)
        self._turn = 0

    @property
    def quarantined(self) -> dict[int, str]:
        """Rows found not to decode, with the reason; their places in a batch are not valid."""
        return self._quarantine.rows

    def epoch(self, plan: Plan, *, seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
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

    def _batches(self, plan: Plan, seed: int, epoch: int, start: int, turn: int) -> Iterator[Batch]:
        self._quarantine.check_share()
        images: Iterator[Tensor] | None = None
        step = start
        while step < len(plan.rows):
            if turn != self._turn:
                raise RuntimeError("this epoch ended when another one was begun")
            try:
                if images is None:
                    images = self._engine.images(self._works(plan, seed, epoch, step))
                image = next(images)
            except (RuntimeError, BadImage) as error:
                self._examine(plan.rows[step : step + self._engine.ahead], error)
                images = None
                continue
            rows = plan.rows[step]
            valid = plan.valid[step] & ~self._quarantine.holds(rows)
            rest = (self._targets[rows], rows, valid)
            yield Batch(image, *(torch.tensor(part, device=image.device) for part in rest))
            step += 1

    def _works(self, plan: Plan, seed: int, epoch: int, start: int) -> Iterator[tuple[Any, Draws]]:
        for rows, repeat in zip(plan.rows[start:], plan.repeat[start:], strict=True):
            keys = {"seed": seed, "epoch": epoch, "rows": rows, "repeat": repeat}
            yield self._read(rows), self._augmentation.draw(self._prepared.size, **keys)

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
    prepared: PreparedSet, engine: Engine, quarantine: Quarantine
) -> Callable[[np.ndarray], Any]:
    """What an engine is given of some rows."""
    if isinstance(engine, Memory):
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
) -> Loader:
    """A loader of batches of up to `batch` rows.

    augment: a preset's name or a text of operations (augment.py); for evaluation what
    `augment.view_text` gives. engine: dali; plain, the slow reference; or memory, for raw sets.
    device: cpu or gpu, where the engine works and batches end up. threads: that decode and augment.
    max_bad: share of the set that may turn out not to decode.

    Raises:
        InputError: an unknown name, a text that does not fit, no such device, an engine that does
            not read such a set, or DALI is not installed.
    """
    _check(prepared, engine, device)
    augmentation = parse(augment)
    side = augmentation.side(prepared.size)
    raw, augmented = prepared.encoding == "raw", bool(augmentation.steps)
    frame = Frame(prepared.size, side, fill_level(prepared.fill), not raw, augmented)
    if engine == "memory" or (raw and not augmented):
        # What is not touched needs no engine: the other ones would only copy it once more.
        made: Engine = Memory(prepared, frame, device, resident=engine == "memory")
    elif engine == "plain":
        made = Plain(frame, device)
    else:
        made = _dali(frame, batch, device, threads)
    return Loader(prepared, batch, augmentation, made, Quarantine(prepared, max_bad))


def _check(prepared: PreparedSet, engine: str, device: str) -> None:
    if device not in ("cpu", "gpu"):
        raise unknown_name("device of the pipeline", device, ("cpu", "gpu"))
    if device == "gpu" and not torch.cuda.is_available():
        raise InputError("the pipeline is to run on a GPU, but torch sees none; give device=cpu")
    if engine not in ENGINES:
        raise unknown_name("data.pipeline", engine, ENGINES)
    if engine == "memory" and prepared.encoding != "raw":
        raise InputError(
            "data.pipeline=memory reads raw sets, and this one holds JPEG; "
            "give data.encoding=raw and prepare it, or data.pipeline=dali"
        )


def _dali(frame: Frame, batch: int, device: str, threads: int) -> Engine:
    try:
        from fundusray.pipeline.dali import Dali
    except ModuleNotFoundError as error:
        raise InputError(
            f"NVIDIA DALI is not installed ({error}); "
            f"give data.pipeline=plain, the slower reference, or install the lock file"
        ) from error
    return Dali(frame, batch=batch, device=device, threads=threads)
