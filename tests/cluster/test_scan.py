"""Scanning on the cluster: end to end, going on, and a file that kills whoever touches it."""

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fundusray import files
from fundusray.cluster import scan as scanning
from fundusray.config import Recipe, override
from fundusray.data.scan.examine import thumbnails
from fundusray.data.scan.findings import Findings
from fundusray.errors import InputError, LockedError
from fundusray.lock import locked
from fundusray.reports import scan_summary as scan_report

pytestmark = pytest.mark.ray


@pytest.fixture
def recipe(eyepacs_tree: Callable[..., Path]) -> Recipe:
    """Twenty photographs, one of them cut off and one garbage."""
    root = eyepacs_tree(num_patients=10)
    cut, garbage = root / "train" / "2_left.jpeg", root / "train" / "5_right.jpeg"
    cut.write_bytes(cut.read_bytes()[:-400])
    garbage.write_bytes(b"no picture" * 100)
    changes = {"data.source": "eyepacs", "data.root": str(root), "data.size": 32}
    return override(Recipe(), changes)


def statuses(findings: Findings) -> dict[str, str]:
    table = findings.table
    return dict(zip(table["image_id"].to_pylist(), table["status"].to_pylist(), strict=True))


def parts(folder: str) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in Path(folder, "parts").iterdir()}


def test_from_photographs_to_findings(
    cluster: None, recipe: Recipe, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    folder, manifest, findings = scanning.scan_set(recipe, str(tmp_path))
    assert folder.startswith(f"{tmp_path}/eyepacs-scan-") and manifest.table.num_rows == 20
    expected = dict.fromkeys(manifest.table["image_id"].to_pylist(), "ok")
    assert statuses(findings) == expected | {"2_left": "repaired", "5_right": "refused"}
    assert files.read_table(f"{folder}/scan.parquet").equals(findings.table)
    assert files.read_table(f"{folder}/duplicates.parquet").equals(findings.pairs)
    assert "scanning: 20/20; 1 refused" in capfd.readouterr().err
    assert len(parts(folder)) == 5 and not Path(folder, "lock").exists()
    names = {name for row in scan_report.contact_sheet_rows(findings.facts) for name, _ in row}
    pictures = thumbnails(manifest.table, names, manifest.roots, 64)
    assert "2_left" in names and "5_right" not in names
    places = scan_report.write_scan(folder, findings.facts, pictures)
    assert "train/5_right.jpeg: not a JPEG" in Path(places["summary"]).read_text()


def test_nothing_is_examined_twice(
    cluster: None, recipe: Recipe, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    folder, _, first = scanning.scan_set(recipe, str(tmp_path))
    before = parts(folder)
    capfd.readouterr()
    _, _, again = scanning.scan_set(recipe, str(tmp_path))
    assert parts(folder) == before and "scanning" not in capfd.readouterr().err
    assert again.table.equals(first.table) and again.facts == first.facts
    # What has changed its size, and what a damaged part held, is; nothing else.
    Path(recipe.data.root, "train", "5_right.jpeg").write_bytes(b"")
    damaged = Path(folder, "parts", sorted(before)[0])
    damaged.write_bytes(damaged.read_bytes()[:-1])
    _, _, changed = scanning.scan_set(recipe, str(tmp_path))
    assert "scanning: 5/5" in capfd.readouterr().err
    assert changed.facts["refused"][0]["reason"] == "empty file, 0 bytes"
    assert statuses(changed) == statuses(first)


def test_what_could_not_be_read_is_tried_again(
    cluster: None, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(recipe.data.root, "train", "4_left.jpeg")
    content = path.read_bytes()
    real = scanning.manifests.build_manifest

    def build_then_lose(*args: Any, **keywords: Any) -> Any:
        manifest = real(*args, **keywords)
        path.unlink()
        return manifest

    monkeypatch.setattr(scanning.manifests, "build_manifest", build_then_lose)
    _, _, first = scanning.scan_set(recipe, str(tmp_path))
    assert statuses(first)["4_left"] == "refused"
    monkeypatch.setattr(scanning.manifests, "build_manifest", real)
    path.write_bytes(content)
    assert statuses(scanning.scan_set(recipe, str(tmp_path))[2])["4_left"] == "ok"


def slow_file(photograph: bytes) -> bytes:
    """The same picture large, its last scan as often as is read: a decoder needs seconds."""
    sink = io.BytesIO()
    large = Image.open(io.BytesIO(photograph)).resize((3300, 3000))
    large.save(sink, "JPEG", quality=90, progressive=True)
    content = sink.getvalue()
    start = content.rindex(b"\xff\xda")
    return content[:start] + content[start:-2] * 90 + content[-2:]


def test_a_file_that_ends_its_worker_is_named_and_the_rest_is_scanned(
    cluster: None, recipe: Recipe, tmp_path: Path
) -> None:
    slow = Path(recipe.data.root, "train", "3_right.jpeg")
    whole = slow.read_bytes()
    slow.write_bytes(slow_file(whole))
    _, _, findings = scanning.scan_set(recipe, str(tmp_path), limit=0.5)
    found = statuses(findings)
    refused = {name for name, status in found.items() if status == "refused"}
    assert refused == {"3_right", "5_right"} and len(found) == 20
    reasons = {row["image_id"]: row["reason"] for row in findings.facts["refused"]}
    assert "the decoder died on it, or was not done in 0.5 s" in reasons["3_right"]
    slow.write_bytes(whole)
    assert statuses(scanning.scan_set(recipe, str(tmp_path))[2])["3_right"] == "ok"


def test_a_worker_s_own_error_arrives_as_it_was(
    cluster: None, recipe: Recipe, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="did you mean 'graham'"):
        scanning.scan_set(override(recipe, {"data.preprocess": "grahm"}), str(tmp_path))
    with pytest.raises(InputError, match="needs a number"):
        scanning.scan_set(override(recipe, {"data.preprocess_args.clip": "9"}), str(tmp_path))
    with pytest.raises(InputError, match="no such folder"):
        scanning.scan_set(override(recipe, {"data.root": f"{tmp_path}/none"}), str(tmp_path))


def test_one_at_a_time(cluster: None, recipe: Recipe, tmp_path: Path) -> None:
    folder = scanning.scan_folder(recipe, recipe.data.root, str(tmp_path))
    with locked(folder), pytest.raises(LockedError, match="in use by process"):
        scanning.scan_set(recipe, str(tmp_path))


def test_the_folder_names_what_decides_the_findings(recipe: Recipe) -> None:
    def folder(**changes: Any) -> str:
        return scanning.scan_folder(override(recipe, changes), recipe.data.root, "/s")

    same = folder()
    assert folder(**{"data.max_bad": 0.3, "train.epochs": 7}) == same
    others = {"data.target": "sex"}, {"data.size": 64}, {"data.preprocess": "resize"}
    assert len({same, *(folder(**other) for other in others)}) == 4


def test_nothing_of_the_patient_is_carried_along(
    cluster: None, recipe: Recipe, tmp_path: Path
) -> None:
    marker, path = b"MRS-SECRET-1950", Path(recipe.data.root, "train", "2_right.jpeg")
    exif = Image.Exif()
    exif[0x010E] = marker.decode()
    Image.open(path).save(path, exif=exif, comment=marker)
    key = tmp_path / "key"
    key.write_bytes(bytes(range(40)))
    keyed = override(recipe, {"data.id_key": str(key), "data.target": "grade"})
    began = time.time()
    for one, hidden in ((recipe, (marker,)), (keyed, (marker, b"5_right", b"2_left", b"jpeg"))):
        folder, manifest, findings = scanning.scan_set(one, str(tmp_path / "out"))
        names = {name for row in scan_report.contact_sheet_rows(findings.facts) for name, _ in row}
        pictures = thumbnails(manifest.table, names, manifest.roots, 64)
        scan_report.write_scan(folder, findings.facts, pictures)
        written = [p for p in Path(folder).rglob("*") if p.is_file()]
        assert len(written) >= 6 and all(p.stat().st_mtime >= began - 5 for p in written)
        for path in written:
            content = path.read_bytes()
            if path.suffix == ".parquet":
                content += str(files.read_table(str(path)).to_pylist()).encode()
            assert not any(word in content for word in hidden), path
