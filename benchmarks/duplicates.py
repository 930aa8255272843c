"""Finding near duplicates against comparing all with all.  python benchmarks/duplicates.py

The set: prints of 1,000 drawn photographs, each turned by up to 16 angles, which makes 16,000 eyes;
one in twenty is an altered copy (JPEG 30, half size, shifted, mirrored) of another.
Time: find_pairs on 1,000, 4,000 and 16,000 prints; and on 4,000 against the correlation of all
pairs in the four mirrored forms, as products of matrices and without shifts.
Recall: of the copies, and against what comparing all spectra finds.

Outputs are compared; exits with 1 only if they differ. Fetches nothing; about a minute.
"""

import io
import sys
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import torch
from PIL import Image
from rounds import compare, conclude, seconds

from fundusray.data.drawn.source import draw_photograph
from fundusray.data.duplicates import near_duplicates
from fundusray.data.duplicates.fingerprint import LENGTH, SIDE, fingerprint
from fundusray.data.duplicates.near_duplicates import duplicate_groups, find_pairs
from fundusray.data.photographs.decode import encode_jpeg

DRAWN, ANGLES = 1000, 16
SIZES = (1000, 4000, 16000)
COPIES = 20
"""One in so many is an altered copy."""


def alter(pixels: np.ndarray, form: int) -> np.ndarray:
    """A photograph as somebody else published it, uint8 [H, W, 3]."""
    if form == 0:
        return np.asarray(Image.open(io.BytesIO(encode_jpeg(pixels, 30))))
    if form == 1:
        return np.asarray(Image.fromarray(pixels).reduce(2))
    if form == 2:
        return np.pad(pixels, ((0, 0), (4, 0), (0, 0)))[:, :-4]
    return np.ascontiguousarray(pixels[:, ::-1])


def draw_prints(index: int) -> tuple[np.ndarray, np.ndarray]:
    """Prints of a drawn photograph and of its altered copy."""
    pixels = draw_photograph(0, index, index % 5, side=128).image
    return fingerprint(pixels), fingerprint(alter(pixels, index % 4))


def turned(prints: np.ndarray, degrees: float) -> np.ndarray:
    """Prints [N, LENGTH] of eyes that look the same way but whose vessels run another."""
    pictures = prints.reshape(-1, SIDE, SIDE).astype(np.float32)
    bicubic = Image.Resampling.BICUBIC
    rotated = [np.asarray(Image.fromarray(p).rotate(degrees, bicubic)) for p in pictures]
    return np.clip(np.rint(rotated), -127, 127).astype(np.int8).reshape(-1, LENGTH)


def make_set(num: int, drawn: np.ndarray, copies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(prints [num, LENGTH], originals [C]): the last C are copies, of these rows."""
    parts = [
        turned(drawn, 180 / ANGLES * turn) if turn else drawn for turn in range(-(-num // DRAWN))
    ]
    num_copies = num // COPIES
    prints = np.concatenate(parts)[: num - num_copies]
    originals = np.arange(num_copies) % len(drawn)
    return np.concatenate([prints, copies[originals]]), originals


def correlate_all(prints: np.ndarray) -> np.ndarray:
    """The peer: pairs [P, 2] whose correlation, unshifted, in any mirrored form is SIMILAR."""
    pictures = torch.from_numpy(prints).reshape(-1, SIDE, SIDE).float()
    normal = torch.nn.functional.normalize(pictures.flatten(1))
    found = []
    for start in range(0, len(normal), 1000):
        best = torch.full((len(normal[start : start + 1000]), len(normal)), -1.0)
        for axes in ((), (2,), (1,), (1, 2)):
            part = pictures[start : start + 1000].flip(axes).flatten(1)
            best = torch.maximum(best, torch.nn.functional.normalize(part) @ normal.T)
        first, second = (best >= near_duplicates.SIMILAR).nonzero().T
        found.append(torch.stack([first + start, second], dim=1))
    pairs = torch.cat(found).numpy()
    return pairs[pairs[:, 0] < pairs[:, 1]]


def near_all(prints: np.ndarray) -> np.ndarray:
    """Pairs [P, 2] that are SIMILAR over shifts and mirrored forms, of all whose spectra are NEAR:
    what find_pairs looks for, without hashes."""
    spectra = near_duplicates._spectra(prints, np.arange(len(prints)))
    found = []
    for start in range(0, len(spectra), 1000):
        first, second = (
            (spectra[start : start + 1000] @ spectra.T >= near_duplicates.NEAR).nonzero().T
        )
        later = second > first + start
        found.append(torch.stack([first[later] + start, second[later]], dim=1))
    pairs = torch.cat(found)
    pictures = torch.from_numpy(prints).reshape(-1, SIDE, SIDE)
    highest = [
        near_duplicates._correlate(pictures[part[:, 0]].float(), pictures[part[:, 1]].float())[0]
        for part in pairs.split(near_duplicates.BATCH)
    ]
    return pairs[torch.cat(highest) >= near_duplicates.SIMILAR].numpy()


def joined(label: np.ndarray, pairs: np.ndarray) -> float:
    """Share of pairs [P, 2] that lie in one group."""
    first, second = label[pairs[:, 0]], label[pairs[:, 1]]
    return float(np.mean((first >= 0) & (first == second))) if len(pairs) else 1.0


def main() -> int:
    """Runs all; the exit code."""
    torch.set_num_threads(1)
    with ProcessPoolExecutor(2) as pool:
        both = list(pool.map(draw_prints, range(DRAWN), chunksize=50))
    drawn, copies = (np.stack(prints) for prints in zip(*both, strict=True))
    agreed, times = [], []
    for num in SIZES:
        prints, originals = make_set(num, drawn, copies)
        found: list[near_duplicates.DuplicatePair] = []
        times.append(seconds(lambda p=prints, f=found: f.extend(find_pairs(p, [""] * len(p)))))
        label, rows = duplicate_groups(num, found), np.arange(num - len(originals), num)
        recall = joined(label, np.stack([originals, rows], axis=1))
        expected = near_all(prints)
        against = joined(label, expected)
        extra = len({pair[:2] for pair in found} - set(map(tuple, expected.tolist())))
        growth = f", {times[-1] / times[-2]:.1f} times the last" if len(times) > 1 else ""
        print(
            f"{num:>6,} prints: {times[-1]:6.2f} s{growth}; recall of {len(originals)} copies "
            f"{recall:.4f}, of {len(expected)} pairs by comparing all {against:.4f}; "
            f"{extra} others", flush=True,
        )  # fmt: skip
        agreed += [recall >= 0.99, against >= 0.995, extra == 0]
    noise = np.random.default_rng(0).normal(0, 12, (SIZES[1], drawn.shape[1]))
    burst = np.clip(drawn[0] + noise, -127, 127).astype(np.int8)
    pairs: list[near_duplicates.DuplicatePair] = []
    burst_seconds = seconds(lambda: pairs.extend(find_pairs(burst, [""] * len(burst))))
    agreed.append(set(duplicate_groups(len(burst), pairs).tolist()) == {0})
    print(f"{SIZES[1]:>6,} shots of one eye: {burst_seconds:6.2f} s")
    prints, _ = make_set(SIZES[1], drawn, copies)
    blind = [""] * len(prints)
    label = duplicate_groups(len(prints), find_pairs(prints, blind))
    agreed.append(joined(label, correlate_all(prints)) >= 0.995)
    ratio = compare(
        "4,000 prints, all pairs", lambda: correlate_all(prints),
        lambda: find_pairs(prints, blind), 1, items=len(prints), unit="prints",
    )  # fmt: skip
    if not all(agreed):
        print(f"FAILED duplicates: outputs differ: {agreed}")
    conclude(
        {
            "all_pairs_4k": (ratio, 3.0),
            # 1 would be quadratic growth from 4,000 to 16,000 prints, 4 linear.
            "different_over_burst_4k": (times[1] / burst_seconds, 0.2),
            "quadratic_over_growth_4k_16k": (16 / (times[2] / times[1]), 2.0),
        }
    )
    return 0 if all(agreed) else 1


if __name__ == "__main__":
    sys.exit(main())
