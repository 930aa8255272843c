"""What intervals of a segmentation's figures hold, by patient, with few photographs.

python benchmarks/coverage_of_segmentations.py --sizes 18,27,60

Images of a patient each. The pixels of lesions in an image are lognormal (sigma 1: one in three has
less than two fifths or more than two and a half times the median), an image in seven has none; how
well a lesion is seen and how much of the background looks like one differ between images, and small
lesions are seen worse. Two networks are equally good and share how an image is seen, so that a
difference found is a false one, and so is that small lesions fall first.
"""

import argparse
import time
from collections import Counter

import numpy as np
import pyarrow as pa

from fundusray.metrics.segmentation import (
    aupr_by_size,
    segmentation_differences,
    segmentation_figures,
    segmentation_summary,
    segmentation_table,
    small_lesions_fall_first,
)

CLASSES = ("background", "lesions")
FIGURES = ("pixel_accuracy", "miou", "dice", "maupr")
LONG_RUN = 20_000
BACKGROUND = 4000
"""Pixels of an image that are of no lesion."""
SMALL = 0.4
"""Share of the pixels of lesions that are of small ones."""
LEVELS = np.arange(256)

Columns = dict[str, np.ndarray]


def histograms(scores: np.ndarray, image: np.ndarray, images: int) -> np.ndarray:
    """[N, 256] of scores in [0, 1] and the image of each."""
    cells = image * len(LEVELS) + np.rint(255 * scores).astype(np.int64)
    return np.bincount(cells, minlength=images * len(LEVELS)).reshape(images, -1)


def draw(rng: np.random.Generator, images: int) -> list[Columns]:
    """The columns of two equally good networks on the same images."""
    pixels = rng.poisson(np.exp(rng.normal(3.5, 1.0, images))) * (rng.random(images) > 1 / 7)
    small = rng.binomial(pixels, SMALL)
    seen, alike = rng.normal(0.2, 0.5, images), 12 * np.exp(rng.normal(0, 0.6, images))
    weight = np.exp(-LEVELS / alike[:, None])
    return [
        network(rng, np.stack([small, pixels - small]), seen, weight / weight.sum(1)[:, None])
        for _ in range(2)
    ]


def network(
    rng: np.random.Generator, pixels: np.ndarray, seen: np.ndarray, background: np.ndarray
) -> Columns:
    images = pixels.shape[1]
    own = seen + rng.normal(0, 0.3, images)
    positives = np.zeros((images, 1, 3, len(LEVELS)), np.int64)
    for band, shift in enumerate((-0.4, 0.2)):
        image = np.repeat(np.arange(images), pixels[band])
        scores = 1 / (1 + np.exp(-(own[image] + shift + rng.normal(0, 1.2, len(image)))))
        positives[:, 0, band] = histograms(scores, image, images)
    negatives = rng.multinomial(BACKGROUND, background)[:, None]
    right, wrong = (part[:, 0, ..., 128:].sum(axis=-1) for part in (positives, negatives))
    right, total = right.sum(axis=1), pixels.sum(axis=0)
    hits = np.stack([BACKGROUND - wrong, right], axis=1)
    predicted = np.stack([BACKGROUND - wrong + total - right, right + wrong], axis=1)
    labelled = np.stack([np.full(images, BACKGROUND), total], axis=1)
    found = {"hits": hits, "predicted": predicted, "labelled": labelled, "loss": np.ones(images)}
    return found | {"positives": positives, "negatives": negatives}


def table(columns: Columns) -> pa.Table:
    ids = [f"image{n}" for n in range(len(columns["loss"]))]
    return segmentation_table(ids, ids, columns, CLASSES)


def covered(images: int, replicates: int) -> dict[str, Counter]:
    """Of each figure how often it has an interval that holds the long run's value, and how often
    two networks are found different."""
    rng = np.random.default_rng(7)
    whole, _ = draw(np.random.default_rng(1), LONG_RUN)
    truth = segmentation_figures(whole, CLASSES)
    truth |= {f"aupr {row['size']}": row["value"] for row in aupr_by_size(table(whole))}
    names = [*FIGURES, "aupr below_10", "aupr 10_to_50", "small fall first"]
    found = {name: Counter() for name in names}
    for _ in range(replicates):
        a, b = (table(columns) for columns in draw(rng, images))
        summary = segmentation_summary(a)
        ends = {name: (summary[f"{name}_low"], summary[f"{name}_high"]) for name in FIGURES}
        ends |= {f"aupr {row['size']}": (row["low"], row["high"]) for row in aupr_by_size(a)}
        for name, (low, high) in ends.items():
            held = low is not None and low <= truth[name] <= high
            found[name].update(tried=1, given=low is not None, held=held)
        for row in segmentation_differences(a, b, FIGURES):
            found[row["name"]].update(flagged=row["verdict"] != "undecided")
        for row in small_lesions_fall_first(a, b)[:1]:
            found["small fall first"].update(
                tried=1, given=row["low"] is not None, flagged=row["verdict"] != "undecided",
                held=row["low"] is not None and row["low"] <= 0 <= row["high"],
            )  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--sizes", default="18,27,60,176", help="images")
    asked = parser.parse_args()
    for size in map(int, asked.sizes.split(",")):
        begun = time.perf_counter()
        found = covered(size, asked.replicates)
        print(f"\n{size} images ({time.perf_counter() - begun:.0f} s)")
        print("| figure | held | too few | A/A |\n|---|---:|---:|---:|")
        for name, c in found.items():
            held = f"{c['held'] / c['given']:.3f}" if c["given"] else "none"
            few = 1 - c["given"] / c["tried"] if c["tried"] else 1.0
            aa = f"{c['flagged'] / c['tried']:.3f}" if "flagged" in c else "–"
            print(f"| {name} | {held} | {few:.2f} | {aa} |")


if __name__ == "__main__":
    main()
