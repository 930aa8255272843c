"""What a scan says of each file: the same as prepare does with it, and nothing stops it."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from fundusray.config import Data
from fundusray.data.drawn.source import draw_photograph
from fundusray.data.manifest.build import SCHEMA, build_manifest
from fundusray.data.photographs.digests import content_table
from fundusray.data.prepared.prepared_set import write_shard
from fundusray.data.prepared.preprocess import PREPROCESS
from fundusray.data.scan import examine
from fundusray.errors import InputError
from tests.conftest import jpeg
from tests.mutations import KINDS, mutate

SIZE = 48
Row = dict[str, Any]


def table_of(paths: list[str], **columns: list[Any]) -> pa.Table:
    """Rows of a manifest for some files of a root, of data set "x"."""
    empty = {pa.string(): "", pa.bool_(): False, pa.int32(): -1, pa.int64(): 0}
    known = {"image_id": paths, "path": paths, "dataset": ["x"] * len(paths)} | columns
    arrays = []
    for field in SCHEMA:
        value = [] if field.name == "masks" else empty.get(field.type)
        arrays.append(pa.array(known.get(field.name, [value] * len(paths)), field.type))
    return pa.table(arrays, schema=SCHEMA)


def examined(root: Path, table: pa.Table, **settings: Any) -> dict[str, Row]:
    """Rows of EXAMINED by id."""
    data = Data(**({"source": "folder", "size": SIZE} | settings))
    rows = examine.examine_photographs(table, data, {"x": str(root)}).to_pylist()
    assert [row["image_id"] for row in rows] == table["image_id"].to_pylist()
    return {row["image_id"]: row for row in rows}


pytestmark = [
    # What Pillow says of nonsense in EXIF.
    pytest.mark.filterwarnings("ignore:Corrupt EXIF data"),
    pytest.mark.filterwarnings("ignore:Tag data larger than file"),
]


@pytest.fixture(scope="module")
def photographs() -> list[bytes]:
    """Drawn photographs as cameras write them: plain, and with restart markers."""
    options: list[dict[str, Any]] = [{}, {"restart_marker_rows": 1}, {"subsampling": 0}]
    return [
        jpeg(draw_photograph(0, index, index % 5, side=224).image, quality=90, **options[index % 3])
        for index in range(6)
    ]


@pytest.fixture
def damaged(photographs: list[bytes], tmp_path: Path) -> Callable[[int], pa.Table]:
    """damaged(n) writes n files of each kind of damage; their rows."""

    def make(times: int) -> pa.Table:
        names = []
        for seed in range(times):
            for place, kind in enumerate(KINDS):
                names.append(f"{kind}-{seed}.jpg")
                content = photographs[(seed + place) % len(photographs)]
                (tmp_path / names[-1]).write_bytes(mutate(content, kind, seed))
        return table_of(names)

    return make


def test_mutations_are_what_they_are_called(photographs: list[bytes]) -> None:
    assert len(KINDS) == 18
    for kind in KINDS:
        made = [mutate(photographs[0], kind, seed) for seed in range(12)]
        assert made == [mutate(photographs[0], kind, seed) for seed in range(12)]
        assert all(content != photographs[0] for content in made), kind
        assert len(set(made)) > 1, kind


def check_classified(rows: dict[str, Row], times: int) -> None:
    statuses = Counter((name.rsplit("-", 1)[0], row["status"]) for name, row in rows.items())
    assert len(rows) == 18 * times
    assert {status for _, status in statuses} == {"ok", "repaired", "refused"}
    for name, row in rows.items():
        assert (row["status"] == "ok") or row["reason"], name
        assert (row["fingerprint"] is None) == (row["status"] == "refused")
        assert 0.5 <= row["recovered"] <= 1 or row["status"] == "refused"
    for kind, status in (("placeholder", "refused"), ("no_end", "repaired"), ("appended", "ok")):
        assert statuses[kind, status] == times, statuses
    # Of the six only two are not read, whatever their names say.
    others = [row for name, row in rows.items() if name.startswith("other_format")]
    refused = [row["reason"] for row in others if row["status"] == "refused"]
    assert all("a GIF file" in r or "a JPEG 2000 file" in r for r in refused) and refused
    assert statuses["other_format", "ok"] == times - len(refused) > 0


def test_every_damaged_file_is_classified(damaged: Any, tmp_path: Path) -> None:
    check_classified(examined(tmp_path, damaged(10)), 10)


@pytest.mark.slow
def test_a_thousand_damaged_files_are_classified(damaged: Any, tmp_path: Path) -> None:
    table = damaged(56)
    before = resident()
    check_classified(examined(tmp_path, table), 56)
    assert resident() - before < 512


def resident() -> float:
    """MiB that this process holds."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))


@pytest.mark.parametrize("preprocess", sorted(PREPROCESS))
def test_it_says_what_prepare_does(
    damaged: Any, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, preprocess: str
) -> None:
    table = damaged(3)
    blank = ("white.jpg", "black.jpg", "strip.jpg")
    for name, shape, value in zip(
        blank, ((64, 64), (64, 64), (20, 900)), (255, 0, 90), strict=True
    ):
        (tmp_path / name).write_bytes(jpeg(np.full((*shape, 3), value, np.uint8)))
    table = pa.concat_tables([table, table_of([*blank, "missing.jpg"])])
    size = 2 * examine.GLANCE
    rows = examined(tmp_path, table, preprocess=preprocess, size=size)
    data = Data(source="folder", size=size, preprocess=preprocess)
    out = str(tmp_path_factory.mktemp("prepared"))
    unit = write_shard(out, 0, table, data, {"x": str(tmp_path)})
    names = table["image_id"].to_pylist()
    kept = [names[index] for index in unit["kept"]]
    assert [name for name in names if rows[name]["status"] != "refused"] == kept
    assert [rows[name]["status"] == "repaired" for name in kept] == unit["columns"]["repaired"]
    for column in ("width", "height", "sha256"):
        assert [rows[name][column] for name in kept] == unit["columns"][column]
    reasons = {row["image_id"]: row["reason"] for row in unit["skipped"]}
    assert reasons.pop("missing.jpg").startswith("cannot be read: ")
    assert rows.pop("missing.jpg")["reason"] == "cannot be read: No such file or directory"
    assert {n: r["reason"] for n, r in rows.items() if r["status"] == "refused"} == reasons
    assert 10 < len(kept) < len(names) - 10


def test_a_photograph_s_row(tmp_path: Path) -> None:
    drawn = Image.fromarray(draw_photograph(0, 0, 2, side=160).image)
    exif = Image.Exif()
    exif[0x0112] = 6
    drawn.crop((0, 20, 160, 140)).save(tmp_path / "turned.jpg", exif=exif, quality=90)
    content = jpeg(np.asarray(drawn))
    (tmp_path / "cut.jpg").write_bytes(content[: int(0.8 * len(content))])
    rows = examined(tmp_path, table_of(["turned.jpg", "cut.jpg"], num_bytes=[7, 8]))
    turned, cut = rows["turned.jpg"], rows["cut.jpg"]
    assert (turned["width"], turned["height"], turned["status"]) == (120, 160, "ok")
    assert (turned["dataset"], turned["path"], turned["listed_bytes"]) == ("x", "turned.jpg", 7)
    assert turned["num_bytes"] == os.path.getsize(tmp_path / "turned.jpg")
    assert turned["flags"] == [] and turned["mask_faults"] == ""
    assert cut["status"] == "repaired" and cut["reason"].startswith("truncated: ")
    assert 0.5 < cut["recovered"] < 1 and cut["flags"] == []


def test_flags(tmp_path: Path) -> None:
    drawn = draw_photograph(0, 0, 2, side=160).image
    pictures = {
        "dark.jpg": (drawn * 0.25).astype(np.uint8),
        "bright.jpg": (255 - (255 - drawn.astype(int)) * (drawn > 0) * 0.3).astype(np.uint8),
        "grey.jpg": np.repeat(drawn[..., 1:2], 3, axis=2),
        "small.jpg": drawn[::8, ::8],
        "strip.jpg": drawn[70:90],
    }
    for name, pixels in pictures.items():
        pixels = (
            np.where((drawn > 0).any(axis=2)[..., None], pixels, 0)
            if len(pixels) == 160
            else pixels
        )
        (tmp_path / name).write_bytes(jpeg(pixels.astype(np.uint8)))
    (tmp_path / "black.jpg").write_bytes(jpeg(np.zeros((64, 64, 3), np.uint8)))
    (tmp_path / "dot.jpg").write_bytes(jpeg(drawn[:8, :8]))
    flags = {
        n: row["flags"]
        for n, row in examined(tmp_path, table_of([*pictures, "black.jpg", "dot.jpg"])).items()
    }
    assert flags == {
        "dark.jpg": ["dark"], "bright.jpg": ["bright"], "grey.jpg": ["grey"],
        "small.jpg": ["tiny"], "strip.jpg": ["tiny", "no_fundus"],
        "black.jpg": ["black"], "dot.jpg": ["tiny"],
    }  # fmt: skip


def test_masks_that_do_not_fit_are_named(tmp_path: Path) -> None:
    drawn = draw_photograph(0, 0, 2, side=160).image
    (tmp_path / "a.jpg").write_bytes(jpeg(drawn))
    for name, side in (("fits.png", 160), ("small.png", 80)):
        Image.fromarray(np.zeros((side, side), np.uint8)).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "text.png").write_bytes(b"hello")
    names = ("fits.png", "small.png", "broken.png", "text.png", "lost.png", "../out.png")
    masks = [(f"m{place}", name) for place, name in enumerate(names)]
    table = table_of(["a.jpg", "b.jpg"], masks=[masks, masks[:1]])
    (tmp_path / "b.jpg").write_bytes(jpeg(drawn))
    rows = examined(tmp_path, table)
    faults = rows["a.jpg"]["mask_faults"].split("; ")
    assert [fault[:3] for fault in faults] == ["m1:", "m2:", "m3:", "m4:", "m5:"]
    assert faults[0] == "m1: 80x80 pixels, not 160x160"
    assert "not a PNG or TIFF" in faults[2] and "FileNotFoundError" in faults[3]
    assert rows["a.jpg"]["flags"] == ["masks"] and rows["a.jpg"]["status"] == "ok"
    assert rows["b.jpg"]["mask_faults"] == "" and rows["b.jpg"]["flags"] == []


def test_parts_are_kept_and_found_again(tmp_path: Path) -> None:
    root, parts = tmp_path / "root", str(tmp_path / "parts")
    root.mkdir()
    (root / "a.jpg").write_bytes(jpeg(draw_photograph(0, 0, 0, side=96).image))
    data, table = Data(source="folder", size=SIZE), table_of(["a.jpg", "b.jpg"], num_bytes=[5, 6])
    assert examine.read_parts(parts) == {}
    first = examine.examine_photographs(table, data, {"x": str(root)})
    examine.write_part(parts, first)
    known = examine.read_parts(parts)
    keys = [examine.row_identity(row, data) for row in table.to_pylist()]
    assert keys == [("x", "a.jpg", "a.jpg", 5), ("x", "b.jpg", "b.jpg", 6)]
    assert [known[key] for key in keys] == [[row] for row in first.to_pylist()]
    assert [known[key][0]["again"] for key in keys] == [False, True]
    # What could not be read is found later, whichever of both parts is read first.
    (root / "b.jpg").write_bytes(b"not a photograph")
    examine.write_part(parts, examine.examine_photographs(table.slice(1), data, {"x": str(root)}))
    known = examine.read_parts(parts)
    now = content_table(table, {"x": str(root)}, [])
    sound, odd = examine.current_rows(known, keys, now)
    assert sound == first.to_pylist()[0]
    assert not odd["again"] and "not a JPEG" in odd["reason"]
    assert len(os.listdir(parts)) == 2
    # Of equal size and other content it is another photograph.
    (root / "b.jpg").write_bytes(b"not a Photograph")
    assert examine.current_rows(known, keys, content_table(table, {"x": str(root)}, [])) == [
        sound,
        None,
    ]


@pytest.mark.parametrize("damage", [lambda c: c[:-9], lambda c: c[:99] + b"x" + c[100:]])
def test_a_damaged_part_is_removed(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    table = table_of(["a.jpg"])
    examine.write_part(
        str(tmp_path), examine.refused_photograph(table, Data(size=SIZE), "it is gone")
    )
    (part,) = tmp_path.iterdir()
    ((row,),) = examine.read_parts(str(tmp_path)).values()
    assert (row["status"], row["reason"], row["again"]) == ("refused", "it is gone", True)
    part.write_bytes(damage(part.read_bytes()))
    assert examine.read_parts(str(tmp_path)) == {} and not part.exists()


def test_keyed_ids_leave_no_name_of_a_file(tmp_path: Path) -> None:
    name = "mustermann.jpg"
    (tmp_path / name).write_bytes(jpeg(draw_photograph(0, 0, 0, side=96).image))
    masks = [[("MA", "mustermann-ma.png")], []]
    table = table_of([name, "mustermann-2.jpg"], image_id=["k1", "k2"], masks=masks)
    data = Data(source="folder", size=SIZE, id_key="/key")
    rows = examine.examine_photographs(table, data, {"x": str(tmp_path)})
    assert "mustermann" not in str(rows.to_pylist())
    assert rows["reason"].to_pylist() == ["", "cannot be read: No such file or directory"]


def test_what_leads_out_of_the_root_stops_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="leads out"):
        examined(tmp_path, table_of(["../secret.jpg"]))


def test_a_decoder_that_never_returns_ends_its_process(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    program = f"""
import time
import pyarrow as pa
from fundusray.config import Data
from fundusray.data.scan import examine

examine.decode_photograph = lambda content, side: time.sleep(99)
masks = pa.array([[]], pa.map_(pa.string(), pa.string()))
row = {{"image_id": ["a"], "path": ["a.jpg"], "dataset": ["x"], "num_bytes": [1], "masks": masks}}
examine.examine_photographs(pa.table(row), Data(), {{"x": {str(tmp_path)!r}}}, 0.3)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)
    assert ended.returncode == 1 and b"Timeout" in ended.stderr


def test_thumbnails(eyepacs_tree: Callable[..., Path]) -> None:
    root = str(eyepacs_tree())
    manifest = build_manifest(Data(source="eyepacs"), root, 0)
    pictures = examine.thumbnails(manifest.table, {"2_left", "5_right"}, manifest.roots, 40)
    assert {name: pixels.shape for name, pixels in pictures.items()} == {
        "2_left": (30, 40, 3), "5_right": (30, 40, 3),
    }  # fmt: skip
    os.unlink(f"{root}/train/2_left.jpeg")
    with pytest.raises(InputError, match="2_left can no longer be read"):
        examine.thumbnails(manifest.table, {"2_left"}, manifest.roots, 40)


ODD = {
    "natural/13_right.jpeg": ("ok", ["bright", "grey"], ""),
    "natural/0024cdab0c1e.png": ("refused", [], "git-lfs pointer"),
    "natural/original.png": ("ok", ["grey"], ""),
    "made/truncated_60.jpg": ("repaired", [], "truncated: 53.4% of the rows recovered, about 231"),
    "made/truncated_no_eoi.jpg": ("repaired", [], "truncated: end missing, all rows recovered"),
    "made/truncated_header.jpg": ("refused", [], "damaged header"),
    "made/empty.jpg": ("refused", [], "empty file"),
    "made/html.jpg": ("refused", [], "a web page"),
    "made/corrupt_scan.jpg": ("ok", ["torn"], ""),
    "made/cmyk.jpg": ("ok", [], ""),
    "made/gray.jpg": ("ok", ["grey"], ""),
    "made/exif_orientation.jpg": ("ok", [], ""),
    "made/progressive.jpg": ("ok", [], ""),
    "made/yuv444.jpg": ("ok", [], ""),
    "made/gray16.png": ("ok", ["grey"], ""),
    "made/rgba.png": ("ok", [], ""),
    "made/palette.png": ("ok", [], ""),
    "made/jpeg_named.png": ("ok", [], ""),
    "made/black.jpg": ("refused", ["black"], "no retina"),
    "made/tiny_1x1.jpg": ("refused", ["tiny"], "1x1 pixels"),
    "made/wide_2000x50.jpg": ("refused", ["tiny", "no_fundus"], "is no disc"),
}
SIZES = {
    "natural/13_right.jpeg": (2592, 1944),
    "made/truncated_60.jpg": (4288, 2848),
    "made/exif_orientation.jpg": (1072, 712),
    "made/wide_2000x50.jpg": (2000, 50),
}


def test_the_real_odd_files(real_data: Path) -> None:
    folder = real_data / "odd"
    if not folder.is_dir():
        pytest.skip(f"no odd files in {real_data}")
    listed = (folder / "odd.csv").read_text().splitlines()[1:]
    assert [line.split(",")[0] for line in listed] == list(ODD)
    rows = examined(folder, table_of(list(ODD)), size=256)
    for name, (status, flags, reason) in ODD.items():
        assert (rows[name]["status"], rows[name]["flags"]) == (status, flags), name
        assert reason in rows[name]["reason"], name
    for name, size in SIZES.items():
        assert (rows[name]["width"], rows[name]["height"]) == size
    assert rows["made/truncated_60.jpg"]["recovered"] == pytest.approx(0.537, abs=0.006)
    assert rows["made/truncated_no_eoi.jpg"]["recovered"] == 1
