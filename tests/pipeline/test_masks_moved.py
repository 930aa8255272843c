"""Masks go where their images go, in every engine."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fundusray.config import Data
from fundusray.data.manifest.build import build_manifest
from fundusray.data.prepared import prepared_set as shards
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.data.sampling import plan_eval
from fundusray.pipeline.augment.augmentation import parse_augmentation
from fundusray.pipeline.augment.draws import mask_matrix
from fundusray.pipeline.augment.operations import OPERATIONS
from fundusray.pipeline.augment.presets import PRESETS
from fundusray.pipeline.engines.plain import as_float, moved_planes, nearest, unpacked
from fundusray.pipeline.loader import Batch, make_loader
from fundusray.training.step import to_device

SIZE, NUM, KINDS = 64, 16, 10
ROWS = np.arange(NUM)
WHOLE = ["hflip() + vflip()", "ten_crop(50) + pad(3)", "hflip() + lesion_crop(40, 0.7)"]
WARPED = [
    "affine(scale=0.1, translate=0.05, rotate=(-30, 10), shear=10) + hflip()", "resize(96)",
    "random_resized_crop(48)", "choice(rotate(30), hflip(), jitter(0.3, 0.3, 0.3, 0.1))",
]  # fmt: skip


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], PreparedSet]:
    """make(encoding) -> sixteen photographs of ten kinds of spots, each in a colour of its own,
    with their masks."""
    root = tmp_path_factory.mktemp("spots")
    rng = np.random.default_rng(3)
    rows, masks = ["image,level"], {}
    (root / "train").mkdir()
    for index in range(NUM):
        name = f"{index // 2 + 1}_{('left', 'right')[index % 2]}"
        pixels = np.zeros((SIZE, SIZE, 3), np.uint8) + 40
        for kind in range(KINDS):
            y, x = rng.integers(6, 50, 2)
            mark = np.zeros((SIZE, SIZE), np.uint8)
            mark[y : y + 7, x : x + 5] = 255
            if kind == 0:
                pixels[mark > 0] = 255
            Image.fromarray(mark).save(root / f"{name}-{kind}.png")
            masks.setdefault(name, []).append((f"kind{kind}", f"{name}-{kind}.png"))
        rows.append(f"{name},{index % 5}")
        Image.fromarray(pixels).save(root / "train" / f"{name}.jpeg", quality=100, subsampling=0)
    (root / "trainLabels.csv").write_text("\n".join(rows) + "\n")
    return lambda encoding: prepared_set(root, masks, encoding, tmp_path_factory.mktemp("out"))


def prepared_set(
    root: Path, masks: dict[str, list[tuple[str, str]]], encoding: str, out: Path
) -> PreparedSet:
    kinds = tuple(f"kind{kind}" for kind in range(KINDS))
    data = Data(
        source="eyepacs", root=str(root), size=SIZE, preprocess="center_crop",
        encoding=encoding, masks=kinds,
    )  # fmt: skip
    manifest = build_manifest(data, data.root, 0)
    column = manifest.table.schema.get_field_index("masks")
    field = manifest.table.schema.field("masks")
    held = [masks[name] for name in manifest.table["image_id"].to_pylist()]
    array = shards.pa.array(held, field.type)
    manifest = replace(manifest, table=manifest.table.set_column(column, field, array))
    folder = shards.set_folder(str(out), data, manifest)
    unit = shards.write_shard(folder, 0, manifest.table, data, manifest.roots)
    shards.assemble_set(folder, data, manifest, [unit])
    return shards.open_set(folder)


@pytest.fixture(scope="module")
def kept(make: Callable[[str], PreparedSet]) -> PreparedSet:
    return make("jpeg")


@pytest.fixture(scope="module")
def kept_raw(make: Callable[[str], PreparedSet]) -> PreparedSet:
    return make("raw")


def batches(
    prepared: PreparedSet, engine: str, text: str, batch: int = 5, start: int = 0
) -> list[Batch]:
    if engine == "dali":
        pytest.importorskip("nvidia.dali", reason="NVIDIA DALI is not installed")
    loader = make_loader(prepared, batch=batch, augment=text, engine=engine)
    return list(loader.epoch(plan_eval(ROWS, batch), seed=3, epoch=1, start=start))


def masks_of(made: list[Batch]) -> torch.Tensor:
    return torch.cat([batch.masks for batch in made])


@pytest.mark.parametrize("engine", ["dali", "plain", "memory"])
def test_untouched_masks_are_the_stored_ones(
    kept: PreparedSet, kept_raw: PreparedSet, engine: str
) -> None:
    for prepared in (kept_raw,) if engine == "memory" else (kept, kept_raw):
        for batch in batches(prepared, engine, "none"):
            assert batch.masks.dtype == torch.uint8
            assert batch.masks.shape == (5, KINDS, SIZE, SIZE)
            stored = prepared.masks(batch.row.numpy())
            assert torch.equal(batch.masks, torch.from_numpy(stored)) and stored.any()


@pytest.mark.parametrize(
    ("encoding", "text"), [*(("jpeg", text) for text in [*WHOLE, *WARPED]), ("raw", WARPED[-1])]
)
def test_engines_move_masks_alike(
    kept: PreparedSet, kept_raw: PreparedSet, encoding: str, text: str
) -> None:
    """Exactly where whole pixels are moved; after a warp but for pixels whose centre falls on the
    edge between two, up to float32's rounding."""
    prepared = kept if encoding == "jpeg" else kept_raw
    plain = masks_of(batches(prepared, "plain", text))
    dali = masks_of(batches(prepared, "dali", text))
    assert dali.shape == plain.shape and dali.dtype == torch.uint8 and dali.max() == 1
    apart = (dali != plain).float().mean().item()
    assert apart == 0 if text in WHOLE else apart < 1e-4
    if encoding == "raw":
        assert torch.equal(plain, masks_of(batches(prepared, "memory", text)))


@pytest.mark.parametrize("text", ["none", *WHOLE, *WARPED[:3]])
def test_a_mask_stays_on_what_it_marks(kept_raw: PreparedSet, text: str) -> None:
    """The first kind of spot is white on grey: the mask is where the image is white."""
    for batch in batches(kept_raw, "memory", text):
        light = as_float(batch.image).mean(dim=1)
        mask = batch.masks[:, 0].bool()
        assert (light[mask] > 0.55).float().mean() > 0.97
        near = torch.nn.functional.max_pool2d(batch.masks[:, :1].float(), 5, 1, 2)[:, 0] > 0
        assert (light[~near] < 0.3).all()


def test_colour_is_left_to_the_image(kept: PreparedSet) -> None:
    for engine in ("plain", "dali"):
        moved = batches(kept, engine, "rotate(20)")
        bright = batches(kept, engine, "rotate(20) + jitter(0.3, 0.3) + standardize(0.2)")
        assert torch.equal(masks_of(moved), masks_of(bright))
        assert not torch.equal(as_float(moved[0].image), as_float(bright[0].image))


@pytest.mark.parametrize("text", ["wu", WHOLE[-1]])
@pytest.mark.parametrize("engine", ["plain", "dali"])
def test_masks_depend_on_rows_and_epoch_alone(kept: PreparedSet, engine: str, text: str) -> None:
    whole = masks_of(batches(kept, engine, text, 16))
    assert torch.equal(whole, masks_of(batches(kept, engine, text, 4)))
    assert torch.equal(whole[8:], masks_of(batches(kept, engine, text, 4, start=2)))


def test_masks_travel_to_the_device_with_their_images(kept: PreparedSet) -> None:
    made = batches(kept, "plain", "none")
    for one, other in zip(to_device(iter(made), torch.device("cpu"), True), made, strict=True):
        assert torch.equal(one.masks, other.masks)
        assert torch.equal(one.image, as_float(other.image))


def test_a_set_without_masks_gives_none(prepared: PreparedSet, raw: PreparedSet) -> None:
    for each, engine in ((prepared, "plain"), (prepared, "dali"), (raw, "memory")):
        loader = make_loader(each, batch=4, augment="hflip(0.5)", engine=engine)
        assert next(loader.epoch(plan_eval(ROWS, 4), seed=0, epoch=0)).masks is None


def test_a_pixel_is_the_one_that_its_centre_is_drawn_from() -> None:
    planes = torch.randint(0, 256, (3, 20, 20, 2), generator=torch.Generator().manual_seed(0))
    planes = planes.to(torch.uint8)
    keys = {"rows": np.arange(3), "repeat": np.zeros(3, np.int64)}
    draws = parse_augmentation("rotate(40) + random_crop(15)").draw(20, seed=1, epoch=0, **keys)
    found = moved_planes(planes, draws)
    for b, matrix in enumerate(mask_matrix(draws)):
        for i in range(15):
            for j in range(15):
                x, y = matrix.astype(np.float64) @ (j + 0.5, i + 0.5, 1)
                inside = 0 <= x < 20 and 0 <= y < 20
                expected = planes[b, int(y), int(x)] if inside else torch.zeros(2)
                assert torch.equal(found[b, i, j].float(), expected.float())
    layers = unpacked(planes, 11)
    assert layers.shape == (3, 11, 20, 20) and layers.max() == 1
    assert torch.equal(layers[:, 9], planes[..., 1] >> 1 & 1)
    assert moved_planes(None, draws) is None
    assert (
        nearest(planes.permute(0, 3, 1, 2), torch.from_numpy(draws.matrix), 0, 15).shape[-1] == 15
    )


def test_what_keeps_levels_is_known() -> None:
    """Every operation and preset draws no colour where it is said to be of geometry alone."""
    values = {
        "rotate": "20", "affine": "rotate=20", "crop": "40", "center_crop": "40",
        "random_crop": "40", "lesion_crop": "40", "five_crop": "40", "ten_crop": "40",
        "resize": "40", "random_resized_crop": "40", "pad": "3", "apply": "0.5, hflip(1)",
        "choice": "hflip(1)",
        "order": "hflip(1)", "jitter": "0.2, 0.2, 0.2, 0.1", "brightness": "0.2", "contrast": "0.2",
        "saturation": "0.2", "hue": "0.2", "whiten": "(0.4, 0.3, 0.2), std=(0.25, 0.2, 0.15)",
        "greyscale": "0.5",
    }  # fmt: skip
    keys = {"rows": np.arange(64), "repeat": np.zeros(64, np.int64), "seed": 0, "epoch": 0}
    texts = [f"{name}({values.get(name, '')})" for name in OPERATIONS]
    texts += ["apply(0.5, hue(0.2))", "choice(hflip(1), hue(0.2))", "hflip(1) + hue(0.2)"]
    for text in [*texts, *(name for name in PRESETS if PRESETS[name].train != "none")]:
        draws = parse_augmentation(text).draw(256, **keys, lesions=[[]] * 64)
        painted = draws.coloured.any() or (draws.brightness != 1).any() or (draws.std > 0).any()
        painted = painted or (draws.contrast != 1).any()
        assert parse_augmentation(text).geometric == (not painted), text
    assert (
        parse_augmentation("none").geometric and parse_augmentation("none + resize(40)").geometric
    )
