"""The job that shows photographs under each preprocessing, or under damage."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from fundusray import files
from fundusray.cluster.prepare import data_root
from fundusray.command import Command
from fundusray.corruptions import parse_corruption
from fundusray.corruptions.sheet import sheet_rows
from fundusray.data.manifest.build import build_manifest
from fundusray.data.photographs.decode import BadImage, decode_photograph
from fundusray.data.photographs.read import read_photo
from fundusray.data.prepared.preprocess import PREPROCESS, smallest_decode_side
from fundusray.errors import InputError
from fundusray.harmless import file_name_slug
from fundusray.jobs.command_to_recipe import own_number, print_recipe, recipe_of
from fundusray.pipeline.preprocess_sheet import preprocess_sheet
from fundusray.reports.contact_sheet import SheetCell, contact_sheet


def sheet(asked: Command) -> dict[str, Any]:
    """Draws some photographs as taken and after each preprocessing, or with `corruptions=wu` under
    each kind of damage at each of its levels; where the picture is."""
    num, asked = own_number(asked, "photos", "6", 50)
    kinds = _kinds(asked.changes.get("corruptions", ""))
    left = {key: value for key, value in asked.changes.items() if key != "corruptions"}
    asked = replace(asked, changes=left)
    recipe = recipe_of(asked, "balancing")
    if asked.show:
        return print_recipe(recipe)
    data, storage = recipe.data, recipe.run.storage
    manifest = build_manifest(data, data_root(recipe, storage), recipe.split_seed, labelled=False)
    # Spread over the set, so that several cameras and grades are seen.
    rows = np.linspace(0, manifest.table.num_rows - 1, min(num, manifest.table.num_rows))
    photos = []
    for row in manifest.table.take(rows.round().astype(int)).to_pylist():
        try:
            content = read_photo(manifest.roots[row["dataset"]], row["path"])
            photos.append(
                (
                    row["image_id"],
                    decode_photograph(content, smallest_decode_side(data.size)).pixels,
                )
            )
        except (BadImage, OSError) as error:
            print(f"left out: {row['image_id']} ({error})")
    if not photos:
        raise InputError(f"{data.root}: none of the chosen photographs can be read; scan the set")
    rows, title, name = preprocess_sheet(photos, data.size), "Preprocessing", "preprocessing"
    if kinds:
        rows, title, name = _damaged_rows(photos, data.size, kinds), "Damage", "corruptions"
        name = f"{name}-{file_name_slug('-'.join(kinds))[:60]}"
    cells = [[SheetCell(*cell) for cell in cells] for cells in rows]
    content = contact_sheet(cells, title=f"{title}, {data.size} px")
    place = files.join(storage, f"{name}-{manifest.hash}-{data.size}.png")
    files.write_bytes(place, content)
    print(f"sheet: {place}")
    return {"status": "finished", "sheet": place}


def _kinds(text: str) -> list[str]:
    """The corruptions that a text with commas names, those of a mixture one by one.

    Raises:
        InputError: an unknown name.
    """
    names = [parse_corruption(part).kinds for part in text.split(",") if part.strip()]
    return [kind for kinds in names for kind in kinds]


def _damaged_rows(
    photos: list[tuple[str, np.ndarray]], size: int, kinds: list[str]
) -> list[list[tuple[np.ndarray, str]]]:
    """Rows of pictures and captions: each photograph in its square, then damaged."""
    frames, names = [], []
    for name, pixels in photos:
        try:
            frames.append(PREPROCESS["resize"].function(pixels, size).pixels)
            names.append(name)
        except BadImage as error:
            print(f"left out: {name} ({error})")
    if not frames:
        raise InputError("none of the chosen photographs shows a fundus; give photos=<more>")
    image = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
    # A row for each kind, or the sheet would be as wide as there are kinds.
    return [row for kind in kinds for row in sheet_rows(image, names, [kind])]
