"""From rows of a prepared set to batches a model can take."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from fundusray.data.images import BadImage
from fundusray.data.sampling import Plan
from fundusray.data.shards import PreparedSet
from fundusray.errors import InputError
from fundusray.pipeline import plain
from fundusray.pipeline.draws import AUGMENTATIONS, Augmentation, Work
from fundusray.registry import unknown_name


class Batch(NamedTuple):
    """A worker's share of a global batch, all on the loader's device."""

    image: Tensor  # [B, 3, S, S] float32 RGB in [0, 1], laid out channels last
    target: Tensor  # [B] int64 class
    row: Tensor  # [B] int64 position in the prepared set
    valid: Tensor  # [B] bool, False on padding


class Engine(Protocol):
    """What decodes and augments."""

    ahead: int
    """How many works it may have taken and not yet given back."""

    def images(self, works: Iterator[Work]) -> Iterator[Tensor]:
        """A float32 tensor [B, 3, S, S] for each work, in order.

        What a former call has not given back is dropped. After a RuntimeError or BadImage, which
        says that some image does not decode, the next call starts clean.
        """


class Loader:
    """Batches of a prepared set: one epoch at a time, any number of epochs."""

    def __init__(
        self, prepared: PreparedSet, batch: int, augmentation: Augmentation, engine: Engine
    ) -> None:
        self._prepared = prepared
        self._batch = batch
        self._augmentation = augmentation
        self._engine = engine
        self._targets = np.asarray(prepared.targets(), np.int64)
        self._turn = 0

    def epoch(self, plan: Plan, *, seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of a plan from step `start` on; augmentation depends on (seed, epoch).

        It may be left at any step; beginning another epoch ends it.

        Raises:
            InputError: images do not decode; each is named with the reason.
            RuntimeError: a batch is asked for after another epoch was begun.
        """
        assert plan.rows.shape[1] <= self._batch, "the loader was made for smaller batches"
        self._turn += 1
        return self._batches(plan, seed, epoch, start, self._turn)

    def _batches(self, plan: Plan, seed: int, epoch: int, start: int, turn: int) -> Iterator[Batch]:
        images: Iterator[Tensor] | None = None
        for step in range(start, len(plan.rows)):
            if turn != self._turn:
                raise RuntimeError("this epoch ended when another one was begun")
            try:
                if images is None:
                    images = self._engine.images(self._works(plan, seed, epoch, start))
                image = next(images)
            except (RuntimeError, BadImage) as error:
                raise self._explain(plan.rows[step : step + self._engine.ahead], error) from error
            rows = plan.rows[step]
            rest = (self._targets[rows], rows, plan.valid[step])
            yield Batch(image, *(torch.tensor(part, device=image.device) for part in rest))

    def _works(self, plan: Plan, seed: int, epoch: int, start: int) -> Iterator[Work]:
        for rows, repeat in zip(plan.rows[start:], plan.repeat[start:], strict=True):
            draws = self._augmentation(seed, epoch, rows, repeat, self._prepared.size)
            yield self._prepared.encoded(rows), draws

    def _explain(self, rows: np.ndarray, error: Exception) -> Exception:
        """An error that names the images at fault among `rows`, found by decoding each alone."""
        ids, bad = self._prepared.image_ids(), []
        rows = np.unique(rows)
        for row, content in zip(rows, self._prepared.encoded(rows), strict=True):
            try:
                plain.decode(content, self._prepared.size)
            except BadImage as reason:
                bad.append(f"{ids[row]!r} ({reason})")
        if not bad:
            names = ", ".join(repr(ids[row]) for row in rows)
            return RuntimeError(f"the engine failed on one of these images: {names}: {error}")
        return InputError(
            f"images of the prepared set {self._prepared.folder} do not decode: {', '.join(bad)}; "
            f"remove that folder and prepare it again"
        )


def make_loader(
    prepared: PreparedSet,
    *,
    batch: int,
    augment: str,
    engine: str = "dali",
    device: str = "cpu",
    threads: int = 1,
) -> Loader:
    """A loader of batches of up to `batch` rows; `augment="none"` for evaluation.

    engine: dali, or plain, the slow reference. device: cpu or gpu, where dali works and batches
    end up. threads: that decode and augment.

    Raises:
        InputError: an unknown name, no such device, or DALI is not installed.
    """
    if device not in ("cpu", "gpu"):
        raise unknown_name("device of the pipeline", device, ("cpu", "gpu"))
    if device == "gpu" and not torch.cuda.is_available():
        raise InputError("the pipeline is to run on a GPU, but torch sees none; give device=cpu")
    augmentation = AUGMENTATIONS.find(augment)
    if engine == "plain":
        made: Engine = plain.Plain(prepared.size, prepared.fill, device)
    elif engine == "dali":
        try:
            from fundusray.pipeline.dali import Dali
        except ModuleNotFoundError as error:
            raise InputError(
                f"NVIDIA DALI is not installed ({error}); "
                f"give data.pipeline=plain, the slower reference, or install the lock file"
            ) from error
        made = Dali(
            prepared.size, prepared.fill, batch=batch, augmented=augment != "none",
            device=device, threads=threads,
        )  # fmt: skip
    else:
        raise unknown_name("data.pipeline", engine, ("dali", "plain"))
    return Loader(prepared, batch, augmentation, made)
