import csv
import io
import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from fundusray.data.images import BadImage, decode, encode_jpeg

PNG = b"\x89PNG\r\n\x1a\n"


def saved(image: Image.Image | np.ndarray, kind: str = "JPEG", **options) -> bytes:
    sink = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(sink, kind, **options)
    return sink.getvalue()


def png_chunk(name: bytes, body: bytes) -> bytes:
    crc = struct.pack(">I", zlib.crc32(name + body))
    return struct.pack(">I", len(body)) + name + body + crc


def png_header(width: int, height: int) -> bytes:
    return PNG + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def reason(content: bytes, min_side: int = 0) -> str:
    with pytest.raises(BadImage) as caught:
        decode(content, min_side)
    return str(caught.value)


def smooth(pixels: np.ndarray) -> np.ndarray:
    """The photograph four times as large, smooth enough for JPEG to change it little."""
    image = Image.fromarray(pixels)
    return np.asarray(image.resize((4 * image.width, 4 * image.height), Image.Resampling.BICUBIC))


def test_png_keeps_every_pixel(fundus):
    decoded = decode(saved(fundus, "PNG"))
    assert (decoded.pixels == fundus).all()
    assert decoded[1:] == (False, "", 128, 96)
    assert decoded.pixels.flags.writeable and decoded.pixels.flags.c_contiguous


def test_modes_become_the_same_rgb(fundus):
    image = Image.fromarray(fundus)
    grey = np.asarray(image.convert("L"))
    assert (decode(saved(image.convert("RGBA"), "PNG")).pixels == fundus).all()
    for mode in ("L", "LA"):
        decoded = decode(saved(Image.fromarray(grey).convert(mode), "PNG")).pixels
        assert (decoded == grey[..., None]).all()
    palette = image.quantize(64)
    decoded = decode(saved(palette, "PNG")).pixels
    assert (decoded == np.asarray(palette.convert("RGB"))).all()
    decoded = decode(saved(image.convert("CMYK"), quality=95)).pixels
    assert np.abs(decoded.astype(int) - fundus).mean() < 5


def test_sixteen_bits_are_scaled_not_clipped(fundus):
    grey = fundus[..., 0]
    for wide in (grey.astype(np.uint16) * 257, grey.astype(np.uint16) * 257 // 2 * 2):
        content = saved(Image.fromarray(wide), "PNG")
        assert np.abs(decode(content).pixels[..., 1].astype(float) - wide / 257).max() <= 0.5


def test_sixteen_bit_colour(fundus):
    # Pillow writes no 16-bit colour PNG: value 257 v, in one deflated block.
    wide = (fundus.astype(">u2") * 257).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in wide)
    header = struct.pack(">IIBBBBB", 128, 96, 16, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    content = PNG + b"".join(png_chunk(*part) for part in parts)
    assert (decode(content).pixels == fundus).all()


def test_transparent_pixels_are_black(fundus):
    alpha = np.full(fundus.shape[:2], 255, np.uint8)
    alpha[:30] = 0
    decoded = decode(saved(np.dstack([fundus, alpha]), "PNG")).pixels
    assert (decoded[:30] == 0).all() and (decoded[30:] == fundus[30:]).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_comes_out_upright(fundus, orientation, kind):
    # What a camera stores so that the viewer's turn gives the scene back: the inverse turn.
    inverse = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    scene = Image.fromarray(smooth(fundus))
    stored = scene if orientation == 1 else scene.transpose(inverse[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode(saved(stored, kind, exif=exif))
    assert (decoded.width, decoded.height) == scene.size
    assert np.abs(decoded.pixels.astype(int) - np.asarray(scene)).mean() < 4


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_malformed_exif_is_not_fatal(fundus):
    for exif in (b"Exif\0\0garbage!", b"Exif\0\0II*\0\xff\xff\xff\x7f" + b"\xff" * 40):
        assert decode(saved(fundus, exif=exif)).pixels.shape == fundus.shape
    decoded = decode(saved(fundus, "PNG", exif=b"Exif\0\0garbage!"))
    assert "EXIF not readable" in decoded.note and not decoded.repaired


@pytest.mark.parametrize("min_side", [1, 47, 48, 49, 95, 96, 97, 191, 192, 200, 384, 1000])
def test_scaled_decoding_stays_above_min_side(fundus, min_side):
    large = smooth(fundus)
    decoded = decode(saved(large, quality=95), min_side)
    height, width = decoded.pixels.shape[:2]
    assert (decoded.width, decoded.height) == (512, 384)
    assert min(height, width) >= min(min_side, 384)
    assert 384 / height in (1, 2, 4, 8)
    # The next scale would be too small.
    assert height == 48 or height / 2 < min_side
    expected = Image.fromarray(large).resize((width, height), Image.Resampling.BOX)
    assert np.abs(decoded.pixels.astype(int) - np.asarray(expected)).mean() < 3


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("min_side", [0, 96])
def test_a_truncated_jpeg_gives_the_rows_that_are_there(fundus, options, min_side):
    content = saved(smooth(fundus), quality=90, **options)
    whole = decode(content, min_side).pixels
    cut = decode(content[: int(0.75 * len(content))], min_side)
    assert cut.repaired and "truncated" in cut.note and "bytes missing" in cut.note
    assert cut.pixels.shape == whole.shape
    black = (cut.pixels == 0).all(axis=(1, 2))
    rows = len(black) - black[::-1].argmin()
    assert 0.5 < rows / len(black) < 0.9
    # All but the last row of blocks, whose chroma touches the missing ones, is as it was.
    assert (cut.pixels[: rows - 2] == whole[: rows - 2]).all()
    assert (decode(content[: int(0.75 * len(content))], min_side).pixels == cut.pixels).all()


def test_a_missing_end_marker_loses_nothing(fundus):
    content = saved(smooth(fundus))
    for end in (content[:-2], content[:-1]):
        decoded = decode(end)
        assert decoded.repaired and "all rows recovered" in decoded.note
        assert (decoded.pixels == decode(content).pixels).all()
    assert not decode(content + b"\0" * 100).repaired, "bytes after the end do no harm"


def test_the_end_marker_of_a_thumbnail_is_not_the_end(fundus):
    thumbnail = saved(Image.fromarray(fundus).resize((32, 24)))
    exif = Image.Exif()
    exif[0x0112] = 3
    content = saved(smooth(fundus), exif=exif.tobytes() + thumbnail)
    assert content.count(b"\xff\xd9") == 2
    decoded = decode(content[: int(0.8 * len(content))])
    assert decoded.repaired
    whole = decode(content).pixels
    # Upside down: what is missing is now at the top.
    assert (decoded.pixels[-200:] == whole[-200:]).all() and (decoded.pixels[0] == 0).all()


def test_less_than_half_of_the_rows_is_refused(fundus):
    content = saved(smooth(fundus))
    assert "at least half are needed" in reason(content[: len(content) // 4])
    assert "at least half are needed" in reason(content[: len(content) // 4] + b"\xff\xd9")


def test_a_truncated_progressive_jpeg_says_that_detail_is_missing(fundus):
    content = saved(smooth(fundus), progressive=True)
    decoded = decode(content[: int(0.8 * len(content))])
    assert decoded.repaired and "progressive" in decoded.note


def test_a_truncated_png_is_refused(fundus):
    content = saved(fundus, "PNG")
    assert "damaged" in reason(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git-lfs pointer"),
        (b"\r\n <!DOCTYPE html><html>404</html>", "web page"),
        (b"GIF89a" + b"\1" * 50, "a GIF file; JPEG and PNG are read"),
        (b"\0" * 5000, "5,000 zero bytes"),
        (b"\x01\x02\x03\x04", "begins with 01 02 03 04"),
        (b"\xff\xd8\xff", "damaged header"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "damaged header"),
        (PNG + b"\0\0", "damaged header"),
    ],
)
def test_what_is_no_photograph_is_named(content, words):
    assert words in reason(content)


def test_sizes_are_judged_from_the_header(fundus):
    assert "1x1 pixels; at least 16" in reason(saved(fundus[:1, :1]))
    assert "50000x50000 pixels; at most 60 million" in reason(
        png_header(50000, 50000) + png_chunk(b"IDAT", b"")
    )
    content = saved(fundus)
    size = struct.pack(">HH", 96, 128)
    assert content.count(size) == 1
    forged = content.replace(size, struct.pack(">HH", 65500, 65500))
    assert "65500x65500 pixels" in reason(forged)
    # 49 million pixels are allowed; that nearly all of them are missing is seen afterwards.
    forged = content.replace(size, struct.pack(">HH", 2000, 2000))
    assert "coded pixels end early" in reason(forged)


def test_bombs_inside_small_files_are_refused(fundus):
    bomb = zlib.compress(b"\0" * 200_000_000)
    for name, head in ((b"iCCP", b"icc\0\0"), (b"zTXt", b"note\0\0")):
        content = png_header(64, 64) + png_chunk(name, head + bomb)
        assert "too large" in reason(content + png_chunk(b"IDAT", b""))
    content = saved(fundus, progressive=True)
    start = content.rindex(b"\xff\xda")
    scan = content[start:-2]
    assert "scans; at most" in reason(content[:start] + scan * 200 + b"\xff\xd9")


def test_black_is_no_retina(fundus):
    assert reason(saved(np.zeros((64, 64, 3), np.uint8))).startswith("no retina: ")
    dark = (fundus * 0.15).astype(np.uint8)
    assert decode(saved(dark, "PNG")).pixels.max() < 60, "under-exposed, but a retina"


def test_encoded_jpeg_holds_pixels_and_nothing_else(fundus):
    large = smooth(fundus)
    content = encode_jpeg(large)
    image = Image.open(io.BytesIO(content))
    assert set(image.info) == {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    assert [component[1:3] for component in image.layer] == [(2, 2), (1, 1), (1, 1)]
    assert not image.getexif()
    difference = np.abs(decode(content).pixels.astype(int) - large)
    assert difference.mean() < 3
    assert len(encode_jpeg(large, quality=50)) < len(content) / 2


def test_a_private_note_does_not_survive(fundus):
    exif = Image.Exif()
    exif[0x010E] = "PATIENT MUSTERMANN"
    content = saved(fundus, exif=exif, comment=b"PATIENT MUSTERMANN")
    assert b"MUSTERMANN" in content
    assert b"MUSTERMANN" not in encode_jpeg(decode(content).pixels)


def mutated(content: bytes, kind: int, rng: np.random.Generator) -> bytes:
    """The file damaged in one of five ways."""
    spot = int(rng.integers(2, len(content)))
    length = int(rng.integers(1, 200))
    noise = rng.integers(0, 256, length, np.uint8).tobytes()
    return (
        content[:spot],
        content[:spot] + noise + content[spot + length :],
        content[:spot] + content[spot + length :],
        content[:spot] + noise + content[spot:],
        content[:spot] + bytes([content[spot] ^ 1 << int(rng.integers(8))]) + content[spot + 1 :],
    )[kind]


def test_mutated_files_decode_or_are_refused_with_a_reason_in_any_thread(fundus):
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    wholes = [
        saved(fundus, exif=exif),
        saved(fundus, progressive=True),
        saved(fundus, "PNG"),
        saved(Image.fromarray(fundus).quantize(16), "PNG"),
    ]
    contents = [mutated(wholes[i % 4], i // 4 % 5, rng) for i in range(400)]

    def outcome(content: bytes):
        try:
            decoded = decode(content, 32)
        except BadImage as error:
            return str(error)
        return decoded.pixels.tobytes(), decoded.note

    alone = [outcome(content) for content in contents]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(outcome, contents)) == alone
    refused = [text for text in alone if isinstance(text, str)]
    assert 40 < len(refused) < 360 and all(refused)


ODD = {
    "natural/0024cdab0c1e.png": "git-lfs pointer",
    "made/truncated_header.jpg": "damaged header",
    "made/empty.jpg": "empty file",
    "made/html.jpg": "web page",
    "made/black.jpg": "no retina",
    "made/tiny_1x1.jpg": "1x1 pixels",
}


@pytest.mark.parametrize("min_side", [0, 256])
def test_odd_files(real_data, min_side):
    with open(real_data / "odd" / "odd.csv", newline="") as stream:
        names = [row["file"] for row in csv.DictReader(stream)]
    assert len(names) >= 20 and set(names) > set(ODD)
    decoded = {}
    for name in names:
        content = (real_data / "odd" / name).read_bytes()
        if name in ODD:
            assert ODD[name] in reason(content, min_side), name
        else:
            decoded[name] = decode(content, min_side)
    notes = {name: d.note for name, d in decoded.items() if d.repaired}
    assert set(notes) == {"made/truncated_60.jpg", "made/truncated_no_eoi.jpg"}
    assert "all rows" in notes["made/truncated_no_eoi.jpg"]
    share = float(notes["made/truncated_60.jpg"].split()[1].rstrip("%"))
    assert share == pytest.approx(53.7, abs=0.6)
    upright = decoded["made/exif_orientation.jpg"]
    assert (upright.width, upright.height) == (1072, 712)
    # The same photograph stored in different ways looks the same.
    reference = decoded["made/yuv444.jpg"].pixels.astype(int)
    for name in ("progressive.jpg", "rgba.png", "jpeg_named.png", "exif_orientation.jpg"):
        pixels = decoded[f"made/{name}"].pixels
        if pixels.shape == reference.shape:
            assert np.abs(pixels - reference).mean() < 2, name
    grey = [decoded[f"made/{name}"].pixels for name in ("gray16.png", "gray.jpg")]
    if grey[0].shape == grey[1].shape:
        assert np.abs(grey[0].astype(int) - grey[1]).mean() < 2


def test_real_photographs_decode_scaled_as_whole(real_data):
    folder = real_data / "eyepacs" / "train"
    for name in sorted(os.listdir(folder))[:4]:
        content = (folder / name).read_bytes()
        whole, scaled = decode(content), decode(content, 256)
        assert whole[1:] == scaled[1:] and min(scaled.pixels.shape[:2]) >= 256
        size = scaled.pixels.shape[1::-1]
        expected = np.asarray(Image.fromarray(whole.pixels).resize(size, Image.Resampling.BOX))
        assert np.abs(scaled.pixels.astype(int) - expected).mean() < 2
