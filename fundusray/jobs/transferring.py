"""The job that makes images with each network's gradients and has every network judge them."""

import shlex
from collections.abc import Sequence
from typing import Any

from fundusray import files
from fundusray.cluster.attack import AttackPlan, ascending, attack_bundle, attacked_sample
from fundusray.cluster.class_matching import in_classes_of
from fundusray.command import Command
from fundusray.conditions import AttackCondition, parse_attacks
from fundusray.config import Data
from fundusray.data.prepared.prepared_set import open_set
from fundusray.errors import InputError
from fundusray.jobs.attacking import ROWS, photographs_asked, require_attack_order
from fundusray.jobs.command_to_recipe import prepared_of, print_recipe
from fundusray.jobs.evaluating import asked_recipe
from fundusray.jobs.looks import record_look
from fundusray.metrics.transfer import (
    TransferNetwork,
    TransferPair,
    transfer_differences,
    transfer_groups,
    transfer_rows,
)
from fundusray.models.bundle import Bundle, load_bundle
from fundusray.models.load_weights import bundle_folder, weights_digest
from fundusray.pipeline.augment.augmentation import view_text
from fundusray.reports.attack_page import budget_text
from fundusray.reports.evaluation_page import evaluation_page
from fundusray.reports.number_text import estimate_text, people_text
from fundusray.reports.transfer_page import TransferFacts, difference_sentence, transfer_page
from fundusray.runs.check_segmentation import require_label
from fundusray.runs.joined_networks import rows_unseen_by_all
from fundusray.runs.provenance import (
    PIXELS,
    UnseenRows,
    first_weights,
    learned_photographs,
    run_of,
)

OWN = ("attack", "attack.rows")
"""What this job takes beside the settings of a recipe."""
USAGE = (
    "python jobs/transfer.py <bundle> <another bundle> ... "
    '"attack=pgd(eps=2/255, steps=20)", or several budgets: "attack=pgd(eps=1/255|2/255)"'
)
SAME = (*PIXELS, "target")
"""Settings of the data without which two networks cannot be shown the same image."""


def transfer(asked: Command) -> dict[str, Any]:
    """Attacks every bundle along every bundle's gradients, on photographs new to all of them."""
    places = [bundle_folder(word) for word in asked.words]
    if len(places) < 2 or "attack" not in asked.changes:
        raise InputError(f"give two bundles or more, and the attack: {USAGE}")
    attacks = ascending(parse_attacks(asked.changes["attack"]))
    num = photographs_asked(asked.changes, "attack.rows", ROWS)
    bundles = [load_bundle(place) for place in places]
    for place, bundle in zip(places, bundles, strict=True):
        require_label(bundle.recipe, place)
    weights = [weights_digest(place) for place in places]
    require_same_input(places, bundles, weights)
    changes = {key: value for key, value in asked.changes.items() if key not in OWN}
    recipe = asked_recipe(places[0], bundles[0].recipe, changes)
    if asked.show:
        return print_recipe(recipe)
    prepared = prepared_of(recipe, trains=False)
    opened = in_classes_of(open_set(prepared), places[0], bundles[0])
    require_attack_order(AttackPlan(attacks), opened)
    judged = rows_unseen_by_all(opened, places, bundles)
    rows = attacked_sample(judged.rows, num, recipe.split_seed)
    # Where a network is added, pairs that were looked at on the same photographs stay.
    shown = [files.base_name(prepared), rows.tolist(), *map(str, attacks)]
    made = files.join(recipe.run.storage, f"transfer-rows-{files.hash_json(shown, 8)}")
    key = files.hash_json([weights, *shown], 8)
    folder = files.join(recipe.run.storage, f"{recipe.name}-transfer-{key}")

    def attacked(target: int, surrogate: int) -> str:
        own = target == surrogate
        plan = AttackPlan(attacks, surrogate="" if own else places[surrogate])
        cpus = recipe.cluster.cpus
        return attack_bundle(places[target], prepared, rows, plan, made, cpus)

    every = range(len(places))
    located = {(one, other): attacked(other, one) for one in every for other in every}
    pairs, learned = _pairs(places, bundles, weights, located)
    seen = {"predictions": located[0, 0], "reported_split": judged.side}
    looks = record_look(opened.info["manifest"], seen, recipe.run.storage, folder)
    notes = [*judged.notes, *_notes(judged, len(rows), attacks), *looks.notes]
    facts = TransferFacts(learned, tuple(notes), _command(asked))
    told = _written(folder, pairs, facts)
    start = {"status": "finished", "folder": folder, "bundles": places, "prepared": prepared}
    return start | {"rows": list(located.values())} | told | looks.result


def require_same_input(
    places: Sequence[str], bundles: Sequence[Bundle], weights: Sequence[str]
) -> None:
    """Refuses networks that cannot be shown the same image, and one that is given twice.

    Raises:
        InputError: which two, and in what they differ.
    """
    first = bundles[0]
    for place, bundle in zip(places[1:], bundles[1:], strict=True):
        for key, ours, theirs in _differing(first, bundle):
            raise InputError(
                f"{places[0]} has {key}={ours}, {place} has {key}={theirs}: an image of the one is "
                "no image of the other; give networks that were trained on the same pixels and "
                "classes"
            )
    for number, digest in enumerate(weights):
        if digest in weights[:number]:
            twin = places[weights.index(digest)]
            raise InputError(f"{twin} and {places[number]} are the same network; give it once")


def _differing(first: Bundle, second: Bundle) -> list[tuple[str, Any, Any]]:
    """(setting, the first's value, the second's) where two networks' images or classes differ."""
    ours, theirs = _shown(first), _shown(second)
    return [(key, ours[key], theirs[key]) for key in ours if ours[key] != theirs[key]]


def _shown(bundle: Bundle) -> dict[str, Any]:
    data: Data = bundle.recipe.data
    settings = {f"data.{key}": getattr(data, key) for key in SAME}
    return settings | {"data.view": view_text(data), "classes": ", ".join(bundle.classes)}


def _notes(judged: UnseenRows, num: int, attacks: Sequence[AttackCondition]) -> list[str]:
    notes = []
    if num < len(judged.rows):
        notes.append(
            f"{num:,} of {len(judged.rows):,} photographs were attacked, chosen by the seed of the "
            "split; attack.rows=0 attacks all"
        )
    if len(attacks) > 1:
        notes.append("the table below is of the largest budget; transfer.csv holds all of them")
    return notes


def _pairs(
    places: Sequence[str],
    bundles: Sequence[Bundle],
    weights: Sequence[str],
    located: dict[tuple[int, int], str],
) -> tuple[list[TransferPair], dict[str, int | None]]:
    """(every pair with what is in common and its rows; network -> photographs it learned from)."""
    names = [files.base_name(run_of(place)) for place in places]
    networks = []
    for place, name, digest, bundle in zip(places, names, weights, bundles, strict=True):
        unique = name if names.count(name) == 1 else f"{name} {digest[:8]}"
        networks.append(TransferNetwork(unique, bundle.recipe.model.name, first_weights(place)))
    learned = [learned_photographs(place) for place in places]
    pairs = [
        TransferPair(
            networks[one], networks[other], _share(learned[one], learned[other]),
            files.read_table(place),
        )
        for (one, other), place in located.items()
    ]  # fmt: skip
    sizes = [None if known is None else len(known) for known in learned]
    return pairs, {one.name: num for one, num in zip(networks, sizes, strict=True)}


def _share(first: set[str] | None, second: set[str] | None) -> float | None:
    """The share of the first that is in the second, too; None where that is not known."""
    if not first or second is None:
        return None
    return len(first & second) / len(first)


def _command(asked: Command) -> str:
    words = [*asked.words, *(f"{key}={value}" for key, value in asked.changes.items())]
    return f"python jobs/transfer.py {' '.join(map(shlex.quote, words))}"


def _written(folder: str, pairs: Sequence[TransferPair], facts: TransferFacts) -> dict[str, Any]:
    """Writes the tables and the page of a matrix, and prints what came of it; where they are."""
    rows = transfer_rows(pairs)
    largest = max(row["eps"] for row in rows)
    groups, differences = transfer_groups(pairs, largest), transfer_differences(pairs, largest)
    table, grouped, page = (
        files.join(folder, name) for name in ("transfer.csv", "groups.csv", "report.html")
    )
    files.write_csv(table, rows)
    files.write_csv(grouped, groups)
    made = transfer_page(facts, rows, groups, differences)
    files.write_bytes(page, evaluation_page(made).encode())
    first = rows[0]
    print(f"{first['attack']}, {first['norm']}, on {people_text(first, 'image')}")
    for row in rows:
        print(
            f"  eps {budget_text(row['eps'], row['norm'])}, gradients of {row['surrogate']}, "
            f"judged by {row['target']}: success {estimate_text(row, 'success_rate')}"
        )
    for difference in differences:
        print(f"  {difference_sentence(difference)}")
    print(f"  always the most frequent class: {first['majority_accuracy']:.3f}")
    for note in facts.notes:
        print(f"note: {note}")
    print(f"table: {table}\ngroups: {grouped}\nreport: {page}")
    places = {"table": table, "groups": grouped, "report": page}
    return places | {"n": first["n"], "differences": differences}
