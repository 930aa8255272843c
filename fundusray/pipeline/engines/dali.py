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

from fundusray.pipeline.augment.draws import (
    Draws,
    KeyedDice,
    finished_draws,
    mask_matrix,
    no_effect,
    pixel_window,
)
from fundusray.pipeline.engines import plain
from fundusray.pipeline.engines.plain import (
    FLATTEST,
    LEVEL,
    Content,
    EngineFrame,
    Made,
    Work,
    on_device,
    wrong_size,
)

DEPTH = 2  # batches that DALI makes ahead
LINEAR, NEAREST = types.INTERP_LINEAR, types.INTERP_NN

Inputs = tuple[Content | np.ndarray, ...]


class DaliEngine:
    """One DALI pipeline for all epochs, built when it is first used."""

    ahead = DEPTH + 1

    def __init__(self, frame: EngineFrame, *, batch: int, device: str, threads: int) -> None:
        self._works: Iterator[Work] = iter(())
        # DALI reads its inputs where they lie: they are held until their batch is made.
        self._held: deque[tuple[Inputs, np.ndarray | None]] = deque()
        self._pipe: Pipeline | None = None
        self._frame, self._batch, self._gpu = frame, batch, device == "gpu"
        self._settings = {
            "num_threads": threads,
            "device_id": torch.cuda.current_device() if self._gpu else None,
        }

    def batches(self, works: Iterator[Work]) -> Iterator[Made]:
        """A batch for each work, no two of which share memory: of uint8 where colours are never
        changed, else of float32.

        Raises:
            RuntimeError: an image of the works taken does not decode; DALI does not say which.
        """
        self._rewind()
        self._works = works
        while (made := self._next()) is not None:
            yield made

    def faults(self, contents: list[np.ndarray]) -> list[str]:
        """Why DALI cannot decode each image by itself, in Pillow's words where it cannot either;
        empty where it can."""
        alone = self._frame._replace(augmented=False, planes=0)
        shown, reasons = deque[np.ndarray](), list[str]()
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
                reason = plain.decode_fault(content, self._frame.size)
                reasons.append(reason or f"DALI does not decode it: {_told(error)}")
        return reasons

    def _build(
        self, frame: EngineFrame, source: Callable[[], Inputs], *, batch: int, depth: int
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

    def _next(self) -> Made | None:
        """The next batch; None, and the pipeline ready for another epoch, after the last."""
        # On a GPU the output belongs to torch's stream, so that its memory is not used again
        # before what torch has queued on it is done.
        stream = torch.cuda.current_stream() if self._gpu else None
        try:
            made = [torch.from_dlpack(part.as_tensor()) for part in self._pipe.run(stream)]
        except StopIteration:
            self._pipe.reset()
            return None
        except RuntimeError:
            # A failed pipeline stays unusable.
            self._pipe = None
            self._held.clear()
            raise
        _, planes = self._held.popleft()
        # Masks that nothing is done to have no need to go through the graph.
        masks = made[1] if made[1:] else on_device(planes, "cuda" if self._gpu else "cpu")
        return Made(made[0].permute(0, 3, 1, 2), masks)

    def _feed(self) -> Inputs:
        """The inputs of the graph for the next work."""
        content, draws, planes = next(self._works)
        inputs: Inputs = (content,)
        if self._frame.augmented:
            inputs += () if planes is None else (planes, mask_matrix(draws))
            inputs += _steps(draws, self._frame)
        self._held.append((inputs, planes))
        return inputs


class Moves(NamedTuple):
    """The geometry of each image of a batch, as the graph takes it: flags, and values where set."""

    geometric: np.ndarray  # bool, drawn bilinearly
    matrix: np.ndarray  # float32 [2, 3]
    cut: np.ndarray  # bool, a window of whole pixels
    first: np.ndarray  # int32 [2] its first pixel, down and across
    mirrored: np.ndarray  # bool, in whole pixels
    down: np.ndarray  # int32, 1 where mirrored top to bottom
    across: np.ndarray  # int32


class Colours(NamedTuple):
    """The colour and spread of each image of a batch, as `Moves`."""

    adjusted: np.ndarray  # bool
    brightness: np.ndarray  # float32
    contrast: np.ndarray  # float32
    coloured: np.ndarray  # bool
    colour: np.ndarray  # float32 [3, 4] on levels of 255
    stretched: np.ndarray  # bool
    std: np.ndarray  # float32


_TYPES = {"bool": types.BOOL, "float32": types.FLOAT, "int32": types.INT32}


def _steps(draws: Draws, frame: EngineFrame) -> tuple[np.ndarray, ...]:
    """The values of Moves, and of Colours where colours are changed at all."""
    mirrored, first = pixel_window(draws)
    whole = ~draws.geometric
    steps: tuple[np.ndarray, ...] = Moves(
        draws.geometric,
        draws.matrix,
        whole & ((draws.size != frame.size) | first.any(axis=1)),
        first,
        whole & mirrored.any(axis=1),
        *mirrored.T.astype(np.int32),
    )
    if frame.coloured:
        steps += Colours(
            (draws.brightness != 1) | (draws.contrast != 1),
            draws.brightness,
            draws.contrast,
            draws.coloured,
            draws.colour * np.array([1, 1, 1, 255], np.float32),
            draws.std > 0,
            draws.std,
        )
    return tuple(np.ascontiguousarray(part) for part in steps)


def _source(
    source: Callable[[], Inputs], frame: EngineFrame, steps: tuple[np.ndarray, ...]
) -> list[DataNode]:
    """The graph's inputs: the images, their masks and how these are drawn where there are some and
    they are moved, and steps of the types and shapes of these."""
    inputs = [(types.UINT8, 1, "") if frame.encoded else (types.UINT8, 3, "HWC")]
    if frame.planes and steps:
        inputs += [(types.UINT8, 3, "HWC"), (types.FLOAT, 2, "")]
    inputs += [(_TYPES[part.dtype.name], part.ndim - 1, "") for part in steps]
    return fn.external_source(
        source,
        num_outputs=len(inputs),
        dtype=[dtype for dtype, _, _ in inputs],
        ndim=[ndim for _, ndim, _ in inputs],
        layout=[layout for _, _, layout in inputs],
        no_copy=True,
    )


def _images(content: DataNode, frame: EngineFrame, device: str) -> DataNode:
    """Pixels, uint8 HWC, where the graph works."""
    if frame.encoded:
        return fn.decoders.image(content, device="mixed" if device == "gpu" else "cpu")
    return content.gpu() if device == "gpu" else content


@pipeline_def
def _eval(source: Callable[[], Inputs], frame: EngineFrame, device: str) -> DataNode:
    """The stored images, uint8 HWC."""
    (content,) = _source(source, frame, ())
    return _images(content, frame, device)


@pipeline_def(enable_conditionals=True)
def _train(source: Callable[[], Inputs], frame: EngineFrame, device: str) -> tuple[DataNode, ...]:
    """Augmented images HWC, float in [0, 1], or uint8 where no colour is ever changed; and where
    there are masks, their bit planes, uint8 HWC. Each step is taken only on those it was drawn
    for."""
    nothing = finished_draws(no_effect(KeyedDice(np.zeros(1, np.uint64), frame.size)))
    content, *given = _source(source, frame, _steps(nothing, frame))
    planes, matrix = (given.pop(0), given.pop(0)) if frame.planes else (None, None)
    num = len(Moves._fields)
    moves, colours = Moves(*given[:num]), given[num:]
    image = _moved(_images(content, frame, device), moves, frame.out, frame.level, LINEAR)
    if frame.coloured:
        image = _coloured(image, Colours(*colours), device)
    made = (image,)
    if frame.planes:
        planes = planes.gpu() if device == "gpu" else planes
        made = (image, _moved(planes, moves._replace(matrix=matrix), frame.out, 0, NEAREST))
    return made


def _moved(
    image: DataNode, steps: Moves, out: int, fill: int, interpolation: types.DALIInterpType
) -> DataNode:
    """Pixels of uint8 HWC after geometry, of side `out`; outside lies `fill`."""
    sides = [out, out]
    if steps.geometric:
        image = fn.warp_affine(
            image, matrix=steps.matrix, size=sides, fill_value=fill, interp_type=interpolation
        )
    else:
        if steps.cut:
            image = fn.slice(
                image, start=steps.first, shape=sides, axes=(0, 1), fill_values=[fill],
                out_of_bounds_policy="pad",
            )  # fmt: skip
        if steps.mirrored:
            image = fn.flip(image, vertical=steps.down, horizontal=steps.across)
    return image


def _coloured(image: DataNode, steps: Colours, device: str) -> DataNode:
    """Images of uint8 after colour and spread, float in [0, 1]."""
    # Numbers that meet pixels in arithmetic have to be where the pixels are.
    std = steps.std.gpu() if device == "gpu" else steps.std
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
