"""Maps as files: compressed, in the pixels of the prepared image and in those of the photograph.

    prepared            float32 [S, S], as the map gave it
    photograph          int8 [H, W]: times `photograph_scale` it is the map in the photograph, to
                        1/254 of its largest number
    photograph_scale    float32

Read with numpy.load; nothing is pickled. The same map gives the same bytes.
"""

import io

import numpy as np

from fundusray import files
from fundusray.data.prepared.geometry import Geometry, photograph_map

LEVELS = 127
"""Of a number of either sign in the photograph."""


def write_map(location: str, values: np.ndarray, geometry: Geometry | None) -> None:
    """Writes a map float32 [S, S] whole, or not at all.

    Args:
        geometry: where the image lies in its photograph; None where that is not known: the file
            then holds `prepared` alone.
    """
    arrays = {"prepared": values.astype(np.float32)}
    if geometry is not None:
        arrays |= _in_photograph(values, geometry)
    sink = io.BytesIO()
    np.savez_compressed(sink, **arrays)
    files.write_bytes(location, sink.getvalue())


def read_map(location: str) -> np.ndarray:
    """A map in the pixels of the prepared image, float32 [S, S]."""
    return _arrays(location)["prepared"]


def read_photograph_map(location: str) -> np.ndarray | None:
    """A map in the pixels of the photograph, float32 [H, W]; None where it was not known."""
    arrays = _arrays(location)
    if "photograph" not in arrays:
        return None
    return arrays["photograph"].astype(np.float32) * arrays["photograph_scale"]


def _arrays(location: str) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(files.read_bytes(location)), allow_pickle=False) as stored:
        return dict(stored)


def _in_photograph(values: np.ndarray, geometry: Geometry) -> dict[str, np.ndarray]:
    there = photograph_map(geometry, values)
    scale = np.float32(max(float(np.abs(values).max()), np.finfo(np.float32).tiny) / LEVELS)
    return {
        "photograph": np.rint(there / scale).clip(-LEVELS, LEVELS).astype(np.int8),
        "photograph_scale": scale,
    }
