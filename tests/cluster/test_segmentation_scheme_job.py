"""The four-model scheme end to end on drawn photographs, tiny; its first model on damaged ones."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray

SMALL = ("data.source=synthetic", "data.num_images=24", "data.size=32", "model.name=unet",
         "model.weights=", "data.fractions=0.5,0.2,0.3", "train.epochs=1", "train.batch=4",
         "train.precision=fp32", "train.layout=contiguous", "cluster.cpus=1", "cluster.workers=1",
         "repeats=1", "steps=1", "sea.steps=1", "search=greedy")  # fmt: skip


@pytest.mark.slow
def test_four_models_are_trained_attacked_and_told_apart(run: Callable) -> None:
    code, result, text = run("segmentation_scheme.py", *SMALL)
    assert code == 0, text
    models = ["original", "layered", "selective", "combined"]
    assert sorted(result["bundles"]) == sorted(f"{model}-1" for model in models)
    for key, published in (("table1", "0.8748"), ("table2", "0.8087")):
        with open(result[key], newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["model"] for row in rows] == models
        assert rows[0]["paper_pixel_accuracy"] == published
        wanted = ["n", "loss", "pixel_accuracy", "miou", "dice_haemorrhages", "aupr_optic_disc"]
        assert all(name in rows[0] for name in wanted)
        assert all(f"{name}_low" in rows[0] for name in wanted[1:])
        assert int(rows[0]["n"]) == result["n"] > 0
    page = Path(result["report"]).read_text()
    for words in ("everything background", "0.675", "Validation loss", "worst by image", "paper"):
        assert words in page
    with open(result["verdicts"], newline="") as file:
        verdicts = list(csv.DictReader(file))
    assert {row["condition"] for row in verdicts} == {
        "photographs as they are",
        "background_pgd(eps=1/100, steps=1)",
        "sea(eps=1/100, steps=1), worst by image",
        "sea(eps=1/100, steps=1), worst by running miou",
    }

    bundle = result["bundles"]["original-1"]
    code, judged, text = run("evaluate.py", bundle, "condition=motion_blur(level=2)")
    assert code == 0, text
    assert judged["n"] == result["n"] and "everything background" in text
    code, _, text = run("evaluate.py", bundle, "condition=pgd(eps=1/255)")
    assert code == 2 and "background_pgd" in text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("scale=large", "small"),
        ("search=fast", "greedy"),
        ("data.target=grade", "data.target=lesions"),
        ("data.encoding=jpeg", "raw"),
        ("data.corrupt=wu(level=1-4)", "copies are made of photographs as they are"),
        ("repeats=0", "repeats"),
        ("avramidis.table1.original", "takes no names"),
    ],
)
def test_what_is_no_scheme_is_refused(given: str, said: str, run: Callable) -> None:
    code, _, text = run("segmentation_scheme.py", given, "data.source=synthetic")
    assert code == 2 and said in text
