"""Class maps as files: PNG pictures with a palette, whose pixels are the numbers of the classes.

Any program shows them in the colours of the classes, and reads them as one byte a pixel.
"""

import io

import numpy as np
from PIL import Image

from fundusray import files
from fundusray.data.photographs.decode import BadImage
from fundusray.errors import InputError

CLASS_COLOURS = np.array(
    [
        (0, 0, 0), (230, 25, 75), (145, 30, 180), (255, 225, 25), (70, 240, 240), (60, 180, 75),
        (0, 130, 200), (245, 130, 48), (240, 50, 230), (210, 245, 60), (170, 110, 40),
        (250, 190, 212),
    ],
    np.uint8,
)  # fmt: skip
"""Of each class in its order, the background first; they stand out from a retina and from each
other, and go round where there are more classes."""


def class_colours(num: int) -> np.ndarray:
    """The colours of so many classes, uint8 [num, 3]; the background alone is black."""
    turns = -(-max(num - 1, 0) // (len(CLASS_COLOURS) - 1))
    return np.concatenate([CLASS_COLOURS[:1], *[CLASS_COLOURS[1:]] * turns])[:num]


def write_class_map(location: str, classes: np.ndarray, num: int) -> None:
    """Writes a class map uint8 [H, W], whole or not at all; equal maps of `num` classes give equal
    bytes.

    Raises:
        ValueError: a number that is no class.
    """
    if classes.size and int(classes.max()) >= num:
        raise ValueError(f"class {classes.max()} in a map of {num} classes, 0 to {num - 1}")
    picture = Image.fromarray(np.ascontiguousarray(classes, np.uint8), "P")
    picture.putpalette(class_colours(num).tobytes())
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
