"""A finished run vouches for its files, and goes where its storage goes."""

import os
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from fundusray import config, files
from fundusray.cluster.results import finished_result, read_result, write_recipe, write_result
from fundusray.config import Recipe, override
from fundusray.errors import DamagedError
from fundusray.training.outcome import outcome_of, write_outcome

NAMES = ("predictions.parquet", "attacked.parquet", "manifest.parquet", "split.csv", "mode.json")


@pytest.fixture
def run(tmp_path: Path) -> str:
    """The folder of a run that is done, in a storage of its own."""
    folder = str(tmp_path / "storage" / "run-1")
    for name in NAMES:
        place = files.join(folder, name)
        if name.endswith("parquet"):
            files.write_table(place, pa.table({"logit_0": [1.0, 2.0]}))
        elif name.endswith("json"):
            files.write_json(place, {"mode": {}})
        else:
            files.write_bytes(place, b"image_id,split\r\n1_left,train\r\n")
    result = {"status": "finished", "folder": folder, "metrics": {"kappa": 0.5}}
    result |= {key: files.join(folder, key) for key in ("bundle", "predictions")}
    result["robust"] = {"predictions": files.join(folder, "attacked.parquet"), "kappa": 0.1}
    write_result(folder, result)
    return folder


@pytest.mark.parametrize("move", [os.rename, shutil.copytree])
def test_it_goes_where_its_storage_goes(run: str, tmp_path: Path, move) -> None:
    before, _ = finished_result(run)
    move(tmp_path / "storage", tmp_path / "elsewhere")
    folder = str(tmp_path / "elsewhere" / "run-1")
    after, faults = finished_result(folder)
    assert faults == [] and after == read_result(folder)
    assert after["folder"] == folder and after["bundle"] == f"{folder}/bundle"
    assert after["robust"]["predictions"] == f"{folder}/attacked.parquet"
    assert str(tmp_path / "storage") not in Path(folder, "result.json").read_text()
    assert after["metrics"] == before["metrics"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("gone", [True, False], ids=["gone", "flipped"])
def test_damage_to_any_file_is_named(run: str, name: str, gone: bool) -> None:
    place = Path(run, name)
    content = place.read_bytes()
    place.unlink()
    if not gone:
        place.write_bytes(content[:9] + bytes([content[9] ^ 1]) + content[10:])
    result, (fault,) = finished_result(run)
    assert result is None and fault.startswith(f"{place}: ")
    assert ("missing" in fault) == gone


def test_a_damaged_result_is_named_and_no_result(run: str) -> None:
    place = Path(run, "result.json")
    place.write_text(place.read_text().replace("0.5", "0.9"))
    result, (fault,) = finished_result(run)
    assert result is None and str(place) in fault
    with pytest.raises(DamagedError, match=r"result\.json"):
        read_result(run)
    place.unlink()
    assert finished_result(run) == (None, []) and read_result(run) is None


def test_what_workers_ended_with_counts_for_their_run_alone(run: str, capsys) -> None:
    assert outcome_of(run, "key") == {}
    write_outcome(run, "key", {"history": [1]})
    outcome = outcome_of(run, "key")
    assert outcome["history"] == [1] and set(outcome["tables"]) == set(NAMES[:2])
    assert outcome_of(run, "another") == {} and capsys.readouterr().err == ""
    Path(run, "outcome.json").write_bytes(b"")
    assert outcome_of(run, "key") == {}
    assert "outcome.json: not readable (JSONDecodeError): made again" in capsys.readouterr().err


def test_what_was_asked_for_names_no_place_of_the_storage(tmp_path: Path) -> None:
    storage = str(tmp_path / "storage")
    start = f"{storage}/run-0/bundle"
    asked = override(
        Recipe(), {"run.storage": storage, "model.init_from": start, "data.root": "/p"}
    )
    write_recipe(f"{storage}/run-1", asked, storage)
    kept = config.from_json(Path(storage, "run-1", "recipe.json").read_text())
    assert (kept.run.storage, kept.model.init_from, kept.data.root) == (
        "..", "../run-0/bundle", "/p",
    )  # fmt: skip
