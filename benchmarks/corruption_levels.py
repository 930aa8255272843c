"""Whether a level means the same damage for each of Wu's four corruptions, on real photographs.

    FUNDUSRAY_DATA=<folder> python benchmarks/corruption_levels.py [photographs]
    FUNDUSRAY_DATA=<folder> python benchmarks/corruption_levels.py fit [photographs]

Reads 100 photographs of ODIR, IDRiD, EyePACS and APTOS, frames them at 256 pixels and corrupts each
by every kind at every level. Prints the median structural similarity to the photograph as it was;
fails where the medians of a level differ by more than .02 between kinds, or where similarity does
not fall from each level to the next on 95 % of the photographs. `fit` prints, of each kind, the
strengths whose medians lie at the ends of each level: where the constants in the code come from.
"""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fundusray.corruptions import CORRUPTIONS, corrupted, parse_corruption, receipts
from fundusray.corruptions.light_leakage import light_leakage
from fundusray.corruptions.similarity import structural_similarity
from fundusray.corruptions.wu import TARGETS, WU
from fundusray.data.photographs.decode import decode_photograph
from fundusray.data.prepared.preprocess import resize, smallest_decode_side

SIDE = 256
SHARES = {
    "odir_graded_256/train/*.jpeg": 70,
    "idrid_small/B*/**/*.jpg": 20,
    "eyepacs/train/*.jpeg": 8,
    "aptos2019/train_images/*.png": 2,
}
"""Photographs of each folder, evenly from all of it; of 100."""
CHUNK = 10
AGREEMENT, MONOTONE = 0.02, 0.95
HALF = 0.005
"""Half the similarity that a level spans, in the median."""


def real_photographs(root: Path, num: int, side: int = SIDE) -> Tensor:
    """Framed photographs of every set, uint8 [about num, 3, S, S]."""
    framed = []
    for pattern, share in SHARES.items():
        paths = sorted(root.glob(pattern))
        wanted = min(len(paths), max(1, round(num * share / 100)))
        for index in range(wanted):
            path = paths[index * len(paths) // wanted]
            pixels = decode_photograph(path.read_bytes(), smallest_decode_side(side)).pixels
            framed.append(resize(pixels, side).pixels)
    return torch.from_numpy(np.stack(framed)).permute(0, 3, 1, 2).contiguous()


def similarities(image: Tensor, change: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Similarity of each photograph to what `change(photographs, first row)` makes of it, [N]."""
    parts = []
    for start in range(0, len(image), CHUNK):
        part = image[start : start + CHUNK]
        parts.append(structural_similarity(part, change(part, start)))
    return torch.cat(parts)


def at_level(kind: str, level: int) -> Callable[[Tensor, int], Tensor]:
    """The corruption as it is drawn for rows 0, 1, ..."""
    corruption = parse_corruption(f"{kind}(level={level})")

    def change(part: Tensor, start: int) -> Tensor:
        rows = range(start, start + len(part))
        return corrupted(part, receipts(corruption, 0, rows, part.shape[-1]))

    return change


def measured(image: Tensor) -> dict[str, Tensor]:
    """Of each of Wu's kinds similarity by level and photograph, [4, N]."""
    return {
        kind: torch.stack([similarities(image, at_level(kind, level)) for level in range(1, 5)])
        for kind in WU
    }


def broken_promises(found: Mapping[str, Tensor]) -> list[str]:
    """What does not hold of the levels, in words."""
    broken = []
    for level in range(4):
        medians = [float(values[level].median()) for values in found.values()]
        if max(medians) - min(medians) > AGREEMENT:
            broken.append(f"level {level + 1}: medians {min(medians):.3f} to {max(medians):.3f}")
    for kind, values in found.items():
        falls = ((values.diff(dim=0) < 0).all(0) & (values[0] < 1)).double().mean().item()
        if falls < MONOTONE:
            broken.append(f"{kind}: similarity falls with level on {falls:.0%} only")
    return broken


STRENGTHS: dict[str, tuple[float, float]] = {
    "light_leakage": (0.0, 1.3),
    "motion_blur": (0.004, 0.16),
    "under_exposure": (-0.2, -2.5),
    "over_exposure": (0.2, 2.5),
}


def with_strength(kind: str, strength: float) -> Callable[[Tensor, int], Tensor]:
    """The corruption at one strength, everything else as drawn."""

    def change(part: Tensor, start: int) -> Tensor:
        rows = range(start, start + len(part))
        drawn = receipts(parse_corruption(f"{kind}(level=1)"), 0, rows, part.shape[-1])
        fixed = [dict(each.parameters) | _strength(kind, strength) for each in drawn]
        return CORRUPTIONS.find(kind)(part, fixed)

    return change


def _strength(kind: str, strength: float) -> dict[str, Any]:
    """Gain and width of a leak go together."""
    if CORRUPTIONS.find(kind) is light_leakage:
        return {"gain": 0.3 + 0.8 * strength, "width": 0.10 + 0.20 * strength}
    return {"length" if kind == "motion_blur" else "stops": strength}


def fit(image: Tensor) -> None:
    """Prints the strengths whose median similarity is that of each level's ends."""
    for kind, (mildest, most) in STRENGTHS.items():
        grid = np.linspace(0, 1, 14) ** 1.5 * (most - mildest) + mildest
        medians = [similarities(image, with_strength(kind, s)).median().item() for s in grid]
        for level, target in enumerate(TARGETS, 1):
            ends = np.interp([HALF - target, -HALF - target], -np.array(medians), grid)
            print(f"{kind:<16} level {level}: {ends[0]:.4f} to {ends[1]:.4f}", _ends(kind, ends))


def _ends(kind: str, ends: np.ndarray) -> str:
    parts = [_strength(kind, float(end)) for end in ends]
    return "  ".join(f"{key} ({parts[0][key]:.3f}, {parts[1][key]:.3f})" for key in parts[0])


def main() -> None:
    arguments = [text for text in sys.argv[1:] if text != "fit"]
    folder = os.environ.get("FUNDUSRAY_DATA", "")
    if not folder or not Path(folder).is_dir():
        sys.exit("set FUNDUSRAY_DATA to the folder of real photographs")
    image = real_photographs(Path(folder), int(arguments[0]) if arguments else 100)
    if "fit" in sys.argv[1:]:
        fit(image)
        return
    found = measured(image)
    print(f"median structural similarity of {len(image)} photographs at {SIDE} pixels")
    print(f"{'':<16}" + "".join(f"   level {level}" for level in range(1, 5)) + "   falls on")
    for kind, values in found.items():
        falls = (values.diff(dim=0) < 0).all(0).double().mean().item()
        medians = "".join(f"{value:>10.3f}" for value in values.median(1).values.tolist())
        print(f"{kind:<16}{medians}{falls:>10.0%}")
    if broken := broken_promises(found):
        sys.exit("\n".join(broken))


if __name__ == "__main__":
    main()
