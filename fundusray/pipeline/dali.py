"""The pipeline in NVIDIA DALI, on CPU or GPU: the only file that knows of it.

DALI only carries out what draws.py has drawn. It takes works from a Python source, a few ahead of
what is asked for, so that it decodes while the model computes.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
import torch

# DALI keeps blocks of host memory above this size for the next batch. If nothing is said it takes
# even a batch of 25 MB fresh from the system each time, whose page faults were measured to cost up
# to half of the decoding again. It is read when DALI first takes memory.
os.environ.setdefault("DALI_MALLOC_POOL_THRESHOLD", "1M")

from nvidia.dali import Pipeline, fn, pipeline_def, types
from nvidia.dali.data_node import DataNode
from torch import Tensor

from fundusray.pipeline.draws import Work
from fundusray.pipeline.plain import LEVEL, fill_level

DEPTH = 2  # batches that DALI makes ahead

Inputs = tuple[list[np.ndarray] | np.ndarray, ...]


class Dali:
    """One DALI pipeline for all epochs, built when it is first used."""

    ahead = DEPTH + 1

    def __init__(
        self, size: int, fill: float, *, batch: int, augmented: bool, device: str, threads: int
    ) -> None:
        self._works: Iterator[Work] = iter(())
        # DALI reads its inputs where they lie: they are held until their batch is made.
        self._held: deque[Inputs] = deque()
        self._pipe: Pipeline | None = None
        self._augmented, self._gpu = augmented, device == "gpu"
        self._level = fill_level(fill)
        self._settings = {
            "batch_size": batch,
            "num_threads": threads,
            "device_id": torch.cuda.current_device() if self._gpu else None,
            "prefetch_queue_depth": DEPTH,
        }

    def images(self, works: Iterator[Work]) -> Iterator[Tensor]:
        """A float32 tensor [B, 3, S, S], channels last, for each work; no two share memory.

        Raises:
            RuntimeError: an image of the works taken does not decode; DALI does not say which.
        """
        self._rewind()
        self._works = works
        while (image := self._next()) is not None:
            yield image

    def _rewind(self) -> None:
        """Makes the pipeline as new: batches made ahead and not asked for are dropped."""
        if self._pipe is None:
            graph = _train if self._augmented else _eval
            decoder = "mixed" if self._gpu else "cpu"
            self._pipe = graph(self._feed, decoder, self._level, **self._settings)
            return
        self._works = iter(())
        while self._next() is not None:
            pass

    def _next(self) -> Tensor | None:
        """The next batch; None, and the pipeline ready for another epoch, after the last."""
        # On a GPU the output belongs to torch's stream, so that its memory is not used again
        # before what torch has queued on it is done.
        stream = torch.cuda.current_stream() if self._gpu else None
        try:
            (pixels,) = self._pipe.run(stream)
            image = torch.from_dlpack(pixels.as_tensor())
        except StopIteration:
            self._pipe.reset()
            return None
        except RuntimeError:
            # A failed pipeline stays unusable.
            self._pipe = None
            self._held.clear()
            raise
        self._held.popleft()
        return image.permute(0, 3, 1, 2)

    def _feed(self) -> Inputs:
        """The inputs of the graph for the next work."""
        encoded, draws = next(self._works)
        inputs: Inputs = (encoded,)
        if self._augmented:
            mirrored = draws.flip & ~draws.geometric
            adjusted = (draws.brightness != 1) | (draws.contrast != 1)
            inputs = (encoded, draws.geometric, mirrored, draws.matrix, adjusted)
            inputs = (*inputs, draws.brightness, draws.contrast)
        self._held.append(inputs)
        return inputs


_DTYPES = [
    types.UINT8, types.BOOL, types.BOOL, types.FLOAT, types.BOOL, types.FLOAT, types.FLOAT,
]  # fmt: skip


@pipeline_def
def _eval(source: Callable[[], Inputs], decoder: str, level: int) -> DataNode:
    """Decoded, float HWC in [0, 1]."""
    (encoded,) = fn.external_source(
        source, num_outputs=1, dtype=[types.UINT8], ndim=[1], no_copy=True
    )
    return fn.decoders.image(encoded, device=decoder) * LEVEL


@pipeline_def(enable_conditionals=True)
def _train(source: Callable[[], Inputs], decoder: str, level: int) -> DataNode:
    """Decoded and augmented, float HWC in [0, 1]; each step only on images it was drawn for."""
    encoded, geometric, mirrored, matrix, adjusted, brightness, contrast = fn.external_source(
        source,
        num_outputs=7,
        dtype=_DTYPES,
        ndim=[1, 0, 0, 2, 0, 0, 0],
        no_copy=True,
    )
    image = fn.decoders.image(encoded, device=decoder)
    if geometric:
        image = fn.warp_affine(image, matrix=matrix, fill_value=level)
    elif mirrored:
        image = fn.flip(image)
    if adjusted:
        image = fn.brightness_contrast(
            image, brightness=brightness, contrast=contrast, contrast_center=127.5
        )
    return image * LEVEL
