"""The simple way: fit, predict, evaluate, save, load; wrong input is refused by name."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fundusray.config import override
from fundusray.data.drawn.source import draw_photograph
from fundusray.data.prepared.class_map_files import write_class_map
from fundusray.data.prepared.memory_set import HeldImage, class_planes, memory_set
from fundusray.data.prepared.preprocess import preprocess_photograph
from fundusray.errors import InputError
from fundusray.models.bundle import load_bundle, save_bundle
from fundusray.models.segmenters import build_network
from fundusray.segmenter import Segmenter
from tests.conftest import draw_fundus

CLASSES = ("background", "preretinal")


def drawn(side: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """A drawn photograph and its class map."""
    sketch = draw_photograph(0, 3, 4, side=side)
    return sketch.image, (sketch.masks["preretinal"] >= 0.5).astype(np.uint8)


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * (first & second).sum() / (first.sum() + second.sum())


@pytest.fixture(scope="module")
def fitted() -> Segmenter:
    image, classes = drawn()
    assert classes.sum() > 30
    return Segmenter(CLASSES, size=64, epochs=18).fit([image], [classes])


def test_one_drawn_photograph_is_learned_by_heart(fitted: Segmenter) -> None:
    image, classes = drawn()
    figures = fitted.evaluate([image], [classes])
    assert figures["dice_preretinal"] > 0.95 and figures["pixel_accuracy"] > 0.99
    found = fitted.predict(image)
    assert found.dtype == np.uint8 and found.shape == classes.shape
    # Of the photograph's own pixels, each of which is the nearest prepared one.
    assert dice(found == 1, classes == 1) > 0.9


def test_probabilities_are_of_the_classes_and_answer_what_predict_does(fitted: Segmenter) -> None:
    image, _ = drawn(96)
    found = fitted.predict_probabilities(image)
    assert found.shape == (2, 96, 96) and found.dtype == np.float32
    assert np.allclose(found.sum(axis=0), 1, atol=1e-5)
    assert np.array_equal(found.argmax(axis=0), fitted.predict(image))
    assert (found[0, :5, :5] == 1).all()


def test_saved_and_loaded_it_is_the_same(fitted: Segmenter, tmp_path: Path) -> None:
    place = tmp_path / "bundle"
    fitted.save(place)
    loaded = Segmenter.load(place)
    image, classes = drawn()
    assert loaded.classes == CLASSES and loaded.recipe == load_bundle(str(place)).recipe
    assert np.array_equal(loaded.predict_probabilities(image), fitted.predict_probabilities(image))
    assert loaded.evaluate([image], [classes]) == fitted.evaluate([image], [classes])


def test_files_are_read_as_arrays_are(fitted: Segmenter, tmp_path: Path) -> None:
    image, classes = drawn()
    Image.fromarray(image).save(tmp_path / "eye.png")
    write_class_map(str(tmp_path / "map.png"), classes, [(0, 0, 0), (255, 0, 0)])
    as_files = fitted.evaluate([tmp_path / "eye.png"], [str(tmp_path / "map.png")])
    assert as_files == fitted.evaluate([image], [classes])


def test_the_same_seed_learns_the_same() -> None:
    image, classes = drawn(32)
    first, again = (
        Segmenter(CLASSES, size=32, epochs=1, seed=1)
        .fit([image], [classes])
        .predict_probabilities(image)
        for _ in range(2)
    )
    assert np.array_equal(first, again) and first[1].std() > 0


IMAGE, MAP = draw_fundus(64, 64), np.zeros((64, 64), np.uint8)


@pytest.mark.parametrize(
    ("images", "masks", "text"),
    [
        ([], [], "one at least"),
        ([IMAGE], [], "1 images and 0 masks"),
        ([IMAGE / 255.0], [MAP], r"images\[0\]: float64 \(64, 64, 3\)"),
        ([IMAGE[..., 0]], [MAP], r"images\[0\]: uint8 \(64, 64\)"),
        ([IMAGE], [MAP[:50]], r"masks\[0\]: 64x50 pixels, not 64x64"),
        ([IMAGE], [MAP.astype(float)], r"masks\[0\]: float64"),
        ([IMAGE], [MAP + 2], r"masks\[0\]: 2 stands for no class; 0 to 1 are background"),
        ([IMAGE], [MAP - 1.0 > 0], None),
        (["/no/such.jpg"], [MAP], r"images\[0\]: there is no file /no/such.jpg"),
        ([IMAGE], ["/no/such.png"], r"masks\[0\]: there is no file"),
        ([IMAGE, np.full_like(IMAGE, 90)], [MAP, MAP], r"images\[1\]: "),
    ],
)
def test_wrong_input_is_refused_by_name(images: list, masks: list, text: str | None) -> None:
    segmenter = Segmenter(CLASSES, size=32)
    if text is None:
        assert len(segmenter._prepared(images, masks)) == 1
        return
    with pytest.raises(InputError, match=text):
        segmenter.fit(images, masks)


def test_what_was_not_learned_is_not_predicted(tmp_path: Path) -> None:
    for ask in ("predict", "predict_probabilities", "save"):
        with pytest.raises(InputError, match="nothing was learned yet"):
            getattr(Segmenter(CLASSES), ask)(IMAGE if ask != "save" else tmp_path)


@pytest.mark.parametrize(
    "settings",
    [
        {"classes": ("lesion", "background")},
        {"classes": ("background",)},
        {"classes": "background"},
        {"classes": ("background", "a", "a")},
        {"network": "resnet18"},
        {"network": "unett"},
        {"loss": "dicee"},
        {"size": 8},
        {"epochs": 0},
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_at_once(settings: dict) -> None:
    with pytest.raises(InputError):
        Segmenter(**settings)


def test_a_network_that_sees_photographs_otherwise_is_refused(tmp_path: Path) -> None:
    recipe = override(Segmenter(size=32).recipe, {"data.view": "resize(16)"})
    state = build_network(recipe.model, 2, 0).state_dict()
    save_bundle(str(tmp_path / "bundle"), state, recipe, ("background", "lesion"), {})
    with pytest.raises(InputError, match=r"data\.view=resize\(16\)"):
        Segmenter.load(tmp_path / "bundle")


def test_a_set_in_memory_gives_back_what_it_was_given() -> None:
    segmenter = Segmenter(("background", *map(str, range(10))), size=32)
    data, images = segmenter.recipe.data, []
    rng = np.random.default_rng(0)
    for number in range(3):
        prepared = preprocess_photograph(data, draw_fundus(60, 80, number))
        classes = rng.integers(0, 11, (32, 32), np.uint8)
        images.append(HeldImage(f"{number}", prepared, prepared.geometry, classes))
    found = memory_set(data, images, segmenter.classes)
    rows = np.array([2, 0])
    assert np.array_equal(found.pixels(rows)[0], images[2].prepared.pixels)
    masks = found.masks(rows)
    for mask, row in zip(masks, rows, strict=True):
        for kind in range(10):
            assert np.array_equal(mask[kind] == 1, images[row].classes == kind + 1)
    assert found.geometry(1) == images[1].geometry
    assert found.seen(rows)[1] == images[0].prepared.seen
    assert class_planes(images[0].classes, 10).shape == (32, 32, 2)
