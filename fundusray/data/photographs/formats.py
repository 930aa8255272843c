"""Which format a picture has, and whether its header may be handed to a decoder.

What is read beside JPEG and PNG: TIFF, BMP, WebP and PPM. Each has a way of asking for much memory
or time by a few bytes; each `fault` says in words what is too much, or what is not read, and is ""
where all is well.
"""

import re
import struct
from collections.abc import Callable
from typing import NamedTuple

from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from fundusray.data.photographs.headers import MAX_HEADER, jpeg_fault, png_fault

MAX_PIXELS = 60_000_000
MAX_VALUES = 1_000_000
"""Numbers in a TIFF's directory: offsets of strips, a table of colours."""
MAX_PAGES = 1000
WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
"""Kind of a TIFF's value -> bytes."""
BYTES = (1, 2, 6, 7)
"""Kinds that are read as they are, not number by number."""
FURTHER = (34665, 34853, 40965)
"""Tags that point at a directory of their own: EXIF, GPS, interoperability."""
BITS, TILE_WIDTH, TILE_LENGTH = 258, 322, 323
BMP_PLAIN = (0, 3, 6)
"""Compressions of a BMP that are none: pixels, and pixels by masks."""
PPM_SPACE = 4096
"""Bytes in which a PPM's numbers must stand."""
EIGHT = "save it with 8 or 16 bits a channel"


class ImageFormat(NamedTuple):
    """One format that is read."""

    name: str
    kind: type[ImageFile]
    fault: Callable[[bytes], str]


def format_of(content: bytes) -> ImageFormat | None:
    """The format that a file begins like; None where it is none that is read."""
    if content.startswith(b"RIFF"):
        return WEBP if content[8:12] == b"WEBP" else None
    return next((known for magic, known in MAGIC.items() if content.startswith(magic)), None)


def too_large(width: int, height: int) -> str:
    """What is wrong with a size beyond MAX_PIXELS; "" of others."""
    if width * height <= MAX_PIXELS:
        return ""
    return f"{width}x{height} pixels; at most {MAX_PIXELS // 10**6} million are read"


def tiff_fault(content: bytes) -> str:
    """What makes a TIFF one that is not read: see `directory_fault`; bits, forged tiles."""
    if fault := directory_fault(content):
        return fault
    tags = dict(_first_values(content))
    bits = tags.get(BITS, 1)
    if bits not in (1, 2, 4, 8, 16):
        return f"{bits} bits a channel; {EIGHT}"
    if fault := too_large(tags.get(TILE_WIDTH, 0), tags.get(TILE_LENGTH, 0)):
        return f"tiles of {fault}"
    return ""


def directory_fault(content: bytes) -> str:
    """What makes the directories of a TIFF, or of EXIF, ones that take long or much to read.

    Their entries may all point at the same bytes, so that a small file is read very often.
    """
    order = "<" if content.startswith(b"II") else ">"
    if content[2:4] not in (b"*\0", b"\0*"):
        return "a BigTIFF or another kind of TIFF; save it as a plain TIFF or as PNG"
    (first,) = struct.unpack_from(order + "I", content.ljust(8, b"\0"), 4)
    waiting, seen, size, values = [first], set(), 0, 0
    while waiting:
        place = waiting.pop()
        if place in seen:
            continue
        seen.add(place)
        for tag, kind, num, value in _entries(content, place, order):
            size += num * WIDTHS.get(kind, 0)
            values += 0 if kind in BYTES else num
            if tag in FURTHER:
                waiting.append(value)
        if size > MAX_HEADER or values > MAX_VALUES:
            return f"directories of {size:,} bytes and {values:,} numbers"
    return ""


def _entries(content: bytes, place: int, order: str) -> list[tuple[int, int, int, int]]:
    """(tag, kind, how many values, first value or where they are) of a TIFF's directory."""
    if place + 2 > len(content):
        return []
    (num,) = struct.unpack_from(order + "H", content, place)
    whole = min(num, (len(content) - place - 2) // 12)
    return [struct.unpack_from(order + "HHII", content, place + 2 + 12 * i) for i in range(whole)]


def _first_values(content: bytes) -> list[tuple[int, int]]:
    """(tag, its first value) of a TIFF's first directory, of whole numbers only."""
    order = "<" if content.startswith(b"II") else ">"
    (first,) = struct.unpack_from(order + "I", content.ljust(8, b"\0"), 4)
    found = []
    for row, (tag, kind, num, place) in enumerate(_entries(content, first, order)):
        width = {3: 2, 4: 4}.get(kind)
        if width is None:
            continue
        at = first + 2 + 12 * row + 8 if num * width <= 4 else place
        if at + width <= len(content):
            (value,) = struct.unpack_from(order + "_HI"[width // 2], content, at)
            found.append((tag, value))
    return found


def num_pages(content: bytes) -> int:
    """How many pictures a TIFF holds, MAX_PAGES at most."""
    order = "<" if content.startswith(b"II") else ">"
    seen: set[int] = set()
    (place,) = struct.unpack_from(order + "I", content, 4)
    while place and place not in seen and len(seen) < MAX_PAGES and place + 2 <= len(content):
        seen.add(place)
        (num,) = struct.unpack_from(order + "H", content, place)
        end = place + 2 + 12 * num
        (place,) = (
            struct.unpack_from(order + "I", content, end) if end + 4 <= len(content) else (0,)
        )
    return len(seen)


def bmp_fault(content: bytes) -> str:
    """What makes a BMP one that is not read: coded by run lengths, or another picture inside."""
    if len(content) < 34:
        return "it ends early"
    header, coded = (
        struct.unpack_from("<I", content, 14)[0],
        struct.unpack_from("<I", content, 30)[0],
    )
    if header >= 40 and coded not in BMP_PLAIN:
        return f"a BMP of compression {coded}; save it as PNG"
    return ""


def webp_fault(content: bytes) -> str:
    """Whether a WebP is larger than is read: its decoder makes room for all when it is opened."""
    head = content[:30].ljust(30, b"\0")
    chunk = head[12:16]
    if chunk == b"VP8X":
        width = 1 + int.from_bytes(head[24:27], "little")
        height = 1 + int.from_bytes(head[27:30], "little")
    elif chunk == b"VP8L":
        packed = int.from_bytes(head[21:25], "little")
        width, height = 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    elif chunk == b"VP8 ":
        width, height = (size & 0x3FFF for size in struct.unpack_from("<HH", head, 26))
    else:
        return "it gives no size"
    return too_large(width, height)


def ppm_fault(content: bytes) -> str:
    """What makes a PPM one that takes long: long comments, levels that are scaled one by one."""
    words = re.sub(rb"#[^\r\n]*", b" ", content[:PPM_SPACE]).split(maxsplit=4)[:4]
    if len(words) < 4 or not all(word.isdigit() and len(word) < 10 for word in words[1:]):
        return f"it gives no size in its first {PPM_SPACE:,} bytes"
    most = int(words[3])
    if most != 255 and (words[0], most) != (b"P5", 65535):
        return f"{most + 1:,} levels; save it with 256, or as PNG"
    return ""


JPEG = ImageFormat("JPEG", JpegImageFile, jpeg_fault)
PNG = ImageFormat("PNG", PngImageFile, png_fault)
TIFF = ImageFormat("TIFF", TiffImageFile, tiff_fault)
BMP = ImageFormat("BMP", BmpImageFile, bmp_fault)
WEBP = ImageFormat("WebP", WebPImageFile, webp_fault)
PPM = ImageFormat("PPM", PpmImageFile, ppm_fault)
MAGIC = {
    b"\xff\xd8\xff": JPEG,
    b"\x89PNG\r\n\x1a\n": PNG,
    b"II*\0": TIFF,
    b"MM\0*": TIFF,
    b"II+\0": TIFF,
    b"MM\0+": TIFF,
    b"BM": BMP,
    **{kind + space: PPM for kind in (b"P5", b"P6") for space in (b" ", b"\n", b"\r", b"\t", b"#")},
}
"""How a file begins -> its format; a WebP's mark stands further behind."""
