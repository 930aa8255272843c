"""Photographs from bytes to upright RGB pixels, however they were stored.

What a file is, is decided by its content. The header is judged before a pixel is decoded, so that
a forged size costs nothing. No setting of Pillow is changed: decoding is safe in threads.
"""

import io
import re
import struct
from typing import NamedTuple

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from fundusray.data.photographs.formats import directory_fault, format_of, num_pages, too_large
from fundusray.data.photographs.headers import CURE, END, file_kind, scans_fault

# Pillow imports its formats when it first meets one. Threads that do so at once can wait for each
# other for ever: importlib's locks are not safe against a garbage collection in between.
Image.init()

MIN_SIDE = 16
WIDE = ("I;16", "I;16L", "I;16B", "I;16N")
"""Modes of 16 bits without a sign. A PNG's and a PPM's may also be called I."""
COLOURS = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""What can only end a scan: in coded pixels FF is followed by 0, or by a restart's number."""
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
TURNED = {
    2: (True, False), 3: (True, True), 4: (False, True),
    6: (True, False), 7: (True, True), 8: (False, True),
}  # fmt: skip
"""Orientations whose upright x or y runs from the end of the stored rows or columns."""
REWORDED = {
    "not identified by this driver": "it gives no size",
    "cannot load this image": "there are no coded pixels",
}
"""What Pillow says, for readers who do not know its insides."""


class BadImage(Exception):
    """A file that gives no usable photograph; its text is the reason."""

    def __init__(self, reason: str, flag: str = "") -> None:
        super().__init__(reason)
        self.flag = flag
        """black or tiny, where a file is a picture that shows nothing."""


class DecodedPhotograph(NamedTuple):
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
    recovered: float = 1.0
    """Share of the rows that are there; the others are black."""
    scale: int = 1
    """Pixels of the original a side of each decoded one: 1, 2, 4 or 8."""
    margin: tuple[int, int] = (0, 0)
    """By how many pixels of the upright original the decoded ones begin left of it and above it:
    blocks of a scaled decode may be cut off at the end, which is the start of what is turned."""


def decode_photograph(content: bytes, min_side: int = 0) -> DecodedPhotograph:
    """Upright RGB pixels of a photograph in any format that `formats` reads.

    A JPEG that was cut off or overwritten is decoded as far as it goes, its missing rows black,
    when at least half of them are there. Damage that still decodes to some pixels is not seen.

    Args:
        content: the whole file.
        min_side: above 0, a JPEG may be decoded at 1/2, 1/4 or 1/8 (libjpeg's scaled decoding,
            several times faster) as long as no side becomes smaller than this.

    Raises:
        BadImage: not an image, damaged, too small, too large, or without a retina.
    """
    opened = _open(content)
    width, height = opened.size
    recovered, note = 1.0, ""
    if isinstance(opened, JpegImageFile):
        image, recovered, note = _load_jpeg(opened, content, min_side)
    else:
        image = _load(opened)
    repaired = bool(note)
    orientation, complaint = _orientation(opened)
    rgb = _to_rgb(image)
    if orientation in UPRIGHT:
        rgb = rgb.transpose(UPRIGHT[orientation])
    if orientation in (5, 6, 7, 8):
        width, height = height, width
    pixels = np.array(rgb)
    _check_retina(pixels)
    scale, margin = _scale(pixels, width, height, orientation)
    note = "; ".join(filter(None, [note, complaint, _further(opened, content)]))
    return DecodedPhotograph(pixels, repaired, note, width, height, recovered, scale, margin)


def _scale(
    pixels: np.ndarray, width: int, height: int, orientation: int
) -> tuple[int, tuple[int, int]]:
    """(scale, margin) of upright pixels of an upright original, see Decoded."""
    decoded = pixels.shape[1::-1]
    scale = next(s for s in (1, 2, 4, 8) if decoded == (-(-width // s), -(-height // s)))
    beyond = (scale * decoded[0] - width, scale * decoded[1] - height)
    turned = TURNED.get(orientation, (False, False))
    return scale, (beyond[0] * turned[0], beyond[1] * turned[1])


def _open(content: bytes) -> ImageFile:
    """The file with its header read and judged, no pixel decoded."""
    known = format_of(content)
    if known is None:
        raise BadImage(file_kind(content))
    if fault := known.fault(content):
        raise BadImage(f"damaged header: {fault}" if known.name in ("JPEG", "PNG") else fault)
    try:
        # The plug-in itself and not Image.open, whose size check can only warn, and warnings
        # cannot be turned into errors in one thread alone.
        image = known.kind(io.BytesIO(content))
    except MemoryError:
        raise
    except Exception as error:  # hostile headers raise anything
        raise BadImage(f"damaged header: {_text(error)}") from error
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        need = f"at least {MIN_SIDE} a side are needed"
        raise BadImage(f"{width}x{height} pixels; {need}", "tiny")
    if fault := too_large(width, height):
        raise BadImage(fault)
    if known.name == "JPEG":
        fault = scans_fault(content, image.fp.tell(), width * height)
    elif image.mode not in (*COLOURS, *WIDE, *(("I",) if known.name != "TIFF" else ())):
        fault = f"a {known.name} of mode {image.mode}; {CURE}"
    if fault:
        raise BadImage(fault)
    return image


def _further(image: ImageFile, content: bytes) -> str:
    """What is said of a file that holds several pictures, of which the first is read."""
    if isinstance(image, TiffImageFile):
        num = num_pages(content)
    else:
        num = getattr(image, "n_frames", 1) if image.format == "WEBP" else 1
    return f"the first of {num:,} pictures in it" if num > 1 else ""


def _load(image: ImageFile) -> ImageFile:
    try:
        image.load()
        return image
    except MemoryError:
        raise
    except Exception as error:  # decoders raise anything on damaged bytes
        raise BadImage(f"damaged: {_text(error)}") from error


def _text(error: Exception) -> str:
    if isinstance(error, IndexError | struct.error):
        return "it ends early"
    return REWORDED.get(str(error), str(error)) or type(error).__name__


def _load_jpeg(
    image: JpegImageFile, content: bytes, min_side: int
) -> tuple[Image.Image, float, str]:
    """The decoded image, the share of its rows that are there, and what was wrong, if anything.

    A decoder that runs out of data leaves the rest grey, which is made black.
    """
    # Pillow has read just past the marker of the first scan.
    start, progressive = image.fp.tell(), "progressive" in image.info
    # Behind the header, FF D9 can only be the end marker.
    cause = "" if content.find(END, start) >= 0 else "truncated"
    try:
        image = _load(_drafted(content + END if cause else content, min_side))
    except BadImage:
        # Something that is no code stands among the codes: what is before it can be saved.
        stop = MARKER.search(content, start)
        if progressive or not stop or content.startswith(END, stop.start()):
            raise
        cause = "overwritten"
        image = _load(_drafted(content[: stop.start()] + END, min_side))
    missing = _missing_rows(image, bool(cause))
    if not missing.any():
        detail = ", at lower detail (progressive)" if progressive else ""
        return image, 1.0, cause and f"{cause}: end missing, all rows recovered{detail}"
    share = 1 - float(missing.mean())
    cause = cause or "coded pixels end early"
    if share < 0.5:
        need = "can be recovered, at least half are needed"
        raise BadImage(f"{cause}: only {share:.0%} of its rows {need}")
    black = np.array(image)
    black[missing] = 255 if image.mode == "CMYK" else 0
    lost = round(len(content) * (1 / share - 1) / 1000) * 1000
    note = f"{cause}: {share:.1%} of the rows recovered, about {lost:,} bytes missing"
    return Image.fromarray(black, image.mode), share, note


def _drafted(content: bytes, min_side: int) -> JpegImageFile:
    """The JPEG set to decode at the smallest scale that leaves `min_side`; 0: whole."""
    image = JpegImageFile(io.BytesIO(content))
    if min_side > 0:
        image.draft("RGB", (min_side, min_side))
    return image


def _missing_rows(image: Image.Image, cut: bool) -> np.ndarray:
    """Which rows [H] of a decoded JPEG the decoder had no data for, but for the first ones.

    libjpeg leaves such blocks at zero coefficients: exactly mid-grey, 128 (127 where CMYK is
    inverted). A row that only begins with real blocks is counted as missing. A picture that is
    prepared already may be grey below by right: there the grey reaches up along its left side.

    Args:
        cut: the file is known to end early.
    """
    width, height = image.size
    missing = np.ones(height, bool)
    # A few columns rule out nearly all photographs, without a copy of all pixels.
    for x in range(0, width, max(1, width // 4)):
        missing &= _is_fill(np.asarray(image.crop((x, 0, x + 1, height))).reshape(height, -1))
    if not missing.any():
        return missing
    rows = np.asarray(image).reshape(height, -1)
    bands = rows.shape[1] // width
    missing[missing] = _is_fill(rows[missing])
    real = np.flatnonzero(~missing)
    if not len(real):
        return missing
    begin, end = int(real[0]), int(real[-1]) + 1
    missing[:begin] = False
    if not cut and _is_fill(rows[max(0, end - 4) : end, :bands]).all():
        missing[end:] = False
    # The row of blocks in which data ended, at most 16 pixels high: real at the left, then grey.
    for start in np.flatnonzero(missing[1:] & ~missing[:-1]) + 1:
        low = max(0, start - 16)
        whole = np.flatnonzero(~_is_fill(rows[low:start, -bands:]))
        missing[low + (whole[-1] + 1 if len(whole) else 0) : start] = True
    return missing


def _is_fill(rows: np.ndarray) -> np.ndarray:
    """Which rows hold nothing but mid-grey."""
    return ((rows == 127) | (rows == 128)).all(axis=1)


def _orientation(image: Image.Image) -> tuple[int, str]:
    """EXIF orientation (1: as it is), and a complaint when the EXIF block cannot be read."""
    if isinstance(image, TiffImageFile):
        return 1, ""  # Pillow turns it itself when it loads it
    if fault := _exif_fault(image):
        return 1, f"EXIF not readable, taken as upright: {fault}"
    try:
        return int(image.getexif().get(ORIENTATION, 1)), ""
    except MemoryError:
        raise
    except Exception as error:  # malformed EXIF is frequent and raises anything
        return 1, f"EXIF not readable, taken as upright: {_text(error)}"


def _exif_fault(image: Image.Image) -> str:
    """What makes a file's EXIF, which is a small TIFF, one that takes long or much to read."""
    exif = image.info.get("exif")
    if not isinstance(exif, bytes):
        return ""
    exif = exif.removeprefix(b"Exif\0\0")
    return directory_fault(exif) if exif[:2] in (b"II", b"MM") else ""


def _to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB; what is transparent becomes black, as the surround of a fundus is."""
    try:
        return _converted(image)
    except MemoryError:
        raise
    except Exception as error:  # a palette too short for its pixels
        raise BadImage(f"damaged: {_text(error)}") from error


def _converted(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
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
    red, green, blue = np.moveaxis(pixels[::step, ::step] >= 16, 2, 0)
    lit = (red | green | blue).mean()
    if lit < 0.01:
        share = f"{1 - lit:.1%} of the pixels are darker than 16 of 255"
        raise BadImage(f"no retina: {share}", "black")


def encode_jpeg(pixels: np.ndarray, quality: int = 95) -> bytes:
    """A baseline JPEG (4:2:0) of uint8 [H, W, 3] pixels, with no metadata."""
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "JPEG", quality=quality, subsampling="4:2:0", optimize=False)
    return sink.getvalue()
