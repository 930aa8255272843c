"""The job that certifies a trained network by randomised smoothing."""

from typing import Any

import numpy as np
import torch

from fundusray import files
from fundusray.certificates import ABSTAINED, Certificates, Smoothing, certified_table
from fundusray.cluster.attack import attacked_sample
from fundusray.cluster.certify import certify_bundle
from fundusray.command import Command
from fundusray.errors import InputError
from fundusray.jobs.attacking import photographs_asked
from fundusray.jobs.command_to_recipe import print_recipe
from fundusray.jobs.evaluating import asked_recipe, new_photographs
from fundusray.jobs.looks import record_look
from fundusray.metrics.auc import first_referable
from fundusray.models.bundle import load_bundle
from fundusray.models.load_weights import bundle_folder, weights_digest
from fundusray.reports.evaluation_page import EvaluationPage, PageTable, evaluation_page
from fundusray.reports.number_text import estimate_text, number_text
from fundusray.runs.check_segmentation import require_label

OWN = ("sigma", "draws", "alpha", "certify.rows")
"""What this job takes beside the settings of a recipe."""
ROWS = 100
"""Photographs that are certified unless told otherwise: each costs `draws` passes."""
RADII = 6
"""Of a table, from 0 on to the largest that so many draws can certify."""
NOTES = (
    "The smoothed network answers what the network answers most often under normal noise of "
    "standard deviation sigma (Cohen, Rosenfeld and Kolter 2019). An answer with a certificate is "
    "undone by no change shorter than its radius (L2, pixels in [0, 1]), whatever the attack.",
    "Certified accuracy: images whose right answer has a certificate beyond the radius, of all; "
    "where the network abstains, it is not right.",
    "Bound propagation, the other way to certify, does not reach networks of this depth and image "
    "size.",
    "Intervals are 95 %, with patients as units; besides, each certificate is wrong with a "
    "probability of alpha at most.",
)


def certify(asked: Command) -> dict[str, Any]:
    """Certifies a bundle on its own test rows, or on all other photographs it does not know."""
    if len(asked.words) != 1:
        raise InputError("give one bundle: python jobs/certify.py <run folder>/bundle sigma=0.05")
    smoothing = _smoothing(asked.changes)
    num = photographs_asked(asked.changes, "certify.rows", ROWS)
    place = bundle_folder(asked.words[0])
    bundle = load_bundle(place)
    require_label(bundle.recipe, place)
    changes = {key: value for key, value in asked.changes.items() if key not in OWN}
    recipe = asked_recipe(place, bundle.recipe, changes)
    if asked.show:
        return print_recipe(recipe)
    prepared, opened, judged = new_photographs(recipe, place, bundle)
    rows = attacked_sample(judged.rows, num, recipe.split_seed)
    how = [weights_digest(place), files.base_name(prepared), rows.tolist(), str(smoothing)]
    folder = files.join(recipe.run.storage, f"{recipe.name}-certified-{files.hash_json(how, 8)}")
    location = certify_bundle(place, prepared, rows, smoothing, folder, recipe.cluster.cpus)
    seen = {"predictions": location, "reported_split": judged.side}
    looks = record_look(opened.info["manifest"], seen, recipe.run.storage, folder)
    notes = [*judged.notes, *looks.notes, *NOTES]
    places = _written(folder, location, smoothing, opened.classes, notes, recipe.name)
    return {"status": "finished", "folder": folder, "rows": location} | places | looks.result


def _smoothing(changes: dict[str, str]) -> Smoothing:
    """How images are smoothed.

    Raises:
        InputError: no sigma, or numbers that cannot be.
    """
    if "sigma" not in changes:
        raise InputError("sigma: give the noise's standard deviation, pixels in [0, 1]: sigma=0.05")
    return Smoothing(
        sigma=_number(changes, "sigma", 0.0),
        draws=int(_number(changes, "draws", 1000)),
        alpha=_number(changes, "alpha", 0.001),
    )


def _number(changes: dict[str, str], key: str, default: float) -> float:
    try:
        return float(changes.get(key, default))
    except ValueError as error:
        raise InputError(f"{key}: a number, got {changes[key]!r}") from error


def _written(
    folder: str,
    location: str,
    smoothing: Smoothing,
    classes: tuple[str, ...],
    notes: list[str],
    name: str,
) -> dict[str, str]:
    """Writes and prints the tables of certificates; where they are."""
    rows = files.read_table(location)
    target, patients = rows["target"].to_numpy(), rows["patient_id"].to_pylist()
    radii = np.linspace(0, smoothing.most_radius, RADII, endpoint=False).tolist()
    kinds = [("certified accuracy", "", target, None)]
    if "referable_answer" in rows.column_names:
        referable = (target >= first_referable(len(classes))).astype(np.int64)
        kinds.append(("certified referable sensitivity", "referable_", referable, 1))
    found, tables = [], []
    for title, prefix, targets, of in kinds:
        if of is not None and not (targets == of).any():
            continue
        parts = (torch.tensor(rows[f"{prefix}{n}"].to_pylist()) for n in ("answer", "radius"))
        certificates = Certificates(*parts, torch.zeros(0))
        table = certified_table(certificates, targets, patients, radii, of).to_pylist()
        found += [{"figure": title} | row for row in table]
        tables.append(_page_table(title, table, target))
    place, page = files.join(folder, "certified.csv"), files.join(folder, "report.html")
    files.write_csv(place, found)
    abstained = float((rows["answer"].to_numpy() == ABSTAINED).mean())
    made = EvaluationPage(
        title=f"{name}, certified by smoothing",
        caption=f"sigma {smoothing.sigma:g}, {smoothing.draws:,} draws an image, alpha "
        f"{smoothing.alpha:g}; {len(target):,} images.",
        summary=[f"Abstains on {abstained:.0%} of {len(target):,} images."],
        tables=tables,
        notes=notes,
    )
    files.write_bytes(page, evaluation_page(made).encode())
    for row in found:
        print(f"{row['figure']} beyond L2 {row['radius']:.3f}: {_share(row)} (n {row['images']:,})")
    print(f"table: {place}\nreport: {page}")
    return {"table": place, "report": page}


def _share(row: dict[str, Any]) -> str:
    """A share with its interval."""
    ends = {f"certified_{end}": row[end] for end in ("low", "high")}
    return estimate_text({"certified": row["certified"]} | ends, "certified")


def _page_table(title: str, table: list[dict[str, Any]], target: np.ndarray) -> PageTable:
    majority = np.bincount(target).max() / len(target)
    caption = (
        f"{table[0]['images']:,} images; always the most frequent class is right of "
        f"{number_text(majority)} of all, at any radius."
    )
    cells = [[f"{row['radius']:.3f}", _share(row)] for row in table]
    return PageTable(title.capitalize(), caption, ["L2 radius", title], cells)
