"""The job that searches, before it touches a photograph or a cluster."""

import json
import re
from pathlib import Path

import pytest

from fundusray import files
from fundusray.cluster.search.tune import recorded_search
from fundusray.command import main
from fundusray.config import Recipe, to_json
from fundusray.errors import InputError
from fundusray.jobs.searching import tune
from fundusray.settings.deciding import SCHEMA
from fundusray.verified import DamagedError
from tune_spaces import balancing


def run(capsys: pytest.CaptureFixture, *words: str) -> tuple[int, str]:
    code = main("", lambda asked: tune(asked, balancing), list(words))
    result = json.loads(capsys.readouterr().out.splitlines()[-1].removeprefix("RESULT "))
    return code, result.get("reason", "")


def test_points_that_the_space_has_lost_are_refused_before_anything_is_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(balancing, "DROPOUTS", [0.0, 0.25])
    code, reason = run(capsys, "demo", f"run.storage={tmp_path / 'runs'}")
    assert code == 2 and "model.dropout=0.75, but the space draws one of 0.0, 0.25" in reason
    # Of a shorter search only the points that it tries count.
    assert "point 3" in reason and not (tmp_path / "runs").exists()


def test_a_search_that_is_named_takes_no_settings_and_must_be_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "demo-search-1"
    folder.mkdir()
    (folder / "search.json").write_bytes(b'{"content": {}')
    code, reason = run(capsys, str(folder), "tune.trials=3")
    assert code == 2 and "is a search: it is reported as it is, without settings" in reason
    with pytest.raises(DamagedError, match=r"search\.json: not readable.*writes it again"):
        recorded_search(str(folder), balancing)
    with pytest.raises(InputError, match=r"no search, it has no search\.json"):
        recorded_search(str(tmp_path), balancing)


@pytest.mark.parametrize(
    ("head", "told"),
    [
        ({}, r"is a search of another version .*schema 0, here 1.*Give the recipe to search anew"),
        ({"schema": 99}, r"schema 99, here 1"),
        (
            {"schema": SCHEMA, "recipe": '{"train": {"warp": 1}}'},
            r"search\.json was made by another version .*no setting named 'train\.warp'",
        ),
    ],
)
def test_a_search_of_another_version_is_said_to_be_one(
    head: dict, told: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    whole = {"recipe": to_json(Recipe()), "prepared": "prepared/x", "points": [], "space": {}}
    files.write_json(str(tmp_path / "demo-search-1" / "search.json"), whole | head)
    code, reason = run(capsys, str(tmp_path / "demo-search-1"))
    assert code == 2 and re.search(told, reason), reason
