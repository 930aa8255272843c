"""What a scan concludes: duplicates, conflicts, leaks, and the share that cannot be used."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from fundusray.config import Data
from fundusray.data.drawn.source import draw_photograph
from fundusray.data.manifest.build import Manifest, build_manifest
from fundusray.data.prepared.prepared_set import assemble_set, set_folder, write_shard
from fundusray.data.scan.examine import FLAGS, IDENTITY_COLUMNS, examine_photographs
from fundusray.data.scan.findings import Findings, conclude_scan
from fundusray.errors import BadInputsError
from tests.conftest import jpeg

SIZE = 48


def findings_of(root: Path, changes: dict[str, list] | None = None, **settings: Any) -> Findings:
    """The findings of a tree, some of its manifest's columns replaced."""
    data = Data(**({"source": "eyepacs", "root": str(root), "size": SIZE} | settings))
    manifest = build_manifest(data, str(root), 0, labelled=False)
    for name, values in (changes or {}).items():
        field = manifest.table.schema.field(name)
        place = manifest.table.schema.get_field_index(name)
        table = manifest.table.set_column(place, field, pa.array(values, field.type))
        manifest = replace(manifest, table=table)
    return conclude_scan(manifest, examined(manifest, data), data)


def examined(manifest: Manifest, data: Data) -> dict[tuple[Any, ...], dict[str, Any]]:
    rows = examine_photographs(manifest.table, data, manifest.roots).to_pylist()
    return {tuple(row[key] for key in IDENTITY_COLUMNS): row for row in rows}


def smaller(content: bytes) -> bytes:
    """The same photograph, smaller and encoded anew."""
    image = Image.open(io.BytesIO(content))
    return jpeg(np.asarray(image.resize((150, 150))), quality=60)


@pytest.fixture
def tree(eyepacs_tree: Callable[..., Path]) -> Path:
    """Both eyes of six patients (grades 0 0 1 2 3 4 in turn); 3_left is the file of 1_left,
    4_right is 2_right (grade 2, as it should be) smaller; 6_left is cut, 6_right no photograph."""
    root = eyepacs_tree(6)
    files = root / "train"
    for index, path in enumerate(sorted(files.iterdir())):
        path.write_bytes(jpeg(draw_photograph(5, index, index % 3, side=192).image))
    (files / "3_left.jpeg").write_bytes((files / "1_left.jpeg").read_bytes())
    (files / "4_right.jpeg").write_bytes(smaller((files / "2_right.jpeg").read_bytes()))
    (files / "5_left.jpeg").write_bytes((files / "5_left.jpeg").read_bytes()[:-2])
    (files / "6_right.jpeg").write_bytes(b"no photograph")
    labels = (root / "trainLabels.csv").read_text().replace("4_right,0", "4_right,2")
    (root / "trainLabels.csv").write_text(labels)
    return root


def test_duplicates_and_conflicts(tree: Path) -> None:
    found = findings_of(tree)
    rows = {row["image_id"]: row for row in found.table.to_pylist()}
    twins = {name: row["twin"] for name, row in rows.items() if row["twin"]}
    assert twins == {
        "1_left": "1_left", "3_left": "1_left", "2_right": "2_right", "4_right": "2_right",
    }  # fmt: skip
    conflicts = {name: row["conflict"] for name, row in rows.items() if row["conflict"]}
    assert conflicts == {"1_left": "grade", "3_left": "grade"}
    assert all(rows[name]["twin_patients"] for name in twins)
    pairs = {(pair["first"], pair["second"]): pair for pair in found.pairs.to_pylist()}
    assert set(pairs) == {("1_left", "3_left"), ("2_right", "4_right")}
    same, near = pairs["1_left", "3_left"], pairs["2_right", "4_right"]
    assert (same["how"], same["similarity"], same["conflict"]) == ("same bytes", 1.0, "grade")
    assert (same["first_label"], same["second_label"]) == ("none", "severe")
    assert (near["first_patient"], near["second_patient"]) == ("2", "4") and not near["conflict"]
    assert 0.6 < near["similarity"] < 1
    groups = found.facts["duplicates"]
    assert [group["images"] for group in groups] == [["1_left", "3_left"], ["2_right", "4_right"]]
    assert [group["identical"] for group in groups] == [True, False]


def test_facts(tree: Path) -> None:
    (tree / "train" / "5_right.jpeg").unlink()
    facts = findings_of(tree).facts
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["photographs"], facts["patients"], facts["many"]) == (11, 6, {})
    assert facts["status"] == {"ok": 9, "repaired": 1, "refused": 1}
    (refused,), (repaired,) = facts["refused"], facts["repaired"]
    assert refused["where"] == "train/6_right.jpeg" and "not a JPEG" in refused["reason"]
    assert repaired["image_id"] == "5_left" and repaired["recovered"] == 1
    assert [row["image_id"] for row in facts["missing"]] == ["5_right"]
    assert facts["labels"]["none"] == 3 and sum(facts["labels"].values()) == 11
    assert facts["eyes"] == {"left": 6, "right": 5} and facts["unlabelled"] == 0
    assert facts["sizes"] == {"192x192": 9, "150x150": 1}
    assert set(facts["flags"]) == set(FLAGS)
    assert facts["bad_share"] == pytest.approx(2 / 12) and facts["enough"] == 0.167
    assert facts["examples"]["none"][0] == "1_left"
    assert "6_right" not in str(facts["examples"])


def test_the_share_that_is_said_to_be_enough_is(tree: Path, tmp_path: Path) -> None:
    (tree / "train" / "5_right.jpeg").unlink()
    enough = findings_of(tree).facts["enough"]

    def prepare(max_bad: float) -> None:
        data = Data(source="eyepacs", root=str(tree), size=SIZE, max_bad=max_bad)
        manifest = build_manifest(data, str(tree), 0)
        folder = set_folder(str(tmp_path), data, manifest)
        unit = write_shard(folder, 0, manifest.table, data, manifest.roots)
        assemble_set(folder, data, manifest, [unit])

    prepare(enough)
    with pytest.raises(BadInputsError, match=f"data.max_bad={enough:g}"):
        prepare(enough - 0.01)


def test_leaks_across_the_published_split(tree: Path) -> None:
    # 12 eyes: patients 1 to 4 in train but for 4_right, the rest test.
    splits = ["train"] * 7 + ["test"] * 5
    leaks = findings_of(tree, {"split": splits}).facts["leaks"]
    assert leaks["patients"] == ["4"] and leaks["twins"] == ["2_right"]
    assert leaks["judged"] == {"test": [1, 5]}
    sound = findings_of(tree, {"split": ["train"] * 8 + ["test"] * 4}).facts
    assert not sound["leaks"]["patients"] and not sound["leaks"]["twins"]
    assert sound["splits"] == {"train": 8, "test": 4}


def test_other_labels_conflict_too_and_unknown_ones_do_not(tree: Path) -> None:
    sexes = ["female"] * 4 + ["male"] * 8
    edema = [0] * 4 + [2] + [-1] * 7
    found = findings_of(tree, {"sex": sexes, "edema": edema})
    conflicts = {row["image_id"]: row["conflict"] for row in found.table.to_pylist()}
    assert conflicts["1_left"] == "grade,edema,sex" and conflicts["4_right"] == "sex"


def test_many_photographs_of_a_patient(tree: Path) -> None:
    facts = findings_of(tree, {"patient_id": ["a"] * 5 + ["b"] * 3 + ["c", "c", "d", "e"]}).facts
    assert facts["many"] == {"a": 5, "b": 3} and facts["patients"] == 5


def test_patients_that_are_not_known_are_nobodys(tree: Path) -> None:
    found = findings_of(tree, {"patient_id": [""] * 10 + ["d", "e"]})
    assert found.facts["patients"] == 2 and found.facts["unknown_patients"] == 10
    assert not found.facts["leaks"]["patients"] and not found.facts["many"]
    # 3_left is the file of 1_left, whoever they are.
    assert found.facts["duplicates"] and not any(found.table["twin_patients"].to_pylist())


def test_without_labels(tree: Path) -> None:
    facts = findings_of(tree, target="edema").facts
    assert facts["unlabelled"] == 12 and facts["labels"] == {} and facts["enough"] == 0


def test_masks_that_are_learned(tree: Path) -> None:
    """The background is no label, and a photograph without masks none that was looked at."""
    one, two = [("optic_disc", "a.png")], [("optic_disc", "a.png"), ("haemorrhages", "b.png")]
    target = [0] * 3 + [-1] * 9
    changes = {"masks": [one, two, two, *[[]] * 9], "target": target}
    facts = findings_of(tree, changes, target="lesions").facts
    assert facts["labels"] == {"masks": 3} and facts["unlabelled"] == 9
    kinds = {name: num for name, num in facts["kinds"].items() if num}
    assert kinds == {"optic_disc": 3, "haemorrhages": 2} and len(facts["kinds"]) == 5
    assert set(facts["examples"]) == {"masks", ""}
    assert findings_of(tree).facts["kinds"] == {}


def test_nothing_usable(tree: Path) -> None:
    for path in (tree / "train").iterdir():
        path.write_bytes(b"")
    found = findings_of(tree)
    assert found.pairs.num_rows == 0 and found.facts["status"]["refused"] == 12
    assert found.facts["bad_share"] == 1


def test_keyed_ids_leave_no_name(tree: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(bytes(range(32)))
    (tree / "train" / "5_right.jpeg").unlink()
    found = findings_of(tree, id_key=str(key))
    told = str(found.facts) + str(found.table.to_pylist()) + str(found.pairs.to_pylist())
    assert "jpeg" not in told and "6_right" not in told and "1_left" not in told
    assert found.facts["status"]["refused"] == 1 and len(found.facts["missing"]) == 1


def test_a_photograph_graded_twice_is_found_in_idrid(real_data: Path) -> None:
    root = real_data / "IDRiD"
    if not root.is_dir():
        pytest.skip(f"no IDRiD in {real_data}")
    data = Data(source="idrid", root=str(root), size=256)
    manifest = build_manifest(data, str(root), 0, labelled=False)
    ids = manifest.table["image_id"].to_pylist()
    wanted = ("IDRiD_028", "IDRiD_327")
    rows = [i for i, name in enumerate(ids) if name in wanted or i % 9 == 0]
    part = replace(manifest, table=manifest.table.take(rows))
    found = conclude_scan(part, examined(part, data), data)
    (pair,) = found.pairs.to_pylist()
    assert (pair["first"], pair["second"]) == wanted
    assert (pair["first_label"], pair["second_label"]) == ("proliferative", "severe")
    assert "grade" in pair["conflict"]
    assert found.facts["status"]["ok"] == len(rows) and not any(found.facts["flags"].values())
