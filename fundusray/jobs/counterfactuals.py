"""The job that changes photographs until a network takes them for another class."""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from fundusray import files
from fundusray.cluster.class_matching import in_classes_of, order_known
from fundusray.cluster.counterfactuals import (
    CounterfactualPlan,
    counterfactual_pictures,
    counterfactuals_location,
)
from fundusray.cluster.evaluate import predictions_location
from fundusray.command import Command
from fundusray.data.prepared.prepared_set import PreparedSet, open_set
from fundusray.errors import InputError
from fundusray.jobs.attacking import photographs_asked
from fundusray.jobs.command_to_recipe import own_number, prepared_of, print_recipe
from fundusray.jobs.counterfactual_questions import Chosen, asked_question, chosen_photographs
from fundusray.jobs.evaluating import asked_recipe
from fundusray.jobs.looks import record_look
from fundusray.jobs.transferring import require_same_input
from fundusray.metrics.counterfactuals import (
    METHODS,
    SMALLEST,
    counterfactual_figures,
    h9_verdict,
    image_rows,
    method_differences,
    network_differences,
    probability_curve,
)
from fundusray.models.bundle import Bundle
from fundusray.models.load_weights import weights_digest
from fundusray.registry import unknown_name
from fundusray.reports.counterfactuals_page import (
    CounterfactualFacts,
    counterfactual_sheet,
    counterfactuals_page,
    verdict_sentence,
)
from fundusray.reports.evaluation_page import evaluation_page
from fundusray.reports.number_text import estimate_text, people_text
from fundusray.reports.robustness_curves import probability_curves
from fundusray.runs.check_segmentation import require_label
from fundusray.runs.joined_networks import (
    network_place,
    open_network,
    rows_unseen_by_all,
    single_networks,
)
from fundusray.runs.provenance import run_of
from fundusray.saliency.counterfactuals import Sweep
from fundusray.saliency.registry import OUTPUTS

OWN = ("target", "from", "counterfactuals.rows", "counterfactuals.steps", "counterfactuals.output")
"""What this job takes beside the settings of a recipe."""
ROWS = 50
"""Photographs that are changed unless told otherwise; 0: all."""
Row = dict[str, Any]
MOST_STEPS = 10_000
DRAWN = 4
"""Photographs of the sheet."""


@dataclass(frozen=True)
class Networks:
    """The networks of a command, alike in pixels and classes."""

    names: tuple[str, ...]
    places: tuple[str, ...]
    bundles: tuple[Bundle, ...]

    @property
    def digests(self) -> list[str]:
        """Of the weights of each."""
        return [weights_digest(place) for place in self.places]


def counterfactuals(asked: Command) -> dict[str, Any]:
    """Makes counterfactuals of photographs that are new to every network, by both methods."""
    if not asked.words:
        raise InputError(
            "give a bundle, or several: python jobs/counterfactuals.py <run folder>/bundle "
            "[<another>] [<bundle>+<bundle>] target=<class>"
        )
    num, sweep = photographs_asked(asked.changes, "counterfactuals.rows", ROWS), _sweep(asked)
    places = tuple(network_place(word) for word in asked.words)
    bundles = tuple(open_network(place) for place in places)
    for place, bundle in zip(places, bundles, strict=True):
        require_label(bundle.recipe, place)
    networks = Networks(network_names(places, bundles), places, bundles)
    require_same_input(places, bundles, networks.digests)
    first = bundles[0]
    ordered = order_known(first) or len(first.classes) == 2
    words = (asked.changes.get(key, "") for key in ("target", "from"))
    question = asked_question(*words, first.classes, ordered)
    changes = {key: value for key, value in asked.changes.items() if key not in OWN}
    recipe = asked_recipe(places[0], first.recipe, changes)
    if asked.show:
        return print_recipe(recipe)
    prepared = prepared_of(recipe, trains=False)
    opened = in_classes_of(open_set(prepared), places[0], first)
    judged = rows_unseen_by_all(opened, places, bundles)
    if not len(judged.rows):
        raise InputError(
            f"none of the {len(opened):,} photographs is new to {places[0]}; give others "
            "(data=<folder>)"
        )
    made = files.join(
        recipe.run.storage,
        f"counterfactual-rows-{files.hash_json([files.base_name(prepared)], 8)}",
    )
    looked = judged_predictions(networks, prepared, judged.rows, made, recipe.cluster.cpus)
    chosen = chosen_photographs(question, opened, judged, looked, (num, recipe.split_seed))
    shown = [networks.digests, files.base_name(prepared), chosen.rows.tolist(), sweep.text]
    key = files.hash_json([*shown, chosen.goals.tolist(), str(chosen.question)], 8)
    folder = files.join(recipe.run.storage, f"{recipe.name}-counterfactuals-{key}")
    tables, sheets = _tables(networks, prepared, chosen, sweep, (made, recipe.cluster.cpus))
    whose = _photographs(folder, opened, networks, chosen)
    seen = {"predictions": whose, "reported_split": judged.side}
    looks = record_look(opened.info["manifest"], seen, recipe.run.storage, folder)
    none = [
        f"none of these photographs takes part with {name}"
        for name in networks.names
        if name not in tables
    ]
    notes = (*judged.notes, *chosen.notes, *none, *looks.notes)
    text = chosen.question.text(first.classes)
    facts = CounterfactualFacts(
        text, sweep.length, sweep.steps, sweep.output, notes, _command(asked)
    )
    told = _written(folder, tables, sheets, facts, first.classes)
    start = {"status": "finished", "folder": folder, "bundles": list(places)}
    return start | {"prepared": prepared, "photographs": whose} | told | looks.result


def network_names(places: Sequence[str], bundles: Sequence[Bundle]) -> tuple[str, ...]:
    """Short names that tell networks apart: their runs' folders, with a + between joined ones."""
    names = [
        " + ".join(files.base_name(run_of(one)) for one, _ in single_networks(place, bundle))
        for place, bundle in zip(places, bundles, strict=True)
    ]
    return tuple(
        name if names.count(name) == 1 else f"{name} {weights_digest(place)[:8]}"
        for name, place in zip(names, places, strict=True)
    )


def _sweep(asked: Command) -> Sweep:
    """How counterfactuals are made.

    Raises:
        InputError: no number of steps, or nothing of a class that could be raised.
    """
    steps, _ = own_number(asked, "counterfactuals.steps", str(Sweep.steps), MOST_STEPS)
    output = asked.changes.get("counterfactuals.output", Sweep.output)
    if output not in OUTPUTS:
        raise unknown_name("counterfactuals.output", output, OUTPUTS)
    return Sweep(steps=steps, output=output)


def judged_predictions(
    networks: Networks, prepared: str, rows: np.ndarray, folder: str, cpus: int
) -> np.ndarray:
    """What each network takes the photographs in some rows for, [networks, rows]."""
    ids, answers = np.array(open_set(prepared).image_ids(), dtype=object)[rows], []
    for place in networks.places:
        table = files.read_table(predictions_location(place, prepared, rows, folder, cpus=cpus))
        names = [name for name in table.column_names if name.startswith("logit_")]
        logits = np.stack([table[name].to_numpy() for name in names], axis=1)
        answer = dict(zip(table["image_id"].to_pylist(), logits.argmax(axis=1), strict=True))
        answers.append([answer[one] for one in ids])
    return np.array(answers, np.int64)


def _tables(
    networks: Networks, prepared: str, chosen: Chosen, sweep: Sweep, where: tuple[str, int]
) -> tuple[dict[str, pa.Table], dict[str, pa.Table]]:
    """(rows of each network, pictures of a few photographs by each), of networks that any
    photograph takes part with; where: the folder of both, and the CPUs of a worker."""
    plans = {n: chosen.plan(n, sweep) for n in range(len(networks.places))}
    plans = {n: plan for n, plan in plans.items() if plan.rows}
    tables, pictures = {}, {}
    for n, plan in plans.items():
        place = counterfactuals_location(networks.places[n], prepared, plan, *where)
        tables[networks.names[n]] = files.read_table(place)
    ids = open_set(prepared).image_ids()
    best = set(drawn_photographs(list(tables.values())))
    for n, plan in plans.items():
        some = [place for place, row in enumerate(plan.rows) if ids[row] in best]
        if some:
            rows, goals = (tuple(one[place] for place in some) for one in (plan.rows, plan.goals))
            own = CounterfactualPlan(rows, goals, sweep)
            place = counterfactual_pictures(networks.places[n], prepared, own, *where)
            pictures[networks.names[n]] = files.read_table(place)
    return tables, pictures


def drawn_photographs(tables: Sequence[pa.Table]) -> list[str]:
    """The ids of DRAWN photographs for the sheet: those that most networks and methods lead to the
    class, among equals the first by name."""
    counts = Counter({one: 0 for table in tables for one in table["image_id"].to_pylist()})
    for table in tables:
        for method in METHODS:
            counts.update(image_rows(table, method, SMALLEST).ids)
    return sorted(counts, key=lambda one: (-counts[one], one))[:DRAWN]


def _photographs(folder: str, data: PreparedSet, networks: Networks, chosen: Chosen) -> str:
    """Where it stands which photographs were changed, toward which class, and what each network
    takes them for."""
    ids, patients, targets = data.image_ids(), data.patients(), data.targets()
    columns = {
        "image_id": [ids[row] for row in chosen.rows],
        "patient_id": [patients[row] for row in chosen.rows],
        "target": targets[chosen.rows],
        "goal": chosen.goals,
    }
    for number, answers in enumerate(chosen.predictions):
        columns[f"prediction_{number}"] = answers
    location = files.join(folder, "photographs.parquet")
    files.write_table(location, pa.table(columns))
    return location


def _written(
    folder: str,
    tables: dict[str, pa.Table],
    pictures: dict[str, pa.Table],
    facts: CounterfactualFacts,
    classes: Sequence[str],
) -> dict[str, Any]:
    """Writes rows, figures, sheet and page, and prints what came of it; where they are."""
    named = [
        table.add_column(0, "network", pa.array([name] * table.num_rows))
        for name, table in tables.items()
    ]
    figures, differences = (
        [{"network": name} | row for name, table in tables.items() for row in rows_of(table)]
        for rows_of in (counterfactual_figures, method_differences)
    )
    between = network_differences(tables)
    verdicts = {
        name: h9_verdict([row for row in differences if row["network"] == name]) for name in tables
    }
    curve = probability_curves({name: probability_curve(rows) for name, rows in tables.items()})
    sheet = counterfactual_sheet(pictures, classes)
    ends = {
        key: files.join(folder, name)
        for key, name in (
            ("rows", "counterfactuals.parquet"),
            ("table", "counterfactuals.csv"),
            ("differences", "differences.csv"),
            ("networks", "networks.csv"),
            ("sheet", "sheet.png"),
            ("report", "report.html"),
        )
    }
    files.write_table(ends["rows"], pa.concat_tables(named))
    files.write_csv(ends["table"], figures)
    files.write_csv(ends["differences"], differences)
    if between:
        files.write_csv(ends["networks"], between)
    else:
        del ends["networks"]
    files.write_bytes(ends["sheet"], sheet)
    page = counterfactuals_page(facts, figures, differences, between, verdicts, (curve, sheet))
    files.write_bytes(ends["report"], evaluation_page(page).encode())
    _print_figures(figures, differences, verdicts, facts)
    print("\n".join(f"{key}: {place}" for key, place in ends.items()))
    return ends | {"n": {name: one["n"] for name, one in _first(figures)}, "h9": verdicts}


def _print_figures(
    figures: Sequence[Row],
    differences: Sequence[Row],
    verdicts: dict[str, Row],
    facts: CounterfactualFacts,
) -> None:
    print(f"{facts.question}: {people_text(figures[0], 'image')} by {figures[0]['network']}")
    for row in figures:
        print(
            f"  {row['network']}, {row['method'].replace('_', ' ')}: class reached "
            f"{estimate_text(row, 'reached_rate')} of {row['n']:,}, L2 {estimate_text(row, 'l2')}"
        )
    for name, verdict in verdicts.items():
        print(f"  {verdict_sentence(name, differences, verdict)}")
    for note in facts.notes:
        print(f"note: {note}")


def _first(figures: Sequence[Row]) -> list[tuple[str, Row]]:
    """(network, its figures by integrated gradients)."""
    return [(row["network"], row) for row in figures if row["method"] == METHODS[0]]


def _command(asked: Command) -> str:
    words = [*asked.words, *(f"{key}={value}" for key, value in asked.changes.items())]
    return f"python jobs/counterfactuals.py {' '.join(map(shlex.quote, words))}"
