"""What intervals of scores by patient hold: a mean, a ratio of sums, a share of hits, a quantile.

python benchmarks/coverage_of_scores.py --sizes 40,176

Patients have two images each. A score is the logistic of a patient's effect, an image's and the
network's own noise: correlation of a patient's images .5, half of the noise common to networks. A
Dice over the set is 2 sum(common) / sum(sizes), sizes lognormal (sigma 1) with a patient's effect.
Hits are scores above a border that nine in ten pass; the quantile is the median. Two networks are
equally good, so that a difference found is a false one.
"""

import argparse
import time
from collections import Counter

import numpy as np

from fundusray.metrics import figure_difference, share, spread
from fundusray.metrics.spread import LEVEL

IMAGES = 2
LONG_RUN = 200_000
BORDER = -1.28
"""In standard deviations: nine in ten are above it."""


def draw(rng: np.random.Generator, patients: int) -> tuple[np.ndarray, list[dict]]:
    """(patient of each row [N], rows of two equally good networks)."""
    owner = np.repeat(np.arange(patients), IMAGES)
    of_patient = rng.normal(0, 0.5**0.5, (patients, 2))[owner]
    size = np.exp(of_patient[:, 1] + rng.normal(0, 0.5**0.5, len(owner)))
    common = of_patient[:, 0] + rng.normal(0, 0.5, len(owner))
    rows = []
    for _ in range(2):
        z = common + rng.normal(0, 0.5, len(owner))
        score = 1 / (1 + np.exp(-(0.8 + z)))
        # As large as the lesion on average, so that its Dice is the score.
        rows.append({"score": score, "common": size * score, "sizes": 2 * size, "z": z})
    return owner, rows


def ratio(rows: dict) -> float:
    """Dice over a set."""
    return float(2 * rows["common"].sum() / rows["sizes"].sum())


def scores(rows: dict) -> np.ndarray:
    return rows["score"]


def parts(rows: dict) -> dict:
    return {name: rows[name] for name in ("common", "sizes")}


def hits(rows: dict) -> np.ndarray:
    return rows["z"] > BORDER


CASES = {
    "mean of scores": (np.mean, scores, True, 1),
    "Dice over the set": (ratio, parts, True, 1),
    "share of hits (.90)": (share, hits, True, 1),
    "share of hits as a mean": (np.mean, hits, True, 1),
    "median of scores": (np.median, scores, False, 3),
}
"""Name -> (statistic, of what rows, smooth, one replicate in so many)."""


def covered(patients: int, replicates: int, cases: dict) -> dict[str, Counter]:
    """Counts of held, given, flagged and tried intervals by case."""
    rng = np.random.default_rng(patients)
    _, (whole, _) = draw(np.random.default_rng(1), LONG_RUN)
    truth = {name: float(case[0](case[1](whole))) for name, case in cases.items()}
    found = {name: Counter() for name in cases}
    for replicate in range(replicates):
        owner, rows = draw(rng, patients)
        for name, (statistic, of, smooth, every) in cases.items():
            if replicate % every:
                continue
            pair = [spread(statistic, of(one), owner, span=(0, 1), smooth=smooth) for one in rows]
            count = found[name]
            if pair[0].ends:
                low, high = pair[0].ends(LEVEL)
                count.update(given=1, held=low <= truth[name] <= high)
            count.update(tried=1, flagged=figure_difference(*pair)["verdict"] != "undecided")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--sizes", default="40,176", help="patients")
    parser.add_argument("--cases", default=",".join(CASES), help="by their names")
    asked = parser.parse_args()
    cases = {name: CASES[name] for name in asked.cases.split(",")}
    for size in map(int, asked.sizes.split(",")):
        begun = time.perf_counter()
        found = covered(size, asked.replicates, cases)
        seconds = time.perf_counter() - begun
        print(f"\n{size} patients of {IMAGES} images ({seconds:.0f} s)")
        print("| statistic | held | too few | A/A | replicates |\n|---|---:|---:|---:|---:|")
        for name, c in found.items():
            held = f"{c['held'] / c['given']:.3f}" if c["given"] else "none"
            few = 1 - c["given"] / c["tried"]
            print(
                f"| {name} | {held} | {few:.2f} | {c['flagged'] / c['tried']:.3f} | {c['tried']} |"
            )


if __name__ == "__main__":
    main()
