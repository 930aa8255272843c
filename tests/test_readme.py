"""The README's words are the commands' words."""

import re
import shlex
from pathlib import Path

import pytest

from fundusray import recipes
from fundusray.command import parse_command
from fundusray.config import override
from fundusray.losses import LOSSES
from fundusray.phases import parse_phases
from fundusray.training.objectives import OBJECTIVES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


OWN = {
    "jobs/derive.py": {"condition"},
    "jobs/segmentation_scheme.py": {"scale", "repeats"},
    "jobs/sheet.py": {"corruptions", "photos"},
    "jobs/leak_premium.py": {"repeats"},
    "jobs/table.py": {"scale", "rows", "start", "repeats", "network"},
}
"""Words of a job that are no settings."""


def commands() -> list[str]:
    """Every line of the README's shell blocks, continued lines joined."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


OF_BUNDLES = {
    f"jobs/{job}.py"
    for job in (
        "attack",
        "certify",
        "counterfactuals",
        "ensemble",
        "evaluate",
        "explain",
        "linearity",
        "modulation",
        "segment",
        "symmetry",
        "transfer",
        "two_eyes",
        "universal",
    )
}
"""Jobs of a trained network, not of a recipe."""


def job_lines() -> list[str]:
    return [line for line in commands() if "jobs/" in line]


@pytest.mark.parametrize("line", job_lines())
def test_job_commands_are_understood(line: str) -> None:
    words = shlex.split(line.split("#")[0])
    start = next(i for i, word in enumerate(words) if word.startswith("jobs/"))
    assert (ROOT / words[start]).is_file()
    asked = parse_command(words[start + 1 :])
    of_bundle = words[start] in OF_BUNDLES or any(w.endswith("/bundle") for w in asked.words)
    if not of_bundle:
        named = asked.words and words[start] != "jobs/table.py"
        name = asked.words[0] if named else "balancing"
        own = {"data", "preset"} | OWN.get(words[start], set())
        override(
            recipes.find_recipe(name), {k: v for k, v in asked.changes.items() if k not in own}
        )


def test_the_file_table_is_true() -> None:
    named = re.findall(r"^\| `([^`]+)` \|", README, re.M)
    assert len(named) > 10
    for name in named:
        assert (ROOT / name).exists(), name


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"make ([a-z]+)", README)) <= targets


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_training_page_names_every_loss_output_and_method() -> None:
    text = (ROOT / "docs" / "training.md").read_text()
    named = set(re.findall(r"`([a-z_]+)`", text))
    assert set(LOSSES) <= named
    for word in ("softmax", "binary", "regression", "coral", "corn"):
        assert re.search(rf"^\| {word}\b|, {word} \|", text, re.M), word
    assert {name for name in OBJECTIVES if name} <= named
    for preset in recipes.PRESETS:
        assert f"preset={preset}" in text


@pytest.mark.parametrize("name", ["head(epochs=5) + all(epochs=20)", "norm=frozen"])
def test_phases_of_the_training_page_are_understood(name: str) -> None:
    text = (ROOT / "docs" / "training.md").read_text()
    rows = [row for row in re.findall(r"^\| `([^`]+)` \|", text, re.M) if "epochs=" in row]
    assert any(name in row for row in rows)
    for row in rows:
        assert parse_phases(row, 1)
