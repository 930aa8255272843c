"""What a photograph says of its patient, and what its file is called, stays where it was."""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from fundusray import files
from fundusray.config import Data
from fundusray.data.drawn.source import draw_photograph
from fundusray.data.manifest.build import Manifest, build_manifest
from fundusray.data.photographs.decode import encode_jpeg
from fundusray.data.prepared import prepared_set
from fundusray.errors import BadInputsError


def made(storage: str, data: Data, manifest: Manifest) -> str:
    """The folder of the prepared set."""
    folder = prepared_set.set_folder(storage, data, manifest)
    unit = prepared_set.write_shard(folder, 0, manifest.table, data, manifest.roots)
    prepared_set.assemble_set(folder, data, manifest, [unit])
    return folder


def everything(folder: Path | str) -> bytes:
    """The bytes of every file of a set, and what the compressed ones hold."""
    content = b""
    for path in sorted(Path(folder).rglob("*")):
        content += path.name.encode() + (path.read_bytes() if path.is_file() else b"")
        if path.suffix == ".parquet":
            table = files.read_table(str(path))
            content += repr((table.to_pylist(), table.schema.metadata)).encode()
    return content


def segment(code: int, content: bytes) -> bytes:
    return bytes([0xFF, code]) + (len(content) + 2).to_bytes(2, "big") + content


def exif(marker: Callable[[str], bytes], thumbnail: bytes) -> bytes:
    """A TIFF block with a description, a GPS folder and a thumbnail."""
    texts = [marker("description"), marker("gps")]
    start = 8 + (2 + 2 * 12 + 4) + (2 + 12 + 4) + (2 + 2 * 12 + 4)
    places = [start, start + len(texts[0]), start + len(b"".join(texts))]

    def entry(tag: int, kind: int, count: int, value: int) -> bytes:
        return struct.pack("<HHII", tag, kind, count, value)

    first = entry(0x010E, 2, len(texts[0]), places[0]) + entry(0x8825, 4, 1, 8 + 30)
    gps = entry(0x001B, 7, len(texts[1]), places[1])
    second = entry(0x0201, 4, 1, places[2]) + entry(0x0202, 4, 1, len(thumbnail))
    block = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 2) + first
    block += struct.pack("<I", 8 + 30 + 18) + struct.pack("<H", 1) + gps + struct.pack("<I", 0)
    block += struct.pack("<H", 2) + second + struct.pack("<I", 0)
    assert len(block) == start
    return b"Exif\0\0" + block + b"".join(texts) + thumbnail


def marked_jpeg(marker: Callable[[str], bytes]) -> bytes:
    """A photograph with a marker in every place of a JPEG that can hold a text."""
    whole, small = (encode_jpeg(draw_photograph(0, 77, 2, side).image) for side in (128, 32))
    thumbnail = small[:2] + segment(0xFE, marker("thumbnail")) + small[2:]
    iptc = b"\x1c\x02\x78" + len(marker("iptc")).to_bytes(2, "big") + marker("iptc")
    resource = b"8BIM\x04\x04\0\0" + len(iptc).to_bytes(4, "big") + iptc
    parts = [
        segment(0xE0, b"JFXX\0\x10" + thumbnail),
        segment(0xE1, exif(marker, thumbnail)),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta>" + marker("xmp")),
        segment(0xE2, b"ICC_PROFILE\0\x01\x01" + marker("profile") * 20),
        segment(0xED, b"Photoshop 3.0\0" + resource),
        segment(0xEF, marker("app15")),
        segment(0xFE, marker("comment")),
    ]
    return whole[:2] + b"".join(parts) + whole[2:] + marker("trailer")


def marked_png(marker: Callable[[str], bytes]) -> bytes:
    """As `marked_jpeg`, of a PNG."""
    sink = io.BytesIO()
    Image.fromarray(draw_photograph(0, 78, 2, 128).image).save(sink, "PNG")
    whole = sink.getvalue()

    def chunk(kind: bytes, content: bytes) -> bytes:
        length, check = (n.to_bytes(4, "big") for n in (len(content), zlib.crc32(kind + content)))
        return length + kind + content + check

    parts = [
        chunk(b"tEXt", b"Comment\0" + marker("text")),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + marker("itxt")),
        chunk(b"zTXt", b"Author\0\0" + zlib.compress(marker("ztxt"), 0)),
        chunk(b"eXIf", exif(marker, b"")[6:]),
    ]
    end = whole.index(b"IDAT") - 4
    last = chunk(b"tEXt", b"Late\0" + marker("late"))
    return whole[:end] + b"".join(parts) + whole[end:-12] + last + whole[-12:] + marker("after")


@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
def test_nothing_a_photograph_says_is_carried_along(
    eyepacs_tree: Callable[..., Path], tmp_path: Path, encoding: str
) -> None:
    tree, planted = eyepacs_tree(), []

    def marker(place: str) -> bytes:
        planted.append(f"MRS-SECRET-1950-{place}".encode())
        return planted[-1] + b"\0"

    (tree / "train" / "1_left.jpeg").write_bytes(marked_jpeg(marker))
    (tree / "train" / "1_right.jpeg").write_bytes(marked_png(marker))
    # What is skipped or repaired is told of, and must not tell more.
    (tree / "train" / "2_left.jpeg").write_bytes(marked_jpeg(marker)[:-900])
    (tree / "train" / "2_right.jpeg").write_bytes(marked_jpeg(marker)[:3000])
    originals = b"".join(path.read_bytes() for path in (tree / "train").iterdir())
    assert all(text in originals for text in planted) and len(set(planted)) >= 14
    data = Data(source="eyepacs", root=str(tree), size=48, max_bad=0.5, encoding=encoding)
    folder = made(str(tmp_path / "out"), data, build_manifest(data, data.root, 0))
    opened = prepared_set.open_set(folder)
    assert opened.image_ids()[:3] == ["1_left", "1_right", "2_left"]
    assert opened.table["repaired"].to_pylist()[2] and len(opened) == 11
    assert b"MRS-SECRET" not in everything(folder) and b"proliferative" in everything(folder)


@pytest.mark.parametrize("encoding", ["jpeg", "raw"])
def test_a_set_with_keyed_ids_names_no_file_and_no_patient(tmp_path: Path, encoding: str) -> None:
    root, key = tmp_path / "raw", tmp_path / "key"
    (root / "train").mkdir(parents=True)
    key.write_bytes(bytes(range(32)))
    names = [f"MILLER{i}_{eye}" for i in range(6) for eye in ("left", "right")]
    for index, name in enumerate(names):
        (root / "train" / f"{name}.jpeg").write_bytes(
            encode_jpeg(draw_photograph(0, index, index % 3, 96).image)
        )
    rows = [f"{name},{index % 3}\n" for index, name in enumerate(names)]
    (root / "trainLabels.csv").write_text("image,level\n" + "".join(rows))
    (root / "train" / f"{names[2]}.jpeg").write_bytes(b"no picture" * 100)
    (root / "train" / f"{names[3]}.jpeg").unlink()
    data = Data(
        source="eyepacs", root=str(root), size=48, max_bad=0.5, id_key=str(key), encoding=encoding
    )
    manifest = build_manifest(data, str(root), 0)
    paths = manifest.table["path"].to_pylist()
    masks = pa.array([[("disc", f"masks/{path}")] for path in paths], pa.map_("string", "string"))
    place = manifest.table.schema.get_field_index("masks")
    field = manifest.table.schema.field(place)
    manifest = replace(manifest, table=manifest.table.set_column(place, field, masks))
    (root / "train" / f"{names[5]}.jpeg").unlink()
    folder = made(str(tmp_path / "out"), data, manifest)
    content = everything(tmp_path / "out" / "prepared")
    assert b"MILLER" not in content and str(root).encode() not in content
    assert b"cannot be read: No such file" in content and b"not a JPEG" in content
    opened = prepared_set.open_set(folder)
    assert len(opened) == 9 and set(opened.table["path"].to_pylist()) == {""}
    assert opened.table["masks"].to_pylist() == [[("disc", "")]] * 9
    with pytest.raises(BadInputsError, match="3 of 12") as caught:
        made(str(tmp_path / "out"), replace(data, max_bad=0.1), manifest)
    assert "MILLER" not in str(caught.value) and "without data.id_key" in str(caught.value)
    skipped = files.read_table(f"{folder}/skipped.parquet").to_pylist()
    assert all(row["where"] == row["image_id"] != "" for row in skipped) and len(skipped) == 3
