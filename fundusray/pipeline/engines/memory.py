"""The pipeline for raw sets: pixels gathered from memory, augmented on the device by torch.

On a GPU the whole set is kept in its memory where that leaves enough for the model; otherwise, and
on a CPU, a thread gathers the next batch from the mapped files while this one is used.
"""

import weakref
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.pipeline.engines.plain import (
    EngineFrame,
    Made,
    Work,
    as_float,
    augment_images,
    moved_planes,
    on_device,
    torch_device,
)

SHARE = 1 / 3
"""Of the free memory of a GPU, the most that a set may take."""
CHUNK = 256  # rows copied to it at a time

_RESIDENT: weakref.WeakValueDictionary[tuple[str, int], Tensor] = weakref.WeakValueDictionary()
"""Sets in a GPU's memory, by folder and device: the loaders of a process share them."""


class MemoryEngine:
    """Batches straight from a raw set."""

    ahead = 2

    def __init__(
        self, prepared: PreparedSet, frame: EngineFrame, device: str, *, resident: bool
    ) -> None:
        self._prepared, self._frame, self._device = prepared, frame, torch_device(device)
        self._free: deque[np.ndarray] = deque(maxlen=self.ahead + 1)
        self._resident = _load(prepared) if resident and device == "gpu" else None

    def batches(self, works: Iterator[Work]) -> Iterator[Made]:
        """A batch for each work, whose content is rows [B]: of uint8 where nothing is ever done to
        an image, else of float32."""
        for pixels, (_, draws, planes) in self._gathered(works):
            image = pixels.permute(0, 3, 1, 2)
            masks = on_device(planes, self._device)
            if self._frame.augmented:
                image = augment_images(as_float(image), draws, self._frame.level)
                masks = moved_planes(masks, draws)
            yield Made(image, masks)

    def faults(self, contents: list[np.ndarray]) -> list[str]:
        """Nothing is decoded here, so nothing fails to."""
        return [""] * len(contents)

    def _gathered(self, works: Iterator[Work]) -> Iterator[tuple[Tensor, Work]]:
        """The pixels of each work's rows, uint8 [B, S, S, 3] on the device."""
        if self._resident is not None:
            for work in works:
                yield self._resident[torch.from_numpy(work.content).to(self._device)], work
            return
        waiting: deque[tuple[Future[Tensor], Work]] = deque()
        with ThreadPoolExecutor(1) as pool:
            for work in works:
                waiting.append((pool.submit(self._gather, work.content), work))
                if len(waiting) == self.ahead:
                    yield self._next(waiting)
            while waiting:
                yield self._next(waiting)

    def _next(self, waiting: deque[tuple[Future[Tensor], Work]]) -> tuple[Tensor, Work]:
        pixels, work = waiting.popleft()
        return pixels.result().to(self._device, non_blocking=True), work

    def _gather(self, rows: np.ndarray) -> Tensor:
        shape = (len(rows), *(self._frame.size,) * 2, 3)
        if self._device == "cuda":
            # Only from pinned memory does a GPU take them while something else is computed.
            pixels = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
            self._prepared.pixels(rows, out=pixels.numpy())
            return pixels
        return torch.from_numpy(self._prepared.pixels(rows, out=self._lend(shape)))

    def _lend(self, shape: tuple[int, ...]) -> np.ndarray:
        """An array that comes back to be lent again when nobody holds it any more: memory fresh
        from the system was measured to cost a third of the gathering again."""
        array = self._free.pop() if self._free else np.empty(shape, np.uint8)
        if array.shape != shape:
            array = np.empty(shape, np.uint8)
        lent = array[:]
        weakref.finalize(lent, self._free.append, array).atexit = False
        return lent


def _load(prepared: PreparedSet) -> Tensor | None:
    """The set's pixels, uint8 [N, S, S, 3] in the memory of the GPU; None where they do not fit."""
    key = (prepared.folder, torch.cuda.current_device())
    pixels = _RESIDENT.get(key)
    num, side = len(prepared), prepared.size
    if pixels is None and num * side * side * 3 <= SHARE * torch.cuda.mem_get_info()[0]:
        pixels = torch.empty((num, side, side, 3), dtype=torch.uint8, device="cuda")
        for rows in np.array_split(np.arange(num), -(-num // CHUNK)):
            pixels[rows[0] : rows[-1] + 1] = torch.from_numpy(prepared.pixels(rows))
        _RESIDENT[key] = pixels
    return pixels
