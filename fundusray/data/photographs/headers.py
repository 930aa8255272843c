"""What a file claims to be, judged from its bytes before a decoder sees them.

A small file can ask for minutes of work: a header of many megabytes, thousands of segments or
scans. Each `fault` says in words what is too much; it is "" where all is well.
"""

MAX_HEADER = 8 << 20
"""Bytes before the coded pixels: colour profile, EXIF, texts."""
MAX_SEGMENTS = 50_000
"""Segments of a JPEG before its pixels, chunks of a PNG; Pillow reads 100,000 a second."""
MAX_JUNK = 1 << 20
"""Bytes between the segments of a JPEG, which Pillow skips one by one."""
MAX_SCANS = 100
MAX_WORK = 1_000_000_000
"""Pixels times scans of a JPEG: 16 scans of the largest, where encoders write a dozen."""
END = b"\xff\xd9"
SCAN = b"\xff\xda"
BARE = {0x00, 0x01, *range(0xD0, 0xDA)}
"""Markers without a length behind them; FF 00 is none at all."""
READ = "JPEG, PNG, TIFF, BMP, WebP and PPM are read"
MAGIC_BYTES = {
    b"GIF8": "a GIF",
    b"PK\x03\x04": "a ZIP archive",
    b"%PDF": "a PDF",
    b"\0\0\0\x0cjP": "a JPEG 2000",
    b"\xff\x4f\xff\x51": "a JPEG 2000",
    b"\0\0\0\x0cJXL ": "a JPEG XL",
    b"\xff\x0a": "a JPEG XL",
}
BRANDS = {b"avif": "an AVIF", b"avis": "an AVIF"}
BRANDS |= dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"), "a HEIC")
"""Of files in ISO's base format, whose bytes 4 to 8 are `ftyp`."""
CURE = "save it as PNG or JPEG"
EXPORT = "export its picture as PNG"


def file_kind(content: bytes) -> str:
    """Why bytes that begin like no format that is read are no photograph."""
    start = content[:512].lstrip().lower()
    if not content:
        return "empty file, 0 bytes"
    if start.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer, not an image; fetch the files with `git lfs pull`"
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        return "a web page, not an image; download it again"
    for magic, name in MAGIC_BYTES.items():
        if content.startswith(magic):
            return f"{name} file; {READ}: {CURE}"
    if content[4:8] == b"ftyp" and content[8:12] in BRANDS:
        return f"{BRANDS[content[8:12]]} file; {READ}: {CURE}"
    if content[128:132] == b"DICM":
        return f"a DICOM file; {READ}: {EXPORT}"
    if not any(content):
        return f"{len(content):,} zero bytes, not an image"
    return f"not a JPEG, PNG, TIFF, BMP, WebP or PPM: begins with {content[:8].hex(' ')}"


def jpeg_fault(content: bytes) -> str:
    """What makes a JPEG's header one that takes Pillow long to get through."""
    place, junk = 2, 0
    for _ in range(MAX_SEGMENTS):
        found = content.find(b"\xff", place)
        junk += (found if found >= 0 else len(content)) - place
        if junk > MAX_JUNK or found > MAX_HEADER:
            return f"no coded pixels in its first {place + junk:,} bytes"
        code = content[found + 1 : found + 2]
        if found < 0 or not code or code == SCAN[1:]:
            return ""
        if code == b"\xff":
            place = found + 1
        elif code[0] in BARE:
            place = found + 2
        else:
            place = found + 2 + int.from_bytes(content[found + 2 : found + 4], "big")
    return f"more than {MAX_SEGMENTS:,} segments"


def png_fault(content: bytes) -> str:
    """What makes a PNG one that takes Pillow long: very many chunks, or a large header."""
    place, header = 8, True
    for _ in range(MAX_SEGMENTS):
        if place >= len(content):
            return ""
        if header and place > MAX_HEADER:
            return f"no pixels in its first {place:,} bytes"
        header = header and content[place + 4 : place + 8] != b"IDAT"
        place += 12 + int.from_bytes(content[place : place + 4], "big")
    return f"more than {MAX_SEGMENTS:,} chunks"


def scans_fault(content: bytes, start: int, num_pixels: int) -> str:
    """Whether a JPEG has very many scans: each costs a pass over all its pixels.

    Args:
        start: where the coded pixels of the first scan begin.
        num_pixels: width times height.
    """
    end = content.find(END, start)
    scans = 1 + content.count(SCAN, start, end if end >= 0 else len(content))
    most = min(MAX_SCANS, MAX_WORK // num_pixels)
    if scans <= most:
        return ""
    return f"{scans} scans of {num_pixels / 1e6:.1f} million pixels; at most {most} are read"
