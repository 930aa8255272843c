"""A dot that is planted in a photograph and in its mask is found in one place afterwards: in every
preprocessing, and after every operation that moves pixels and every preset, in every engine."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fundusray.config import Data
from fundusray.data.manifest.build import build_manifest
from fundusray.data.prepared import prepared_set
from fundusray.data.prepared.masks import mask_kinds
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.data.prepared.preprocess import PREPROCESS
from fundusray.data.sampling import plan_eval
from fundusray.pipeline.augment.augmentation import GEOMETRIC
from fundusray.pipeline.augment.presets import PRESETS
from fundusray.pipeline.engines.plain import as_float, decode_image
from fundusray.pipeline.loader import make_loader

SHAPE, RADIUS, DOT = (240, 320), 110, 9
SIZES = {"operations": 128, "presets": 256}
"""Sides of prepared images: presets cut out 224 pixels."""
NUM = 6
VALUES = {
    "hflip": "", "vflip": "", "rotate": "40", "affine": "scale=0.1, translate=0.05, rotate=20, "
    "shear=15", "crop": "100, 10, 15", "center_crop": "120", "random_crop": "112",
    "lesion_crop": "64, 1", "five_crop": "112", "ten_crop": "112", "resize": "150",
    "random_resized_crop": "112, (0.5, 1.0)", "pad": "9", "apply": "0.7, rotate(30)",
    "choice": "rotate(30), vflip(1), affine(scale=0.2)", "order": "rotate(25), hflip(), vflip()",
}  # fmt: skip
"""Operation -> its values; the dot mostly stays on the picture."""
TEXTS = [f"{name}({values})" for name, values in VALUES.items()]
TEXTS += [f"{TEXTS[3]} + {TEXTS[7]} + vflip()", *(name for name in PRESETS if name != "none")]


@pytest.fixture(scope="module")
def prepare(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., PreparedSet]:
    """prepare(preprocess, encoding, size) -> photographs of a fundus with a dot of nine bright
    pixels, each somewhere else, and nothing else; their masks mark the dot."""
    root = tmp_path_factory.mktemp("dots")
    (root / "images").mkdir()
    (root / "masks" / "dot").mkdir(parents=True)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
    rng = np.random.default_rng(4)
    for index in range(NUM):
        turn, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.55) * RADIUS
        centre = (160 + far * np.cos(turn), 120 + far * np.sin(turn))
        pixels = np.zeros((*SHAPE, 3), np.uint8)
        pixels[np.hypot(x - 160, y - 120) < RADIUS] = (90 + index, 60, 40)
        dot = np.hypot(x - centre[0], y - centre[1]) < DOT
        pixels[dot] = (250, 250, 240)
        Image.fromarray(pixels).save(root / "images" / f"{index}.png")
        Image.fromarray(dot).save(root / "masks" / "dot" / f"{index}.png")

    def made(preprocess: str, encoding: str = "jpeg", size: int = 128) -> PreparedSet:
        data = Data(
            source="folder", root=str(root), target="lesions", size=size, preprocess=preprocess,
            encoding=encoding, masks=("dot",),
        )  # fmt: skip
        manifest = build_manifest(data, data.root, 0)
        assert mask_kinds(data, manifest.table) == ("dot",)
        folder = prepared_set.set_folder(str(tmp_path_factory.mktemp("out")), data, manifest)
        unit = prepared_set.write_shard(folder, 0, manifest.table, data, manifest.roots)
        prepared_set.assemble_set(folder, data, manifest, [unit])
        return prepared_set.open_set(folder)

    return made


@pytest.fixture(scope="module")
def stored(prepare: Callable[..., PreparedSet]) -> dict[tuple[str, str], PreparedSet]:
    return {
        (encoding, what): prepare("resize", encoding, size)
        for encoding in ("jpeg", "raw")
        for what, size in SIZES.items()
    }


def middle(weight: np.ndarray) -> np.ndarray:
    """The mean place (x, y) of what is marked, [H, W] bool."""
    return np.argwhere(weight).mean(axis=0)[::-1]


def bright(light: np.ndarray) -> np.ndarray:
    """Where an image is brighter than half the way up from its fundus to its dot."""
    return light > (np.median(light) + light.max()) / 2


@pytest.mark.parametrize("preprocess", list(PREPROCESS))
def test_in_every_preprocessing(prepare: Callable[..., PreparedSet], preprocess: str) -> None:
    kept = prepare(preprocess)
    masks = kept.masks(np.arange(NUM))[:, 0].astype(bool)
    for content, mask in zip(kept.encoded(np.arange(NUM)), masks, strict=True):
        light = decode_image(content, kept.size)[..., 2].astype(float)
        assert np.abs(middle(bright(light)) - middle(mask)).max() < 1
        assert abs(np.log(bright(light).sum() / mask.sum())) < 0.5


def test_every_operation_that_moves_pixels_is_tried() -> None:
    assert VALUES.keys() == GEOMETRIC


@pytest.mark.parametrize("engine", ["plain", "memory", "dali"])
@pytest.mark.parametrize("text", TEXTS)
def test_after_every_augmentation(
    stored: dict[tuple[str, str], PreparedSet], text: str, engine: str
) -> None:
    if engine == "dali":
        pytest.importorskip("nvidia.dali", reason="NVIDIA DALI is not installed")
    what = "presets" if text in PRESETS else "operations"
    kept = stored["raw" if engine == "memory" else "jpeg", what]
    loader = make_loader(kept, batch=NUM, augment=text, engine=engine)
    found = 0
    for batch in loader.epoch(plan_eval(np.arange(NUM), NUM), seed=1, epoch=3):
        for image, mask in zip(as_float(batch.image), batch.masks[:, 0].bool(), strict=True):
            found += assert_alike(image, mask)
    assert found >= NUM / 2


def assert_alike(image: Tensor, mask: Tensor) -> bool:
    """That the dot of an image is where its mask is; whether it is to be seen whole."""
    light = image.min(dim=0).values.numpy()
    dot = bright(light) & (light > 0.55)
    mask = mask.numpy()
    edge = torch.ones(mask.shape, dtype=torch.bool)
    edge[1:-1, 1:-1] = False
    if not mask.any() or mask[edge.numpy()].any():
        return False
    assert np.abs(middle(dot) - middle(mask)).max() < 1
    return True
