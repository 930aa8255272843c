"""Names to functions, and the error that offers the nearest."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest

from fundusray.errors import FundusError, InputError
from fundusray.keywords import Above, AtLeast, OneOf, Within, check_keywords, signature
from fundusray.registry import Registry, unknown_name
from fundusray.settings.choices import REGISTRIES, choices, registry, require_choice


@pytest.fixture
def losses() -> Registry:
    registry: Registry = Registry("loss")

    @registry.register("focal")
    def focal():
        return 1

    registry.register("cross_entropy")(len)
    return registry


def test_a_registered_function_is_found_unchanged(losses):
    assert losses.find("focal")() == 1 and losses.find("cross_entropy") is len
    assert list(losses) == ["focal", "cross_entropy"]


def test_the_nearest_name_and_all_names_are_told(losses):
    with pytest.raises(InputError) as caught:
        losses.find("fokal")
    assert str(caught.value) == (
        "no loss named 'fokal'; did you mean 'focal'? (have: cross_entropy, focal)"
    )


def test_nothing_is_offered_for_a_name_unlike_any(losses):
    with pytest.raises(InputError, match="no loss named 'zzz' ") as caught:
        losses.find("zzz")
    assert "did you mean" not in str(caught.value)


def test_a_name_taken_twice_is_our_bug(losses):
    with pytest.raises(AssertionError, match="'focal' is entered twice"):
        losses.register("focal")(len)
    assert losses.find("focal")() == 1


def test_unknown_name_takes_any_collection():
    error = unknown_name("eye", "leff", {"left": 1, "right": 2})
    assert "did you mean 'left'?" in str(error)


def test_errors_a_user_can_act_on_have_their_own_exit_codes():
    codes = {kind.__name__: kind.exit_code for kind in FundusError.__subclasses__()}
    assert codes["InputError"] == 2 and codes["NoCheckpointError"] == 3
    assert codes["DiskError"] == 4 and codes["BadInputsError"] == 5 and codes["LockedError"] == 6
    assert issubclass(InputError, ValueError)


@dataclass(frozen=True, kw_only=True)
class Facts:
    title: str
    weighs: bool = False


def test_facts_stand_beside_a_name():
    registry: Registry = Registry("loss", Facts)
    registry.register("focal", title="focal loss", weighs=True)(len)
    assert registry.facts("focal") == Facts(title="focal loss", weighs=True)
    with pytest.raises(InputError, match="did you mean 'focal'"):
        registry.facts("fokal")
    with pytest.raises(TypeError, match="wieghs"):
        registry.register("other", title="other", wieghs=True)
    with pytest.raises(TypeError, match="title"):
        registry.register("other")
    with pytest.raises(AssertionError, match="keeps no facts"):
        Registry("loss").register("other", title="other")


def test_a_registry_reads_as_a_mapping(losses):
    assert "focal" in losses and "dice" not in losses and len(losses) == 2
    assert losses.get("dice") is None and losses["cross_entropy"] is len
    with pytest.raises(KeyError):
        losses["dice"]


def test_a_new_file_in_a_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = tmp_path / "found_by_folder"
    package.mkdir()
    lines = "from fundusray.registry import Registry, import_folder\nNAMES = Registry('name')\n"
    (package / "__init__.py").write_text(
        lines + "import_folder(__name__, __path__, but=('heavy',))\n"
    )
    entered = "from found_by_folder import NAMES\nNAMES.register('new')(len)\n"
    (package / "new.py").write_text(entered)
    (package / "heavy.py").write_text("raise ImportError\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import found_by_folder

    assert list(found_by_folder.NAMES) == ["new"]
    for name in [name for name in sys.modules if name.startswith("found_by_folder")]:
        del sys.modules[name]


@pytest.mark.parametrize("setting", REGISTRIES)
def test_every_setting_that_names_something_finds_its_registry(setting: str):
    names = list(choices(setting))
    assert names
    for name in names:
        require_choice(setting, name)
    with pytest.raises(InputError, match="'no_such'"):
        require_choice(setting, "no_such")


def test_samplings_say_what_people_call_them():
    assert registry("sampling.name").facts("quotas").title == "class quotas"


def some(
    rows: int,
    *,
    power: Annotated[float, AtLeast(0)] = 1.0,
    scale: Annotated[float, Above(0)] = 1.0,
    share: Annotated[float, Within(0, 1, "(]")] = 0.5,
    kind: Annotated[str, OneOf("hard", "soft")] = "hard",
    steps: int = 3,
    plain: float = 1.5,
    flag: bool = False,
    several: tuple[float, ...] = (),
) -> None: ...


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("power", -0.1, "args.power: needs a number of at least 0, got -0.1"),
        ("scale", 0, "args.scale: needs a number above 0, got 0"),
        ("share", 0.0, "args.share: needs a number in (0, 1], got 0.0"),
        ("share", float("nan"), "got nan"),
        ("kind", "sotf", "args.kind: needs hard or soft, got 'sotf'; did you mean 'soft'?"),
        ("kind", 3, "needs hard or soft, got 3"),
        ("steps", 1.5, "needs a whole number, got 1.5"),
        ("plain", "much", "needs a number, got 'much'"),
        ("plain", True, "needs a number, got True"),
        ("flag", 1, "needs true or false, got 1"),
        ("powr", 1, "no argument named 'powr'; did you mean 'power'?"),
        ("rows", 1, "no argument named 'rows'"),
    ],
)
def test_a_keyword_is_what_its_type_says(key: str, value, sentence: str):
    with pytest.raises(InputError) as caught:
        check_keywords("args", "argument", some, frozenset({"rows"}), {key: value})
    assert sentence in str(caught.value)


def test_right_keywords_pass_and_a_signature_shows_them():
    right = {"power": 0, "scale": 0.1, "share": 1, "kind": "soft", "steps": 4.0, "several": (1, 2)}
    check_keywords("args", "argument", some, frozenset({"rows"}), right)
    assert signature("some", some, frozenset({"rows"})) == (
        "some(power=1, scale=1, share=0.5, kind=hard, steps=3, plain=1.5, flag=False, several=())"
    )
