"""Class maps as files: PNG pictures with a palette, whose pixels are the numbers of the classes.

Any program shows them in the colours of the classes, and reads them as one byte a pixel.
"""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from fundusray import files
from fundusray.data.photographs.decode import BadImage
from fundusray.errors import InputError


def write_class_map(
    location: str, classes: np.ndarray, colours: Sequence[tuple[int, int, int]]
) -> None:
    """Writes a class map uint8 [H, W], whole or not at all; the same map and colours give the same
    bytes.

    Args:
        colours: red, green and blue, of 255, of each class, the background first.

    Raises:
        ValueError: a number that is no class.
    """
    num = len(colours)
    if classes.size and int(classes.max()) >= num:
        raise ValueError(f"class {classes.max()} in a map of {num} classes, 0 to {num - 1}")
    picture = Image.fromarray(np.ascontiguousarray(classes, np.uint8), "P")
    picture.putpalette(np.array(colours, np.uint8).tobytes())
    sink = io.BytesIO()
    picture.save(sink, "PNG", compress_level=6)
    files.write_bytes(location, sink.getvalue())


def read_class_map(location: str) -> np.ndarray:
    """The numbers of a class map, uint8 [H, W].

    Raises:
        InputError: no PNG with one byte a pixel.
    """
    try:
        with Image.open(io.BytesIO(files.read_bytes(location)), formats=["PNG"]) as picture:
            if picture.mode not in ("P", "L"):
                raise BadImage(f"its pixels are {picture.mode}")
            return np.array(picture)
    except (OSError, SyntaxError, ValueError, BadImage) as error:
        raise InputError(
            f"{location}: no class map ({error}); give a PNG of one byte a pixel, the number of "
            "its class, with or without a palette"
        ) from error
