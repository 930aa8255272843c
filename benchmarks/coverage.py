"""What the intervals cover, by simulation.  python benchmarks/coverage.py [--replicates 2000]

Patients have two eyes. A grade is cut from a normal variable (correlation of the two eyes 0.8) at
EyePACS' shares of grades; a network sees the variable with noise (half of it common to all
networks, correlation of the two eyes 0.5) and answers by the cuts that keep the shares. What a
figure is in the long run comes from 2,000,000 such patients.

"before" is the percentile bootstrap over patients that was used until now, "after" what
`fundusray.metrics` gives. Printed, for each number of patients:

- of each figure: how often the interval holds the truth, of the times that one is given, and how
  often none is ("too few to say");
- A/A: how often two networks of equal skill are found different, by figure;
- tables of 13 equal networks: how often any of 48 differences to the first is found, without and
  with Holm's correction;
- a search of 20 equal networks: by how much the winner's kappa is too high and how often its
  interval holds the truth, chosen on the rows it is measured on and on as many others;
- AUC of rows of which two networks with other scales predicted a half each: the error of ranking
  all together and of the mean of the halves.

Pure numpy on one core, fetches nothing; 2,000 replicates at all sizes take some ten minutes,
--replicates 100 one. Monte-Carlo errors (one standard error) are printed.
"""

import argparse
import functools
import math
import sys
from collections import Counter
from collections.abc import Iterator
from statistics import NormalDist

import numpy as np

from fundusray.metrics import METRICS
from fundusray.metrics.comparison import (
    difference_ends,
    figure_difference,
    not_said,
    patient_correlation,
)
from fundusray.metrics.confusion import confusion_counts, confusion_figures
from fundusray.metrics.intervals import figure_spreads
from fundusray.metrics.jackknife import PatientFigures
from fundusray.metrics.predictions import PredictionRows
from fundusray.metrics.spread import LEVEL, Spread
from fundusray.reports.comparisons import holm

PRIOR = np.array([0.735, 0.069, 0.151, 0.025, 0.020])
CUTS = np.array([NormalDist().inv_cdf(share) for share in np.cumsum(PRIOR)[:-1]])
SIZES = (20, 40, 80, 176, 400, 1000)
ALIKE = {"grade": 0.8, "noise": 0.5, "networks": 0.5}
"""Correlation of a patient's grades and of the noise on them; share of noise that is common."""
ROWS, TRIALS = 13, 20
BEFORE = 4
"""One replicate in so many is measured as before, too: it takes far longer."""
LONG_RUN = 2_000_000


def together(rng: np.random.Generator, num: int, share: float) -> np.ndarray:
    """Standard normal numbers [num, 2] of two eyes that correlate."""
    both, own = rng.normal(size=(num, 1)), rng.normal(size=(num, 2))
    return math.sqrt(share) * both + math.sqrt(1 - share) * own


def draw(
    rng: np.random.Generator, patients: int, networks: int, noise: float
) -> tuple[np.ndarray, list[np.ndarray]]:
    """(grades [N], scores [N] of each network) of N = 2 * patients eyes."""
    true = together(rng, patients, ALIKE["grade"])
    common = together(rng, patients, ALIKE["noise"])
    shared = ALIKE["networks"]
    seen = [
        true
        + noise * math.sqrt(shared) * common
        + noise * math.sqrt(1 - shared) * together(rng, patients, ALIKE["noise"])
        for _ in range(networks)
    ]
    return np.digitize(true, CUTS).ravel(), [score.ravel() for score in seen]


def logits_of(score: np.ndarray, noise: float) -> np.ndarray:
    """[N, K] whose argmax is the grade that the score is cut to."""
    steps = score[:, None] - CUTS * math.sqrt(1 + noise**2)
    return np.concatenate([np.zeros((len(score), 1)), np.cumsum(steps, axis=1)], axis=1)


def side(targets: np.ndarray, logits: np.ndarray) -> PatientFigures:
    """Two eyes a patient, one network."""
    num = len(targets)
    return PatientFigures(
        PredictionRows(targets, logits, np.arange(num) // 2, np.zeros(num, np.int64))
    )


def sides(
    rng: np.random.Generator, patients: int, networks: int, noise: float
) -> list[PatientFigures]:
    targets, scores = draw(rng, patients, networks, noise)
    return [side(targets, logits_of(score, noise)) for score in scores]


@functools.cache
def long_run(noise: float, patients: int = LONG_RUN) -> dict[str, float]:
    """What each figure is with patients without end."""
    return sides(np.random.default_rng(7), patients, 1, noise)[0].values


def resampled(
    rng: np.random.Generator, both: list[PatientFigures], resamples: int
) -> list[dict[str, np.ndarray]]:
    """Each side's figures [resamples] under the same draws of patients, as before."""
    num = both[0].num_patients
    times = rng.multinomial(num, np.full(num, 1 / num), resamples).astype(np.float64)
    found = []
    for one in both:
        flat = times @ one.counts.reshape(num, -1)
        values = confusion_figures(flat.reshape(resamples, one.num_classes, -1))
        found.append(values | {"auc_referable": _weighted_auc(one, times)})
    return found


def _weighted_auc(one: PatientFigures, times: np.ndarray) -> np.ndarray:
    ranks, rows = one.ranks, one.rows
    order = np.argsort(ranks.order, kind="stable")
    weights = times[:, rows.patient[order]]
    positive, place = ranks.positive[order], ranks.order[order]
    up = np.zeros((len(times), len(order) + 1))
    np.cumsum(weights * ~positive, axis=1, out=up[:, 1:])
    first, last = (np.searchsorted(place, place[positive], end) for end in ("left", "right"))
    share = weights[:, positive]
    with np.errstate(invalid="ignore"):
        wins = (share * (up[:, first] + up[:, last])).sum(axis=1) / 2
        return wins / (share.sum(axis=1) * up[:, -1])


def percentiles(draws: np.ndarray) -> tuple[float, float]:
    kept = draws[np.isfinite(draws)]
    return tuple(np.percentile(kept, [2.5, 97.5])) if len(kept) else (math.nan, math.nan)


def target(name: str, one: PatientFigures, truth: dict[str, float]) -> float:
    """What an interval should hold; the mean of recalls is that of the classes that occur."""
    if name != "balanced_accuracy":
        return truth[name]
    present = np.flatnonzero(one.confusion.sum(axis=1))
    return float(np.mean([truth[f"recall_{k}"] for k in present]))


def cover(
    rng: np.random.Generator,
    patients: int,
    noise: float,
    replicates: int,
    resamples: int,
    truth: dict[str, float] | None = None,
) -> dict[str, Counter]:
    """Of each figure, counts: given and held (after), given_before, held_before, flag and flags
    (A/A after, of all replicates), flag_before."""
    truth = truth or long_run(noise)
    found: dict[str, Counter] = {name: Counter() for name in truth}
    for replicate in range(replicates):
        both = sides(rng, patients, 2, noise)
        chance = [figure_spreads(one) for one in both]
        draws = []
        if resamples and replicate % BEFORE == 0:
            draws = resampled(rng, both, resamples)
        for name, count in found.items():
            right = target(name, both[0], truth)
            count.update(_after(chance[0][name], chance[1][name], right))
            if draws:
                count["tried_before"] += 1
                if math.isfinite(both[0].values[name]):
                    count.update(_before(draws[0][name], draws[1][name], right))
    return found


def _after(a: Spread, b: Spread, right: float) -> Counter:
    if not a.ends:
        return Counter()
    low, high = a.ends(LEVEL)
    less, more = (
        (0.0, 0.0) if not_said(a, b) else difference_ends(a, b, patient_correlation(a, b), LEVEL)
    )
    flag = less > 0 or more < 0
    return Counter(given=1, held=int(low - 1e-9 <= right <= high + 1e-9), flag=int(flag))


def _before(a: np.ndarray, b: np.ndarray, right: float) -> Counter:
    (low, high), (less, more) = percentiles(a), percentiles(a - b)
    held = low - 1e-9 <= right <= high + 1e-9
    return Counter(given_before=1, held_before=int(held), flag_before=int(less > 0 or more < 0))


def _normal_p(gap: float, low: float, high: float) -> float:
    """p of a normal distribution with an interval of that width, as before."""
    error = (high - low) / (2 * 1.959964)
    return math.erfc(abs(gap) / error / math.sqrt(2)) if error > 0 else float(gap == 0)


def tables(
    rng: np.random.Generator, patients: int, noise: float, replicates: int, resamples: int
) -> Counter:
    """How many tables of 13 equal networks have any difference to the first one: plain, holm,
    plain_before, holm_before."""
    found: Counter = Counter()
    for replicate in range(replicates):
        rows = sides(rng, patients, ROWS, noise)
        chance = [figure_spreads(one) for one in rows]
        pairs = [figure_difference(row[m], chance[0][m]) for row in chance[1:] for m in METRICS]
        plain = [pair["verdict"] != "undecided" for pair in pairs]
        found.update(plain=any(plain), holm=any(holm([pair["p"] for pair in pairs])))
        if resamples and replicate % BEFORE == 0:
            draws = resampled(rng, rows, resamples)
            old = [
                (row[m] - draws[0][m], m, k) for k, row in enumerate(draws[1:], 1) for m in METRICS
            ]
            values = []
            for change, metric, k in old:
                gap = rows[k].values[metric] - rows[0].values[metric]
                values.append((gap, *percentiles(change)))
            plain = [low > 0 or high < 0 for _, low, high in values]
            corrected = holm([_normal_p(*map(float, value)) for value in values])
            found.update(plain_before=any(plain), holm_before=any(corrected))
    return found


def kappa(targets: np.ndarray, logits: np.ndarray) -> float:
    return float(confusion_figures(confusion_counts(targets, logits)[None])["kappa"][0])


def searches(
    rng: np.random.Generator, patients: int, noise: float, replicates: int
) -> Iterator[tuple[str, float, float]]:
    """(how the winner was chosen, mean error of its kappa, coverage of its interval)."""
    right = long_run(noise)["kappa"]
    errors: dict[str, list[float]] = {"on the rows it is measured on": [], "on other rows": []}
    held: Counter = Counter()
    for _ in range(replicates):
        test, val = (draw(rng, patients, TRIALS, noise) for _ in range(2))
        for (how, own), (targets, scores) in zip(errors.items(), (test, val), strict=True):
            kappas = [kappa(targets, logits_of(score, noise)) for score in scores]
            best = int(np.argmax(kappas))
            spread = figure_spreads(side(test[0], logits_of(test[1][best], noise)))["kappa"]
            own.append(spread.value - right)
            low, high = spread.ends(LEVEL) if spread.ends else (-1.0, 1.0)
            held[how] += low <= right <= high
    for how, own in errors.items():
        yield how, float(np.mean(own)), held[how] / replicates


def halved(rng: np.random.Generator, patients: int, noise: float, replicates: int) -> list[float]:
    """Mean errors of the AUC: all rows ranked together, and the mean of the halves."""
    right, errors = long_run(noise)["auc_referable"], []
    for _ in range(replicates):
        targets, (score,) = draw(rng, patients, 1, noise)
        half = np.arange(len(targets)) // 2 % 2
        # An epoch later a network's scores are shifted and steeper.
        logits = logits_of(np.where(half == 0, score, 0.8 * score - 0.7), noise)
        rows = [
            PredictionRows(targets, logits, np.arange(len(targets)) // 2, part)
            for part in (0 * half, half)
        ]
        errors.append([PatientFigures(row).values["auc_referable"] - right for row in rows])
    return np.mean(errors, axis=0).tolist()


def show_cover(patients: int, found: dict[str, Counter], replicates: int) -> None:
    print(f"\n{patients:,} patients")
    heads = ["figure", "held before", "after", "too few", "A/A before", "after"]
    print("| " + " | ".join(heads) + " |\n|---|" + "---:|" * 5)
    for name, c in found.items():
        old, new = c["given_before"], c["given"]
        cells = [f"{c['held_before'] / old:.3f}" if old else "", _share(c["held"], new)]
        cells += [
            f"{1 - new / replicates:.2f}",
            f"{c['flag_before'] / c['tried_before']:.3f}" if old else "",
        ]
        print(f"| {name} | {' | '.join(cells)} | {c['flag'] / replicates:.3f} |", flush=True)


def _share(hits: int, num: int) -> str:
    """A share with its error where that is above half a percent."""
    if not num:
        return "none"
    error = math.sqrt(max(hits / num * (1 - hits / num), 0.01) / num)
    return f"{hits / num:.3f}" + (f" ± {error:.3f}" if error > 0.006 else "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicates", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=400, help="of the bootstrap; 0: leave out")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="patients")
    parser.add_argument("--noise", type=float, default=0.45, help="0.45: kappa .81; 1.0: .56")
    parser.add_argument("--parts", default="cover,tables,search,halves")
    asked = parser.parse_args()
    sizes, parts = [int(size) for size in asked.sizes.split(",")], asked.parts.split(",")
    few = max(asked.replicates // 4, 50)
    truth = long_run(asked.noise)
    print("in the long run: " + ", ".join(f"{name} {value:.3f}" for name, value in truth.items()))
    for size in sizes:
        rng = np.random.default_rng(size)
        if "cover" in parts:
            found = cover(rng, size, asked.noise, asked.replicates, asked.resamples)
            show_cover(size, found, asked.replicates)
        if "tables" in parts:
            count = tables(rng, size, asked.noise, few, asked.resamples)
            kinds = ("plain_before", "plain", "holm_before", "holm")
            tried = {kind: -(-few // BEFORE) if "before" in kind else few for kind in kinds}
            said = ", ".join(f"{kind} {count[kind] / tried[kind]:.3f}" for kind in kinds)
            print(f"{size:,} patients, tables of {ROWS} with any difference: {said}", flush=True)
        if "search" in parts:
            for how, error, held in searches(rng, size, asked.noise, few):
                said = f"kappa {error:+.3f}, interval holds {held:.3f}"
                print(f"{size:,} patients, best of {TRIALS} chosen {how}: {said}", flush=True)
        if "halves" in parts:
            pooled, apart = halved(rng, size, asked.noise, few)
            print(f"{size:,} patients, AUC of halves: together {pooled:+.4f}, mean {apart:+.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
