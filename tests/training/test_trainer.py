"""The one loop: what a run leaves, and that nothing that happens to it changes a bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from fundusray import files
from fundusray.models.bundle import load_bundle
from fundusray.tasks.classification import logits_of
from fundusray.training.supervision import StoppedError, Unsupervised


class Notebook(Unsupervised):
    """Writes down what it hears; asks to stop, or tells of a node that goes, at a step."""

    def __init__(self, stop: int = -1, leave: int = -1) -> None:
        self.stop, self.leave = stop, leave
        self.steps: list[int] = []
        self.rows: list[dict[str, Any]] = []

    def heartbeat(self, step: int) -> None:
        self.steps.append(step)

    def stop_asked(self) -> bool:
        return self.steps[-1] == self.stop

    def node_leaving(self) -> bool:
        return self.steps[-1] == self.leave

    def report(self, row: dict[str, Any]) -> None:
        self.rows.append(row)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "bundle" / "model.safetensors")


def figures_of(folder: Path) -> list[dict[str, Any]]:
    """Of each epoch, without what a clock says."""
    rows = files.read_json(str(folder / "outcome.json"))["history"]
    return [{k: v for k, v in row.items() if k.startswith(("val_", "train_"))} for row in rows]


def same_run(folder: Path, other: Path) -> bool:
    """Whether two runs ended with the same weights, figures and predictions."""
    first, second = weights_of(folder), weights_of(other)
    assert first.keys() == second.keys() and figures_of(folder) == figures_of(other)
    tables = [files.read_table(str(run / "predictions.parquet")) for run in (folder, other)]
    return tables[0].equals(tables[1]) and all(torch.equal(first[k], second[k]) for k in first)


def test_a_run_leaves_bundle_rows_and_outcome(make_trainer, tmp_path: Path) -> None:
    told = Notebook()
    trainer = make_trainer(tmp_path / "run", told)
    trainer.run()
    outcome = files.read_json(str(tmp_path / "run" / "outcome.json"))
    assert told.steps == list(range(6)) and told.rows == outcome["history"]
    assert [row["epoch"] for row in told.rows] == [1, 2]
    assert outcome["reported_split"] == "test" and not outcome["optimistic"]
    table = files.read_table(str(tmp_path / "run" / "predictions.parquet"))
    names = [f"logit_{k}" for k in range(5)]
    assert table.column_names == ["image_id", "patient_id", "target", *names]
    test = trainer.examples.sides["test"]
    ids = trainer.examples.image_ids
    assert table["image_id"].to_pylist() == [ids[row] for row in test]
    # They are what the bundle says of those photographs.
    bundle = load_bundle(str(tmp_path / "run" / "bundle"))
    best = outcome["best"]["epoch"]
    kept = files.read_table(str(tmp_path / "run" / "epochs" / f"{best:04d}.parquet"))
    assert kept.num_rows == len(trainer.examples.sides["val"])
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, bundle.model.state_dict()[name])
    assert bundle.info["best"] == outcome["best"] and bundle.info["counts"] == outcome["counts"]


@pytest.fixture(scope="module")
def whole(make_trainer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    make_trainer(folder).run()
    return folder


def test_a_node_that_goes_makes_it_save_and_no_more(
    make_trainer, whole: Path, tmp_path: Path
) -> None:
    make_trainer(tmp_path / "left", Notebook(leave=4)).run()
    names = sorted(p.name for p in (tmp_path / "left" / "checkpoints").iterdir())
    assert names == ["step-00000005", "step-00000006"]
    assert same_run(whole, tmp_path / "left")


def test_stopped_within_an_epoch_it_goes_on_to_the_same_bits(
    make_trainer, whole: Path, tmp_path: Path
) -> None:
    with pytest.raises(StoppedError):
        make_trainer(tmp_path / "stopped", Notebook(stop=1)).run()
    assert not (tmp_path / "stopped" / "outcome.json").exists()
    again = make_trainer(tmp_path / "stopped")
    assert again.position.step == 2
    again.run()
    assert same_run(whole, tmp_path / "stopped")


@pytest.mark.parametrize(
    "changes",
    [
        {"train__phases": "head(epochs=1) + all(epochs=1)", "train__mixup": 0.4},
        {"adversarial__method": "free", "adversarial__eps": "2/255", "train__epochs": 4},
    ],
    ids=["phases", "free"],
)
def test_stopped_at_the_end_of_an_epoch_it_goes_on_to_the_same_bits(
    make_trainer, tmp_path: Path, changes: dict[str, Any]
) -> None:
    make_trainer(tmp_path / "whole", **changes).run()
    with pytest.raises(StoppedError):
        make_trainer(tmp_path / "stopped", Notebook(stop=2), **changes).run()
    make_trainer(tmp_path / "stopped", **changes).run()
    assert same_run(tmp_path / "whole", tmp_path / "stopped")


def test_lost_predictions_come_from_the_bundle_alone(make_trainer, tmp_path: Path) -> None:
    make_trainer(tmp_path / "run").run()
    place = tmp_path / "run" / "predictions.parquet"
    before = place.read_bytes()
    place.unlink()
    files.remove(str(tmp_path / "run" / "checkpoints"))
    told = Notebook()
    make_trainer(tmp_path / "run", told).run()
    assert place.read_bytes() == before and told.steps == []


def test_what_was_attacked_says_how_far(make_trainer, tmp_path: Path) -> None:
    trainer = make_trainer(
        tmp_path / "run", adversarial__eps="4/255", adversarial__judge_steps=3, train__epochs=1
    )
    trainer.run()
    (row,) = trainer.position.history
    assert 0 <= row["val_robust_accuracy"] <= row["val_accuracy"]
    table = files.read_table(str(tmp_path / "run" / "attacked.parquet"))
    columns = trainer.task.columns_of(table)
    fooled = logits_of(columns).argmax(axis=1) != columns["target"]
    right = table["clean_prediction"].to_numpy() == columns["target"]
    assert table["success"].to_pylist() == (right & fooled).tolist()
    # Wrong from the beginning: left as it is.
    assert fooled[~right].all() and not table["linf"].to_numpy()[~right].any()
    assert 0 < table["linf"].to_numpy().max() <= 4 / 255 + 1e-6
    clean = files.read_table(str(tmp_path / "run" / "predictions.parquet"))
    assert "success" not in clean.column_names
    wrong = logits_of(trainer.task.columns_of(clean)).argmax(axis=1) != columns["target"]
    assert (table["linf"].to_numpy()[wrong] == 0).all() and fooled[wrong].all()


def test_thresholds_of_a_regression_are_those_of_its_best_epoch(
    make_trainer, tmp_path: Path
) -> None:
    changes = {"model__output": "regression", "loss__name": "squared_error"}
    trainer = make_trainer(tmp_path / "run", data__fractions=(0.7, 0.3, 0.0), **changes)
    trainer.run()
    outcome = files.read_json(str(tmp_path / "run" / "outcome.json"))
    best = outcome["best"]["epoch"]
    kept = trainer.task.columns_of(
        files.read_table(str(tmp_path / "run" / "epochs" / f"{best:04d}.parquet"))
    )
    assert trainer.task.figures(kept)["kappa"] == outcome["best"]["value"]
    rows, columns = trainer.validation.predict(trainer.examples.sides["val"])
    assert np.allclose(logits_of(columns), logits_of(kept), atol=1e-5)
    table = files.read_table(str(tmp_path / "run" / "predictions.parquet"))
    assert "half" in table.column_names and len(table) == len(rows)
    assert len(outcome["held_out_epochs"]) == 2 and not outcome["optimistic"]
