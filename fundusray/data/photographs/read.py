"""The one door through which original photographs and masks are read."""

import io
import re

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from fundusray import files
from fundusray.data.photographs import archives
from fundusray.data.photographs.decode import BadImage
from fundusray.data.photographs.formats import directory_fault, too_large
from fundusray.data.reading.folders import bad_path, is_inside, local_path
from fundusray.errors import InputError

PICTURE = re.compile(r"(.+\.npz)#(train|val|test)/(0|[1-9][0-9]{0,8})", re.IGNORECASE)
KINDS: dict[bytes, type[ImageFile]] = {
    b"\x89PNG\r\n\x1a\n": PngImageFile,
    b"II*\0": TiffImageFile,
    b"MM\0*": TiffImageFile,
}


def read_photo(root: str, path: str) -> bytes:
    """A photograph's file, whole; of `set.npz#train/17` that picture of the archive as PNG.

    Args:
        root: a folder or URI; of an archive also the archive itself.
        path: as the manifest has it, seen from the root.

    Raises:
        FileNotFoundError: it is not there.
        InputError: the path leads out of the root, or the archive cannot be read.
    """
    if picture := PICTURE.fullmatch(path):
        root = local_path(root) or root
        itself = files.base_name(root) == picture[1]
        location = root if itself else _locate(root, picture[1])
        return _picture(location, picture[2], int(picture[3]))
    return files.read_bytes(_locate(root, path))


def photograph_location(root: str, path: str) -> str:
    """The file that `read_photo` would read, unchecked: of a picture in an archive the archive."""
    root = local_path(root) or root
    if picture := PICTURE.fullmatch(path):
        return root if files.base_name(root) == picture[1] else files.join(root, picture[1])
    return files.join(root, path)


def _locate(root: str, path: str) -> str:
    """Where a path is, which must be in the root also when all links are followed."""
    if bad_path(path) or not is_inside(root, path):
        raise InputError(f"{path!r} leads out of {root}; expected a path inside it")
    return files.join(local_path(root) or root, path)


def _picture(location: str, part: str, index: int) -> bytes:
    pictures = archives.read_array(location, f"{part}_images")
    if index >= len(pictures):
        raise InputError(f"{location}: no picture {part}/{index}, it holds {len(pictures):,}")
    sink = io.BytesIO()
    Image.fromarray(pictures[index]).save(sink, "PNG", compress_level=1)
    return sink.getvalue()


def read_mask(root: str, path: str) -> np.ndarray:
    """Where a mask, PNG or TIFF, marks its structure: bool [H, W].

    Marked is what differs from 0: the palette's index, the grey value, or any of red, green and
    blue where the pixel is not transparent.

    Raises:
        FileNotFoundError: it is not there.
        BadImage: not a PNG or TIFF, damaged, or too large.
        InputError: the path leads out of the root.
    """
    image = _open_mask(files.read_bytes(_locate(root, path)))
    values = np.asarray(image)
    if values.ndim == 2:
        return values != 0
    # The last of two or four bands says how opaque a pixel is.
    if values.shape[2] in (2, 4):
        return (values[..., :-1] != 0).any(axis=2) & (values[..., -1] != 0)
    return (values != 0).any(axis=2)


def _open_mask(content: bytes) -> ImageFile:
    kind = next((k for magic, k in KINDS.items() if content.startswith(magic)), None)
    if kind is None:
        raise BadImage(f"not a PNG or TIFF mask: begins with {content[:8].hex(' ') or 'nothing'}")
    if kind is TiffImageFile and (fault := directory_fault(content)):
        raise BadImage(f"damaged mask: {fault}")
    try:
        image = kind(io.BytesIO(content))
        if fault := too_large(*image.size):
            raise BadImage(fault)
        if image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
            raise BadImage(f"a mask in colours of {image.mode}; save it as PNG")
        image.load()
    except (BadImage, MemoryError):
        raise
    except Exception as error:  # decoders raise anything on damaged bytes
        raise BadImage(f"damaged mask: {error or type(error).__name__}") from error
    return image
