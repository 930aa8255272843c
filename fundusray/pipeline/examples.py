"""A few photographs as taken, as prepared and as augmented, for people to look at."""

import numpy as np
import torch
from PIL import Image

from fundusray.data.photographs.decode import decode_photograph
from fundusray.data.photographs.read import read_photo
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.data.sampling import plan_eval
from fundusray.pipeline.loader import PixelChange, make_loader

SIDE = 160


def example_images(
    prepared: PreparedSet,
    roots: dict[str, str],
    augment: str,
    engine: str,
    seed: int,
    changes: tuple[PixelChange | None, PixelChange | None] = (None, None),
    num: int = 5,
) -> list[tuple[str, list[np.ndarray]]]:
    """[(image id and class, [original, prepared, three augmentations])], uint8 HWC of one side.

    One photograph of each class, from the first that has one; originals keep their proportions.
    Where a set does not tell its originals' names (keyed ids), they are left out.

    Args:
        roots: dataset -> where its photographs are.
        changes: what the set's pixels go through before they are shown as prepared, and before
            they are augmented.
    """
    targets = prepared.targets()
    firsts = [int(np.flatnonzero(targets == k)[0]) for k in np.unique(targets)][:num]
    rows = np.array(firsts, dtype=np.int64)
    plan = plan_eval(rows, len(rows))
    columns = []
    for kind, epochs, change in (("none", [0], changes[0]), (augment, [0, 1, 2], changes[1])):
        loader = make_loader(prepared, batch=len(rows), augment=kind, engine=engine, change=change)
        for epoch in epochs:
            (batch,) = list(loader.epoch(plan, seed=seed, epoch=epoch))
            image = batch.image
            level = image if image.dtype == torch.uint8 else (image * 255).round().byte()
            pixels = level.permute(0, 2, 3, 1).cpu().numpy()
            columns.append([_fit(image) for image in pixels])
    table, sheet = prepared.table, []
    for index, row in enumerate(rows):
        dataset, path = (table[name][int(row)].as_py() for name in ("dataset", "path"))
        shown = [column[index] for column in columns]
        name, grade = prepared.image_ids()[row], prepared.classes[targets[row]]
        label = f"{name}, {grade}: as prepared, augmented three times"
        if path:
            original = decode_photograph(read_photo(roots[dataset], path), min_side=SIDE).pixels
            shown.insert(0, _fit(original))
            label = label.replace(": as prepared", ": as taken, as prepared")
        sheet.append((label, shown))
    return sheet


def _fit(pixels: np.ndarray) -> np.ndarray:
    """The image within a black square of SIDE."""
    image = Image.fromarray(pixels)
    scale = SIDE / max(image.size)
    sides = (round(image.width * scale), round(image.height * scale))
    image = image.resize(sides, Image.Resampling.LANCZOS)
    square = Image.new("RGB", (SIDE, SIDE))
    square.paste(image, ((SIDE - image.width) // 2, (SIDE - image.height) // 2))
    return np.asarray(square)
