"""The one door through which original photographs and masks are read."""

import io
import re
from collections.abc import Sequence

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from fundusray import files
from fundusray.data.photographs import archives
from fundusray.data.photographs.decode import BadImage
from fundusray.data.photographs.formats import directory_fault, too_large
from fundusray.data.photographs.mask_paths import MaskPath, parse_mask_path
from fundusray.data.reading.folders import bad_path, is_inside, local_path
from fundusray.errors import InputError

PICTURE = re.compile(r"(.+\.npz)#(train|val|test)/(0|[1-9][0-9]{0,8})", re.IGNORECASE)
KINDS: dict[bytes, type[ImageFile]] = {
    b"\x89PNG\r\n\x1a\n": PngImageFile,
    b"II*\0": TiffImageFile,
    b"MM\0*": TiffImageFile,
}
BITS = 16
"""The most that a pixel has."""
MOST_NAMED = 5
"""Class indices that an error repeats."""


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


class PhotographMasks:
    """The masks of one photograph by their kinds; a file that holds several is decoded once."""

    def __init__(self, root: str, masks: Sequence[tuple[str, str]], named: bool = True) -> None:
        """
        Args:
            root: where the paths begin.
            masks: kind and path of every mask there is, also of kinds that are not asked for:
                class indices are known by them.
            named: whether an error may say what a file is called.
        """
        self._root, self._named = root, named
        self._parts = {kind: parse_mask_path(path) for kind, path in masks}
        self._file: str | None = None
        self._pixels = np.zeros((0, 0))

    def read(self, kind: str) -> np.ndarray:
        """Where a kind is marked, bool [H, W]; see `read_mask`.

        Raises:
            FileNotFoundError, BadImage, InputError: as `read_mask`.
            BadImage: the file holds a class index that no kind names.
        """
        part = self._parts[kind]
        if part.file != self._file:
            pixels = _mask_pixels(self._root, part.file)
            self._check_indices(part.file, pixels)
            self._file, self._pixels = part.file, pixels
        return _marked(self._pixels, part)

    def _check_indices(self, file: str, pixels: np.ndarray) -> None:
        """Refuses a file of class indices with one that nobody named."""
        classes = {0: "background"}
        for kind, part in self._parts.items():
            if part.file == file and part.how == "index":
                classes |= dict.fromkeys(part.numbers, kind)
        if len(classes) == 1:
            return
        numbers = _numbers(pixels)
        times = {int(i): int((numbers == i).sum()) for i in np.unique(numbers)}
        unknown = [(index, num) for index, num in times.items() if index not in classes]
        if unknown:
            many = f" and {len(unknown) - MOST_NAMED} more" if len(unknown) > MOST_NAMED else ""
            listed = ", ".join(f"{i} ({n:,} pixels)" for i, n in unknown[:MOST_NAMED]) + many
            where = f" in {file}" if self._named else ""
            named = ", ".join(f"{index} {name}" for index, name in sorted(classes.items()))
            raise BadImage(
                f"class index {listed}{where} is nobody's; known are {named}: correct the mask, or "
                "name the class in data.classes"
            )


def read_mask(root: str, path: str) -> np.ndarray:
    """Where a mask, PNG or TIFF, marks its structure: bool [H, W].

    Marked is what differs from 0: the palette's index, the grey value, or any of red, green and
    blue where the pixel is not transparent. Of a path that names bits or class indices
    (`mask_paths`) it is where the pixel has any of them.

    Raises:
        FileNotFoundError: it is not there.
        BadImage: not a PNG or TIFF, damaged, too large, or in colours where a number is needed.
        InputError: the path leads out of the root.
    """
    part = parse_mask_path(path)
    return _marked(_mask_pixels(root, part.file), part)


def _marked(pixels: np.ndarray, part: MaskPath) -> np.ndarray:
    """What a part of a mask's file marks, bool [H, W]."""
    if part.how == "index":
        return np.isin(_numbers(pixels), part.numbers)
    if part.how == "bit":
        if max(part.numbers) >= BITS:
            raise BadImage(f"bit {max(part.numbers)}: a pixel has at most {BITS}, from 0 on")
        wanted = sum({1 << bit for bit in part.numbers})
        return np.bitwise_and(_numbers(pixels), wanted, dtype=np.int32) != 0
    if pixels.ndim == 2:
        return pixels != 0
    # The last of two or four bands says how opaque a pixel is.
    if pixels.shape[2] in (2, 4):
        return (pixels[..., :-1] != 0).any(axis=2) & (pixels[..., -1] != 0)
    return (pixels != 0).any(axis=2)


def _numbers(pixels: np.ndarray) -> np.ndarray:
    """The number each pixel holds, of integer type [H, W]; what is transparent holds 0.

    Raises:
        BadImage: colours or fractions.
    """
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8)
    if not np.issubdtype(pixels.dtype, np.integer):
        raise BadImage("a mask of fractions; bits and class indices are whole numbers")
    if pixels.ndim == 2:
        return pixels
    opaque = pixels[..., -1] != 0 if pixels.shape[2] in (2, 4) else True
    bands = pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., :1]
    if (bands != bands[..., :1]).any():
        raise BadImage(
            "a mask in colours; bits and class indices need one number a pixel: save it in grey or "
            "with a palette"
        )
    return np.where(opaque, bands[..., 0], 0)


def _mask_pixels(root: str, path: str) -> np.ndarray:
    """The pixels of a mask's file as they are stored: [H, W] or [H, W, bands]."""
    return np.asarray(_open_mask(files.read_bytes(_locate(root, path))))


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
