"""Pretraining on a cluster: drawn once, finished runs stay, trainings start from the bundle."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fundusray import files
from fundusray.cluster import pretrain
from fundusray.command import Command
from fundusray.config import Recipe, override
from fundusray.errors import InputError
from fundusray.jobs import pretrain as job
from fundusray.models.bundle import load_bundle
from fundusray.runs.check import check_run
from fundusray.runs.run import plan_run


@pytest.fixture(scope="session")
def sketchy(small: Recipe) -> Recipe:
    """A pretraining of seconds."""
    return override(
        small,
        {
            "name": "sketchy",
            "model.name": "resnet18",
            "data.num_images": 40,
            "data.fractions": (0.8, 0.2, 0.0),
            "train.epochs": 1,
        },
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"data.preprocess": "grahm"}, "graham"),
        ({"model.name": "resnet81"}, "resnet18"),
        ({"cluster.workers": "5"}, r"train\.batch=8 leaves some of cluster\.workers=5 without two"),
        ({"train.batch": 0}, r"train\.batch=auto"),
        ({"train.mixup": 0.2}, r"train\.mixup=0\.2"),
        ({"data.augment": "lesion_crop(32)"}, r"data\.augment=lesion_crop\(32\): a pretraining"),
        ({"loss.sparsity": 1e-4}, r"loss\.sparsity=0\.0001"),
        ({"adversarial.eps": "2/255"}, r"adversarial\.eps=2/255"),
        ({"train.phases": "head(epochs=1)"}, r"train\.phases=head"),
        ({"train.batch": 40}, r"data\.num_images=40 leaves less than one batch of 40"),
        ({"data.augment": "rotat(3)"}, "rotate"),
    ],
)
def test_what_cannot_run_is_refused(sketchy: Recipe, changes: dict, told: str) -> None:
    with pytest.raises(InputError, match=told):
        pretrain.check_pretraining(override(sketchy, changes))


@pytest.mark.parametrize(
    ("words", "changes", "smoke", "expected"),
    [
        (["wu.table5.baseline"], {}, False, ("efficientnet_b0", 3000, 512, 8, "onecycle")),
        (["wu.table5.baseline"], {"train.epochs": "3", "data.size": "96"}, False,
         ("efficientnet_b0", 3000, 96, 3, "onecycle")),
        ([], {"model.name": "resnet50"}, True, ("resnet50", 80, 64, 1, "onecycle")),
        ([], {"data.num_images": "60"}, True, ("efficientnet_lite0", 60, 64, 1, "onecycle")),
    ],
)  # fmt: skip
def test_the_job_reads_a_recipe_as_a_pretraining(
    words: list[str], changes: dict, smoke: bool, expected: tuple, monkeypatch, capsys
) -> None:
    seen = []
    monkeypatch.setattr(job, "print_recipe", lambda recipe: seen.append(recipe) or {})
    job.pretrain(Command(words, changes, show=True, smoke=smoke))
    (recipe,) = seen
    data, train_part = recipe.data, recipe.train
    found = (recipe.model.name, data.num_images, data.size, train_part.epochs, train_part.schedule)
    assert found == expected
    assert (data.source, data.root, recipe.model.weights) == ("synthetic", "", "")


def test_what_another_process_has_just_finished_is_not_run_again(
    sketchy: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def waited(folder: str) -> Iterator[None]:
        files.write_json(f"{folder}/result.json", {"by": "another"})
        yield

    monkeypatch.setattr(pretrain, "locked", waited)
    assert pretrain.pretrain_network(sketchy, str(tmp_path)) == {"by": "another"}


@pytest.mark.ray
def test_drawn_once_run_once_and_a_start_for_a_training(
    sketchy: Recipe, small: Recipe, prepared: str, storage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    result = pretrain.pretrain_network(sketchy, storage)
    drawn = Path(storage) / "drawn"
    parts = {part: part.stat().st_mtime_ns for part in drawn.rglob("*.npz")}
    assert len(parts) == 1
    assert result["status"] == "finished" and result["metrics"]["n"] == 8
    assert len(result["history"]) == 1 and "val_dice_vessel" in result["history"][0]
    capfd.readouterr()
    assert pretrain.pretrain_network(sketchy, storage) == result
    longer = pretrain.pretrain_network(override(sketchy, {"train.epochs": 2}), storage)
    assert longer["folder"] != result["folder"]
    assert {part: part.stat().st_mtime_ns for part in drawn.rglob("*.npz")} == parts
    assert "drawing" not in capfd.readouterr().err
    start = {"model.name": "resnet18", "model.init_from": result["bundle"]}
    check_run(plan_run(override(small, start), prepared, storage))
    assert load_bundle(result["bundle"]).recipe.data.source == "synthetic"
