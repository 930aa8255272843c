import io
import struct
import threading
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fundusray.data.photographs import archives
from fundusray.data.photographs.decode import BadImage, decode_photograph
from fundusray.data.photographs.read import read_mask, read_photo
from fundusray.errors import InputError
from tests.data.trees import mask, photograph, retinamnist, write

MARKED = np.zeros((48, 64), bool)
MARKED[5:15, 10:30] = True


def npy(array: np.ndarray, **changes: object) -> bytes:
    """An array as .npy; `shape` and `descr` may be forged."""
    header = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape} | changes
    text = repr(header).encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + array.tobytes()


def archive(place: Path, **members: bytes) -> str:
    """A deflated zip of .npy members."""
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as content:
        for name, member in members.items():
            content.writestr(f"{name}.npy", member)
    return str(place)


GOOD = {
    "train_images": npy(np.zeros((2, 28, 28, 3), np.uint8)),
    "train_labels": npy(np.array([[0], [1]])),
}


def test_photographs_come_as_they_are(tmp_path: Path) -> None:
    write(tmp_path / "a b#1" / "c%20d.jpg")
    for root in (str(tmp_path), tmp_path.as_uri()):
        assert read_photo(root, "a b#1/c%20d.jpg") == photograph()
    with pytest.raises(FileNotFoundError):
        read_photo(str(tmp_path), "none.jpg")


@pytest.mark.parametrize(
    "path", ["../x.jpg", "/etc/passwd", "a/../../x.jpg", "", "a\0.jpg", "out.jpg", "out/x.jpg"]
)
def test_paths_out_of_the_root_are_not_read(tmp_path: Path, path: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    write(tmp_path / "x.jpg")
    (root / "out.jpg").symlink_to("../x.jpg")
    (root / "out").symlink_to("..")
    for read in (read_photo, read_mask):
        with pytest.raises(InputError, match=r"leads out of .*; expected a path inside it"):
            read(str(root), path)


@pytest.mark.parametrize("side", [28, 64])
def test_pictures_of_an_archive(tmp_path: Path, side: int) -> None:
    place = retinamnist(tmp_path / "set.npz", side)
    arrays = np.load(place)
    for root in (str(tmp_path), str(place), place.as_uri()):
        for part, index in (("train", 0), ("train", 9), ("test", 5), ("val", 3)):
            content = read_photo(root, f"set.npz#{part}/{index}")
            pixels = decode_photograph(content).pixels
            assert np.array_equal(pixels, arrays[f"{part}_images"][index])
    for path in ("set.npz#test/6", "set.npz#test/999999999"):
        with pytest.raises(InputError, match=r"no picture test/.*, it holds 6"):
            read_photo(str(tmp_path), path)
    for path in ("set.npz#test/-1", "set.npz#test/01", "set.npz#extra/1"):
        with pytest.raises((InputError, FileNotFoundError)):
            read_photo(str(tmp_path), path)
    with pytest.raises(InputError, match="leads out of"):
        read_photo(str(tmp_path / "sub"), "../set.npz#test/0")


def test_an_archive_is_loaded_once_and_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = retinamnist(tmp_path / "set.npz")
    loads: list[str] = []
    read = np.lib.format.read_array

    def counted(*args: object, **keywords: object) -> np.ndarray:
        loads.append("")
        time.sleep(0.05)
        return read(*args, **keywords)

    monkeypatch.setattr(np.lib.format, "read_array", counted)
    paths = [f"set.npz#train/{i}" for i in range(10)]
    threads = [threading.Thread(target=read_photo, args=(str(tmp_path), path)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1
    first = read_photo(str(tmp_path), paths[0])
    black = np.zeros((10, 28, 28, 3), np.uint8)
    retinamnist(place, train_images=black)
    assert read_photo(str(tmp_path), paths[0]) != first and len(loads) == 2
    for part in ("val", "test", "train"):
        read_photo(str(tmp_path), f"set.npz#{part}/0")
    assert len(loads) == 5


def test_more_is_in_an_archive_than_is_asked_for(tmp_path: Path) -> None:
    place = archive(tmp_path / "set.npz", notes=b"anything", **GOOD)
    assert archives.read_shapes(place) == {"train_images": (2, 28, 28, 3), "train_labels": (2, 1)}


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({}, "no train_images"),
        ({"train_labels": None}, r"train_labels None; expected \[N, H, W, 3\] and \[N, 1\]"),
        ({"train_images": npy(np.zeros((2, 28, 28), np.uint8))}, r"expected \[N, H, W, 3\]"),
        ({"train_images": npy(np.zeros((2, 28, 28, 3), "<f4"))}, "holds float32, expected uint8"),
        ({"train_labels": npy(np.zeros((3, 1), np.uint8))}, r"train_labels \(3, 1\); expected"),
        ({"train_labels": npy(np.zeros((2, 5), np.uint8))}, r"train_labels \(2, 5\); expected"),
        ({"train_labels": npy(np.zeros(2, np.uint8), descr="|O")}, "holds object"),
        (
            {"train_images": npy(np.zeros(10, np.uint8), shape=(10**9, 224, 224, 3))},
            "which cannot be",
        ),
        ({"train_images": npy(np.zeros(10, np.uint8), shape=(-1, -10))}, "which cannot be"),
        ({"train_images": npy(np.zeros(0, np.uint8), shape=())}, "which cannot be"),
        ({"train_images": npy(np.zeros(1, np.uint8), shape="x" * 20_000)}, "not a sound"),
        ({"train_images": b"\x93NUMPY\x09\0" + bytes(100)}, "not a sound|has format"),
        ({"train_images": b"PK" + bytes(100)}, "not a sound"),
        ({"train_images": b""}, "not a sound"),
    ],
)
def test_archives_that_cannot_be_what_they_say(
    tmp_path: Path, members: dict[str, bytes | None], words: str
) -> None:
    held = {name: member for name, member in (GOOD | members).items() if member is not None}
    place = archive(tmp_path / "set.npz", **(held if members else {}))
    with pytest.raises(InputError, match=words):
        archives.read_shapes(place)


def test_a_bomb_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    """A sound archive of zeros that says it holds more than the limit, in a few MB."""
    place = tmp_path / "set.npz"
    shape = (archives.LIMIT // (1024 * 1024 * 3) + 1, 1024, 1024, 3)
    head = npy(np.zeros(0, np.uint8), shape=shape)
    with zipfile.ZipFile(place, "w", zipfile.ZIP_STORED) as content:
        content.writestr("train_labels.npy", GOOD["train_labels"])
        content.writestr("train_images.npy", head)
    raw = bytearray(place.read_bytes())
    # The sizes that the directory gives are forged: what decides is judged from them.
    entry = raw.rindex(b"PK\1\2")
    raw[entry + 24 : entry + 28] = struct.pack("<I", len(head) + int(np.prod(shape)))
    place.write_bytes(raw)
    with pytest.raises(InputError, match=r"its arrays need 2\.\d GB; at most 2\.1 GB are read"):
        archives.read_shapes(str(place))


def test_damage_is_found_when_an_array_is_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    members = GOOD | {"train_images": npy(rng.integers(0, 256, (2, 28, 28, 3), np.uint8))}
    place = Path(archive(tmp_path / "set.npz", **members))
    raw = bytearray(place.read_bytes())
    raw[2000] ^= 1
    place.write_bytes(raw)
    with pytest.raises(InputError, match="train_images is damaged"):
        read_photo(str(tmp_path), "set.npz#train/0")
    place.write_bytes(raw[:1500])
    with pytest.raises(InputError, match=r"not a sound \.npz archive"):
        read_photo(str(tmp_path), "set.npz#train/0")


def test_an_array_twice_or_encrypted(tmp_path: Path) -> None:
    place = tmp_path / "set.npz"
    archive(place, **GOOD)
    with zipfile.ZipFile(place, "a") as content, pytest.warns(UserWarning, match="Duplicate"):
        content.writestr("train_images.npy", GOOD["train_images"])
    with pytest.raises(InputError, match="an array is there twice"):
        archives.read_shapes(str(place))
    archive(place, **GOOD)
    raw = bytearray(place.read_bytes())
    raw[raw.index(b"PK\1\2") + 8] |= 1
    place.write_bytes(raw)
    with pytest.raises(InputError, match="is encrypted"):
        archives.read_shapes(str(place))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("mode", ["1", "P", "L", "LA", "RGB", "RGBA", "I;16"])
def test_masks_of_every_mode(tmp_path: Path, kind: str, mode: str) -> None:
    write(tmp_path / "m", mask(kind, mode))
    marked = read_mask(str(tmp_path), "m")
    assert marked.dtype == bool and np.array_equal(marked, MARKED)


def test_what_is_transparent_is_not_marked(tmp_path: Path) -> None:
    pixels = np.full((48, 64, 4), 255, np.uint8)
    pixels[..., 3] = MARKED * 255
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    write(tmp_path / "m", sink.getvalue())
    assert np.array_equal(read_mask(str(tmp_path), "m"), MARKED)


def test_one_colour_of_many_is_enough(tmp_path: Path) -> None:
    """Palette: the index decides, whatever its colour; RGB: any of the three."""
    image = Image.fromarray(MARKED.astype(np.uint8) * 3)
    image.putpalette([255] * 9 + [0, 0, 0])
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[MARKED, 2] = 1
    for content in (image, Image.fromarray(pixels)):
        sink = io.BytesIO()
        content.save(sink, "PNG")
        write(tmp_path / "m", sink.getvalue())
        assert np.array_equal(read_mask(str(tmp_path), "m"), MARKED)


def large(kind: str) -> bytes:
    """A mask whose header promises 30000 x 30000 pixels."""
    content = bytearray(mask(kind))
    if kind == "PNG":
        content[16:24] = struct.pack(">II", 30_000, 30_000)
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
        return bytes(content)
    for tag, side in ((256, 64), (257, 48)):
        # The kind of the value is kept: SHORT or LONG, once.
        for kept in (3, 4):
            entry = struct.pack("<HHII", tag, kept, 1, side)
            content = content.replace(entry, entry[:8] + struct.pack("<I", 30_000))
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda: b"", "not a PNG or TIFF mask: begins with nothing"),
        (photograph, "not a PNG or TIFF mask: begins with ff d8"),
        (lambda: mask("PNG")[:-30], "damaged mask"),
        (lambda: mask("TIFF")[:20], "damaged mask"),
        (lambda: mask("PNG")[:10], "damaged mask"),
        (lambda: large("PNG"), "30000x30000 pixels; at most 60 million are read"),
        (lambda: large("TIFF"), "30000x30000 pixels; at most 60 million are read"),
        (lambda: mask("TIFF", "CMYK"), "a mask in colours of CMYK; save it as PNG"),
    ],
)
def test_masks_that_cannot_be_read(
    tmp_path: Path, content: Callable[[], bytes], words: str
) -> None:
    write(tmp_path / "m", content())
    with pytest.raises(BadImage, match=words):
        read_mask(str(tmp_path), "m")
