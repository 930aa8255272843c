"""Several trained networks as one: their mean, and the mean of their answers, judged in pairs.

What an ensemble is judged on must be new to each of its members, or its figures are those of a
network that learned the test by heart. Members may come from other data sets or other splits, so
the rows are found here: `judged_rows`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from fundusray import files
from fundusray.cluster.class_matching import order_known
from fundusray.cluster.evaluate import predictions_location
from fundusray.config import Recipe
from fundusray.data.manifest.patients import unknown_patients_caveat
from fundusray.data.prepared.prepared_set import PreparedSet, open_set
from fundusray.data.split.leaks import find_leaks, leak_sentence
from fundusray.errors import InputError
from fundusray.metrics import (
    METRICS,
    figure_summary,
    is_ordered,
    paired_differences,
    predictions_table,
)
from fundusray.models.bundle import Bundle, load_bundle
from fundusray.models.weight_averaging import mean_of_weights, require_alike
from fundusray.runs.provenance import require_pixels, unseen_rows
from fundusray.runs.split_of_run import write_sides

WEIGHTS, PREDICTIONS = "mean of weights", "mean of predictions"


@dataclass(frozen=True)
class JudgedMembers:
    """The rows of a set that an ensemble can be judged on."""

    sides: np.ndarray
    """Of each row [N]: "test", judged; "train", known to a member; "" neither."""
    optimistic: bool
    """Whether a member's best epoch was chosen on them."""
    notes: list[str]
    """What could not be made sure of."""


def mean_of_predictions(tables: Sequence[pa.Table]) -> pa.Table:
    """The predictions table of an ensemble: logits are the log of the members' mean softmax.

    Rows are in the first table's order.

    Raises:
        InputError: fewer than two tables, or other images, targets, patients or classes.
    """
    if len(tables) < 2:
        raise InputError(f"a mean needs two tables of predictions or more, got {len(tables)}")
    first = tables[0]
    names = [name for name in first.column_names if name.startswith("logit_")]
    order = np.argsort(first["image_id"].to_numpy(), kind="stable")
    total = np.full((first.num_rows, len(names)), -np.inf)
    for table in tables:
        if table.column_names != first.column_names:
            raise InputError(
                f"cannot average {first.column_names} with {table.column_names}: other classes"
            )
        theirs = np.argsort(table["image_id"].to_numpy(), kind="stable")
        for column in ("image_id", "patient_id", "target"):
            if not table[column].take(theirs).equals(first[column].take(order)):
                raise InputError(
                    f"an ensemble needs the same rows of each member, but {column} differs "
                    f"({first.num_rows} and {table.num_rows} rows); evaluate all on the same rows"
                )
        logits = np.stack([table[name].to_numpy()[theirs] for name in names], axis=1)
        # log softmax, summed as logarithms: nothing vanishes where a member is sure.
        total = np.logaddexp(total, logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    logits = np.empty_like(total)
    logits[order] = total - np.log(len(tables))
    parts = [first[column].to_pylist() for column in ("image_id", "patient_id")]
    ordered = all(is_ordered(table) for table in tables)
    return predictions_table(*parts, first["target"].to_numpy(), logits, ordered=ordered)


def judged_rows(
    data: PreparedSet, bundles: Sequence[str], members: Sequence[Bundle]
) -> JudgedMembers:
    """The rows that no member was trained on.

    Of a member trained on these photographs, the side it reports on. Of one trained on others,
    all but what it knows of them; see `provenance.unseen_rows`.

    Raises:
        InputError: no row is left, or a member's own split cannot be read.
    """
    reported, known = np.ones(len(data.table), bool), np.zeros(len(data.table), bool)
    optimistic, notes = False, []
    for place, member in zip(bundles, members, strict=True):
        found = unseen_rows(data, place, member)
        reported &= found.sides == found.side
        known |= found.learned
        optimistic |= found.side == "val"
        notes += found.notes
    sides = np.where(known, "train", np.where(reported, "test", "")).astype(object)
    if not (sides == "test").any():
        raise InputError(
            "no row of these photographs is new to every member: they were trained under different "
            "splits; train them with one data.split_file, or give other photographs (data.source=)"
        )
    return JudgedMembers(sides, optimistic, list(dict.fromkeys(notes)))


def compare_members(
    bundles: Sequence[str], recipe: Recipe, prepared: str, folder: str
) -> dict[str, Any]:
    """Judges members, their mean and the mean of their answers on the same rows of a set.

    Writes into `folder`: `bundle` (the mean of weights), `split.csv` (its test side is what was
    judged), predictions of each network, `ensemble.csv` and `ensemble.json`. Predictions that are
    there already are not made again.

    Returns:
        {"networks": rows of network, bundle, predictions and `metrics.figure_summary`,
        "differences":
        rows of network, against, metric and what `metrics.paired_differences` says, "notes",
        "patients" (whose are unknown, in a sentence), "optimistic", "bundle", "predictions",
        "table"}.

    Raises:
        InputError: bundles that differ in network, classes or pixels, or know all of the rows.
    """
    data = open_set(prepared)
    members = [load_bundle(place) for place in bundles]
    for place, member in zip(bundles, members, strict=True):
        require_alike(bundles[0], members[0], place, member)
        require_pixels(place, member.recipe.data, recipe.data)
    judged = judged_rows(data, bundles, members)
    # For whoever judges the mean later: what any member knows is on its train side.
    write_sides(folder, data.table, judged.sides)
    own = replace(recipe.data, split_file=files.join(folder, "split.csv"))
    whole = replace(recipe, name=f"{members[0].recipe.name}.mean", data=own, published={})
    mean = files.join(folder, "bundle")
    unknown = unknown_patients_caveat(data.table)
    known_of_set = {"manifest": data.info["manifest"], "ordered": order_known(members[0])}
    known_of_set |= {"patients": unknown} if unknown else {}
    mean_of_weights(bundles, mean, whole, known_of_set)
    names = _names(bundles)
    found = dict(zip([*names, WEIGHTS], [*bundles, mean], strict=True))
    rows = np.flatnonzero(judged.sides == "test")
    tables, places = _predicted(found, prepared, rows, folder)
    networks = [
        {"network": name, "bundle": found.get(name, ""), "predictions": places[name]}
        | figure_summary(tables[name])
        for name in tables
    ]
    leak = leak_sentence(find_leaks(data.table, judged.sides))
    caution = unknown if any(row["num_unknown"] for row in networks) else ""
    result = {
        "networks": networks,
        "differences": _differences(tables, names),
        "notes": judged.notes + [note for note in (leak, caution) if note],
        "patients": unknown,
        "optimistic": judged.optimistic,
        "bundle": mean,
        "predictions": places[PREDICTIONS],
        "table": files.join(folder, "ensemble.csv"),
    }
    files.write_csv(result["table"], networks)
    files.write_json(files.join(folder, "ensemble.json"), result)
    return result


def _predicted(
    found: dict[str, str], prepared: str, rows: np.ndarray, folder: str
) -> tuple[dict[str, pa.Table], dict[str, str]]:
    """The table on the judged rows, and its place, of each network and of the mean answer."""
    tables, places = {}, {}
    for number, (name, bundle) in enumerate(found.items(), 1):
        part = files.join(folder, "mean" if name == WEIGHTS else f"member-{number}")
        places[name] = predictions_location(bundle, prepared, rows, part)
        tables[name] = files.read_table(places[name])
    tables[PREDICTIONS] = mean_of_predictions([tables[n] for n in found if n != WEIGHTS])
    places[PREDICTIONS] = files.join(folder, "predictions.parquet")
    files.write_table(places[PREDICTIONS], tables[PREDICTIONS])
    return tables, places


def _names(bundles: Sequence[str]) -> list[str]:
    """Short names that tell the bundles apart: their run's folder, or all of the place."""
    runs = [files.base_name(place.rstrip("/").rpartition("/")[0]) for place in bundles]
    return runs if len(set(runs)) == len(runs) and all(runs) else list(bundles)


def _differences(tables: dict[str, pa.Table], members: Sequence[str]) -> list[dict[str, Any]]:
    """Each ensemble against each member, and one against the other."""
    pairs = [(whole, member) for whole in (WEIGHTS, PREDICTIONS) for member in members]
    found = []
    for name, against in [*pairs, (WEIGHTS, PREDICTIONS)]:
        each = paired_differences(tables[name], tables[against])
        found += [{"network": name, "against": against, "metric": m} | each[m] for m in METRICS]
    return found
