"""Pretraining on drawn photographs: masks stay on their lesions, it repeats, resumes and learns."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import nn

from fundusray import files
from fundusray.config import Data, Model, Recipe, override, to_json
from fundusray.data.drawn.anatomy import draw_manner
from fundusray.data.drawn.lesions import LESIONS
from fundusray.data.drawn.source import DrawnPhotograph, draw_photograph
from fundusray.data.manifest.contract import GRADES
from fundusray.data.prepared.preprocess import preprocess_photograph
from fundusray.data.sampling import EpochPlan
from fundusray.errors import DamagedError
from fundusray.models import build_model
from fundusray.models.bundle import load_bundle
from fundusray.pipeline.augment import augmentation
from fundusray.tasks import Classification, GradesAndMasks
from fundusray.tasks.grades_and_masks import (
    KINDS,
    Losses,
    MaskedClassifier,
    Outputs,
    Target,
    feature_maps,
)
from fundusray.training import checkpoints, drawn_lesions, numeric_precision
from fundusray.training.drawn_examples import DrawnExamples, sides
from fundusray.training.drawn_lesions import (
    DrawnLesions,
    draw_part,
    drawn_batch,
    read_parts,
    to_bytes,
)
from fundusray.training.job import Job
from fundusray.training.step import DivergedError
from fundusray.training.supervision import StoppedError, Supervisor, Unsupervised
from fundusray.training.trainer import Trainer

SIZE = 48
STILL = augmentation.parse_augmentation("none")


@pytest.fixture(scope="module")
def part() -> DrawnLesions:
    return draw_part(Data(size=SIZE), seed=3, start=0, stop=24)


@pytest.fixture(scope="module")
def location(part: DrawnLesions, tmp_path_factory: pytest.TempPathFactory) -> str:
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
            "train.precision": "fp32",
            "train.layout": "channels_last",
        },
    )


def trainer(
    recipe: Recipe, folder: Path, location: str, supervisor: Supervisor | None = None
) -> Trainer:
    job = Job(to_json(recipe), "drawn", str(folder), "key", str(folder), 1, "")
    examples = DrawnExamples(read_parts([location]), recipe)
    return Trainer(job, examples, GradesAndMasks(recipe, GRADES), supervisor=supervisor)


class StopAt(Unsupervised):
    """Asks to stop once so many steps are done, or ends as if it were killed there."""

    def __init__(self, step: int, kill: bool = False) -> None:
        self.step, self.kill, self.begun = step, kill, 0

    def heartbeat(self, step: int) -> None:
        self.begun = step + 1
        if self.kill and step == self.step:
            raise KeyboardInterrupt

    def stop_asked(self) -> bool:
        return not self.kill and self.begun == self.step


def of_batch(out: Outputs, masks: torch.Tensor, grade: torch.Tensor) -> torch.Tensor:
    """The mean loss of a batch of which all counts."""
    valid = torch.ones_like(grade, dtype=torch.bool)
    return Losses().per_sample(out, Target(grade, masks), valid).mean()


def test_a_sketch_depends_on_its_position_alone(part: DrawnLesions) -> None:
    some = draw_part(Data(size=SIZE), seed=3, start=5, stop=7)
    for mine, whole in zip(some, part, strict=True):
        assert np.array_equal(mine, whole[5:7])
    assert part.image.shape == (24, SIZE, SIZE, 3) and part.image.dtype == np.uint8
    assert part.masks.shape == (24, SIZE, SIZE) and part.masks.max() < 1 << len(KINDS)


def test_every_grade_as_often() -> None:
    grades = [drawn_lesions.draw_grade(0, index) for index in range(2000)]
    assert np.abs(np.bincount(grades, minlength=5) / 2000 - 0.2).max() < 0.03


def test_a_file_gives_back_what_was_drawn(part: DrawnLesions, location: str) -> None:
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
        drawn = draw_photograph(7, index, 2, side)
        y, x = np.mgrid[:side, :side]
        mark = np.hypot(y - 150, x - 90) < 14
        photograph = drawn.image.copy()
        photograph[mark] = (20, 20, 255)
        masks = {kind: mark if kind == "haemorrhage" else ~mark & False for kind in LESIONS}
        marked = DrawnPhotograph(photograph, masks, drawn.eye, drawn.patient, drawn.landmarks)
        data = Data(size=64, preprocess=preprocess)
        bits = drawn_lesions._bits(marked, preprocess_photograph(data, photograph).geometry)
        lesion = bits >> KINDS.index("haemorrhage") & 1 == 1
        prepared = preprocess_photograph(data, photograph).pixels.astype(int)
        plain = preprocess_photograph(data, drawn.image.copy()).pixels.astype(int)
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
    made = DrawnLesions(image, masks, np.zeros(6, np.int64))
    view = augmentation.parse_augmentation("rotate((-40, 40)) + hflip(0.5) + random_crop(40)")
    data = Data(size=48, preprocess="resize")
    moved, found, _ = drawn_batch(made, np.arange(6), view, data, seed=1, epoch=2)
    assert found.shape == (6, len(KINDS), 40, 40)
    assert torch.allclose(moved[:, 0], found[:, 4], atol=1e-6)
    assert found[:, [0, 1, 2, 3, 5, 6, 7, 8]].abs().max() == 0
    assert 0.2 < found[:, 4].mean() < 0.8


def test_colour_is_left_to_the_image(part: DrawnLesions) -> None:
    data, rows = Data(size=SIZE), np.arange(8)
    bright = augmentation.parse_augmentation("jitter(brightness=(0.5, 0.6), contrast=(0.5, 0.6))")
    plain = drawn_batch(part, rows, STILL, data, seed=0, epoch=0)
    changed = drawn_batch(part, rows, bright, data, seed=0, epoch=0)
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


@pytest.mark.parametrize(
    ("name", "output", "side"),
    [
        ("resnet18", "softmax", 16),
        ("resnet18", "coral", 16),
        ("resnet18", "regression", 16),
        ("bagnet33", "softmax", 14),
    ],
)
def test_gradient_reaches_the_whole_network(name: str, output: str, side: int) -> None:
    model = build_model(Model(name=name, output=output), len(GRADES), 0)
    net = MaskedClassifier(model, 64)
    out = net(torch.rand(2, 3, 64, 64))
    assert out[0].shape == (2, 5) and out[1] is None and out[2].shape == (2, len(KINDS), side, side)
    of_batch(out, torch.zeros(2, len(KINDS), 64, 64), torch.tensor([0, 4])).backward()
    assert all(p.grad is not None for p in net.parameters() if p.requires_grad)


def test_inceptions_auxiliary_head_learns_too() -> None:
    model = build_model(Model(name="inception_v3"), len(GRADES), 0)
    out = MaskedClassifier(model, 96)(torch.rand(2, 3, 96, 96))
    assert out[1].shape == (2, 5)
    masks, grade = torch.zeros(2, len(KINDS), 96, 96), torch.tensor([0, 4])
    extra = of_batch(out, masks, grade) - of_batch(out._replace(auxiliary=None), masks, grade)
    assert extra.item() == pytest.approx(
        0.4 * nn.functional.cross_entropy(out[1], grade).item(), rel=1e-4
    )


def test_losses_in_closed_form() -> None:
    """Uniform logits over 5 grades: ln 5. Masks said with certainty and rightly: 0; of a kind that
    is there and not said at all: 1 - 1 / (1 + pixels)."""
    masks = torch.zeros(1, len(KINDS), 8, 8)
    masks[0, 2, :4, :4] = 1
    grade = torch.tensor([3])
    right = 40 * (2 * nn.functional.adaptive_max_pool2d(masks, 4) - 1)
    logits = torch.zeros(1, 5)
    assert of_batch(Outputs(logits, None, right), masks, grade).item() == pytest.approx(
        np.log(5), abs=1e-5
    )
    wrong = right.clone()
    wrong[0, 2] = -40
    # 4 of 9 x 16 places at a cross entropy of 40, and one kind of nine without its four places.
    expected = np.log(5) + 40 * 4 / (9 * 16) + (1 - 1 / (4 + 1)) / 9
    assert of_batch(Outputs(logits, None, wrong), masks, grade).item() == pytest.approx(
        expected, rel=1e-5
    )


def test_rows_that_do_not_count_change_no_loss() -> None:
    masks = torch.zeros(3, len(KINDS), 8, 8)
    masks[:2, 1, 2:5] = 1
    logits, read, grade = torch.randn(3, 5), torch.randn(3, len(KINDS), 4, 4), torch.arange(3)
    valid = torch.tensor([True, True, False])
    whole = Losses().per_sample(Outputs(logits, None, read), Target(grade, masks), valid)
    short = Outputs(logits[:2], None, read[:2])
    alone = Losses().per_sample(short, Target(grade[:2], masks[:2]), valid[:2])
    torch.testing.assert_close(whole[:2], alone)


def test_order_shows_every_row_once(recipe: Recipe, part: DrawnLesions) -> None:
    split = sides(recipe)
    learned, judged = split["train"], split["val"]
    assert sorted([*learned, *judged]) == list(range(24)) and not len(split["test"])
    assert len(judged) % 2 == 0 and judged.min() % 2 == 0  # both eyes of a patient on one side
    examples = DrawnExamples(part, recipe)
    plan = examples.plan(0)
    rows = plan.rows
    assert rows.shape == (len(learned) // 8, 8) and len(np.unique(rows)) == rows.size
    assert np.isin(rows, learned).all() and plan.valid.all()
    assert np.array_equal(rows, examples.plan(0).rows)
    assert not np.array_equal(rows, examples.plan(1).rows)


def test_masks_of_a_batch_are_those_of_its_images(recipe: Recipe, part: DrawnLesions) -> None:
    examples = DrawnExamples(part, override(recipe, {"data.augment": "none"}))
    (batch,) = examples.learned(EpochPlan(*(p[:1] for p in examples.plan(0))), epoch=0, start=0)
    assert batch.masks.dtype == torch.uint8
    assert batch.masks.shape == (8, len(KINDS), SIZE, SIZE)
    for row, grade, masks in zip(batch.row.tolist(), batch.target, batch.masks, strict=True):
        assert grade == part.grade[row]
        bits = part.masks[row][None] >> np.arange(len(KINDS), dtype=np.uint16)[:, None, None]
        assert np.array_equal(masks.numpy(), bits & 1)


def test_dice_is_counted_image_by_image(recipe: Recipe) -> None:
    """Two of three places of kind 0 said, and two that are not there."""
    task = GradesAndMasks(recipe, GRADES)
    masks = torch.zeros(2, len(KINDS), 4, 4, dtype=torch.uint8)
    masks[0, 0, 0, :3] = 1
    read = torch.full((2, len(KINDS), 4, 4), -1.0)
    read[0, 0, 0, :2] = read[1, 0, 3, 2:] = 1
    logits, grade = torch.eye(5)[[0, 1]], torch.tensor([0, 1])
    columns = task.columns(Outputs(logits, None, read), Target(grade, masks))
    assert columns[f"hits_{KINDS[0]}"].tolist() == [2, 0]
    assert columns[f"marked_{KINDS[0]}"].tolist() == [5, 2]
    figures = task.figures(columns)
    assert figures[f"dice_{KINDS[0]}"] == pytest.approx(4 / 7)
    assert figures["dice"] == pytest.approx(4 / 7 / len(KINDS)) and figures["accuracy"] == 1


def test_which_way_is_fastest_is_asked_of_a_copy(recipe: Recipe) -> None:
    """Its feature maps are laid aside in the copy."""
    net = GradesAndMasks(recipe, GRADES).network()
    way, seconds = numeric_precision.probe_precisions(net, (2, 3, SIZE, SIZE), "cpu",
    override(recipe, {
        "train.precision": "fp32", "train.layout": "auto"}).train, steps=1)  # fmt: skip
    assert len(seconds) == 2 and way.precision == "fp32"
    assert net._maps == {} and net(torch.rand(2, 3, SIZE, SIZE)).grade.shape == (2, 5)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "bundle" / "model.safetensors")


def test_broken_off_and_resumed_gives_the_same_bits(
    recipe: Recipe, location: str, tmp_path: Path
) -> None:
    trainer(recipe, tmp_path / "whole", location).run()
    often = override(recipe, {"train.checkpoint_seconds": 0})
    with pytest.raises(KeyboardInterrupt):
        trainer(often, tmp_path / "broken", location, StopAt(3, kill=True)).run()
    assert not (tmp_path / "broken" / "outcome.json").exists()
    resumed = trainer(often, tmp_path / "broken", location)
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
    trainer(recipe, tmp_path / "whole", location).run()
    stopped = tmp_path / "stopped"
    with pytest.raises(StoppedError):
        trainer(recipe, stopped, location, StopAt(2)).run()
    assert not (stopped / "outcome.json").exists()
    kept = stopped / "checkpoints"
    (kept / "step-00000002").rename(kept / ".old-step-00000002")
    last = trainer(recipe, stopped, location)
    assert last.position.step == 2
    last.run()
    whole, again = weights_of(tmp_path / "whole"), weights_of(stopped)
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    outcomes = [files.read_json(f"{tmp_path}/{run}/outcome.json") for run in ("whole", "stopped")]
    losses_of = [[row["train_loss"] for row in outcome["history"]] for outcome in outcomes]
    assert losses_of[0] == losses_of[1]


def test_the_bundle_is_a_classifier_to_start_from(
    recipe: Recipe, location: str, tmp_path: Path, make_trainer: Callable[..., Trainer]
) -> None:
    short = override(recipe, {"train.epochs": 1})
    run = trainer(short, tmp_path, location)
    run.run()
    bundle = load_bundle(str(tmp_path / "bundle"))
    assert bundle.classes == GRADES and isinstance(run.task.of_bundle(), Classification)
    image = torch.rand(2, 3, SIZE, SIZE)
    with torch.inference_mode():
        assert torch.allclose(bundle.model(image), run.model.model.eval()(image), atol=1e-6)
    start = Model(name="resnet18", init_from=str(tmp_path / "bundle"))
    begun = build_model(start, len(GRADES), seed=9).state_dict()
    saved = bundle.model.state_dict()
    assert all(torch.equal(begun[name], saved[name]) for name in saved)
    other = Model(name="resnet18", weights=str(tmp_path / "bundle" / "model.safetensors"))
    assert build_model(other, 2, seed=9).eval()(image).shape == (2, 2)
    # And a training goes on from it to its end.
    begun = tmp_path / "begun"
    start = {"model__name": "resnet18", "model__init_from": str(tmp_path / "bundle")}
    make_trainer(begun, **start, train__epochs=1).run()
    assert files.exists(str(begun / "outcome.json")) and load_bundle(str(begun / "bundle"))


def test_lost_predictions_come_from_the_bundle_alone(
    recipe: Recipe, location: str, tmp_path: Path
) -> None:
    short = override(recipe, {"train.epochs": 1})
    trainer(short, tmp_path, location).run()
    place = tmp_path / "predictions.parquet"
    before = place.read_bytes()
    table = files.read_table(str(place))
    assert [n for n in table.column_names if n.startswith(("hits", "marked"))] == []
    assert table["image_id"].to_pylist()[0] == f"{recipe.split_seed}-9_left"
    place.unlink()
    files.remove(str(tmp_path / "checkpoints"))
    trainer(short, tmp_path, location).run()
    assert place.read_bytes() == before and not (tmp_path / "checkpoints").exists()


def test_it_learns_what_it_sees(location: str, tmp_path: Path, recipe: Recipe) -> None:
    """Shown the same few photographs again and again, it knows their grades and masks."""
    longer = override(recipe, {"train.epochs": 20, "data.augment": "none", "model.dropout": 0})
    run = trainer(longer, tmp_path, location)
    run.run()
    first, last = run.position.history[0], run.position.history[-1]
    assert last["train_loss"] < 0.5 * first["train_loss"]
    assert run.position.best["epoch"] == 20, "the bundle is of the last epoch"
    assert {"val_kappa", "val_dice", *(f"val_dice_{kind}" for kind in KINDS)} <= set(last)


def test_a_loss_that_is_no_number_stops_it(recipe: Recipe, location: str, tmp_path: Path) -> None:
    run = trainer(override(recipe, {"train.lr": 1e30}), tmp_path, location)
    with pytest.raises(DivergedError, match=r"at step \d+.*train\.lr"):
        run.run()
    name, _ = checkpoints.newest_checkpoint(str(tmp_path / "checkpoints"), "key")
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
        healthy = draw_photograph(0, index, 0, 256, lifelike=True)
        ill = draw_photograph(0, index, 2, 256, lifelike=True)
        assert not np.array_equal(healthy.image, draw_photograph(0, index, 0, 256).image)
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
        drawn = draw_photograph(1, index, 0, 256, lifelike=True)
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
