"""Several sets as one: ids that cannot be mixed up, labels that must agree."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fundusray.config import Data
from fundusray.data.manifest.build import build_manifest
from fundusray.data.manifest.contract import RowProblem, SourceContent
from fundusray.data.manifest.joining import join_sources, locate_sources
from fundusray.errors import InputError
from tests.conftest import draw_fundus


def found(ids: list[str], **columns: list) -> SourceContent:
    return SourceContent({"image_id": ids} | columns, [], {"grade": ("none", "mild")})


def test_roots_go_with_sources_in_their_order() -> None:
    data = Data(source="eyepacs, aptos,eyepacs")
    assert locate_sources(data, "/a, /b,/c") == {
        "eyepacs": ("eyepacs", "/a"),
        "aptos": ("aptos", "/b"),
        "eyepacs-2": ("eyepacs", "/c"),
    }
    assert locate_sources(Data(source="eyepacs"), "/a,b") == {"eyepacs": ("eyepacs", "/a,b")}
    with pytest.raises(InputError, match=r"names 2 sources .* data\.root 1 places"):
        locate_sources(Data(source="eyepacs,aptos"), "/a")


def test_one_source_keeps_its_ids() -> None:
    joined = join_sources({"x": found(["1", "2"], grade=[0, 1])})
    assert joined.columns == {"image_id": ["1", "2"], "grade": [0, 1], "dataset": ["x", "x"]}


def test_equal_ids_of_two_sets_are_two() -> None:
    problem = RowProblem("labels.csv:3", "9", "no image", False)
    second = found(["1"], sex=["male"])._replace(problems=[problem], labels={"sex": ("f", "m")})
    joined = join_sources({"a": found(["1"], grade=[1], patient_id=["p"]), "b": second})
    assert joined.columns["image_id"] == ["a-1", "b-1"]
    assert joined.columns["patient_id"] == ["a-p", ""]
    assert joined.columns["grade"] == [1, -1] and joined.columns["sex"] == ["", "male"]
    assert joined.labels == {"grade": ("none", "mild"), "sex": ("f", "m")}
    assert joined.problems == [RowProblem("b: labels.csv:3", "b-9", "no image", False)]


def test_labels_of_other_classes_are_refused() -> None:
    other = found(["1"], grade=[0])._replace(labels={"grade": ("well", "ill")})
    with pytest.raises(InputError, match=r"label 'grade' has the classes \['well', 'ill'\] in b"):
        join_sources({"a": found(["1"], grade=[0]), "b": other})


def folder_tree(root: Path) -> str:
    for name, stem in (("none", "1_left"), ("mild", "1_right"), ("mild", "2_left")):
        (root / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_fundus()).save(root / name / f"{stem}.png")
    return str(root)


def test_a_joined_manifest_is_read_from_both_roots(tmp_path: Path) -> None:
    roots = [folder_tree(tmp_path / name) for name in ("a", "b")]
    manifest = build_manifest(Data(source="folder,folder"), ",".join(roots), 0)
    assert manifest.roots == {"folder": roots[0], "folder-2": roots[1]}
    table = manifest.table
    assert table.num_rows == 6 and len(set(table["image_id"].to_pylist())) == 6
    assert len(set(table["patient_id"].to_pylist())) == 4
    for dataset, path in zip(*(table[n].to_pylist() for n in ("dataset", "path")), strict=True):
        assert Path(manifest.roots[dataset], path).is_file()
    alone = build_manifest(Data(source="folder"), roots[0], 0)
    assert np.array_equal(table["target"].to_numpy()[:3], alone.table["target"].to_numpy())
