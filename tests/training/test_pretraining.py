"""Pretraining on drawn photographs: masks stay on their lesions, it repeats, resumes and learns."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import nn

from fundusray import files
from fundusray.config import Data, Model, Recipe, override
from fundusray.data.anatomy import draw_manner
from fundusray.data.found import GRADES
from fundusray.data.lesions import LESIONS
from fundusray.data.preprocess import apply
from fundusray.data.synthetic import Drawn, draw
from fundusray.errors import DamagedError
from fundusray.models import build_model
from fundusray.models.bundle import load_bundle
from fundusray.pipeline import augment
from fundusray.training import checkpoints, pretraining, sketches
from fundusray.training.pretraining import Place, Pretrained, Pretraining, feature_maps, losses
from fundusray.training.sketches import MAPS, Sketches, read_parts, shown, sketch, to_bytes

SIZE = 48
STILL = augment.parse("none")


@pytest.fixture(scope="module")
def part() -> Sketches:
    return sketch(Data(size=SIZE), seed=3, start=0, stop=24)


@pytest.fixture(scope="module")
def location(part: Sketches, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("drawn") / "part-00000.npz"
    path.write_bytes(to_bytes(part))
    return str(path)


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return override(
        Recipe(name="small"),
        {
            "data.num_images": 24,
            "data.size": SIZE,
            "data.fractions": (0.7, 0.3, 0.0),
            "model.name": "resnet18",
            "model.dropout": 0.25,
            "train.epochs": 2,
            "train.batch": 8,
            "train.lr": 1e-3,
        },
    )


def place(folder: Path, location: str) -> Place:
    return Place(str(folder), (location,), "key", torch.device("cpu"))


def test_a_sketch_depends_on_its_position_alone(part: Sketches) -> None:
    some = sketch(Data(size=SIZE), seed=3, start=5, stop=7)
    for mine, whole in zip(some, part, strict=True):
        assert np.array_equal(mine, whole[5:7])
    assert part.image.shape == (24, SIZE, SIZE, 3) and part.image.dtype == np.uint8
    assert part.masks.shape == (24, SIZE, SIZE) and part.masks.max() < 1 << len(MAPS)


def test_every_grade_as_often() -> None:
    grades = [sketches.draw_grade(0, index) for index in range(2000)]
    assert np.abs(np.bincount(grades, minlength=5) / 2000 - 0.2).max() < 0.03


def test_a_file_gives_back_what_was_drawn(part: Sketches, location: str) -> None:
    twice = read_parts([location, location])
    for once, both in zip(part, twice, strict=True):
        assert np.array_equal(np.concatenate([once, once]), both)


def test_a_damaged_part_is_named(location: str, tmp_path: Path) -> None:
    content = Path(location).read_bytes()
    flipped = content[:-99] + bytes([content[-99] ^ 1]) + content[-98:]
    for broken in (content[: len(content) // 2], flipped, b"", b"no archive"):
        (tmp_path / "part.npz").write_bytes(broken)
        with pytest.raises(DamagedError, match=r"part\.npz: (damaged|empty).*delete it"):
            read_parts([str(tmp_path / "part.npz")])


@pytest.mark.parametrize("preprocess", ["graham", "resize", "diameter", "contour", "center_crop"])
def test_masks_lie_where_the_prepared_picture_shows_them(preprocess: str) -> None:
    """A photograph whose lesion is painted pure blue: after preparation the mask is where the blue
    is, though nothing here knows the geometry."""
    side = 256
    for index in (0, 5, 11):
        drawn = draw(7, index, 2, side)
        y, x = np.mgrid[:side, :side]
        mark = np.hypot(y - 150, x - 90) < 14
        photograph = drawn.image.copy()
        photograph[mark] = (20, 20, 255)
        masks = {kind: mark if kind == "haemorrhage" else ~mark & False for kind in LESIONS}
        marked = Drawn(photograph, masks, drawn.eye, drawn.patient, drawn.landmarks)
        data = Data(size=64, preprocess=preprocess)
        bits = sketches._bits(marked, apply(data, photograph).geometry)
        lesion = bits >> MAPS.index("haemorrhage") & 1 == 1
        prepared = apply(data, photograph).pixels.astype(int)
        plain = apply(data, drawn.image.copy()).pixels.astype(int)
        blue = (prepared - plain)[..., 2] > 60
        assert lesion.sum() > 10
        both, either = (lesion & blue).sum(), (lesion | blue).sum()
        assert both / either > (0.7 if preprocess in ("resize", "center_crop") else 0.5)
        centre = [np.argwhere(found).mean(axis=0) for found in (lesion, blue)]
        assert np.abs(centre[0] - centre[1]).max() < 0.8


def test_masks_move_as_their_image_does() -> None:
    """Images made of the masks themselves: whatever geometry is drawn, both stay the same."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 2, (6, 8, 8)).astype(np.uint8)
    layer = np.kron(coarse, np.ones((1, 6, 6), np.uint8))
    image = np.repeat(255 * layer[..., None], 3, axis=3)
    masks = layer.astype(np.uint16) << 4
    made = Sketches(image, masks, np.zeros(6, np.int64))
    view = augment.parse("rotate((-40, 40)) + hflip(0.5) + random_crop(40)")
    data = Data(size=48, preprocess="resize")
    moved, found, _ = shown(made, np.arange(6), view, data, seed=1, epoch=2)
    assert found.shape == (6, len(MAPS), 40, 40)
    assert torch.allclose(moved[:, 0], found[:, 4], atol=1e-6)
    assert found[:, [0, 1, 2, 3, 5, 6, 7, 8]].abs().max() == 0
    assert 0.2 < found[:, 4].mean() < 0.8


def test_colour_is_left_to_the_image(part: Sketches) -> None:
    data, rows = Data(size=SIZE), np.arange(8)
    bright = augment.parse("jitter(brightness=(0.5, 0.6), contrast=(0.5, 0.6))")
    plain = shown(part, rows, STILL, data, seed=0, epoch=0)
    changed = shown(part, rows, bright, data, seed=0, epoch=0)
    assert torch.equal(plain[1], changed[1]) and torch.equal(plain[2], changed[2])
    assert (plain[0] - changed[0]).abs().mean() > 0.1


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "inception_v3"])
def test_feature_maps_from_coarse_to_fine(name: str) -> None:
    size = 96
    model = build_model(Model(name=name), len(GRADES), 0)
    channels = feature_maps(model, size)
    sides: dict[str, int] = {}
    for layer in channels:
        module = model.get_submodule(layer)

        def note(module: nn.Module, inputs: tuple, output: torch.Tensor, layer: str = layer):
            assert output.shape[1] == channels[layer]
            sides[layer] = output.shape[-1]

        module.register_forward_hook(note)
    model.eval()(torch.rand(1, 3, size, size))
    found = [sides[layer] for layer in channels]
    assert found == sorted(set(found)) and found[0] >= 2
    assert size / 6 <= found[-1] <= size / 4
    assert len(found) >= 3


@pytest.mark.parametrize("output", ["softmax", "coral", "regression"])
def test_gradient_reaches_the_whole_network(output: str) -> None:
    model = build_model(Model(name="resnet18", output=output), len(GRADES), 0)
    net = Pretrained(model, 64)
    out = net(torch.rand(2, 3, 64, 64))
    assert out[0].shape == (2, 5) and out[1] is None and out[2].shape == (2, len(MAPS), 16, 16)
    losses(out, torch.zeros(2, len(MAPS), 64, 64), torch.tensor([0, 4])).backward()
    assert all(p.grad is not None for p in net.parameters() if p.requires_grad)


def test_inceptions_auxiliary_head_learns_too() -> None:
    model = build_model(Model(name="inception_v3"), len(GRADES), 0)
    out = Pretrained(model, 96)(torch.rand(2, 3, 96, 96))
    assert out[1].shape == (2, 5)
    masks, grade = torch.zeros(2, len(MAPS), 96, 96), torch.tensor([0, 4])
    extra = losses(out, masks, grade) - losses((out[0], None, out[2]), masks, grade)
    assert extra.item() == pytest.approx(
        0.4 * nn.functional.cross_entropy(out[1], grade).item(), rel=1e-4
    )


def test_losses_in_closed_form() -> None:
    """Uniform logits over 5 grades: ln 5. Masks said with certainty and rightly: 0; of a kind that
    is there and not said at all: 1 - 1 / (1 + pixels)."""
    masks = torch.zeros(1, len(MAPS), 8, 8)
    masks[0, 2, :4, :4] = 1
    grade = torch.tensor([3])
    right = 40 * (2 * nn.functional.adaptive_max_pool2d(masks, 4) - 1)
    logits = torch.zeros(1, 5)
    assert losses((logits, None, right), masks, grade).item() == pytest.approx(np.log(5), abs=1e-5)
    wrong = right.clone()
    wrong[0, 2] = -40
    # 4 of 9 x 16 places at a cross entropy of 40, and one kind of nine without its four places.
    expected = np.log(5) + 40 * 4 / (9 * 16) + (1 - 1 / (4 + 1)) / 9
    assert losses((logits, None, wrong), masks, grade).item() == pytest.approx(expected, rel=1e-5)


def test_order_shows_every_row_once(recipe: Recipe) -> None:
    learned, judged = pretraining.sides(recipe)
    assert sorted([*learned, *judged]) == list(range(24))
    assert len(judged) % 2 == 0 and judged.min() % 2 == 0  # both eyes of a patient on one side
    rows = pretraining.order(recipe, 0)
    assert rows.shape == (len(learned) // 8, 8) and len(np.unique(rows)) == rows.size
    assert np.isin(rows, learned).all()
    assert np.array_equal(rows, pretraining.order(recipe, 0))
    assert not np.array_equal(rows, pretraining.order(recipe, 1))


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "bundle" / "model.safetensors")


def test_broken_off_and_resumed_gives_the_same_bits(
    recipe: Recipe, location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Pretraining(recipe, place(tmp_path / "whole", location)).run()
    often = override(recipe, {"train.checkpoint_seconds": 0})
    broken = Pretraining(often, place(tmp_path / "broken", location))
    step = broken._step

    def until_third(rows: np.ndarray, number: int, epoch: int) -> None:
        if number == 3:
            raise KeyboardInterrupt
        step(rows, number, epoch)

    monkeypatch.setattr(broken, "_step", until_third)
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    assert not (tmp_path / "broken" / "bundle").exists()
    resumed = Pretraining(often, place(tmp_path / "broken", location))
    assert resumed.position.step == 3
    resumed.run()
    whole, again = weights_of(tmp_path / "whole"), weights_of(tmp_path / "broken")
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    tables = [
        files.read_table(str(tmp_path / n / "predictions.parquet")) for n in ("whole", "broken")
    ]
    assert tables[0].equals(tables[1])


def test_asked_to_stop_it_saves_and_goes_on_to_the_same_bits(
    recipe: Recipe, location: str, tmp_path: Path
) -> None:
    """Asked after the last step of an epoch, before it is judged; and then killed between the two
    renames of its only checkpoint."""
    assert Pretraining(recipe, place(tmp_path / "whole", location)).run()
    stopped = tmp_path / "stopped"
    watched = replace(place(stopped, location), watch=lambda step: step == 2)
    assert not Pretraining(recipe, watched).run()
    assert not (stopped / "outcome.json").exists()
    kept = stopped / "checkpoints"
    (kept / "step-00000002").rename(kept / ".old-step-00000002")
    last = Pretraining(recipe, place(stopped, location))
    assert last.position.step == 2 and last.run()
    whole, again = weights_of(tmp_path / "whole"), weights_of(stopped)
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    outcomes = [files.read_json(f"{tmp_path}/{run}/outcome.json") for run in ("whole", "stopped")]
    losses_of = [[row["train_loss"] for row in outcome["history"]] for outcome in outcomes]
    assert losses_of[0] == losses_of[1]


def test_the_bundle_is_a_classifier_to_start_from(
    recipe: Recipe, location: str, tmp_path: Path
) -> None:
    short = override(recipe, {"train.epochs": 1})
    run = Pretraining(short, place(tmp_path, location))
    run.run()
    bundle = load_bundle(str(tmp_path / "bundle"))
    assert bundle.classes == GRADES
    image = torch.rand(2, 3, SIZE, SIZE)
    with torch.inference_mode():
        assert torch.allclose(bundle.model(image), run.net.model.eval()(image), atol=1e-6)
    start = Model(name="resnet18", init_from=str(tmp_path / "bundle"))
    begun = build_model(start, len(GRADES), seed=9).state_dict()
    saved = bundle.model.state_dict()
    assert all(torch.equal(begun[name], saved[name]) for name in saved)
    other = Model(name="resnet18", weights=str(tmp_path / "bundle" / "model.safetensors"))
    assert build_model(other, 2, seed=9).eval()(image).shape == (2, 2)


def test_it_learns_what_it_sees(location: str, tmp_path: Path, recipe: Recipe) -> None:
    """Shown the same few photographs again and again, it knows their grades and masks."""
    longer = override(recipe, {"train.epochs": 16, "data.augment": "none", "model.dropout": 0})
    run = Pretraining(longer, place(tmp_path, location))
    run.run()
    first, last = run.position.history[0], run.position.history[-1]
    assert last["train_loss"] < 0.5 * first["train_loss"]


def test_a_loss_that_is_no_number_stops_it(recipe: Recipe, location: str, tmp_path: Path) -> None:
    run = Pretraining(override(recipe, {"train.lr": 1e30}), place(tmp_path, location))
    with pytest.raises(pretraining.DivergedError, match=r"at step \d+.*train\.lr"):
        run.run()
    name, _ = checkpoints.newest(str(tmp_path / "checkpoints"), "key")
    assert (
        name == ""
        or torch.isfinite(
            safetensors.torch.load_file(tmp_path / "checkpoints" / name / "model.safetensors")[
                "model.net.conv1.weight"
            ]
        ).all()
    )


def test_lifelike_photographs_vary_and_keep_exact_masks() -> None:
    for index in (0, 3, 8):
        healthy = draw(0, index, 0, 256, lifelike=True)
        ill = draw(0, index, 2, 256, lifelike=True)
        assert not np.array_equal(healthy.image, draw(0, index, 0, 256).image)
        change = np.abs(healthy.image.astype(int) - ill.image).max(2)
        marked = np.logical_or.reduce(list(ill.masks.values()))
        grown = Image.fromarray(marked).convert("L").resize((64, 64), Image.Resampling.BOX)
        near = np.kron(np.asarray(grown) > 0, np.ones((4, 4), bool))
        near = np.logical_or.reduce(
            [np.roll(near, (dy, dx), (0, 1)) for dy in (-4, 0, 4) for dx in (-4, 0, 4)]
        )
        assert change[~near].max() == 0
        assert change[marked].mean() > 1


def test_disc_and_vessels_are_where_they_are_seen() -> None:
    for index in range(6):
        drawn = draw(1, index, 0, 256, lifelike=True)
        green = drawn.image[..., 1].astype(float)
        disc, vessel = (drawn.landmarks[name] for name in ("disc", "vessel"))
        around = np.logical_or.reduce(
            [np.roll(vessel, (dy, dx), (0, 1)) for dy in (-3, 3) for dx in (-3, 3)]
        )
        around &= ~vessel & ~disc & (green > 20)
        assert green[vessel & ~disc].mean() < green[around].mean()
        assert disc.sum() == 0 or green[disc].mean() > np.median(green[green > 20])


def test_manners_are_of_their_ranges() -> None:
    manners = [draw_manner(np.random.default_rng(seed)) for seed in range(300)]
    assert all(0 < m.blood < 1 and 0 < m.pale < 1.15 and 0 < m.size <= 1 for m in manners)
    assert 0.25 < np.mean([m.choroid > 0 for m in manners]) < 0.55
    assert 0.3 < np.mean([m.reflexes > 0 for m in manners]) < 0.6
