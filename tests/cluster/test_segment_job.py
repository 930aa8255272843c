"""Photographs segmented over the cluster: what is written, refused, and not repeated."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fundusray.cluster.segment import opened_network
from fundusray.config import Data, Model, Recipe, override
from fundusray.data.prepared.class_map_files import read_class_map
from fundusray.errors import InputError
from fundusray.jobs.segmenting import asked_plan, photograph_places
from fundusray.models.bundle import load_bundle, save_bundle
from fundusray.models.load_weights import weights_digest
from fundusray.models.segmenters import build_network
from fundusray.segmenter import Segmenter
from tests.conftest import draw_fundus, jpeg

CLASSES = ("background", "vessels")


@pytest.fixture
def bundle(tmp_path: Path) -> str:
    """A network of pixels that learned nothing."""
    recipe = Segmenter(CLASSES, size=32).recipe
    state = build_network(recipe.model, len(CLASSES), 0).state_dict()
    place = str(tmp_path / "run" / "bundle")
    save_bundle(place, state, recipe, CLASSES, {})
    return place


@pytest.fixture
def eyes(tmp_path: Path) -> Path:
    """Two photographs, one of them twice, and a file that is none."""
    folder = tmp_path / "eyes"
    folder.mkdir()
    for number, name in enumerate(("a.jpg", "b.jpg")):
        (folder / name).write_bytes(jpeg(draw_fundus(96, 128, seed=number)))
    (folder / "c.jpg").write_bytes((folder / "a.jpg").read_bytes())
    (folder / "d.jpg").write_bytes(b"no photograph")
    (folder / "notes.txt").write_text("no photograph by its name")
    return folder


def lines_of(place: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(Path(place).read_text())))


@pytest.mark.ray
def test_the_job(run: Callable, bundle: str, eyes: Path, storage: str) -> None:
    asked = (bundle, str(eyes), f"run.storage={storage}", "segment.overlap=0.5", "cluster.cpus=1")
    code, result, text = run("segment.py", *asked)
    assert code == 0, text
    assert result["n"] == 3 and result["refused"] == 1
    assert "refused: d.jpg" in text
    lines = lines_of(result["areas"])
    assert [line["image"] for line in lines] == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert [line["status"] for line in lines] == ["segmented"] * 3 + ["refused"]
    # The same bytes are one unit, whatever they are called.
    assert lines[0]["class_map"] == lines[2]["class_map"] != lines[1]["class_map"]
    for line in lines[:3]:
        classes = read_class_map(str(Path(result["folder"], line["class_map"])))
        assert classes.shape == (96, 128)
        assert (classes == 1).sum() == int(line["pixels_vessels"])
        whole = int(line["pixels_background"]) + int(line["pixels_vessels"])
        assert whole == int(line["fundus_pixels"])
        assert Path(result["folder"], line["sheet"]).read_bytes().startswith(b"\x89PNG")
    assert "d.jpg" in Path(result["report"]).read_text()

    made = {path: path.stat().st_mtime_ns for path in Path(result["folder"]).rglob("*.png")}
    gone = Path(result["folder"], lines[1]["class_map"])
    gone.unlink()
    code, again, text = run("segment.py", *asked)
    assert code == 0 and again["areas"] == result["areas"], text
    assert lines_of(again["areas"]) == lines
    anew = {path for path, when in made.items() if path.stat().st_mtime_ns != when}
    assert anew == {gone, Path(result["folder"], lines[1]["sheet"])}

    code, _, text = run("segment.py", bundle, str(eyes / "d.jpg"), f"run.storage={storage}")
    assert code == 5 and "none of 1 photographs" in text and "d.jpg" in text


@pytest.mark.ray
def test_a_network_of_labels_is_refused(run: Callable, eyes: Path, tmp_path: Path) -> None:
    recipe = Recipe(data=Data(size=32), model=Model(name="timm/test_resnet"))
    state = build_network(recipe.model, 5, 0).state_dict()
    place = str(tmp_path / "grades" / "bundle")
    save_bundle(place, state, recipe, tuple("01234"), {})
    code, _, text = run("segment.py", place, str(eyes))
    assert code == 2 and "gives one label of a photograph (grade)" in text
    with pytest.raises(InputError, match="one label of a photograph"):
        Segmenter.load(place)


def test_photographs_are_files_or_all_of_a_folder_each_once(eyes: Path) -> None:
    folder = str(eyes)
    every = [(folder, name) for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg")]
    assert photograph_places([folder]) == every
    assert photograph_places([f"{folder}/b.jpg", folder]) == [every[1], every[0], *every[2:]]
    (eyes / "below").mkdir()
    (eyes / "below" / "e.jpg").write_bytes(b"")
    assert photograph_places([folder]) == every
    (eyes / "empty").mkdir()
    with pytest.raises(InputError, match=r"no photograph in this folder$"):
        photograph_places([str(eyes / "empty")])
    with pytest.raises(InputError, match=r"it holds folders \(.*'eyes'"):
        photograph_places([str(eyes.parent)])
    with pytest.raises(InputError, match="no such file or folder"):
        photograph_places([f"{folder}/z.jpg"])


def test_tiles_that_are_asked_for_are_not_cut_once_more(tmp_path: Path) -> None:
    """A network that was judged by tiles of 32 takes one of 64 whole."""
    recipe = override(Segmenter(CLASSES, size=64).recipe, {"segmentation.tile": 32})
    model = build_network(recipe.model, len(CLASSES), 0)
    place = str(tmp_path / "bundle")
    save_bundle(place, model.state_dict(), recipe, CLASSES, {})
    network = opened_network(place, weights_digest(place), False)
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(network.predict(image), model.eval()(image))
        by_tiles = load_bundle(place).model(image).softmax(1)
        assert not torch.allclose(network.predict(image).softmax(1), by_tiles, atol=1e-4)


def test_tiles_are_those_the_network_was_judged_by_unless_others_are_given() -> None:
    recipe = Segmenter(CLASSES, size=96).recipe
    assert asked_plan({}, recipe).tiles.side == 96
    given = {"segment.tile": "64", "segment.overlap": "0.5", "segment.scale": "photograph"}
    plan = asked_plan(given, recipe)
    assert (plan.tiles.side, plan.tiles.overlap, plan.scale) == (64, 0.5, "photograph")
    for key, value in {"tile": "many", "overlap": "half", "scale": "eye"}.items():
        with pytest.raises(InputError):
            asked_plan({f"segment.{key}": value}, recipe)
