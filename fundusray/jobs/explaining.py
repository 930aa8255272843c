"""The job that shows what networks look at, and scores it against lesion masks where there are
some."""

import shlex
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fundusray import files
from fundusray.cluster.attack import attacked_sample
from fundusray.cluster.class_matching import in_classes_of
from fundusray.cluster.explain import ExplainPlan, explained_location
from fundusray.command import Command
from fundusray.conditions import (
    Clean,
    CorruptionCondition,
    WorstCase,
    parse_condition,
    require_condition_of_task,
)
from fundusray.config import Recipe
from fundusray.data.prepared.prepared_set import PreparedSet, open_set
from fundusray.errors import InputError
from fundusray.jobs.attacking import photographs_asked
from fundusray.jobs.class_of_text import class_of_text
from fundusray.jobs.command_to_recipe import prepared_of, print_recipe
from fundusray.jobs.evaluating import asked_recipe
from fundusray.jobs.explained_photograph import explain_photograph
from fundusray.jobs.explained_sheet import explained_sheet
from fundusray.metrics.attribution_tables import score_differences, score_table
from fundusray.models.bundle import Bundle
from fundusray.models.load_weights import weights_digest
from fundusray.reports.evaluation_page import evaluation_page
from fundusray.reports.explanation_page import ExplanationFacts, explanation_page, printed_lines
from fundusray.runs.check_segmentation import require_label
from fundusray.runs.joined_networks import (
    JOIN,
    member_folders,
    network_place,
    open_network,
    rows_unseen_by_all,
)
from fundusray.runs.provenance import require_pixels
from fundusray.saliency import MAPS, MapMethod, parse_methods
from fundusray.training.evaluator import layers_of

OWN = ("method", "target", "image", "condition", "overlays", "checks", "explain.rows")
"""What this job takes beside the settings of a recipe."""
METHODS = "integrated_gradients,grad_cam,occlusion"
ROWS = 200
CLEAN = Clean()
UNLABELLED = {"data.judge": "any", "data.masks": "any"}
"""Photographs without a label are explained, too, and masks kept where there are some."""


@dataclass(frozen=True)
class AskedNetwork:
    """A network that is to be explained."""

    name: str
    place: str
    """`<bundle>`, or several with a + between them, whose mean answer is explained."""
    bundle: Bundle
    recipe: Recipe
    """Its own, with the photographs that are asked for."""


def explain(asked: Command) -> dict[str, Any]:
    """Maps of one or several bundles for photographs that are new to all of them, scored where
    there are masks; with image=<file> a sheet of one photograph."""
    if not asked.words:
        raise InputError("give a bundle: python jobs/explain.py <run folder>/bundle key=value")
    plan, num = asked_plan(asked.changes)
    for condition in plan.conditions:
        require_condition_of_task(condition, segmentation=False)
    networks = asked_networks(asked)
    if asked.show:
        return print_recipe(networks[0].recipe)
    plan = with_target(plan, asked.changes.get("target", "predicted"), networks[0].bundle.classes)
    if "image" in asked.changes:
        first = networks[0]
        return explain_photograph(first.bundle, first.recipe, plan, asked.changes["image"])
    recipe = networks[0].recipe
    damaged = any(isinstance(one, CorruptionCondition) for one in plan.conditions)
    prepared = prepared_of(recipe, trains=False, frames=damaged)
    first = networks[0]
    opened = in_classes_of(open_set(prepared), first.place, first.bundle)
    judged = rows_unseen_by_all(
        opened, [one.place for one in networks], [one.bundle for one in networks]
    )
    rows, notes = judged.rows, list(judged.notes)
    if not len(rows):
        raise InputError(
            f"none of the {len(opened):,} photographs is new to {first.place}; give others (data=)"
        )
    some = attacked_sample(rows, num, recipe.split_seed)
    key = [[weights_digest(one.place) for one in networks], files.base_name(prepared)]
    key = files.hash_json([*key, some.tolist(), plan.text], 8)
    folder = files.join(recipe.run.storage, f"{recipe.name}-explained-{key}")
    tables = []
    for number, one in enumerate(networks, 1):
        below = f"network-{number}"
        own, left = fitting(plan, one, alone=len(networks) == 1)
        notes += left
        location = explained_location(
            one.place, prepared, some, own, files.join(folder, below), recipe.cluster.cpus
        )
        tables.append(_of_network(files.read_table(location), one.name, below))
    if len(some) < len(rows):
        notes.append(
            f"{len(some):,} of {len(rows):,} photographs, chosen by the seed of the split; "
            "explain.rows=0 takes all"
        )
    facts = ExplanationFacts(
        recipe.name, networks[0].bundle.classes, tuple(one.name for one in networks),
        tuple(map(str, plan.conditions)), tuple(notes), _command(asked),
    )  # fmt: skip
    index = pa.concat_tables(tables)
    return {"status": "finished", "folder": folder, "prepared": prepared} | _told(
        folder, index, opened, facts
    )


def asked_plan(changes: dict[str, str]) -> tuple[ExplainPlan, int]:
    """(what is made of which photographs, the class left open; how many photographs).

    Raises:
        InputError: maps, conditions or numbers that cannot be.
    """
    methods = parse_methods(changes.get("method", METHODS))
    conditions = [parse_condition(text) for text in changes.get("condition", "clean").split(";")]
    if any(isinstance(one, WorstCase) for one in conditions):
        raise InputError("condition=worst_case: maps are made of photographs, attacked or damaged")
    # The photographs as they are come first: the others' maps are held against theirs.
    kept = dict.fromkeys([CLEAN, *conditions])
    switches = {}
    for key in ("overlays", "checks"):
        if changes.get(key, "false") not in ("true", "false"):
            raise InputError(f"{key}: true or false, got {changes[key]!r}")
        switches[key] = changes.get(key) == "true"
    return (
        ExplainPlan(methods, None, tuple(kept), **switches),
        photographs_asked(changes, "explain.rows", ROWS),
    )


def with_target(plan: ExplainPlan, text: str, classes: tuple[str, ...]) -> ExplainPlan:
    """The plan with the class that `text` names, by its name or number; `predicted` leaves it to
    the network.

    Raises:
        InputError: the network has no such class.
    """
    if text == "predicted":
        return plan
    return replace(plan, target=class_of_text("target", text, classes, ("predicted",)))


def fitting(plan: ExplainPlan, network: AskedNetwork, alone: bool) -> tuple[ExplainPlan, list[str]]:
    """The plan with the maps that a network can give, and which are left out, in sentences.

    Args:
        alone: of a network that is asked about by itself nothing is left out: the map says what it
            needs.

    Raises:
        InputError: of several networks this one gives none of the maps.
    """
    left = [method for method in plan.methods if lacking(method, network.bundle)]
    if alone or not left:
        return plan, []
    kept = tuple(method for method in plan.methods if method not in left)
    if not kept:
        raise InputError(f"{network.name} gives none of these maps; add integrated_gradients")
    said = [f"{network.name}: {one} left out, {lacking(one, network.bundle)}" for one in left]
    return replace(plan, methods=kept), said


def lacking(method: MapMethod, bundle: Bundle) -> str:
    """What a network has not and a map needs, in words; "" where it has all."""
    needs = MAPS.facts(method.name).needs
    if needs == "evidence":
        return getattr(bundle.model, "no_evidence", "it is several networks")
    if not needs or needs in layers_of(bundle) or method.keywords.get("layer"):
        return ""
    return "it has no such layer of its own"


def asked_networks(asked: Command) -> list[AskedNetwork]:
    """The bundles of a command line, which must see the same pixels and know the same classes.

    Raises:
        InputError: one is no bundle, is given twice, or sees other pixels or classes.
    """
    changes = {key: value for key, value in asked.changes.items() if key not in OWN}
    found: list[AskedNetwork] = []
    for word in asked.words:
        place = network_place(word)
        bundle = open_network(place)
        require_label(bundle.recipe, place)
        recipe = asked_recipe(place, bundle.recipe, UNLABELLED | changes)
        runs = [files.base_name(one.rpartition("/")[0]) or one for one in member_folders(place)]
        name = JOIN.join(runs)
        found.append(AskedNetwork(name, place, bundle, recipe))
    first = found[0]
    for one in found[1:]:
        require_pixels(one.place, one.bundle.recipe.data, first.recipe.data)
        if one.bundle.classes != first.bundle.classes:
            raise InputError(
                f"{one.place} knows {', '.join(one.bundle.classes)} and {first.place} "
                f"{', '.join(first.bundle.classes)}: maps are compared toward the same classes"
            )
    if len({one.name for one in found}) < len(found):
        raise InputError("the networks have to be of runs with different names, each once")
    return found


def _of_network(table: pa.Table, name: str, below: str) -> pa.Table:
    """A network's index as a part of all: its name, its places seen from the common folder."""
    for column in ("map", "overlay"):
        places = [place and f"{below}/{place}" for place in table[column].to_pylist()]
        at = table.schema.get_field_index(column)
        table = table.set_column(at, column, pa.array(places, pa.string()))
    return table.add_column(0, "network", pa.array([name] * table.num_rows))


def _command(asked: Command) -> str:
    words = [*asked.words, *(f"{key}={value}" for key, value in asked.changes.items())]
    return f"python jobs/explain.py {' '.join(map(shlex.quote, words))}"


def score_rows(index: pa.Table) -> pa.Table | None:
    """A row for each score of each map; None where there are none."""
    names = ("network", "image_id", "patient_id", "condition", "method", "scores")
    rows = [
        {name: value for name, value in row.items() if name != "scores"} | score
        for row in index.select(names).to_pylist()
        for score in row["scores"]
    ]
    return pa.Table.from_pylist(rows) if rows else None


def _told(
    folder: str, index: pa.Table, opened: PreparedSet, facts: ExplanationFacts
) -> dict[str, Any]:
    """Writes index, scores, tables, sheet and page, and prints what came of it; where they are."""
    scores = score_rows(index)
    places = {name: files.join(folder, f"{name}.parquet") for name in ("index", "scores")}
    files.write_table(places["index"], index.drop_columns(["scores"]))
    figures: list[dict[str, Any]] = []
    differences: list[dict[str, Any]] = []
    if scores is None:
        del places["scores"]
    else:
        files.write_table(places["scores"], scores)
        for condition in facts.conditions:
            some = scores.filter(pc.equal(scores["condition"], condition))
            if not some.num_rows:
                continue
            said = {"condition": condition}
            figures += [said | row for row in score_table(some)]
            for other in facts.networks[1:]:
                between = score_differences(some, other, facts.networks[0])
                differences += [said | row for row in between]
        places |= {"table": files.join(folder, "scores.csv")}
        files.write_csv(places["table"], figures)
        if differences:
            places |= {"differences": files.join(folder, "differences.csv")}
            files.write_csv(places["differences"], differences)
    sheet = explained_sheet(folder, index, opened, facts.networks)
    places |= {
        "sheet": files.join(folder, "sheet.png"),
        "report": files.join(folder, "report.html"),
    }
    files.write_bytes(places["sheet"], sheet)
    page = explanation_page(facts, index, figures, differences, sheet)
    files.write_bytes(places["report"], evaluation_page(page).encode())
    for line in printed_lines(facts, index, figures):
        print(line)
    for note in facts.notes:
        print(f"note: {note}")
    for name, place in places.items():
        print(f"{name}: {place}")
    return places | {"n": len(set(index["image_id"].to_pylist())), "maps": index.num_rows}
