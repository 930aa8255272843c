import io
import os
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from fundusray.data.photographs.decode import BadImage, decode_photograph, encode_jpeg

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
        decode_photograph(content, min_side)
    return str(caught.value)


def smooth(pixels: np.ndarray) -> np.ndarray:
    """The photograph four times as large, smooth enough for JPEG to change it little."""
    image = Image.fromarray(pixels)
    return np.asarray(image.resize((4 * image.width, 4 * image.height), Image.Resampling.BICUBIC))


def test_png_keeps_every_pixel(fundus):
    decoded = decode_photograph(saved(fundus, "PNG"))
    assert (decoded.pixels == fundus).all()
    assert decoded[1:] == (False, "", 128, 96, 1.0, 1, (0, 0))
    assert decoded.pixels.flags.writeable and decoded.pixels.flags.c_contiguous


def test_modes_become_the_same_rgb(fundus):
    image = Image.fromarray(fundus)
    grey = np.asarray(image.convert("L"))
    assert (decode_photograph(saved(image.convert("RGBA"), "PNG")).pixels == fundus).all()
    for mode in ("L", "LA"):
        decoded = decode_photograph(saved(Image.fromarray(grey).convert(mode), "PNG")).pixels
        assert (decoded == grey[..., None]).all()
    palette = image.quantize(64)
    decoded = decode_photograph(saved(palette, "PNG")).pixels
    assert (decoded == np.asarray(palette.convert("RGB"))).all()
    decoded = decode_photograph(saved(image.convert("CMYK"), quality=95)).pixels
    assert np.abs(decoded.astype(int) - fundus).mean() < 5


def test_sixteen_bits_are_scaled_not_clipped(fundus):
    grey = fundus[..., 0]
    for wide in (grey.astype(np.uint16) * 257, grey.astype(np.uint16) * 257 // 2 * 2):
        content = saved(Image.fromarray(wide), "PNG")
        assert (
            np.abs(decode_photograph(content).pixels[..., 1].astype(float) - wide / 257).max()
            <= 0.5
        )


def test_sixteen_bit_colour(fundus):
    # Pillow writes no 16-bit colour PNG: value 257 v, in one deflated block.
    wide = (fundus.astype(">u2") * 257).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in wide)
    header = struct.pack(">IIBBBBB", 128, 96, 16, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    content = PNG + b"".join(png_chunk(*part) for part in parts)
    assert (decode_photograph(content).pixels == fundus).all()


def test_transparent_pixels_are_black(fundus):
    alpha = np.full(fundus.shape[:2], 255, np.uint8)
    alpha[:30] = 0
    decoded = decode_photograph(saved(np.dstack([fundus, alpha]), "PNG")).pixels
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
    decoded = decode_photograph(saved(stored, kind, exif=exif))
    assert (decoded.width, decoded.height) == scene.size
    assert np.abs(decoded.pixels.astype(int) - np.asarray(scene)).mean() < 4


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_malformed_exif_is_not_fatal(fundus):
    for exif in (b"Exif\0\0garbage!", b"Exif\0\0II*\0\xff\xff\xff\x7f" + b"\xff" * 40):
        assert decode_photograph(saved(fundus, exif=exif)).pixels.shape == fundus.shape
    decoded = decode_photograph(saved(fundus, "PNG", exif=b"Exif\0\0garbage!"))
    assert "EXIF not readable" in decoded.note and not decoded.repaired


@pytest.mark.parametrize("min_side", [1, 47, 48, 49, 95, 96, 97, 191, 192, 200, 384, 1000])
def test_scaled_decoding_stays_above_min_side(fundus, min_side):
    large = smooth(fundus)
    decoded = decode_photograph(saved(large, quality=95), min_side)
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
    whole = decode_photograph(content, min_side).pixels
    cut = decode_photograph(content[: int(0.75 * len(content))], min_side)
    assert cut.repaired and "truncated" in cut.note and "bytes missing" in cut.note
    assert cut.pixels.shape == whole.shape
    black = (cut.pixels == 0).all(axis=(1, 2))
    rows = len(black) - black[::-1].argmin()
    assert 0.5 < rows / len(black) < 0.9
    # All but the last row of blocks, whose chroma touches the missing ones, is as it was.
    assert (cut.pixels[: rows - 2] == whole[: rows - 2]).all()
    assert (
        decode_photograph(content[: int(0.75 * len(content))], min_side).pixels == cut.pixels
    ).all()
    assert cut.recovered == pytest.approx(rows / len(black))


@pytest.mark.parametrize("min_side", [0, 96])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("share", [0.6, 0.75, 0.9])
def test_the_share_of_rows_recovered(mode, min_side, share):
    # Grain costs every row as many bytes as any other.
    pixels = np.random.default_rng(0).integers(60, 200, (320, 240, 3), np.uint8)
    content = saved(Image.fromarray(pixels).convert(mode), quality=90)
    assert decode_photograph(content, min_side).recovered == 1
    for end in (b"", b"\xff\xd9"):
        cut = decode_photograph(content[: int(share * len(content))] + end, min_side)
        assert cut.repaired and cut.recovered == pytest.approx(share, abs=0.06)
        assert (cut.pixels.max(axis=(1, 2)) > 0).mean() == pytest.approx(cut.recovered)


def test_pixels_that_end_early_are_seen_though_the_file_ends_well(fundus):
    content = saved(smooth(fundus))
    whole = decode_photograph(content).pixels
    cut = content[: int(0.75 * len(content))]
    for behind in (b"\xff\xd9", bytes(3000) + b"\xff\xd9", content):
        decoded = decode_photograph(cut + behind)
        assert decoded.repaired and 0.5 < decoded.recovered < 0.9, decoded.note
        rows = int(decoded.recovered * len(whole))
        assert (decoded.pixels[: rows - 20] == whole[: rows - 20]).all()


def test_what_is_overwritten_by_another_file_is_cut_off(fundus):
    content = saved(smooth(fundus))
    whole = decode_photograph(content).pixels
    middle = int(0.7 * len(content))
    other = content[:middle] + b"\xff\x17" + b"another file" * 9 + content[middle + 200 :]
    decoded = decode_photograph(other)
    assert decoded.note.startswith("overwritten: ") and 0.5 < decoded.recovered < 0.9
    rows = int(decoded.recovered * len(whole))
    assert (decoded.pixels[: rows - 20] == whole[: rows - 20]).all()
    early = len(content) // 4
    assert "overwritten: only" in reason(content[:early] + b"\xff\x17" + content[early + 2 :])
    # A first scan of a progressive one alone would show nothing of its detail.
    content = saved(smooth(fundus), progressive=True)
    middle = len(content) // 2
    assert "damaged" in reason(content[:middle] + b"\xff\x17\xff\xc1" + content[middle:])


def test_rows_lost_between_restart_markers_are_black(fundus):
    content = saved(smooth(fundus), quality=90, restart_marker_rows=2)
    marks = [
        i for i in range(len(content) - 1) if content[i] == 255 and 208 <= content[i + 1] < 216
    ]
    assert len(marks) > 8
    # Nothing is left between two of the marks.
    damaged = content[: marks[4] + 2] + content[marks[5] :]
    whole, decoded = decode_photograph(content).pixels, decode_photograph(damaged)
    lost = (decoded.pixels == 0).all(axis=(1, 2)) & (whole != 0).any(axis=(1, 2))
    assert decoded.repaired and 24 <= lost.sum() <= 34
    assert decoded.recovered == pytest.approx(1 - lost.mean(), abs=0.02)
    assert (decoded.pixels[-64:] == whole[-64:]).all(), "after the next mark all is well"


def test_a_prepared_photograph_that_is_grey_below_is_sound():
    pixels = np.full((256, 256, 3), 128, np.uint8)
    y, x = np.mgrid[:256, :256] - 127.5
    inside = (np.hypot(y, x) < 110) & (y < 60)
    pixels[inside] = np.random.default_rng(0).integers(0, 256, (int(inside.sum()), 3), np.uint8)
    for edge in (inside, np.hypot(y, x) < 110):
        shown = np.where(edge[..., None], pixels, 128).astype(np.uint8)
        decoded = decode_photograph(encode_jpeg(shown))
        assert not decoded.repaired and decoded.recovered == 1, decoded.note
        assert decode_photograph(encode_jpeg(shown)[:-2]).note.startswith("truncated: ")


def test_a_missing_end_marker_loses_nothing(fundus):
    content = saved(smooth(fundus))
    for end in (content[:-2], content[:-1]):
        decoded = decode_photograph(end)
        assert decoded.repaired and "all rows recovered" in decoded.note
        assert (decoded.pixels == decode_photograph(content).pixels).all()
    assert not decode_photograph(content + b"\0" * 100).repaired, "bytes after the end do no harm"


def test_the_end_marker_of_a_thumbnail_is_not_the_end(fundus):
    thumbnail = saved(Image.fromarray(fundus).resize((32, 24)))
    exif = Image.Exif()
    exif[0x0112] = 3
    content = saved(smooth(fundus), exif=exif.tobytes() + thumbnail)
    assert content.count(b"\xff\xd9") == 2
    decoded = decode_photograph(content[: int(0.8 * len(content))])
    assert decoded.repaired
    whole = decode_photograph(content).pixels
    # Upside down: what is missing is now at the top.
    assert (decoded.pixels[-200:] == whole[-200:]).all() and (decoded.pixels[0] == 0).all()


def test_less_than_half_of_the_rows_is_refused(fundus):
    content = saved(smooth(fundus))
    assert "at least half are needed" in reason(content[: len(content) // 4])
    assert "at least half are needed" in reason(content[: len(content) // 4] + b"\xff\xd9")


def test_a_truncated_progressive_jpeg_says_that_detail_is_missing(fundus):
    content = saved(smooth(fundus), progressive=True)
    decoded = decode_photograph(content[: int(0.8 * len(content))])
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
        (
            b"GIF89a" + b"\1" * 50,
            "a GIF file; JPEG, PNG, TIFF, BMP, WebP and PPM are read: save it",
        ),
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
    content = saved(fundus, progressive=True)
    start = content.rindex(b"\xff\xda")
    scan = content[start:-2]
    many = content[:start] + scan * 200 + b"\xff\xd9"
    assert "209 scans of 0.0 million pixels; at most 100 are read" in reason(many)
    # A larger picture may have fewer: each scan is a pass over it.
    large = content.replace(struct.pack(">HH", 96, 128), struct.pack(">HH", 7000, 8000))
    several = large[: large.rindex(b"\xff\xda")] + scan * 20 + b"\xff\xd9"
    assert "29 scans of 56.0 million pixels; at most 17 are read" in reason(several)
    assert decode_photograph(saved(fundus) * 200).note == "", (
        "pictures behind a picture are not its scans"
    )


def test_large_texts_and_profiles_are_refused_from_the_header_alone(fundus):
    packer = zlib.compressobj(1)
    bomb = b"".join(packer.compress(bytes(1 << 24)) for _ in range(16)) + packer.flush()
    end = png_chunk(b"IDAT", zlib.compress(bytes(64 * 193))) + png_chunk(b"IEND", b"")
    for name, head in ((b"iCCP", b"icc\0\0"), (b"zTXt", b"note\0\0")):
        content = png_header(64, 64) + png_chunk(name, head + bomb) + end
        tracemalloc.start()
        assert "too large" in reason(content)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 50 << 20, f"{peak >> 20} MiB for 256 MiB of nothing"


JPEG = saved(np.zeros((32, 32, 3), np.uint8) + 90)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (JPEG[:2] + b"\xff\xe0\x00\x04ab" + bytes(3 << 20) + JPEG[2:], "no coded pixels in its"),
        (JPEG[:2] + b"\xff\xe0\x00\x04ab" + bytes(3 << 20), "no coded pixels in its first"),
        (JPEG[:2] + b"\xff" * (3 << 20) + JPEG[2:], "more than 50,000 segments"),
        (JPEG[:2] + b"\xff\xfe\x00\x02" * 60_000 + JPEG[2:], "more than 50,000 segments"),
        (JPEG[:2] + (b"\xff\xe1\xff\xff" + bytes(65533)) * 200 + JPEG[2:], "no coded pixels in"),
        (png_header(64, 64) + png_chunk(b"tEXt", b"a\0b") * 60_000, "more than 50,000 chunks"),
        (png_header(64, 64) + png_chunk(b"tEXt", b"a\0" + bytes(9 << 20)) * 2, "no pixels in its"),
    ],
)
def test_headers_that_take_long_to_read_are_refused(content, words):
    assert reason(content).startswith("damaged header: ") and words in reason(content)


def test_frames_that_are_not_read_are_refused_by_name(fundus):
    content = saved(fundus)
    frame = content.index(b"\xff\xc0\x00\x11\x08")
    twelve = content[: frame + 4] + b"\x0c" + content[frame + 5 :]
    assert "cannot handle 12-bit layers" in reason(twelve)
    for code in (0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCF):
        other = content[: frame + 1] + bytes([code]) + content[frame + 2 :]
        assert reason(other).startswith("damaged: ")
    assert reason(content[:frame]) == "damaged header: it gives no size"
    assert reason(content[: content.index(b"\xff\xda")]) == "damaged: there are no coded pixels"


def test_every_colour_transform_of_a_jpeg_gives_the_colours(fundus):
    scene = Image.fromarray(smooth(fundus))
    for stored in (saved(scene, quality=95), saved(scene, quality=95, keep_rgb=True)):
        difference = np.abs(decode_photograph(stored).pixels.astype(int) - np.asarray(scene))
        assert difference.mean() < 3
    cmyk = saved(scene.convert("CMYK"), quality=95)
    assert b"Adobe" in cmyk
    assert np.abs(decode_photograph(cmyk).pixels.astype(int) - np.asarray(scene)).mean() < 4


@pytest.mark.parametrize("kind", ["PNG", "MPO"])
def test_of_several_pictures_in_one_file_the_first_is_read(fundus, kind):
    first, second = Image.fromarray(smooth(fundus)), Image.fromarray(255 - smooth(fundus))
    content = saved(first, kind, save_all=True, append_images=[second])
    decoded = decode_photograph(content)
    assert not decoded.repaired
    assert np.abs(decoded.pixels.astype(int) - np.asarray(first)).mean() < 4


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_more_transparencies_than_a_palette_can_have_are_refused(depth):
    header = struct.pack(">IIBBBBB", 32, 32, depth, 3, 0, 0, 0)
    rows = b"".join(b"\0" + b"\xff" * (4 * depth) for _ in range(32))
    parts = ((b"IHDR", header), (b"PLTE", b"\x90" * 768), (b"tRNS", b"\x80" * 300))
    parts += ((b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    content = PNG + b"".join(png_chunk(*part) for part in parts)
    assert reason(content) == "damaged: palette index out of range"


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_pngs_of_any_chunks_decode_or_are_refused():
    rng = np.random.default_rng(0)
    bands = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
    names = (b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"eXIf", b"tEXt", b"zTXt", b"iTXt", b"iCCP")
    kept = 0
    for _ in range(600):
        depth, colour = int(rng.choice([1, 2, 4, 8, 16])), int(rng.choice(list(bands)))
        interlace, side = int(rng.random() < 0.2), 24
        parts = [(b"IHDR", struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, interlace))]
        parts += [(b"PLTE", rng.bytes(3 * int(rng.integers(0, 257))))] * (rng.random() < 0.7)
        parts += [(b"tRNS", rng.bytes(int(rng.choice([1, 2, 6, 100, 300]))))] * (rng.random() < 0.5)
        parts += [(b"acTL", struct.pack(">II", int(rng.integers(3)), 0))] * (rng.random() < 0.2)
        parts += [(name, rng.bytes(int(rng.integers(40)))) for name in names if rng.random() < 0.05]
        row = b"\0" + rng.bytes((side * bands[colour] * depth + 7) // 8)
        parts += [(b"IDAT", zlib.compress(row * side * 2)), (b"IEND", b"")]
        try:
            decoded = decode_photograph(PNG + b"".join(png_chunk(*part) for part in parts))
        except BadImage as error:
            assert str(error)
            continue
        kept += 1
        assert decoded.pixels.shape == (side, side, 3) and decoded.pixels.dtype == np.uint8
    assert kept > 100


def test_black_is_no_retina(fundus):
    assert reason(saved(np.zeros((64, 64, 3), np.uint8))).startswith("no retina: ")
    dark = (fundus * 0.15).astype(np.uint8)
    assert decode_photograph(saved(dark, "PNG")).pixels.max() < 60, "under-exposed, but a retina"


def test_encoded_jpeg_holds_pixels_and_nothing_else(fundus):
    large = smooth(fundus)
    content = encode_jpeg(large)
    image = Image.open(io.BytesIO(content))
    assert set(image.info) == {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    assert [component[1:3] for component in image.layer] == [(2, 2), (1, 1), (1, 1)]
    assert not image.getexif()
    difference = np.abs(decode_photograph(content).pixels.astype(int) - large)
    assert difference.mean() < 3
    assert len(encode_jpeg(large, quality=50)) < len(content) / 2


def test_a_private_note_does_not_survive(fundus):
    exif = Image.Exif()
    exif[0x010E] = "PATIENT MUSTERMANN"
    content = saved(fundus, exif=exif, comment=b"PATIENT MUSTERMANN")
    assert b"MUSTERMANN" in content
    assert b"MUSTERMANN" not in encode_jpeg(decode_photograph(content).pixels)


def test_real_photographs_decode_scaled_as_whole(real_data):
    folder = real_data / "eyepacs" / "train"
    for name in sorted(os.listdir(folder))[:4]:
        content = (folder / name).read_bytes()
        whole, scaled = decode_photograph(content), decode_photograph(content, 256)
        assert whole[1:6] == scaled[1:6] and min(scaled.pixels.shape[:2]) >= 256
        size = scaled.pixels.shape[1::-1]
        assert (whole.scale, scaled.scale) == (1, round(whole.width / size[0]))
        expected = np.asarray(Image.fromarray(whole.pixels).resize(size, Image.Resampling.BOX))
        assert np.abs(scaled.pixels.astype(int) - expected).mean() < 2
