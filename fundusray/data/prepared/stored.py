"""What a prepared set's units hold, row by row, in mapped files."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pyarrow as pa


@dataclass(frozen=True)
class Stored:
    """One thing of every row (its image, its masks), as it lies in mapped files."""

    parts: list[np.ndarray]
    """uint8 views of one record batch or raw unit each, all rows of it one after the other."""
    places: np.ndarray
    """int64 [N, 3]: part, begin and end of each row."""

    def views(self, rows: np.ndarray) -> list[np.ndarray]:
        """The bytes of some rows, uint8 1-D, read-only views of the mapped files."""
        places = self.places[np.asarray(rows, np.int64)].tolist()
        return [self.parts[part][begin:end] for part, begin, end in places]

    def followed_by(self, other: "Stored", rows: np.ndarray) -> "Stored":
        """All rows of this one, and behind them these rows of another one."""
        places = other.places[rows].copy()
        places[:, 0] += len(self.parts)
        return Stored([*self.parts, *other.parts], np.concatenate([self.places, places]))


def stored_rows(units: Iterable[Iterator[tuple[np.ndarray, np.ndarray]]]) -> Stored:
    """The rows of mapped units, one after the other."""
    parts: list[np.ndarray] = []
    places = [np.zeros((0, 3), np.int64)]
    for content, edges in chain.from_iterable(units):
        part = np.full(len(edges) - 1, len(parts))
        places.append(np.stack([part, edges[:-1], edges[1:]], axis=1))
        parts.append(content)
    return Stored(parts, np.concatenate(places))


def mapped_column(path: str, name: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(uint8 view of all values of a column, int64 [n + 1] their edges in it) per record batch."""
    reader = pa.ipc.open_file(pa.memory_map(path))
    for i in range(reader.num_record_batches):
        column = reader.get_batch(i)[name]
        _, offsets, content = column.buffers()
        edges = np.frombuffer(offsets, np.int64)[column.offset : column.offset + len(column) + 1]
        yield np.frombuffer(content, np.uint8), edges


def mapped_pixels(path: str, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """As `mapped_column`, of a raw unit; nothing of one without images."""
    if os.path.getsize(path):
        content = np.asarray(np.memmap(path, np.uint8, "r"))
        yield content, np.arange(0, len(content) + 1, size * size * 3)
