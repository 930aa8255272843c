"""The jobs run, end to end, on drawn photographs: the last line says where everything is."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fundusray import config, recipes
from fundusray.config import override
from fundusray.data.drawn.source import draw_photograph
from fundusray.data.prepared.prepared_set import open_set
from fundusray.models.load_weights import bundle_folder
from fundusray.runs.split_of_run import split_of
from fundusray.verified import read_verified

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parent.parent.parent


def test_train_smoke_then_evaluate(run, tmp_path: Path) -> None:
    named = "wu.table5.class_balanced_beta0_999"
    papers = ("train.epochs=2", "train.report=selected", "data.size=32", "train.precision=fp32",
              "model.name=timm/test_resnet")  # fmt: skip
    code, trained, text = run("train.py", named, "smoke=true", *papers)
    assert code == 0, text
    assert trained["folder"].startswith(str(tmp_path / "runs"))
    recipe = config.from_json((Path(trained["folder"]) / "recipe.json").read_text())
    assert (recipe.name, recipe.loss.name, recipe.loss.args["beta"]) == (
        named,
        "class_balanced",
        0.999,
    )
    page = Path(trained["report"]).read_text()
    # Two shares only, and the paper's way: the figures are of the rows that chose the epoch.
    assert "optimistic" in page and "<script" not in page
    # By image, as the paper splits: drawn patients have two eyes, so the page must say it.
    assert "LEAK ALLOWED (data.allow_leak=true)" in page
    metrics = json.loads(Path(trained["metrics"]).read_text())
    assert metrics["leak"].startswith("LEAK ALLOWED")
    read_verified(trained["bundle"])
    # Nothing goes on from a finished run: what it would take a lot of room for is gone.
    assert not (Path(trained["folder"]) / "checkpoints").exists()
    text = trained["folder"], trained["bundle"], f"{trained['bundle']}/model.safetensors"
    assert [bundle_folder(place) for place in text] == [trained["bundle"]] * 3

    code, judged, text = run("evaluate.py", trained["bundle"])
    assert code == 0, text
    ours, theirs = pq.read_table(judged["predictions"]), pq.read_table(trained["predictions"])
    assert ours["image_id"] == theirs["image_id"]
    metrics = json.loads(Path(judged["metrics"]).read_text())
    assert metrics["n"] == len(ours) and 0 <= metrics["majority_accuracy"] <= 1

    attack = "condition=pgd(eps=4/255, steps=2)"
    code, attacked, text = run("evaluate.py", trained["bundle"], attack)
    assert code == 0, text
    assert attacked["condition"] == "pgd(eps=4/255, steps=2)" and "measured under pgd(" in text
    assert attacked["folder"] != judged["folder"] and 0 < attacked["linf"] <= 4 / 255 + 1e-6
    rows = pq.read_table(attacked["predictions"])
    assert sum(rows["success"].to_pylist()) == attacked["successes"] <= attacked["right"]
    assert attacked["condition"] in Path(attacked["report"]).read_text()

    # Another seed draws other photographs: no split, no row that was learned from.
    code, other, text = run("evaluate.py", trained["bundle"], "seed=7", "data.num_images=20")
    assert code == 0 and "(all rows)" in text, text
    assert other["folder"] != judged["folder"] and other["prepared"] != judged["prepared"]
    page = Path(other["report"]).read_text()
    assert "Measured on all rows." in page


def test_prepare_says_where_and_what_colours(run) -> None:
    drawn = ("demo", "data.num_images=24", "data.size=32", "data.encoding=raw")
    code, result, _ = run("prepare.py", *drawn)
    assert code == 0
    assert (Path(result["prepared"]) / "set.json").exists()
    code, found, text = run("colour_statistics.py", *drawn)
    assert code == 0 and found["prepared"] == result["prepared"]
    opened = open_set(found["prepared"])
    table = pq.read_table(Path(found["prepared"], "manifest.parquet"))
    recipe = override(recipes.find_recipe("demo"), {"data.num_images": 24})
    rows = split_of(opened, recipe).rows["train"]
    pixels = opened.pixels(rows) / 255
    assert found["images"] == len(rows) < len(table)
    np.testing.assert_allclose(found["mean"], pixels.mean(axis=(0, 1, 2)), atol=1e-9)
    np.testing.assert_allclose(found["std"], pixels.std(axis=(0, 1, 2)), atol=1e-9)
    shown = ",".join(f"{value:.4f}" for value in found["mean"])
    assert f"model.mean={shown}" in text
    assert override(recipe, {"model.mean": shown}).model.mean[0] == round(found["mean"][0], 4)


def test_the_sheet_shows_every_preprocessing(run, eyepacs_tree) -> None:
    root = eyepacs_tree()
    (root / "train" / "1_left.jpeg").write_bytes(b"")
    source = ("data.source=eyepacs", f"data.root={root}", "data.size=32", "photos=3")
    code, result, text = run("sheet.py", *source)
    assert code == 0 and "left out: 1_left (empty file" in text
    # Two photographs that can be read; as taken, graham twice and the four others.
    sheet = Image.open(result["sheet"])
    assert sheet.width > 7 * 100 and sheet.height > 2 * 100
    # Of each photograph and kind a row: as it is, and at four levels.
    code, result, text = run("sheet.py", *source, "corruptions=motion_blur,noise")
    assert code == 0, text
    damaged = Image.open(result["sheet"])
    assert damaged.width > 5 * 100 and damaged.height > 4 * 100
    code, _, text = run("sheet.py", *source, "corruptions=motion_blurr")
    assert code == 2 and "did you mean 'motion_blur'" in text
    code, _, text = run("sheet.py", *source[:3], "photos=none")
    assert code == 2 and "photos: a number from 1 to 50" in text


def test_wrong_tables_end_with_two_and_write_nothing(run, eyepacs_tree, tmp_path: Path) -> None:
    root = Path(eyepacs_tree())
    labels = root / "trainLabels.csv"
    good = labels.read_text()
    rows = good.splitlines()
    out = tmp_path / "out"
    source = ("data.source=eyepacs", f"data.root={root}", f"run.storage={out}", "data.size=32")
    source += ("data.fractions=0.5,0.25,0.25",)
    for bad, told in (
        (good + "99_left,7\n", "expected 0, 1, 2, 3 or 4"),
        (good + rows[1] + "\n", "trainLabels.csv:"),
        (good + "../../etc/passwd,1\n", "passwd"),
        (good + "99_left,1\n", "99_left"),
        (rows[0] + "\n", "trainLabels.csv"),
    ):
        labels.write_text(bad)
        code, result, text = run("tune_balancing.py", *source)
        assert (code, result["code"]) == (2, 2), text
        assert told in text and "Traceback" not in text
        assert not out.exists()
    labels.write_text("\ufeff" + good.replace("\n", "\r\n"))
    code, result, text = run("tune_balancing.py", *source, "train.batch=4096")
    assert code == 2 and "train.batch=4096" in text
    code, result, text = run("prepare.py", *source)
    assert code == 0, text


@pytest.mark.slow
def test_leak_premium(run, tmp_path: Path) -> None:
    command = ("leak_premium.py", "demo", "smoke=true", "repeats=1", "data.num_images=60")
    command += ("data.fractions=0.5,0.2,0.3",)
    code, result, text = run(*command)
    assert code == 0, text
    found = json.loads(Path(result["folder"], "premium.json").read_text())
    known = {row["arm"]: (row["known"], row["tested"]) for row in found["runs"]}
    assert known["patient"][0] == 0 and known["image"][0] == found["runs"][1]["swapped"] > 0
    assert known["patient"][1] == known["image"][1]
    assert "| accuracy |" in Path(result["report"]).read_text()
    # Nothing is trained again by the same command.
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}
    assert len(before) == 2 and run(*command)[0] == 0
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}
    code, _, text = run("leak_premium.py", "demo", "repeats=0")
    assert code == 2 and "repeats: a number from 1 to 100" in text


@pytest.mark.slow
def test_classes_without_an_order_have_no_ordinal_figures(run, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    for place, name in enumerate(("amd", "cataract", "dr")):
        (root / name).mkdir(parents=True)
        for index in range(place, 36, 3):
            photo = Image.fromarray(draw_photograph(3, 2 * index, index % 5, 96).image)
            photo.save(root / name / f"{index}.png")
    source = ("demo", "smoke=true", "data.source=folder", f"data.root={root}")
    code, result, text = run("train.py", *source, "data.fractions=0.5,0.25,0.25")
    assert code == 0, text
    assert "The order of the classes amd, cataract, dr is not known" in text
    assert "train.select=kappa needs classes in their order" in text
    assert text.count("not given, as the order of the classes is not known") == 2
    figures = json.loads(Path(result["metrics"]).read_text())
    assert figures["kappa"] is figures["auc_referable"] is figures["sensitivity"] is None
    assert figures["selected_by"] == "balanced_accuracy" and figures["balanced_accuracy"] >= 0
    page = Path(result["report"]).read_text()
    assert "No kappa is given: the order of the classes is not known." in page
    code, _, text = run("train.py", *source, "model.output=coral", "loss.name=coral")
    assert code == 2 and "model.output=coral needs classes in their order" in text
