"""A loss, a source, an augmentation and a metric from outside: one file each, nothing else touched.

The files are a stranger's package beside a made-up installation of it. One process of the real
commands has them: three by entry points, one named by the environment.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent

LOSS = '''
"""Cross entropy weighted by (n_max / n)^strength."""
from typing import Annotated

import torch
import torch.nn.functional as F

from fundusray.keywords import Within
from fundusray.losses import LOSSES


def weights(counts, strength=0.5):
    return (counts.max() / counts.clamp_min(1)) ** strength


@LOSSES.register("tempered", weights=weights, weighs_cross_entropy=True)
def tempered(logits, target, *, counts, strength: Annotated[float, Within(0, 1)] = 0.5):
    """Cross entropy of rare classes counts more."""
    own = weights(counts.double(), strength).to(logits)[target]
    return own * F.cross_entropy(logits, target, reduction="none")
'''

SOURCE = '''
"""Photographs graded for glaucoma: discs.csv (photo,patient,cup) and photos/<photo>.jpg."""
from fundusray.data.reading.rows import (
    converted_column,
    find_photographs,
    joined_parts,
    one_of,
    read_name,
    table_rows,
)
from fundusray.data.manifest.contract import LABELS, SOURCES
from fundusray.data.reading.folders import list_folder, need_folder
from fundusray.data.reading.csv_files import read_table

CLASSES = ("absent", "suspected", "present")
LABELS.register("glaucoma")(CLASSES)


@SOURCES.register("discs", title="Discs", marks=("discs.csv",), labels=("glaucoma",))
def discs(data, root, seed):
    """The stranger's layout."""
    root = need_folder(root, "source 'discs' expects discs.csv")
    rows = table_rows(read_table(root, "discs.csv", ("photo", "patient", "cup")), "photo")
    rows.columns["patient_id"] = converted_column(rows, "patient", read_name, "a name")
    cups = {"0": 0, "1": 1, "2": 2, "": -1}
    rows.columns["glaucoma"] = converted_column(rows, "cup", one_of(cups), "0, 1, 2 or nothing")
    find_photographs(rows, [list_folder(root, "photos")], "photo", "photos/{}.jpg")
    return joined_parts([rows], {"glaucoma": CLASSES})
'''

AUGMENTATION = '''
"""Darker pictures."""
import numpy as np

from fundusray.pipeline.augment.draws import no_effect
from fundusray.pipeline.augment.operations import OPERATIONS
from fundusray.pipeline.augment.values import checked_number


@OPERATIONS.register("darken")
def darken(dice, by: float = 0.2):
    """All colours times a factor from 1 - by to 1."""
    effect = no_effect(dice)
    effect.colour[:, :, :3] *= dice.uniform(1 - checked_number("by", by, 0, 1), 1)[:, None, None]
    return effect
'''

METRIC = '''
"""Cost of referring: missed disease counts five times a needless referral."""
import numpy as np

from fundusray.metrics import METRICS


@METRICS.register(
    "referral_cost",
    title="cost of referral",
    meaning="Mean cost of an eye: 5 for missed disease, 1 for a needless referral.",
    higher=False,
    span=(0.0, 5.0),
)
def referral_cost(rows):
    """The mean cost of a row."""
    ill, called = rows.targets > 0, rows.logits.argmax(axis=1) > 0
    return float(np.mean(5.0 * (ill & ~called) + 1.0 * (~ill & called)))


@METRICS.register("gain", title="gain", constant=lambda targets: 0.5)
def gain(rows):
    """The share of rows called rightly ill or well."""
    return float(np.mean((rows.targets > 0) == (rows.logits.argmax(axis=1) > 0)))
'''

CHILD = '''
"""What the commands and functions say when the stranger's package is there; as JSON."""
import contextlib
import io
import json
import runpy
import sys

import numpy as np

jobs, work = sys.argv[1:]
said = {}


def command(name, *arguments):
    sys.argv = [f"{jobs}/train.py", *arguments]
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        try:
            runpy.run_path(f"{jobs}/train.py", run_name="__main__")
        except SystemExit as ended:
            said[name] = {"code": int(ended.code or 0), "text": text.getvalue()}


discs = f"{work}/discs"
tempered = ("demo", "loss.name=tempered", f"run.storage={work}/runs")
command("too strong", *tempered, "loss.args.strength=1.5")
command("no number", *tempered, "loss.args.strength=much")
command("misspelt", *tempered, "loss.args.strenght=0.5")
command("by its marks", "demo", f"data={discs}", "data.target=glaucoma", "show=true")
command("darkness", "demo", "data.augment=hflip() + darken(2)", f"run.storage={work}/runs")
command("darkness misspelt", "demo", "data.augment=darkn(0.1)", f"run.storage={work}/runs")
command("choosing", "demo", "train.select=gain", "show=true")
command("not choosing", "demo", "train.select=referral_cost", "show=true")
command("help", "--help")

from fundusray import metrics
from fundusray.config import Data, from_json, override, to_json
from fundusray.data.manifest import build
from fundusray.jobs.training import trial_from
from fundusray.losses import effective_weights
from fundusray.pipeline.augment.augmentation import parse_augmentation
from fundusray.recipes import find_recipe
from fundusray.reports import html, sentences, leaderboards
from fundusray.reports.trials import measure_trials

built = build.build_manifest(Data(source="discs", target="glaucoma"), discs, 0)
said["manifest"] = {
    "classes": built.classes,
    "target": built.table["target"].to_pylist(),
    "glaucoma": built.table["glaucoma"].to_pylist(),
    "hash": built.hash,
}
named = Data(
    source="csv", table="discs.csv", images="photos", target="glaucoma",
    columns={"image": "photo", "glaucoma": "cup", "patient": "patient"},
)
said["csv"] = build.build_manifest(named, discs, 0).table["target"].to_pylist()
several = Data(source="discs,synthetic", num_images=20)
both = build.build_manifest(several, f"{discs},{work}/drawn", 0, labelled=False)
said["joined"] = sorted(set(both.table["glaucoma"].to_pylist()))

rows = np.arange(64)
draws = parse_augmentation("darken(0.5)").draw(32, seed=1, epoch=0, rows=rows, repeat=0 * rows)
factors = np.where(draws.coloured, draws.colour[:, 0, 0], draws.brightness)
said["factors"] = np.unique(factors).tolist()

rng = np.random.default_rng(0)
targets = np.arange(200) % 5
predictions = {}
for name, noise in (("plain", 3.0), ("sharp", 0.4)):
    logits = np.eye(5)[targets] + rng.normal(0, noise, (200, 5))
    names = [f"i{k}" for k in range(200)], [f"p{k // 2}" for k in range(200)]
    predictions[name] = metrics.predictions_table(*names, targets, logits)
said["summary"] = metrics.figure_summary(predictions["sharp"])
said["paired"] = metrics.paired_differences(predictions["sharp"], predictions["plain"])
several = [predictions["sharp"], predictions["plain"]]
said["repeated"] = metrics.repeated_differences(several, several[::-1])

import fundusray.files as files
recipe = override(find_recipe("demo"), {"loss.name": "tempered", "loss.args.strength": 0.01})
said["equal"] = from_json(to_json(recipe)) == recipe
trials = []
for name, own in (("plain", find_recipe("demo")), ("tempered", recipe)):
    place = f"{work}/{name}.parquet"
    files.write_table(place, predictions["sharp" if name == "tempered" else "plain"])
    result = {"status": "finished", "predictions": place}
    trials.append(trial_from(own, result, name, [40, 40, 40, 40, 40 if name == "plain" else 38], 8))
written = leaderboards.write_search(f"{work}/report", trials, {}, {"title": "Strangers"})
said["leaderboard"] = open(written["leaderboard"]).read()
said["notes"] = open(f"{work}/report/leaderboard.md").read()
said["page"] = open(written["report"]).read()
said["weights"] = effective_weights("tempered", {"strength": 1.0}, [40, 20])
print("\\n" + json.dumps(said))
'''


def install(folder: Path) -> None:
    """The stranger's files, three of them named as an installed package's entry points are."""
    modules = {"loss": LOSS, "source": SOURCE, "augmentation": AUGMENTATION, "metric": METRIC}
    for name, text in modules.items():
        (folder / f"strange_{name}.py").write_text(text)
    about = folder / "strangers-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: strangers\nVersion: 1.0\n")
    entries = [f"{name} = strange_{name}" for name in modules if name != "metric"]
    (about / "entry_points.txt").write_text("[fundusray]\n" + "\n".join(entries) + "\n")


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What CHILD finds."""
    folder = tmp_path_factory.mktemp("strangers")
    install(folder)
    discs = folder / "discs"
    (discs / "photos").mkdir(parents=True)
    lines = ["photo,patient,cup"]
    for number in range(12):
        (discs / "photos" / f"d{number}.jpg").write_bytes(b"not looked at")
        lines.append(f"d{number},p{number // 2},{number % 3}")
    (discs / "photos" / "d12.jpg").write_bytes(b"not looked at")
    (discs / "discs.csv").write_text("\n".join([*lines, "d12,p9,"]) + "\n")
    paths = os.pathsep.join([str(folder), str(ROOT)])
    surroundings = {**os.environ, "PYTHONPATH": paths, "FUNDUSRAY_PLUGINS": "strange_metric"}
    (folder / "child.py").write_text(CHILD)
    command = [sys.executable, str(folder / "child.py"), str(ROOT / "jobs"), str(folder)]
    ended = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    return json.loads(ended.stdout.splitlines()[-1])


def test_a_strange_loss_is_checked_by_what_its_signature_says(said) -> None:
    for name, sentence in [
        ("too strong", "loss.args.strength: needs a number in [0, 1], got 1.5"),
        ("no number", "loss.args.strength: needs a number in [0, 1], got 'much'"),
        ("misspelt", "no argument of loss tempered named 'strenght'; did you mean 'strength'?"),
    ]:
        assert said[name]["code"] == 2
        assert sentence in said[name]["text"] and "Traceback" not in said[name]["text"]


def test_what_strangers_bring_stands_in_the_help(said) -> None:
    assert said["help"]["code"] == 0
    text = " ".join(said["help"]["text"].split())
    for name in ("tempered(strength=0.5)", "discs", "glaucoma (csv discs)", "darken(by=0.2)"):
        assert name in text
    assert "corrupted_kappa, dice, gain, kappa, robust_accuracy" in text


def test_a_strange_loss_says_how_it_weighs(said) -> None:
    assert said["weights"] == [1.0, 2.0] and said["equal"]
    assert "- tempered: the largest class weight is at most 1.001 times" in said["notes"]
    assert "this loss is the same as cross entropy" in said["notes"]


def test_a_strange_source_is_known_by_its_marks_and_its_label_learned(said) -> None:
    text = said["by its marks"]["text"]
    assert said["by its marks"]["code"] == 0
    shown = json.loads(text[text.index("{") : text.rindex("RESULT")])["data"]
    assert (shown["source"], shown["target"]) == ("discs", "glaucoma")
    built = said["manifest"]
    assert built["classes"] == ["absent", "suspected", "present"]
    assert built["target"] == built["glaucoma"] == [number % 3 for number in range(12)]
    assert said["csv"] == built["target"]
    assert said["joined"] == [-1, 0, 1, 2]


def test_a_strange_augmentation_is_drawn_and_checked(said) -> None:
    factors = said["factors"]
    assert len(factors) == 64 and 0.5 <= min(factors) < 0.6 and 0.9 < max(factors) <= 1
    assert said["darkness"]["code"] == said["darkness misspelt"]["code"] == 2
    assert "darken(2)\n" in said["darkness"]["text"] and "^" in said["darkness"]["text"]
    assert "did you mean 'darken'?" in said["darkness misspelt"]["text"]


def test_a_strange_metric_is_measured_compared_and_shown(said) -> None:
    summary = said["summary"]
    assert 0 < summary["referral_cost_low"] < summary["referral_cost"]
    assert summary["referral_cost"] < summary["referral_cost_high"] < 5
    # Less of it is better, so that the sharper network, whose cost is lower, is the better one.
    pair = said["paired"]["referral_cost"]
    assert pair["difference"] < pair["high"] < 0 and pair["verdict"] == "better"
    assert said["repeated"]["referral_cost"]["seed_sd"] > 0
    head, _, row = said["leaderboard"].split("\n")[:3]
    cells = dict(zip(head.split(","), row.split(","), strict=False))
    assert {"referral_cost_low", "referral_cost_high", "gain"} <= set(cells)
    assert '<th scope="col" class="n">Cost of referral</th>' in said["page"]
    assert "5 for missed disease" in said["page"]


def test_a_strange_metric_that_says_what_a_constant_answer_reaches_chooses_epochs(said) -> None:
    assert said["choosing"]["code"] == 0 and '"select": "gain"' in said["choosing"]["text"]
    assert said["not choosing"]["code"] == 2
    assert "no train.select named 'referral_cost'" in said["not choosing"]["text"]


def test_a_plugin_that_cannot_be_imported_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken_plugin.py").write_text("import nothing_of_that_name\n")
    text = (
        "from fundusray.errors import InputError\n"
        "from fundusray.registry import Registry\n"
        "for _ in range(2):\n"
        "    try:\n"
        "        Registry('loss').find('new')\n"
        "    except InputError as error:\n"
        "        print(error)\n"
    )
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    surroundings = {**os.environ, "PYTHONPATH": paths, "FUNDUSRAY_PLUGINS": "broken_plugin"}
    command = [sys.executable, "-c", text]
    ended = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=True)
    first, second = ended.stdout.splitlines()
    assert first == second
    assert first.startswith(
        "plugin broken_plugin (named by FUNDUSRAY_PLUGINS) cannot be imported: ModuleNotFoundError"
    )
