"""What a paper's table says of itself in words: its title, its notes, what each loss does."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from fundusray import phases, recipes
from fundusray.cluster.papers.run_table import RowOutcome
from fundusray.cluster.papers.scales import Scale
from fundusray.cluster.papers.table_rows import TableRow
from fundusray.config import Recipe, is_published, override
from fundusray.jobs.method_notes import constant_words, unlearned_note
from fundusray.losses import effects_on_classes, same_loss
from fundusray.models import weights_here
from fundusray.reports.number_text import count_text, estimate_text, listed_text, number_text
from fundusray.runs.split_of_run import Split

PAPERS = {
    "wu": "Wu, Robust training and interpretability for fundus imaging (2020)",
    "yu": "Yu, Lab 4: Diabetic retinopathy detection",
    "kon": "Kon, Perceptual modulation and sex identification on fundus images (2024)",
    "li": "Li et al., Explaining diabetic retinopathy detection via integrated gradients",
}
IMAGENET = "ImageNet weights"
UNSTATED_START = ("data.root", "run.", "cluster.", "tune.", "data.id_key")
"""Settings that say where and not what, so that a title can do without them."""


def title_words(table: str) -> str:
    """`<paper>, Table 5` of `wu.table5`."""
    head, _, rest = table.partition(".")
    words = re.sub(r"([a-z])(\d)", r"\1 \2", rest).capitalize()
    return ", ".join(filter(None, [PAPERS.get(head, head), words]))


def title_of(
    table: str,
    rows: list[TableRow],
    splits: dict[str, Split],
    scale: Scale,
    changes: dict[str, str],
) -> str:
    """Paper, table, scale, and everything that is not as published."""
    parts = [*_instead(rows, splits, scale), *_own_settings(changes)]
    name = scale.name
    said = f": {', '.join(parts)}" if parts else ""
    how = "scale paper (as published)" if name == "paper" and not parts else f"scale {name}"
    return f"{title_words(table)}, {how}{said}"


def _instead(rows: list[TableRow], splits: dict[str, Split], scale: Scale) -> list[str]:
    """`64 px instead of 512`, and so on, for what the scale and the data change."""
    ran = [row for row in rows if row.runs and not row.refused]
    pairs = [(row.recipe, row.published) for row in ran]
    found = []
    for words, value in {
        "{} px": lambda recipe: recipe.data.size,
        "{}": _length,
        "batch {}": lambda recipe: recipe.train.batch or "auto",
        "source {}": lambda recipe: recipe.data.source,
        "network {}": lambda recipe: recipe.model.name,
    }.items():
        here, there = ({value(pair[side]) for pair in pairs} for side in (0, 1))
        if here != there:
            said = re.sub("^1 epochs$", "1 epoch", words.format(_either(here)))
            found.append(f"{said} instead of {_either(there)}")
    counts = set()
    for row in rows:
        if row.name in splits and row.recipe.data.split_file:
            counts.add(len(splits[row.name].rows["train"]))
    if counts:
        found.append(f"{_either(counts)} training images")
    by = {
        start_text(row)
        for row in rows
        if is_published(row.published.model.weights)
        and not (scale.network and is_published(row.recipe.model.weights))
        and row.recipe.model.weights != row.published.model.weights
    }
    by -= {start_text(row) for row in rows if row.parent}
    if by:
        found.append(f"{_either(by)} instead of {IMAGENET}")
    elif scale.network and any(is_published(row.recipe.model.weights) for row in ran):
        found.append(f"{IMAGENET} of {scale.network} instead of those of the paper's networks")
    return found


def _either(values: set[Any]) -> str:
    """`5 or 20 epochs`: the values in order, the unit they share said once."""
    texts = [f"{value:,}" if isinstance(value, int) else str(value) for value in values]
    texts.sort(key=lambda text: (len(text), text))
    units = {text.partition(" ")[2] for text in texts}
    if len(texts) > 1 and len(units) == 1 and (unit := units.pop()):
        texts = [*(text.removesuffix(f" {unit}") for text in texts[:-1]), texts[-1]]
    return " or ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def _length(recipe: Recipe) -> str:
    """`20 epochs`, `5+20 epochs`, `550+350+495 steps`."""
    parts = phases.parse_phases(recipe.train.phases, recipe.train.epochs)
    unit = "steps" if parts[-1].steps else "epochs"
    return "+".join(str(part.steps or part.epochs) for part in parts) + f" {unit}"


def _own_settings(changes: dict[str, str]) -> list[str]:
    """The settings given for every row that the title does not say already."""
    told = (
        *UNSTATED_START,
        "data.source",
        "data.size",
        "train.epochs",
        "train.batch",
        "model.name",
    )
    # data=<folder> empties the keywords, which most rows do not have.
    given = {key: value for key, value in changes.items() if (key, value) != ("data.keywords", "")}
    return [f"{key}={value}" for key, value in given.items() if not key.startswith(told)]


def start_text(row: TableRow) -> str:
    """What a row starts from, in words."""
    if row.parent:
        return f"network of {row.parent.rpartition('.')[2]}"
    place = row.recipe.model.weights or row.recipe.model.init_from
    if not place:
        return "random start"
    if is_published(place):
        return f"{IMAGENET} {place.partition('/')[2]}".strip()
    return "start from " + "/".join(place.rstrip("/").split("/")[-2:])


def for_orientation(rows: list[TableRow]) -> bool:
    """Whether a row that runs is not the published one, so that its figures are no target."""
    return any(
        not recipes.as_published(
            # Where a row goes on from another one is filled in later.
            override(row.recipe, {"model.init_from": row.parent or row.recipe.model.init_from}),
            row.published,
        )
        for row in rows
        if row.runs and not row.refused
    )


def notes_of(rows: list[TableRow], scale: Scale, starts: dict[str, str], base: str) -> list[str]:
    """What a reader must know of how the rows came to be."""
    ran, found = [row for row in rows if row.runs], []
    if for_orientation(rows):
        found.append(
            "At this scale the table says how the methods compare here, on these eyes and at this "
            "length; the paper's figures are of another scale, or of other photographs, and stand "
            "beside for orientation."
        )
    batches = Counter(row.published.train.batch for row in ran)
    if len(batches) > 1:
        here = {row.recipe.train.batch for row in ran}
        said = "here all rows have the same" if len(here) == 1 else "here as well"
        found.append(
            f"The paper's rows differ in batch ({_either(set(batches))}) besides their method, "
            f"which is mixed up with it; {said}."
        )
    found += [
        f"{row.name} starts from the trained network of {row.parent}; its time is its own alone."
        for row in ran
        if row.parent
    ]
    for row in rows:
        if not row.runs:
            told = row.published.published[recipes.QUOTED]
            why = told if isinstance(told, str) else "figures of another work"
            found.append(f"{row.name} is shown as published and not run: {why}.")
    if scale.network:
        found.append(_other_network(ran, scale.network, starts))
    if starts:
        places = listed_text(list(starts.values()))
        found.append(f"Rows that the paper starts from ImageNet weights start from {places}.")
    drawn = [row for row in ran if not row.recipe.data.split_file or scale.images]
    if any(row.recipe.data.split == "image" for row in drawn):
        found.append(
            "The split by image is drawn within each grade (stratified); a paper's “random” split "
            "need not be, and its shares of grades then differ by chance."
        )
    ways = {row.recipe.train.precision for row in ran if not row.refused} - {"auto"}
    if len(ways) == 1:
        found.append(f"All rows are computed in {ways.pop()} (train.precision).")
    return [*found, f"Differences are to {base}."]


def _other_network(rows: list[TableRow], network: str, starts: dict[str, str]) -> str:
    """What is in place of the paper's networks and of the weights that they start from."""
    theirs = _either({row.published.model.name for row in rows})
    begun = [row for row in rows if is_published(row.published.model.weights)]
    said = f"Every row has {network} in place of the paper's {theirs}"
    if begun and not starts:
        which = (
            "" if len(begun) == len(rows) else f" ({count_text(len(begun), 'row')} of {len(rows)})"
        )
        said += (
            f"; where the paper starts from {IMAGENET} of its network{which}, it starts from those "
            f"of {network} in {weights_here(network)}"
        )
    if len({row.published.model.name for row in rows}) > 1:
        said += "; rows that differ in their network alone are the same here"
    return f"{said}. The paper's figures are of its networks and stand for orientation alone."


def class_effects_of_rows(
    rows: list[TableRow], splits: dict[str, Split], table: str
) -> dict[str, dict[str, Any]]:
    """Row -> what its loss and sampling do to each class of its training images."""
    return {
        row.name.removeprefix(f"{table}."): dict(
            effects_on_classes(
                row.recipe.loss,
                row.recipe.sampling,
                splits[row.name].counts,
                batch=max(row.recipe.train.batch, 1),
            )
        )
        for row in rows
        if row.name in splits
    }


def same_loss_notes(rows: list[TableRow], splits: dict[str, Split], table: str) -> list[str]:
    """A sentence for every row whose loss is that of an earlier one, rows of one data set each; of
    attacked or blended images even the same loss is another objective."""
    groups: dict[tuple[Any, ...], list[TableRow]] = {}
    for row in rows:
        if row.name in splits:
            recipe, counts = row.recipe, tuple(splits[row.name].counts)
            groups.setdefault((counts, recipe.adversarial, recipe.train.mixup), []).append(row)
    found = []
    for (counts, *_), members in groups.items():
        named = [
            (row.name.removeprefix(f"{table}."), row.recipe.loss, row.recipe.sampling)
            for row in members
        ]
        found += same_loss(named, counts, batch=max(members[0].recipe.train.batch, 1))
    return found


def robust_notes(outcomes: Sequence[RowOutcome]) -> list[str]:
    """What attacked rows reached under the attack that judges, beside the paper's figure and that
    of a network which always answers the same."""
    found = []
    for outcome in outcomes:
        figures = outcome.result.get("robust")
        if figures:
            theirs = outcome.row.published.published.get("robust_accuracy")
            beside = f" (paper {number_text(theirs)})" if theirs is not None else ""
            said = f"accuracy {estimate_text(figures, 'accuracy')}"
            flattered = "; optimistic: the epoch was chosen on these rows"
            caution = flattered if figures["optimistic"] else ""
            found.append(
                f"{outcome.row.label}, attacked: {said}{beside}; "
                f"{constant_words(figures)}{caution}."
            )
    return found


def constant_rows(outcomes: Sequence[RowOutcome]) -> list[str]:
    """The rows of which no epoch was better than always answering the same."""
    said = [(outcome.row.label, unlearned_note(outcome.result)) for outcome in outcomes]
    return [f"{name}: {words}." for name, words in said if words]
