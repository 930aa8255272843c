"""Eighteen ways in which a JPEG file of a photograph gets damaged; the same seed, the same damage.

The content given is a baseline JPEG as a camera writes it.
"""

import io
import re
import struct
from collections.abc import Callable

import numpy as np
from PIL import Image

SOI, EOI, SOS = b"\xff\xd8", b"\xff\xd9", b"\xff\xda"
FRAME = re.compile(rb"\xff[\xc0-\xc2]\x00[\x0b\x11\x14]\x08")
"""A frame's header: marker, length, 8 bits."""
Damage = Callable[[bytes, np.random.Generator], bytes]
DAMAGES: dict[str, Damage] = {}


def mutate(content: bytes, kind: str, seed: int) -> bytes:
    """The JPEG damaged in one of KINDS."""
    return DAMAGES[kind](content, np.random.default_rng([seed, list(DAMAGES).index(kind)]))


def damage(function: Damage) -> Damage:
    """Adds a kind under the function's name."""
    DAMAGES[function.__name__] = function
    return function


def scan_of(content: bytes) -> tuple[int, int]:
    """Where the coded pixels begin and end."""
    begin = content.rindex(SOS)
    length = struct.unpack(">H", content[begin + 2 : begin + 4])[0]
    end = content.rfind(EOI)
    return begin + 2 + length, end if end > begin else len(content)


def spot(rng: np.random.Generator, begin: int, end: int) -> int:
    return int(rng.integers(begin, max(begin + 1, end)))


def noise(rng: np.random.Generator, most: int = 600) -> bytes:
    return rng.bytes(int(rng.integers(1, most)))


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def flipped(content: bytes, rng: np.random.Generator, begin: int, end: int) -> bytes:
    """1 to 20 bits turned over between two places."""
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 21))):
        changed[spot(rng, begin, end)] ^= 1 << int(rng.integers(8))
    return bytes(changed)


@damage
def truncated(content: bytes, rng: np.random.Generator) -> bytes:
    """Cut anywhere, in the header too."""
    share = rng.choice([0.001, 0.01, 0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99])
    return content[: min(int(len(content) * share * rng.uniform(0.9, 1.1)), len(content) - 4)]


@damage
def no_end(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: -int(rng.integers(1, 4))]


@damage
def placeholder(content: bytes, rng: np.random.Generator) -> bytes:
    """What stands where a file should have been."""
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:%064d\nsize %d\n"
    things = (
        b"",
        b"<!DOCTYPE html><html><head><title>404</title></head></html>",
        pointer % (7, len(content)),
        bytes(len(content)),
        SOI,
    )
    return things[int(rng.integers(len(things)))]


@damage
def random_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    begin = (b"", SOI + b"\xff", content[:20])[int(rng.integers(3))]
    return begin + rng.bytes(min(len(content), 100_000))


@damage
def flips_in_scan(content: bytes, rng: np.random.Generator) -> bytes:
    return flipped(content, rng, *scan_of(content))


@damage
def flips_in_header(content: bytes, rng: np.random.Generator) -> bytes:
    return flipped(content, rng, 2, scan_of(content)[0])


@damage
def forged_size(content: bytes, rng: np.random.Generator) -> bytes:
    """The frame's header says another size than the pixels have."""
    frame = FRAME.search(content)
    assert frame is not None
    sizes = [(65500, 65500), (30000, 30000), (0, 0), (1, 1), (7000, 8000), (0, 640), (17, 60000)]
    size = struct.pack(">HH", *sizes[int(rng.integers(len(sizes)))])
    return content[: frame.end()] + size + content[frame.end() + 4 :]


@damage
def deleted(content: bytes, rng: np.random.Generator) -> bytes:
    begin = spot(rng, *scan_of(content))
    return content[:begin] + content[begin + int(rng.integers(1, 4096)) :]


@damage
def inserted(content: bytes, rng: np.random.Generator) -> bytes:
    begin = spot(rng, *scan_of(content))
    return content[:begin] + noise(rng) + content[begin:]


@damage
def zeroed(content: bytes, rng: np.random.Generator) -> bytes:
    """A block of the disk is zero, as after a power cut; sometimes all that follows."""
    begin = spot(rng, *scan_of(content))
    end = len(content) if rng.random() < 0.3 else min(len(content), begin + 4096)
    return content[:begin] + bytes(end - begin) + content[end:]


@damage
def other_format(content: bytes, rng: np.random.Generator) -> bytes:
    """Another format under the same name, at most 256 pixels wide."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    image.thumbnail((256, 256))
    sink = io.BytesIO()
    image.save(sink, ("GIF", "BMP", "TIFF", "WEBP", "PNG", "JPEG2000")[int(rng.integers(6))])
    return sink.getvalue()


@damage
def bad_exif(content: bytes, rng: np.random.Generator) -> bytes:
    """An EXIF block of nonsense: random, endless, or pointing outside itself."""
    bodies = (
        noise(rng),
        b"II*\0\x08\0\0\0" + struct.pack("<H", 65535) + rng.bytes(200),
        b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0" + rng.bytes(4) + b"\x08\0\0\0",
        b"MM\0*\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\x01\0\x12\x01\x05\0\xff\xff\xff\x7f\x08\0\0\0\0\0\0\0",
    )
    body = b"Exif\0\0" + bodies[int(rng.integers(len(bodies)))]
    return content[:2] + segment(0xE1, body) + content[2:]


@damage
def swapped_tables(content: bytes, rng: np.random.Generator) -> bytes:
    """Two quantisation or two Huffman tables change places, or lose their numbers."""
    marker = (b"\xff\xdb", b"\xff\xc4")[int(rng.integers(2))]
    places, start = [], 0
    while (start := content.find(marker, start, scan_of(content)[0])) > 0:
        length = struct.unpack(">H", content[start + 2 : start + 4])[0]
        places.append((start, start + 2 + length))
        start += 2 + length
    if len(places) < 2:
        return flipped(content, rng, *(places or [(2, 20)])[0])
    (a, b), (c, d) = places[0], places[-1]
    return (
        content[: a + 4]
        + content[c + 4 : d]
        + content[b:c]
        + content[c : c + 4]
        + (content[a + 4 : b] + content[d:])
    )


@damage
def cut_then_garbage(content: bytes, rng: np.random.Generator) -> bytes:
    """Cut off, and something else behind it: a disk's next file, zeros, another JPEG's end."""
    behind = (rng.bytes(5000), bytes(5000), EOI, content[-3000:], content)
    return content[: int(len(content) * rng.uniform(0.3, 1.0))] + behind[int(rng.integers(5))]


@damage
def many_scans(content: bytes, rng: np.random.Generator) -> bytes:
    """Progressive, its last scan again and again: each costs a pass over all pixels."""
    sink = io.BytesIO()
    Image.open(io.BytesIO(content)).save(sink, "JPEG", quality=90, progressive=True)
    progressive = sink.getvalue()
    start = progressive.rindex(SOS)
    scan = progressive[start:-2]
    times = int(rng.choice([1, 20, 80, 95, 200, 3000]))
    return progressive[:start] + scan[: 40_000_000 // times] * times + EOI


@damage
def appended(content: bytes, rng: np.random.Generator) -> bytes:
    """Something whole behind a whole file."""
    behind = (content, b"PK\x03\x04" + rng.bytes(900), b"<html></html>", bytes(9000), b"\n")
    return content + behind[int(rng.integers(5))]


@damage
def stuffed(content: bytes, rng: np.random.Generator) -> bytes:
    """Markers and fill bytes where none belong."""
    begin, end = scan_of(content)
    extras = (
        b"\xff" * 300,
        b"\xff\xd0",
        b"\xff\xd9",
        b"\xff\xd8",
        b"\xff\xfe\x00\x10",
        b"\xff\x01",
    )
    changed = content
    for _ in range(int(rng.integers(1, 6))):
        place = 2 if rng.random() < 0.2 else spot(rng, begin, end)
        changed = changed[:place] + extras[int(rng.integers(6))] + changed[place:]
    return changed


@damage
def thumbnail(content: bytes, rng: np.random.Generator) -> bytes:
    """Only the small picture that cameras keep in the header was saved, or it alone is whole."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    image.thumbnail((160, 160))
    sink = io.BytesIO()
    image.save(sink, "JPEG")
    small = sink.getvalue()
    if rng.random() < 0.5:
        return small
    whole = content[:2] + segment(0xE1, b"Exif\0\0" + small) + content[2:]
    return whole[: int(len(small) + 40 + rng.uniform(0, 0.9) * len(content))]


KINDS = tuple(DAMAGES)
