"""The command line: what it understands, what it refuses, how it ends."""

import json
from pathlib import Path

import pytest

from fundusray.command import main, parse_command, usage_text, with_absolute_places
from fundusray.config import Recipe, override
from fundusray.errors import BadInputsError, InputError, LockedError


def test_parse_words_changes_and_switches() -> None:
    asked = parse_command(["wu.table5.baseline", "train.epochs=5", "show=true", "data.root=/a=b"])
    assert asked.words == ["wu.table5.baseline"]
    assert asked.changes == {"train.epochs": "5", "data.root": "/a=b"}
    assert asked.show and not asked.smoke


@pytest.mark.parametrize("bad", [["--epochs"], ["a=1", "a=2"], ["show=perhaps"]])
def test_parse_refuses(bad: list[str]) -> None:
    with pytest.raises(InputError):
        parse_command(bad)


def test_settle_makes_places_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    given = {"data.source": "eyepacs", "data.root": "photos", "run.storage": "out"}
    recipe = with_absolute_places(override(Recipe(), given), submitted=False)
    assert recipe.data.root == str(tmp_path / "photos")
    assert recipe.run.storage == str(tmp_path / "out")


def test_settle_refuses_relative_places_in_a_submitted_job(tmp_path: Path) -> None:
    for key in ("data.root", "run.storage"):
        given = {"data.source": "eyepacs", "data.root": str(tmp_path), key: "relative"}
        with pytest.raises(InputError, match=f"{key}=relative.*absolute path or a URI"):
            with_absolute_places(override(Recipe(), given), submitted=True)


def test_relative_weights_are_refused_in_a_submitted_job(tmp_path: Path) -> None:
    for place in ("w.safetensors", "weights/w.pth"):
        with pytest.raises(InputError, match=f"model.weights={place}.*absolute path or a URI"):
            with_absolute_places(override(Recipe(), {"model.weights": place}), submitted=True)
    for place in ("imagenet", "", "s3://bucket/w.pth", str(tmp_path / "w.pth")):
        settled = with_absolute_places(override(Recipe(), {"model.weights": place}), submitted=True)
        assert settled.model.weights == place


def test_settle_refuses_options_in_a_uri() -> None:
    asked = override(Recipe(), {"run.storage": "s3://bucket/runs?region=eu-west-1"})
    with pytest.raises(InputError, match=r"give s3://bucket/runs and .*AWS_REGION"):
        with_absolute_places(asked, submitted=True)


def test_settle_wants_a_root_that_is_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"needs data\.root"):
        with_absolute_places(override(Recipe(), {"data.source": "eyepacs"}), submitted=False)
    gone = str(tmp_path / "gone")
    with pytest.raises(InputError, match="no such folder"):
        with_absolute_places(
            override(Recipe(), {"data.source": "folder", "data.root": gone}), submitted=False
        )
    with pytest.raises(InputError, match="draws its own"):
        with_absolute_places(override(Recipe(), {"data.root": gone}), submitted=False)


def last(capsys: pytest.CaptureFixture[str]) -> dict:
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("RESULT ")
    return json.loads(line.removeprefix("RESULT "))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("a"), 2),
        (BadInputsError("b"), 5),
        (LockedError("c"), 6),
        (KeyboardInterrupt(), 130),
        (SystemExit(143), 143),
        (OSError(28, "No space left on device"), 4),
        (OSError(122, "Disk quota exceeded"), 4),
        (OSError(5, "Input/output error"), 1),
        (ZeroDivisionError("ours"), 1),
    ],
)
def test_errors_become_exit_codes(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def act(asked: object) -> dict:
        raise error

    assert main("A job.", act, []) == code
    assert last(capsys)["code"] == code


def test_a_good_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("A job.", lambda asked: {"status": "finished"}, []) == 0
    assert last(capsys) == {"status": "finished"}


def test_usage_lists_every_setting() -> None:
    text = usage_text("A job.")
    assert "train.epochs=20" in text and "loss.args.<name>" in text and "smoke=true" in text


def test_several_sources_need_as_many_roots(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    roots = f"{tmp_path}/a, {tmp_path}/b"
    both = override(Recipe(), {"data.source": "eyepacs,synthetic,aptos", "data.root": roots})
    assert with_absolute_places(both, False).data.root == f"{tmp_path}/a,{tmp_path}/b"
    with pytest.raises(InputError, match=r"needs 2 roots .* data\.root has 1"):
        with_absolute_places(override(both, {"data.root": f"{tmp_path}/a"}), False)
    with pytest.raises(InputError, match=r"data.root=b: a submitted job"):
        with_absolute_places(override(both, {"data.root": f"{tmp_path}/a,b"}), True)


def test_files_that_a_recipe_names_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = override(Recipe(), {"data.split_file": "mine.csv", "data.id_key": "key"})
    settled = with_absolute_places(asked, False)
    assert settled.data.split_file == str(tmp_path / "mine.csv")
    assert settled.data.id_key == str(tmp_path / "key")
    with pytest.raises(InputError, match=r"data.split_file=mine.csv: a submitted job"):
        with_absolute_places(asked, True)
