"""Units of sets that were derived with a network: pixels, masks, receipts; and the job, end to
end."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fundusray import files
from fundusray.cluster.derive_with_network import (
    Deriving,
    DerivingNetwork,
    check_deriving,
    derived_with_network,
    receipts_of,
)
from fundusray.conditions import Enhancement, Layered, Selective
from fundusray.config import Data, Recipe, override
from fundusray.data.manifest.build import build_manifest
from fundusray.data.prepared import prepared_set
from fundusray.data.prepared.copies import with_copies
from fundusray.data.prepared.derived import complete_derived, unit_rows
from fundusray.data.prepared.masks import mask_kinds
from fundusray.data.prepared.prepared_set import PreparedSet, open_set
from fundusray.errors import InputError
from fundusray.jobs.deriving_summary import change_figures, change_sentences, receipt_rows
from fundusray.models.bundle import Bundle
from fundusray.tasks.segmentation import class_map
from tests.attacks.segmentation.per_pixel import convolutions, drawn_per_pixel
from tests.conftest import draw_fundus

KINDS = ("microaneurysms", "hard_exudates", "optic_disc")
CLASSES = ("background", *KINDS)
NUM, SIZE = 9, 24


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn photographs with a mask of each kind; some lack one."""
    root, rng = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0)
    for folder in ("images", *(f"masks/{kind}" for kind in KINDS)):
        (root / folder).mkdir(parents=True)
    for index in range(NUM):
        Image.fromarray(draw_fundus(72, 72, index)).save(root / "images" / f"eye{index}.png")
        for place, kind in enumerate(KINDS):
            if (index + place) % 4 == 0:
                continue
            marked = np.zeros((72, 72), np.uint8)
            y, x = rng.integers(15, 45, 2)
            marked[y : y + 12, x : x + 12] = 255
            Image.fromarray(marked).save(root / "masks" / kind / f"eye{index}.png")
    return root


def described(root: Path, **settings: Any) -> Data:
    usual = {"preprocess": "resize", "encoding": "raw"} | settings
    return Data(source="folder", root=str(root), target="lesions", size=SIZE, **usual)


def prepared_of(root: Path, folder: str, **settings: Any) -> tuple[PreparedSet, Data]:
    """The photographs prepared in two units, and what describes them."""
    data = described(root, **settings)
    manifest = build_manifest(data, str(root), 0)
    data = Data(**(data.__dict__ | {"masks": mask_kinds(data, manifest.table)}))
    parts = (manifest.table.slice(0, 5), manifest.table.slice(5))
    units = [
        prepared_set.write_shard(folder, index, part, data, manifest.roots)
        for index, part in enumerate(parts)
    ]
    prepared_set.assemble_set(folder, data, manifest, units)
    return open_set(folder), data


@pytest.fixture(scope="module")
def prepared(
    photographs: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[PreparedSet, Data]:
    return prepared_of(photographs, str(tmp_path_factory.mktemp("storage") / "set"))


def bundle_of(classes: tuple[str, ...] = CLASSES, target: str = "lesions") -> Bundle:
    recipe = override(Recipe(), {"data.target": target})
    return Bundle(convolutions(len(classes), seed=3), recipe, classes, {})


def derived(prepared: tuple[PreparedSet, Data], deriving: Deriving, folder: Path) -> PreparedSet:
    """All units one after the other, as a worker makes each."""
    base, data = prepared
    bundle = bundle_of()
    network = DerivingNetwork(base, bundle, torch.device("cpu"))
    units = [
        derived_with_network(str(folder), data, deriving, network, index)
        for index in range(len(unit_rows(base)))
    ]
    complete_derived(base, data, str(deriving.condition), str(folder), units, deriving.about)
    return open_set(str(folder))


@pytest.mark.parametrize("condition", [Layered(3 / 100, 4), Selective(3 / 100, "greedy")])
def test_a_derived_set_is_what_its_receipts_say(
    prepared: tuple[PreparedSet, Data], condition: Enhancement, tmp_path: Path
) -> None:
    base, _ = prepared
    made = derived(prepared, Deriving(condition, "nowhere", "abc"), tmp_path)
    rows = np.arange(NUM)
    assert len(made) == NUM and made.mask_kinds == KINDS and made.image_ids() == base.image_ids()
    assert np.array_equal(made.masks(rows), base.masks(rows))
    assert made.info["derived"]["condition"] == str(condition)
    assert made.info["manifest"] != base.info["manifest"]

    # Each by itself, by the condition alone.
    net = bundle_of().model
    image = torch.from_numpy(base.pixels(rows)).permute(0, 3, 1, 2).float() / 255
    target = class_map(torch.from_numpy(base.masks(rows)))
    receipts = receipts_of(made)
    for i, receipt in enumerate(receipts):
        own = condition.examples(net, image[i : i + 1], target[i : i + 1], CLASSES)
        assert own.receipts[0].items() <= receipt.items() or _close(own.receipts[0], receipt)
        levels = (own.image * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        far = np.abs(levels.astype(int) - made.pixels(rows[i : i + 1]))
        assert far.max() <= 1 and (far > 0).mean() < 0.01
        changed = np.abs(made.pixels(rows[i : i + 1]).astype(int) - base.pixels(rows[i : i + 1]))
        assert receipt["linf_stored"] == pytest.approx(changed.max() / 255)
        assert abs(receipt["linf_stored"] - receipt["linf"]) <= 0.5 / 255 + 1e-6
        stored = torch.from_numpy(made.pixels(rows[i : i + 1])).permute(0, 3, 1, 2).float() / 255
        if isinstance(condition, Selective):
            loss = nn.functional.cross_entropy(net(stored), target[i : i + 1]).item()
            assert receipt["loss_stored"] == pytest.approx(loss, abs=1e-5)
        else:
            assert receipt["single_stored"] == (len(net(stored).argmax(1).unique()) == 1)
    joined = with_copies(base, made)
    assert len(joined) == 2 * NUM and np.array_equal(joined.masks(rows + NUM), base.masks(rows))


def _close(some: dict[str, Any], others: dict[str, Any]) -> bool:
    """Equal but for what another batch rounds otherwise."""
    numbers = [key for key, value in some.items() if isinstance(value, float)]
    same = all(others[key] == value for key, value in some.items() if key not in numbers)
    return same and all(abs(others[key] - some[key]) < 1e-5 for key in numbers)


def test_rows_that_nobody_asked_for_stay_as_they_are(
    prepared: tuple[PreparedSet, Data], tmp_path: Path
) -> None:
    base, _ = prepared
    asked = np.array([1, 3, 4])
    some = Deriving(Selective(3 / 100, "greedy"), "nowhere", "abc", asked)
    made = derived(prepared, some, tmp_path / "some")
    every = Deriving(some.condition, "nowhere", "abc")
    whole = derived(prepared, every, tmp_path / "all")
    rest = np.setdiff1d(np.arange(NUM), asked)
    assert np.array_equal(made.pixels(rest), base.pixels(rest))
    assert np.array_equal(made.pixels(asked), whole.pixels(asked))
    assert (made.pixels(asked) != base.pixels(asked)).any(axis=(1, 2, 3)).all()
    assert [receipt["changed"] for receipt in receipts_of(made)] == [i in asked for i in range(NUM)]
    assert some.about != every.about and made.info["manifest"] != whole.info["manifest"]


def test_units_that_are_there_are_not_made_again(
    prepared: tuple[PreparedSet, Data], tmp_path: Path
) -> None:
    """One that is damaged is, to the same bytes."""
    base, data = prepared
    deriving = Deriving(Layered(1 / 100, 2), "nowhere", "abc")
    model = drawn_per_pixel(len(CLASSES))
    bundle = Bundle(model, override(Recipe(), {"data.target": "lesions"}), CLASSES, {})
    network = DerivingNetwork(base, bundle, torch.device("cpu"))
    model.images = 0
    first = derived_with_network(str(tmp_path), data, deriving, network, 1)
    seen = model.images
    assert derived_with_network(str(tmp_path), data, deriving, network, 1) == first
    assert model.images == seen > 0
    Path(tmp_path, first["name"]).write_bytes(b"damaged")
    assert derived_with_network(str(tmp_path), data, deriving, network, 1) == first
    assert model.images == 2 * seen


def test_what_cannot_be_derived_is_refused(
    prepared: tuple[PreparedSet, Data], photographs: Path, tmp_path: Path
) -> None:
    base, _ = prepared
    check_deriving(base, "here", bundle_of())
    with pytest.raises(InputError, match=r"one class to a whole photograph"):
        check_deriving(base, "here", bundle_of(target="grade"))
    with pytest.raises(InputError, match=r"knows the masks vessels.*keeps microaneurysms, hard"):
        check_deriving(base, "here", bundle_of(("background", "vessels"), "vessels"))
    packed, _ = prepared_of(photographs, str(tmp_path / "jpeg"), encoding="jpeg")
    with pytest.raises(InputError, match=r"keeps JPEG.*data\.encoding=raw"):
        check_deriving(packed, "here", bundle_of())


def receipt(**own: Any) -> dict[str, Any]:
    return {"image_id": "a", "changed": True, "linf": 0.01, "linf_stored": 3 / 255} | own


def test_figures_of_choices_by_hand() -> None:
    losses = {"loss_before": 0.5, "loss": 0.25, "loss_stored": 0.3, "evaluations": 27}
    receipts = [
        receipt(choice="+0-", **losses),
        receipt(choice="+--", **losses | {"linf": 0.03}),
        receipt(choice="000", **losses | {"linf": 0.0}),
        {"image_id": "d", "changed": False},
    ]
    figures = change_figures(receipts, ("background", "red", "white"))
    assert figures["changed"] == 3 and figures["median_linf"] == 0.01
    assert figures["largest_linf"] == 0.03 and figures["mean_loss_stored"] == pytest.approx(0.3)
    assert figures["steps"] == {
        "background": {"added": 2, "left": 1, "subtracted": 0},
        "red": {"added": 0, "left": 2, "subtracted": 1},
        "white": {"added": 0, "left": 1, "subtracted": 2},
    }
    assert json.loads(json.dumps(figures)) == figures
    text = "\n".join(change_sentences(figures))
    assert "1/100 in the median" in text and "background: added 67%, left 33%" in text
    rows = receipt_rows(receipts, ("background", "red", "white"))
    assert [row["step_white"] for row in rows] == ["subtracted", "subtracted", "left", ""]
    assert len({tuple(row) for row in rows}) == 1 and rows[3]["linf"] == ""


def test_figures_of_passes_by_hand() -> None:
    receipts = [
        receipt(order=["background"], passes=1, single=True, single_stored=True),
        receipt(order=["red", "background"], passes=2, single=True, single_stored=False),
        receipt(order=[], passes=0, single=True, single_stored=True, linf=0.0),
    ]
    figures = change_figures(receipts, ("background", "red"))
    assert figures["passes"] == {"0": 1, "1": 1, "2": 1}
    assert figures["led_to"] == {"background": 2, "red": 1}
    assert (figures["single"], figures["single_stored"]) == (3, 2)
    assert "1 after 0, 1 after 1, 1 after 2" in "\n".join(change_sentences(figures))
    rows = receipt_rows(receipts, ("background", "red"))
    assert [row["order"] for row in rows] == ["background", "red > background", ""]
    assert change_sentences(change_figures([], CLASSES)) == ["no photograph was changed"]


@pytest.mark.ray
def test_derived_end_to_end(run: Callable, segmented: str) -> None:
    """Copies are derived with a network, resumed, and of the rows that it learned from alone."""
    asked = ("condition=selective(eps=1/100, search=greedy)", "derive.rows=train")
    code, first, text = run("derive.py", segmented, *asked)
    num = first["rows"]
    assert code == 0 and num == 24 and 0 < first["changed"] < num, text
    assert files.read_json(f"{first['prepared']}/set.json")["derived"]["from"]
    with open(first["receipts"], newline="") as file:
        assert len(list(csv.DictReader(file))) == num
    assert run("derive.py", segmented, *asked)[1] == first

    code, _, text = run("derive.py", "condition=layered(eps=1/100)")
    assert code == 2 and "give its bundle" in text
    code, _, text = run("derive.py", segmented, "condition=wu(level=2)")
    assert code == 2 and "damage knows no network" in text
    code, _, text = run("derive.py", segmented, asked[0], "data.encoding=jpeg")
    assert code == 2 and "data.encoding=raw" in text
