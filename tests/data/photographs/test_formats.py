"""Formats beside JPEG and PNG: read to the same pixels, or refused by name at little cost."""

import io
import struct
import time

import numpy as np
import pytest
from PIL import Image

from fundusray.data.photographs.decode import BadImage, decode_photograph
from fundusray.data.reading.folders import PHOTOGRAPHS, is_photograph

SLOW = 20.0
"""Seconds; what is refused takes milliseconds."""


def saved(image: Image.Image | np.ndarray, kind: str, **options) -> bytes:
    sink = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(sink, kind, **options)
    return sink.getvalue()


def reason(content: bytes) -> str:
    with pytest.raises(BadImage) as caught:
        decode_photograph(content)
    return str(caught.value)


def tiff(entries: list[tuple[int, int, int, int]], behind: bytes = b"") -> bytes:
    """A TIFF of one directory: (tag, kind, how many, value or place)."""
    rows = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + rows + b"\0\0\0\0" + behind


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_deflate"}),
        ("BMP", {}),
        ("WEBP", {"lossless": True}),
        ("PPM", {}),
    ],
)
def test_every_pixel_is_kept(fundus: np.ndarray, kind: str, options: dict) -> None:
    decoded = decode_photograph(saved(fundus, kind, **options))
    assert (decoded.pixels == fundus).all()
    assert decoded[1:] == (False, "", 128, 96, 1.0, 1, (0, 0))
    assert decoded.pixels.flags.writeable and decoded.pixels.flags.c_contiguous


def test_each_of_them_is_a_photograph_by_its_name() -> None:
    for name in ("a.TIF", "a.tiff", "a.bmp", "a.WebP", "a.jfif", "a.ppm", "a.pgm", "a.Jpeg"):
        assert is_photograph(name), name
    assert not any(map(is_photograph, ("a.gif", "a.heic", "a.dcm", "a", "._a.tif")))
    assert PHOTOGRAPHS[:3] == (".jpeg", ".jpg", ".jfif")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bands", [1, 3])
def test_sixteen_bits_are_scaled(fundus: np.ndarray, order: str, bands: int) -> None:
    pixels = fundus if bands == 3 else fundus[..., 0]
    wide = pixels.astype(order + "u2") * 257
    place = 8 + 2 + 12 * 10 + 4
    bits = place - 8 if bands == 1 else place
    entries = [
        (256, 4, 1, 128),
        (257, 4, 1, 96),
        (258, 3, bands, 16 if bands == 1 else bits),
        (259, 3, 1, 1),
        (262, 3, 1, 1 if bands == 1 else 2),
        (273, 4, 1, place + 8),
        (277, 3, 1, bands),
        (278, 4, 1, 96),
        (279, 4, 1, wide.nbytes),
        (284, 3, 1, 1),
    ]
    rows = b"".join(
        struct.pack(order + "HHI", tag, kind, num)
        + (
            struct.pack(order + "HH", value, 0)
            if kind == 3 and num == 1
            else struct.pack(order + "I", value)
        )
        for tag, kind, num, value in entries
    )
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "IH", 8, len(entries))
    behind = struct.pack(order + "HHHH", 16, 16, 16, 0)
    decoded = decode_photograph(
        head + rows + b"\0\0\0\0" + behind + wide.astype(order + "u2").tobytes()
    )
    expected = pixels if bands == 3 else np.repeat(pixels[..., None], 3, 2)
    assert np.abs(decoded.pixels.astype(int) - expected).max() <= 1


def test_a_sixteen_bit_grey_map(fundus: np.ndarray) -> None:
    wide = (fundus[..., 0].astype(">u2") * 257).astype(">u2")
    decoded = decode_photograph(b"P5 128 96 65535\n" + wide.tobytes())
    assert (decoded.pixels == fundus[..., :1]).all()


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "YCbCr"])
def test_modes_of_a_tiff(fundus: np.ndarray, mode: str) -> None:
    image = Image.fromarray(fundus)
    image = image.convert("L").convert("LA") if mode == "LA" else image.convert(mode)
    expected = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(decode_photograph(saved(image, "TIFF")).pixels - expected).mean() < 1


@pytest.mark.parametrize("kind", ["TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_comes_out_upright(
    fundus: np.ndarray, orientation: int, kind: str
) -> None:
    inverse = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    scene = Image.fromarray(fundus)
    stored = scene if orientation == 1 else scene.transpose(inverse[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    decoded = decode_photograph(saved(stored, kind, exif=exif, **options))
    assert (decoded.width, decoded.height) == scene.size
    assert (decoded.pixels == fundus).all()


@pytest.mark.parametrize("kind", ["TIFF", "WEBP"])
def test_of_several_pages_the_first_is_read_and_said(fundus: np.ndarray, kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    pages = [Image.fromarray(255 - fundus), Image.fromarray(fundus // 2)]
    decoded = decode_photograph(saved(fundus, kind, save_all=True, append_images=pages, **options))
    assert decoded.note == "the first of 3 pictures in it" and not decoded.repaired
    assert (decoded.pixels == fundus).all()


def test_pages_in_a_circle_are_counted_once(fundus: np.ndarray) -> None:
    content = bytearray(saved(fundus, "TIFF"))
    (first,) = struct.unpack_from("<I", content, 4)
    (num,) = struct.unpack_from("<H", content, first)
    struct.pack_into("<I", content, first + 2 + 12 * num, first)
    assert (decode_photograph(bytes(content)).pixels == fundus).all()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\0\0\0\x20ftypavif" + bytes(50), "an AVIF file; "),
        (b"\0\0\0\x18ftypheic" + bytes(50), "a HEIC file; "),
        (b"\0\0\0\x18ftypmif1" + bytes(50), "a HEIC file; "),
        (bytes(128) + b"DICM" + bytes(50), "a DICOM file; "),
        (b"\xff\x4f\xff\x51" + bytes(50), "a JPEG 2000 file; "),
        (b"\xff\x0a" + bytes(50), "a JPEG XL file; "),
        (b"RIFF\x10\0\0\0WAVEfmt ", "not a JPEG, PNG, TIFF, BMP, WebP or PPM: begins"),
    ],
)
def test_formats_that_are_not_read_are_named_with_what_to_do(content: bytes, words: str) -> None:
    said = reason(content)
    assert said.startswith(words)
    assert words.startswith("not") or "JPEG, PNG, TIFF, BMP, WebP and PPM are read" in said
    assert words.startswith("not") or "save it as PNG" in said or "export its picture" in said


def test_bits_that_are_not_read_are_named(fundus: np.ndarray) -> None:
    grey = fundus[..., 0]
    for kind, words in ((np.float32, "32 bits"), (np.int32, "32 bits")):
        assert reason(saved(Image.fromarray(grey.astype(kind)), "TIFF")).startswith(words)
    size = [(256, 4, 1, 128), (257, 4, 1, 96)]
    assert reason(tiff([*size, (258, 3, 1, 12)])).startswith("12 bits a channel; save it with 8")
    assert reason(saved(Image.fromarray(fundus).convert("LAB"), "TIFF")).startswith(
        "a TIFF of mode LAB; save it as PNG or JPEG"
    )
    assert "4,096 levels" in reason(b"P6 128 96 4095\n" + bytes(128 * 96 * 6))


def test_sizes_are_judged_before_anything_is_made_room_for(fundus: np.ndarray) -> None:
    webp = saved(fundus, "WEBP", lossless=True)
    forged = bytearray(webp)
    struct.pack_into("<I", forged, 21, 16382 | 16382 << 14)
    assert "16383x16383 pixels; at most 60 million" in reason(bytes(forged))
    lossy = bytearray(saved(fundus, "WEBP"))
    struct.pack_into("<HH", lossy, 26, 16383, 16383)
    assert "16383x16383 pixels" in reason(bytes(lossy))
    wide = b"RIFF" + struct.pack("<I", 40) + b"WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\xff" * 6
    assert "16777216x16777216 pixels" in reason(wide + webp[12:])
    size = [(256, 4, 1, 50_000), (257, 4, 1, 50_000), (258, 3, 1, 8), (262, 3, 1, 1)]
    assert "50000x50000 pixels" in reason(tiff([*size, (273, 4, 1, 8), (277, 3, 1, 1)]))
    tiles = [(256, 4, 1, 100), (257, 4, 1, 100), (322, 4, 1, 30_000), (323, 4, 1, 30_000)]
    assert "tiles of 30000x30000 pixels" in reason(tiff(tiles))
    assert "50000x50000 pixels" in reason(b"P6 50000 50000 255\n")
    bmp = bytearray(saved(fundus, "BMP"))
    struct.pack_into("<ii", bmp, 18, 50_000, 50_000)
    assert "50000x50000 pixels" in reason(bytes(bmp))


def test_bombs_are_refused_at_once(fundus: np.ndarray) -> None:
    began = time.monotonic()
    many = [(256, 4, 1, 128), (257, 4, 1, 96)]
    many += [(40_000 + i, 7, 8 << 20, 8) for i in range(2000)]
    assert reason(tiff(many, bytes(8 << 20))).startswith("directories of 16,777,")
    numbers = [(256, 4, 1, 128), (257, 4, 1, 96), (40_000, 3, 2_000_000, 8)]
    assert "2,000,002 numbers" in reason(tiff(numbers, bytes(4 << 20)))
    further = [(256, 4, 1, 128), (34665, 4, 1, 8), (34853, 4, 1, 8)]
    assert "directories" not in reason(tiff(further)), "a directory that points at itself"
    assert "no size" in reason(b"P6 #" + b"x" * (5 << 20) + b"\n128 96 255\n")
    runs = bytearray(saved(Image.fromarray(fundus).convert("P"), "BMP"))
    struct.pack_into("<I", runs, 30, 1)
    assert "a BMP of compression 1; save it as PNG" in reason(bytes(runs))
    assert reason(b"II+\0\x08\0\0\0" + bytes(50)).startswith("a BigTIFF")
    assert time.monotonic() - began < SLOW


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_exif_that_reads_the_same_bytes_again_and_again(fundus: np.ndarray, kind: str) -> None:
    exif = tiff([(40_000 + i, 7, 1 << 20, 8) for i in range(5000)], bytes(1 << 20))
    began = time.monotonic()
    decoded = decode_photograph(saved(fundus, kind, exif=b"Exif\0\0" + exif))
    assert "EXIF not readable, taken as upright: directories of" in decoded.note
    assert time.monotonic() - began < SLOW


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", ["TIFF", "BMP", "WEBP", "PPM"])
def test_damage_anywhere_is_refused_or_gives_pixels(fundus: np.ndarray, kind: str) -> None:
    rng = np.random.default_rng(0)
    content = saved(fundus[:48, :64], kind)
    if kind == "TIFF":
        content = saved(fundus[:48, :64], kind, compression="tiff_lzw")
    for attempt in range(150):
        damaged = bytearray(content)
        if attempt % 3 == 0:
            del damaged[int(rng.integers(len(damaged))) :]
        head = 200 if attempt % 3 == 1 else len(damaged)
        for _ in range(int(rng.integers(1, 6)) if damaged else 0):
            damaged[int(rng.integers(min(head, len(damaged))))] = int(rng.integers(256))
        began = time.monotonic()
        try:
            decoded = decode_photograph(bytes(damaged))
        except BadImage as error:
            assert str(error)
        else:
            assert decoded.pixels.dtype == np.uint8 and decoded.pixels.ndim == 3
        assert time.monotonic() - began < SLOW, (kind, attempt)
