"""A run is found again by what decides it, whatever settings are added later."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, field, make_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from fundusray.cluster.results import finished_result, write_result
from fundusray.config import Data, Recipe, Train, override, to_json
from fundusray.runs.identity import run_folder, run_key, with_training_seed
from fundusray.runs.run import plan_run
from fundusray.runs.split_of_run import OpenSets
from fundusray.settings.deciding import SCHEMA, SILENT, deciding, defaults, differing
from tests.runs.few import fake_set

ROOT = Path(__file__).parent.parent.parent
RECORD = Path(__file__).parent / "defaults.json"
CHANGES = {"train.lr": 0.01, "loss.name": "focal", "loss.args.gamma": 2.0, "data.size": 64}
DIGESTS = {"photographs": "p", "pixels": 1, "split": "s", "start": "w"}


def key(recipe: Recipe, **changes: Any) -> str:
    return run_key(recipe, **(DIGESTS | changes))


def with_new_setting(recipe: Recipe, name: str, default: Any, **given: Any) -> Recipe:
    """The recipe of a later version, whose `train` has one more setting."""
    added = [(name, type(default), field(default=default))]
    later = make_dataclass("Train", added, bases=(Train,), frozen=True, kw_only=True)
    return replace(recipe, train=later(**(vars(recipe.train) | given)))


class TestSettingsThatAreAddedLater:
    old = override(Recipe(name="mine"), CHANGES)

    def test_change_no_key_at_their_default(self) -> None:
        later = with_new_setting(self.old, "label_noise", 0.0)
        assert "train.label_noise" in defaults(later)
        assert deciding(later) == deciding(self.old) and key(later) == key(self.old)

    def test_decide_where_they_are_given(self) -> None:
        given = with_new_setting(self.old, "label_noise", 0.0, label_noise=0.1)
        assert deciding(given)["train.label_noise"] == 0.1 and key(given) != key(self.old)

    def test_leave_a_finished_run_where_it_is_found(self, tmp_path: Path) -> None:
        data: Any = fake_set(40)
        data.info |= {"preprocess": "graham", "preprocess_version": 1}
        storage, sets = str(tmp_path), OpenSets({"set": data})
        run = plan_run(self.old, "set", storage, sets)
        write_result(run.folder, {"status": "finished"})
        for number, default in enumerate((0.0, "none", (1, 2), True)):
            later = with_new_setting(self.old, f"new_{number}", default)
            found = plan_run(later, "set", storage, sets)
            assert (found.key, found.folder) == (run.key, run.folder)
            assert finished_result(found.folder) == ({"status": "finished"}, [])

    def test_of_a_later_version_of_the_package_change_no_key(self, tmp_path: Path) -> None:
        """The package itself, with one more setting of the network and one of the data."""
        shutil.copytree(
            ROOT / "fundusray", tmp_path / "fundusray", ignore=shutil.ignore_patterns("__pycache__")
        )
        for name, before, line in (
            ("learning", "    hidden: tuple[int, ...] = ()\n", '    new_head: str = "none"\n'),
            ("photographs", '    keywords: str = ""\n', "    new_share: float = 0.25\n"),
        ):
            place = tmp_path / "fundusray" / "settings" / f"{name}.py"
            text = place.read_text()
            assert text.count(before) == 1
            place.write_text(text.replace(before, line + before))
        program = (
            "import json, sys\n"
            "from fundusray.config import Recipe, from_json, override, to_json\n"
            "from fundusray.runs.identity import run_key\n"
            "changes, digests = map(json.loads, sys.argv[1:3])\n"
            "recipe = override(Recipe(name='mine'), changes)\n"
            "asked = [recipe, from_json(sys.argv[3]), override(recipe, {'model.new_head': 'x'})]\n"
            "print(json.dumps([run_key(one, **digests) for one in asked]))\n"
        )
        said = subprocess.run(
            [sys.executable, "-c", program, json.dumps(CHANGES), json.dumps(DIGESTS),
             to_json(self.old)],
            cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        same, of_old_text, other = json.loads(said.stdout)
        assert same == of_old_text == key(self.old) and other != same


class TestDefaults:
    """They are part of what a key means: SCHEMA goes up where one changes."""

    def test_are_those_of_the_schema(self) -> None:
        faults = differences(json.loads(RECORD.read_text()), SCHEMA, defaults(Recipe()))
        assert not faults, "\n".join(faults)

    def test_that_change_are_named_with_what_to_do(self) -> None:
        record = {"schema": 3, "defaults": {"train.lr": 0.1, "train.clip": 0, "data.gone": ""}}
        now = {"train.lr": 0.2, "train.clip": 0, "train.new": 5}
        changed, gone, new = differences(record, 3, now)
        assert changed.startswith("train.lr: the default was 0.1 and is 0.2")
        assert "SCHEMA" in changed and "to 4" in changed
        assert gone.startswith("data.gone") and new.startswith("train.new")
        (record_it,) = differences(record, 4, now)
        assert "python -m tests.runs.test_identity" in record_it
        assert not differences({"schema": 4, "defaults": now}, 4, now)


def differences(record: dict[str, Any], schema: int, now: dict[str, Any]) -> list[str]:
    """What is to be done where the defaults are not those that were recorded for the schema."""
    write = f"python -m tests.runs.test_identity writes {RECORD.name}"
    before = record["defaults"]
    if record["schema"] != schema:
        return [f"SCHEMA is {schema}, the defaults are of {record['schema']}: {write}"]
    found = [
        f"{name}: the default was {before[name]!r} and is {now[name]!r}. Runs that left it out "
        "learned with the former, and would be taken for runs with the latter: put SCHEMA in "
        f"fundusray/settings/deciding.py up to {schema + 1} (no run of before is then found by "
        f"name: say so in the README's Changes); then {write}"
        for name in before.keys() & now.keys()
        if before[name] != now[name]
    ]
    found += [
        f"{name} decides nothing any more, or is no setting: {write}; where what is done without "
        "it is not what its default did, SCHEMA goes up as well"
        for name in before.keys() - now.keys()
    ]
    return found + [
        f"{name} is new, and its default must do what was done without it: {write}"
        for name in now.keys() - before.keys()
    ]


def test_a_key_holds_all_that_decides() -> None:
    recipe = override(Recipe(), CHANGES)
    others = [key(override(recipe, {"train.lr": 0.02})), key(override(recipe, {"seed": 1}))]
    others += [key(recipe, **{name: "other"}) for name in (*DIGESTS, "copies")]
    assert len({key(recipe), *others}) == 1 + len(others)
    # What is called otherwise, or runs elsewhere, is the same run.
    moved = {"name": "yours", "cluster.workers": 3, "run.storage": "/b", "data.root": "/c"}
    assert key(override(recipe, moved)) == key(recipe)
    assert run_folder(recipe, "0123456789abcdef", "/s") == "/s/custom-01234567"


def test_a_recipe_that_was_written_and_read_is_the_same_run() -> None:
    whole = Recipe(data=Data(fractions=(1, 1e-9, 0)), train=Train(lr=1, clip=2))
    parts = Recipe(data=Data(fractions=(1.0, 1e-9, 0.0)), train=Train(lr=1.0, clip=2.0))
    assert json.dumps(deciding(whole)) == json.dumps(deciding(parts))


def test_a_setting_says_itself_that_it_decides_nothing() -> None:
    @dataclass(frozen=True)
    class Section:
        told: int = 1
        silent: int = field(default=1, metadata=SILENT)

    @dataclass(frozen=True)
    class Whole:
        section: Section = field(default_factory=Section)
        elsewhere: Section = field(default_factory=Section, metadata=SILENT)

    other = Section(2, 2)
    assert deciding(Whole(other, other)) == {"section.told": 2}
    assert differing(other, ("told", "silent")) == {"told": 2, "silent": 2}
    assert differing(Section(), ("told",)) == {}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"data.mix_share": 0.2}, {}),
        ({"data.mix": "/copies", "data.mix_share": 0.2}, {"data.mix_share": 0.2}),
        ({"seed": 4, "data.split_seed": 4}, {"seed": 4}),
        ({"seed": 4, "data.split_seed": 0}, {"seed": 4, "data.split_seed": 0}),
        ({"model.weights": "/w", "data.split_file": "/s.csv", "data.allow_leak": True}, {}),
    ],
)
def test_some_settings_decide_only_beside_others(changes: dict, told: dict) -> None:
    assert deciding(override(Recipe(), changes)) == told


def test_the_first_of_several_trainings_is_the_run_without_any() -> None:
    recipe = override(Recipe(), {"seed": 5})
    assert with_training_seed(recipe, 0) == recipe
    second = with_training_seed(recipe, 1)
    assert (second.seed, second.split_seed) == (6, 5) and key(second) != key(recipe)


if __name__ == "__main__":
    RECORD.write_text(
        json.dumps({"schema": SCHEMA, "defaults": defaults(Recipe())}, indent=1, sort_keys=True)
        + "\n"
    )
