"""From a command line to a recipe, and from a result or an error to a last line and an exit code.

Every job speaks the same language: `python jobs/<job>.py [name] key=value ...`, with the switches
`show=true` (print the recipe and stop) and `smoke=true` (shrink it to seconds on drawn images).
"""

import json
import os
import signal
import sys
import textwrap
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from fundusray import config, files, recipes
from fundusray.cluster.runtime.start import left_as_found
from fundusray.config import Data, Recipe, is_published
from fundusray.data.manifest.contract import LABELS, SOURCES
from fundusray.errors import DiskError, FundusError, InputError
from fundusray.keywords import signature
from fundusray.losses.registry import LOSSES, PASSED
from fundusray.pipeline.augment.operations import OPERATIONS
from fundusray.pipeline.augment.presets import PRESETS
from fundusray.settings.choices import REGISTRIES, choices

OF_THE_DICE = frozenset({"dice"})
"""What an operation is given beside its own values."""
LOCAL_STORAGE = "runs"
JOB_STORAGE = "~/fundusray-runs"


@dataclass(frozen=True)
class Command:
    """What a command line asks for."""

    words: list[str]
    """What is not key=value, in order."""
    changes: dict[str, str]
    show: bool
    smoke: bool


def parse_command(arguments: list[str]) -> Command:
    """Reads a command line.

    Raises:
        InputError: a key given twice, a switch that is neither true nor false, a dashed option.
    """
    words: list[str] = []
    changes: dict[str, str] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            if key.startswith("-"):
                raise InputError(f"{key}: settings are given as key=value, e.g. train.epochs=5")
            words.append(key)
        elif key in changes:
            raise InputError(f"{key} is given twice: {changes[key]!r} and {value!r}")
        else:
            changes[key] = value
    switches = {}
    for name in ("show", "smoke"):
        given = changes.pop(name, "false").lower()
        if given not in ("true", "false"):
            raise InputError(f"{name}: true or false, got {given!r}")
        switches[name] = given == "true"
    return Command(words, changes, **switches)


def with_absolute_places(recipe: Recipe, submitted: bool) -> Recipe:
    """The recipe with its places absolute.

    A submitted job runs in an unpacked copy of the working directory, where a relative path names
    nothing of the caller's, so it is refused there.

    Raises:
        InputError: a relative place in a submitted job, or data.root missing or not there.
    """
    data, storage = recipe.data, recipe.run.storage
    # A row of a table may name the row it goes on from; only the table knows its bundle.
    named = recipe.model.init_from in recipes.RECIPES
    places = {
        "run.storage": storage,
        "data.split_file": data.split_file,
        "data.id_key": data.id_key,
        "model.weights": "" if is_published(recipe.model.weights) else recipe.model.weights,
        "model.init_from": "" if named else recipe.model.init_from,
    }
    several = "," in data.source
    roots = [part.strip() for part in data.root.split(",")] if several else [data.root]
    lists = [("data.root", root) for root in roots] + [("data.mix", one) for one in data.mixed]
    for key, place in [*places.items(), *lists]:
        relative = (
            place and not files.is_uri(place) and not os.path.isabs(os.path.expanduser(place))
        )
        if submitted and relative:
            raise InputError(
                f"{key}={place}: a submitted job runs in a copy of your folder on the cluster, "
                "where a relative path points nowhere; give an absolute path or a URI that every "
                "node can read"
            )
    root = ",".join(_settled_roots(data, roots))
    default = JOB_STORAGE if submitted else LOCAL_STORAGE
    storage = files.absolute(storage or default)
    model = recipe.model
    if model.weights and not is_published(model.weights):
        recipe = replace(recipe, model=replace(model, weights=files.absolute(model.weights)))
    if model.init_from and not named:
        recipe = replace(recipe, model=replace(model, init_from=files.absolute(model.init_from)))
    return replace(
        recipe,
        data=replace(
            data,
            root=root,
            split_file=data.split_file and files.absolute(data.split_file),
            id_key=data.id_key and files.absolute(data.id_key),
            mix=",".join(files.absolute(folder) for folder in data.mixed),
        ),
        run=replace(recipe.run, storage=storage),
    )


def _settled_roots(data: Data, roots: list[str]) -> list[str]:
    """An absolute root for every source but synthetic, which draws its own photographs."""
    sources = [name.strip() for name in data.source.split(",")]
    wanting = [name for name in sources if name != "synthetic"]
    if not wanting:
        if data.root:
            raise InputError(
                f"data.root={data.root}: source synthetic draws its own photographs; for your own "
                "give data.source=eyepacs or data.source=folder"
            )
        return []
    if not data.root:
        raise InputError(
            f"data.source={data.source} needs data.root=<folder or URI of the photographs>; "
            "without any data use data.source=synthetic"
        )
    if len(roots) != len(wanting):
        raise InputError(
            f"data.source={data.source} needs {len(wanting)} roots with commas between them, "
            f"data.root has {len(roots)}: {data.root}"
        )
    absolute = [files.absolute(root) for root in roots]
    for root in absolute:
        if not files.exists(root):
            raise InputError(f"data.root={root}: there is no such folder")
    return absolute


def usage_text(text: str) -> str:
    """A job's help: its docstring and every setting with its default."""
    lines = [text.strip(), "", "settings (key=value; lists with commas) and their defaults:"]
    recipe = Recipe()
    for key in config.setting_names(recipe):
        node: Any = recipe
        if "<" not in key:
            for part in key.split("."):
                node = getattr(node, part)
        lines.append(f"  {key}" if "<" in key else f"  {key}={_plain(node)}")
    presets = ", ".join(recipes.PRESETS)
    switches = [
        "  data=<folder>   photographs, known by their tables; or a name in FUNDUSRAY_DATA",
        f"  preset=<name>   several settings at once ({presets})",
        "  show=true       print the recipe and stop",
        "  smoke=true      shrink it",
    ]
    return "\n".join([*lines, *switches, "", "names to choose from:", *_names()])


def _names() -> list[str]:
    """The names that settings can have, losses and operations with their keywords."""
    held = {setting: sorted(filter(None, choices(setting))) for setting in REGISTRIES}
    held["loss.name"] = [signature(name, LOSSES.find(name), PASSED) for name in held["loss.name"]]
    held["data.target"] = [f"{label} ({_sources_of(label)})" for label in LABELS]
    operations = [signature(name, OPERATIONS.find(name), OF_THE_DICE) for name in OPERATIONS]
    held["data.augment"] = [*PRESETS, *operations]
    wide = max(map(len, held))
    return [
        textwrap.fill(
            f"  {setting:{wide}}  {', '.join(names)}",
            width=100,
            subsequent_indent=" " * (wide + 4),
            break_long_words=False,
        )
        for setting, names in held.items()
    ]


def _sources_of(label: str) -> str:
    """The sources that have a label."""
    given = {name: SOURCES.facts(name).labels for name in SOURCES}
    return " ".join(name for name, own in given.items() if own is None or label in own)


def _plain(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def main(text: str, act: Callable[[Command], dict[str, Any]], arguments: list[str]) -> int:
    """Runs a job; the exit code. The last line printed is `RESULT {json}`.

    Codes: 0 done, 1 a failed run or a fault of ours, 2 wrong input, 3 no usable checkpoint,
    4 disk full, 5 too many bad images, 6 folder in use, 130 Ctrl-C, 143 terminated.
    """
    if {"-h", "--help"} & set(arguments):
        print(usage_text(text))
        return 0
    signal.signal(signal.SIGTERM, _terminate)
    try:
        with left_as_found():
            result = act(parse_command(arguments))
    except KeyboardInterrupt:
        result = _stopped(130, "interrupted; the same command goes on where it stands")
    except SystemExit:  # of our handler, or the one Ray puts in its place
        result = _stopped(143, "terminated; the same command goes on where it stands")
    except FundusError as error:
        result = _failed(error.exit_code, str(error))
    except OSError as error:
        full = error.errno in files.FULL
        if not full:
            traceback.print_exc()
        result = _failed(DiskError.exit_code if full else 1, str(error))
    except Exception as error:
        # A fault of ours: the trace is for whoever mends it, the line for whoever reads the log.
        traceback.print_exc()
        result = _failed(1, f"{type(error).__name__}: {error}")
    print("RESULT " + json.dumps(result, sort_keys=True), flush=True)
    return result.get("code", 0)


def _terminate(number: int, frame: Any) -> None:
    raise SystemExit(128 + number)


def _failed(code: int, reason: str) -> dict[str, Any]:
    print(f"error: {reason}", file=sys.stderr, flush=True)
    return {"status": "failed", "code": code, "reason": reason}


def _stopped(code: int, reason: str) -> dict[str, Any]:
    print(reason, file=sys.stderr, flush=True)
    return {"status": "stopped", "code": code, "reason": reason}
