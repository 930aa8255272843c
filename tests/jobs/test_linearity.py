"""The job that follows a layer's units: which layer, which class, and what it writes."""

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fundusray.command import parse_command
from fundusray.config import Model, Recipe, override
from fundusray.errors import InputError
from fundusray.jobs.linearity import class_asked, linearity, linearity_outcome, unit_layer
from fundusray.jobs.symmetry import symmetry
from fundusray.models import build_model
from fundusray.models.bundle import Bundle, load_bundle, save_bundle
from fundusray.reports.linearity_page import LinearityFacts


def bundle(folder: Path, hidden: tuple[int, ...] = ()) -> Bundle:
    model = Model(name="timm/test_resnet", hidden=hidden)
    recipe = override(Recipe(name="loose", model=model), {"data.size": 32})
    save_bundle(str(folder), build_model(model, 5, 0).state_dict(), recipe, "abcde", {})
    return load_bundle(str(folder))


def test_the_layer(tmp_path: Path) -> None:
    plain, own = bundle(tmp_path / "a"), bundle(tmp_path / "b", hidden=(8,))
    assert unit_layer(plain, "") == "net.layer4"
    assert unit_layer(own, "") == f"net.{own.model.heads[0]}.0"
    assert own.model.get_submodule(unit_layer(own, "")).out_features == 8
    assert unit_layer(own, "layer2") == "net.layer2"
    with pytest.raises(InputError, match="did you mean 'layer2'"):
        unit_layer(plain, "layer_2")


def test_the_class() -> None:
    classes = ("none", "mild", "severe")
    assert [class_asked(t, classes) for t in ("predicted", "mild", "2")] == [None, 1, 2]
    for text in ("3", "-1", "midl"):
        with pytest.raises(InputError, match="no target named"):
            class_asked(text, classes)


def test_what_cannot_be_is_refused_before_any_photograph_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle(tmp_path / "b")
    place = str(tmp_path / "b")
    for job in (linearity, symmetry):
        assert job(parse_command([place, "show=true"])) == {"status": "shown", "recipe": "loose"}
    for job, setting, words in (
        (linearity, "layer=layer9", "did you mean 'layer"),
        (linearity, "target=9", "no target named '9'"),
        (symmetry, "pair=0,0", "two classes"),
        (symmetry, "data.size=64", "data.size=32"),
    ):
        with pytest.raises(InputError, match=words):
            job(parse_command([place, setting, "show=true"]))
    assert '"size": 32' in capsys.readouterr().out


def test_what_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng, c = np.random.default_rng(0), np.array([0.0, 1, 2, 4])
    units = [(image, unit) for image in range(12) for unit in range(3)]
    difference = [(1 + c) * (1 + unit) + rng.uniform(0, 0.1, 4) for _, unit in units]
    gradient = [2 + rng.uniform(0, 0.05, 4) for _ in units]
    rows = pa.table(
        {
            "image_id": [f"=image{image}" for image, _ in units],
            "patient_id": [f"p{image}" for image, _ in units],
            "target": [1] * len(units), "explained": [2] * len(units),
            "unit": [unit for _, unit in units], "c": [c] * len(units),
            "moved": [c / 9] * len(units), "output": [c] * len(units),
            "attribution": [a * b for a, b in zip(difference, gradient, strict=True)],
            "difference": difference, "gradient": gradient,
        }
    )  # fmt: skip
    facts = LinearityFacts("net", "layer3", "the logit of mild NPDR", ("a note",), "make it")
    result = linearity_outcome(str(tmp_path), rows, facts)
    assert result["verdict"] == "supported" and result["n"] == 12 and not result["built"]
    with open(result["units"], newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 36 and lines[0]["image_id"] == "'=image0"
    assert float(lines[0]["r_squared_difference"]) > 0.9
    page = Path(result["report"]).read_text()
    assert page.count("<img") == 3 and "make it" in page
    text = capsys.readouterr().out
    assert "The logit of mild NPDR is linear in the units of layer3: supported" in text
    assert "12 images of 12 patients and 36 units" in text and "note: a note" in text
    assert result["report"] in text and result["units"] in text
