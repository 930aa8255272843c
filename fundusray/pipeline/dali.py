"""The pipeline in NVIDIA DALI, on CPU or GPU: the only file that knows of it.

DALI only carries out what draws.py has drawn. It takes works from a Python source, a few ahead of
what is asked for, so that it decodes while the model computes.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch

# DALI keeps blocks of host memory above this size for the next batch. If nothing is said it takes
# even a batch of 25 MB fresh from the system each time, whose page faults were measured to cost up
# to half of the decoding again. It is read when DALI first takes memory.
os.environ.setdefault("DALI_MALLOC_POOL_THRESHOLD", "1M")

from nvidia.dali import Pipeline, fn, math, pipeline_def, types
from nvidia.dali.data_node import DataNode
from torch import Tensor

from fundusray.pipeline import plain
from fundusray.pipeline.draws import Dice, Draws, finish, still, window
from fundusray.pipeline.plain import FLATTEST, LEVEL, Content, Frame, Work, wrong_size

DEPTH = 2  # batches that DALI makes ahead

Inputs = tuple[Content | np.ndarray, ...]


class Dali:
    """One DALI pipeline for all epochs, built when it is first used."""

    ahead = DEPTH + 1

    def __init__(self, frame: Frame, *, batch: int, device: str, threads: int) -> None:
        self._works: Iterator[Work] = iter(())
        # DALI reads its inputs where they lie: they are held until their batch is made.
        self._held: deque[Inputs] = deque()
        self._pipe: Pipeline | None = None
        self._frame, self._batch, self._gpu = frame, batch, device == "gpu"
        self._settings = {
            "num_threads": threads,
            "device_id": torch.cuda.current_device() if self._gpu else None,
        }

    def images(self, works: Iterator[Work]) -> Iterator[Tensor]:
        """A float32 tensor [B, 3, out, out], channels last, for each work; no two share memory.

        Raises:
            RuntimeError: an image of the works taken does not decode; DALI does not say which.
        """
        self._rewind()
        self._works = works
        while (image := self._next()) is not None:
            yield image

    def faults(self, contents: list[np.ndarray]) -> list[str]:
        """Why DALI cannot decode each image by itself, in Pillow's words where it cannot either;
        empty where it can."""
        alone, shown, reasons = self._frame._replace(augmented=False), deque[np.ndarray](), []
        pipe: Pipeline | None = None
        for content in contents:
            if pipe is None:
                pipe = self._build(alone, lambda: ([shown.popleft()],), batch=1, depth=1)
            shown.append(content)
            try:
                (pixels,) = pipe.run()
                reasons.append(wrong_size(*pixels[0].shape()[:2], self._frame.size))
            except RuntimeError as error:
                pipe = None
                reason = plain.fault(content, self._frame.size)
                reasons.append(reason or f"DALI does not decode it: {_told(error)}")
        return reasons

    def _build(
        self, frame: Frame, source: Callable[[], Inputs], *, batch: int, depth: int
    ) -> Pipeline:
        graph = _train if frame.augmented else _eval
        settings = self._settings | {"batch_size": batch, "prefetch_queue_depth": depth}
        return graph(source, frame, "gpu" if self._gpu else "cpu", **settings)

    def _rewind(self) -> None:
        """Makes the pipeline as new: batches made ahead and not asked for are dropped."""
        if self._pipe is None:
            self._pipe = self._build(self._frame, self._feed, batch=self._batch, depth=DEPTH)
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
        content, draws = next(self._works)
        inputs: Inputs = (content,)
        if self._frame.augmented:
            inputs = (content, *_steps(draws, self._frame.size))
        self._held.append(inputs)
        return inputs


class Steps(NamedTuple):
    """What each image of a batch gets, as the graph takes it: flags, and values where set."""

    geometric: np.ndarray  # bool, drawn bilinearly
    matrix: np.ndarray  # float32 [2, 3]
    cut: np.ndarray  # bool, a window of whole pixels
    first: np.ndarray  # int32 [2] its first pixel, down and across
    mirrored: np.ndarray  # bool, in whole pixels
    down: np.ndarray  # int32, 1 where mirrored top to bottom
    across: np.ndarray  # int32
    adjusted: np.ndarray  # bool
    brightness: np.ndarray  # float32
    contrast: np.ndarray  # float32
    coloured: np.ndarray  # bool
    colour: np.ndarray  # float32 [3, 4] on levels of 255
    stretched: np.ndarray  # bool
    std: np.ndarray  # float32


_TYPES = {"bool": types.BOOL, "float32": types.FLOAT, "int32": types.INT32}


def _steps(draws: Draws, size: int) -> Steps:
    mirrored, first = window(draws)
    whole = ~draws.geometric
    steps = Steps(
        draws.geometric,
        draws.matrix,
        whole & ((draws.size != size) | first.any(axis=1)),
        first,
        whole & mirrored.any(axis=1),
        *mirrored.T.astype(np.int32),
        (draws.brightness != 1) | (draws.contrast != 1),
        draws.brightness,
        draws.contrast,
        draws.coloured,
        draws.colour * np.array([1, 1, 1, 255], np.float32),
        draws.std > 0,
        draws.std,
    )
    return Steps(*(np.ascontiguousarray(part) for part in steps))


def _source(
    source: Callable[[], Inputs], frame: Frame, steps: tuple[np.ndarray, ...]
) -> list[DataNode]:
    """The graph's inputs: the images, and steps of the types and shapes of these."""
    return fn.external_source(
        source,
        num_outputs=1 + len(steps),
        dtype=[types.UINT8, *(_TYPES[part.dtype.name] for part in steps)],
        ndim=[1 if frame.encoded else 3, *(part.ndim - 1 for part in steps)],
        layout=["" if frame.encoded else "HWC", *[""] * len(steps)],
        no_copy=True,
    )


def _images(content: DataNode, frame: Frame, device: str) -> DataNode:
    """Pixels, uint8 HWC, where the graph works."""
    if frame.encoded:
        return fn.decoders.image(content, device="mixed" if device == "gpu" else "cpu")
    return content.gpu() if device == "gpu" else content


@pipeline_def
def _eval(source: Callable[[], Inputs], frame: Frame, device: str) -> DataNode:
    """The stored images, float HWC in [0, 1]."""
    (content,) = _source(source, frame, ())
    return _images(content, frame, device) * LEVEL


@pipeline_def(enable_conditionals=True)
def _train(source: Callable[[], Inputs], frame: Frame, device: str) -> DataNode:
    """Augmented images, float HWC in [0, 1]; each step only on those it was drawn for."""
    nothing = finish(still(Dice(np.zeros(1, np.uint64), frame.size)))
    content, *given = _source(source, frame, _steps(nothing, frame.size))
    steps = Steps(*given)
    image = _images(content, frame, device)
    sides = [frame.out, frame.out]
    # Numbers that meet pixels in arithmetic have to be where the pixels are.
    std = steps.std.gpu() if device == "gpu" else steps.std
    if steps.geometric:
        image = fn.warp_affine(image, matrix=steps.matrix, size=sides, fill_value=frame.level)
    else:
        if steps.cut:
            image = fn.slice(
                image, start=steps.first, shape=sides, axes=(0, 1), fill_values=[frame.level],
                out_of_bounds_policy="pad",
            )  # fmt: skip
        if steps.mirrored:
            image = fn.flip(image, vertical=steps.down, horizontal=steps.across)
    if steps.adjusted:
        image = fn.brightness_contrast(
            image, brightness=steps.brightness, contrast=steps.contrast, contrast_center=127.5
        )
    if steps.coloured:
        image = fn.coord_transform(image, MT=steps.colour, dtype=types.UINT8)
    image = image * LEVEL
    if steps.stretched:
        mean = fn.reductions.mean(image)
        deviation = math.max(fn.reductions.std_dev(image, mean), FLATTEST)
        image = math.clamp((image - mean) * (std / deviation) + 0.5, 0.0, 1.0)
    return image


def _told(error: RuntimeError) -> str:
    """What went wrong, without where in the graph."""
    return str(error).split("encountered:")[-1].strip().split("\n")[0]
