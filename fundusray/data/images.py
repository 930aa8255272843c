"""Photographs from bytes to upright RGB pixels, however they were stored.

What a file is, is decided by its content. The header is judged before a pixel is decoded, so that
a forged size costs nothing. No setting of Pillow is changed: decoding is safe in threads.
"""

import io
from typing import NamedTuple

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

MAX_PIXELS = 60_000_000
MIN_SIDE = 16
MAX_SCANS = 100
END = b"\xff\xd9"
SCAN = b"\xff\xda"
ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
KNOWN = {
    b"GIF8": "a GIF",
    b"BM": "a BMP",
    b"II*\0": "a TIFF",
    b"MM\0*": "a TIFF",
    b"RIFF": "a WebP",
    b"PK\x03\x04": "a ZIP archive",
    b"%PDF": "a PDF",
}


class BadImage(Exception):
    """A file that gives no usable photograph; its text is the reason."""


class Decoded(NamedTuple):
    """A photograph as the models' data path wants it."""

    pixels: np.ndarray
    """uint8 [H, W, 3], RGB, upright."""
    repaired: bool
    """Part of the file was missing."""
    note: str
    """What was done about it; empty for a sound file."""
    width: int
    """Of the upright original, pixels, whatever scale was decoded."""
    height: int


def decode(content: bytes, min_side: int = 0) -> Decoded:
    """Upright RGB pixels of a JPEG or PNG of any colour mode and bit depth.

    A JPEG that was cut off is decoded as far as it goes, its missing rows black, when at least half
    of them are there.

    Args:
        content: the whole file.
        min_side: above 0, a JPEG may be decoded at 1/2, 1/4 or 1/8 (libjpeg's scaled decoding,
            several times faster) as long as no side becomes smaller than this.

    Raises:
        BadImage: not an image, damaged, too small, too large, or without a retina.
    """
    opened = _open(content)
    width, height = opened.size
    notes: list[str] = []
    if isinstance(opened, JpegImageFile):
        image, notes = _load_jpeg(opened, content, min_side)
    else:
        image = _load(opened)
    repaired = bool(notes)
    orientation, complaint = _orientation(opened)
    rgb = _to_rgb(image)
    if orientation in UPRIGHT:
        rgb = rgb.transpose(UPRIGHT[orientation])
    if orientation in (5, 6, 7, 8):
        width, height = height, width
    pixels = np.array(rgb)
    _check_retina(pixels)
    note = "; ".join([*notes, *complaint])
    return Decoded(pixels, repaired, note, width, height)


def _open(content: bytes) -> ImageFile:
    """The file with its header read and judged, no pixel decoded."""
    if content.startswith(b"\xff\xd8\xff"):
        kind: type[ImageFile] = JpegImageFile
    elif content.startswith(b"\x89PNG\r\n\x1a\n"):
        kind = PngImageFile
    else:
        raise BadImage(_what_it_is(content))
    try:
        # The plug-in itself and not Image.open, whose size check can only warn, and warnings
        # cannot be turned into errors in one thread alone.
        image = kind(io.BytesIO(content))
    except MemoryError:
        raise
    except Exception as error:  # hostile headers raise anything
        raise BadImage(f"damaged header: {_text(error)}") from error
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        raise BadImage(f"{width}x{height} pixels; at least {MIN_SIDE} a side are needed")
    if width * height > MAX_PIXELS:
        raise BadImage(f"{width}x{height} pixels; at most {MAX_PIXELS // 10**6} million are read")
    # Each scan costs a pass over all pixels: a small file could ask for days of work.
    if kind is JpegImageFile and content.count(SCAN) > MAX_SCANS:
        raise BadImage(f"{content.count(SCAN)} scans; at most {MAX_SCANS} are read")
    return image


def _what_it_is(content: bytes) -> str:
    """Why bytes that begin like neither JPEG nor PNG are no photograph."""
    start = content[:512].lstrip().lower()
    if not content:
        return "empty file, 0 bytes"
    if start.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer, not an image; fetch the files with `git lfs pull`"
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        return "a web page, not an image; download it again"
    for magic, name in KNOWN.items():
        if content.startswith(magic):
            return f"{name} file; JPEG and PNG are read"
    if not any(content):
        return f"{len(content):,} zero bytes, not an image"
    return f"not a JPEG or PNG: begins with {content[:8].hex(' ')}"


def _load(image: ImageFile) -> ImageFile:
    try:
        image.load()
        return image
    except MemoryError:
        raise
    except Exception as error:  # decoders raise anything on damaged bytes
        raise BadImage(f"damaged: {_text(error)}") from error


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__


def _load_jpeg(
    image: JpegImageFile, content: bytes, min_side: int
) -> tuple[Image.Image, list[str]]:
    """The decoded image, and what is missing from it."""
    # Behind the header, FF D9 can only be the end marker: FF is followed by 0 in coded pixels.
    # Pillow has read just past the marker of the first scan.
    cut = content.find(END, image.fp.tell()) < 0
    if cut:
        image = JpegImageFile(io.BytesIO(content + END))
    if min_side > 0:
        image.draft("RGB", (min_side, min_side))
    _load(image)
    array = np.asarray(image)
    rows, height = _rows_recovered(array), len(array)
    if 2 * rows < height:
        cause = "truncated" if cut else "coded pixels end early"
        share = f"{rows / height:.0%} of its rows"
        raise BadImage(f"{cause}: only {share} can be recovered, at least half are needed")
    if not cut:
        return image, []
    if rows == height:
        progressive = image.info.get("progressive")
        detail = ", at lower detail (progressive)" if progressive else ""
        return image, [f"truncated: end missing, all rows recovered{detail}"]
    black = array.copy()
    black[rows:] = 255 if image.mode == "CMYK" else 0
    missing = round(len(content) * (height / rows - 1), -3)
    note = f"truncated: {rows / height:.1%} of the rows recovered, about {missing:,} bytes missing"
    return Image.fromarray(black, image.mode), [note]


def _rows_recovered(array: np.ndarray) -> int:
    """How many rows a decoded JPEG has before the decoder ran out of data.

    libjpeg leaves every later block at zero coefficients: exactly mid-grey, 128 (127 where CMYK is
    inverted). A row that only begins with real blocks is counted as missing.
    """
    rows = array.reshape(len(array), -1)
    bands = rows.shape[1] // array.shape[1]
    end = len(rows)
    while end and _is_fill(rows[end - 1]):
        end -= 1
    if end == len(rows):
        return end
    # The row of blocks in which it ended, 16 pixels high at most: real at the left, grey after it.
    lowest = max(0, end - 16)
    while end > lowest and _is_fill(rows[end - 1, -bands:]):
        end -= 1
    return end


def _is_fill(values: np.ndarray) -> bool:
    return bool(((values == 127) | (values == 128)).all())


def _orientation(image: Image.Image) -> tuple[int, list[str]]:
    """EXIF orientation (1: as it is), and a complaint when the EXIF block cannot be read."""
    try:
        return int(image.getexif().get(ORIENTATION, 1)), []
    except MemoryError:
        raise
    except Exception as error:  # malformed EXIF is frequent and raises anything
        return 1, [f"EXIF not readable, taken as upright: {_text(error)}"]


def _to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB; what is transparent becomes black, as the surround of a fundus is."""
    if image.mode.startswith("I"):
        # 16 bit: 65535 / 255 = 257. Pillow's own conversion clips at 255.
        wide = np.asarray(image).astype(np.uint32)
        narrow = np.minimum((wide + 128) // 257, 255).astype(np.uint8)
        return Image.fromarray(narrow).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        rgb = Image.new("RGB", rgba.size)
        rgb.paste(rgba, mask=rgba.getchannel("A"))
        return rgb
    return image.convert("RGB")


def _check_retina(pixels: np.ndarray) -> None:
    """Raises BadImage when nearly all is black, judged on a grid of about 256 x 256 pixels."""
    step = max(1, min(pixels.shape[:2]) // 256)
    lit = (pixels[::step, ::step].max(axis=2) >= 16).mean()
    if lit < 0.01:
        raise BadImage(f"no retina: {1 - lit:.1%} of the pixels are darker than 16 of 255")


def encode_jpeg(pixels: np.ndarray, quality: int = 95) -> bytes:
    """A baseline JPEG (4:2:0) of uint8 [H, W, 3] pixels, with no metadata."""
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "JPEG", quality=quality, subsampling="4:2:0", optimize=False)
    return sink.getvalue()
