"""Near-duplicates among 1,000 to 16,000 photographs: against comparing all with all, and how the
time grows.

Prints are made of drawn photographs: each is the sum of two, turned by any angle, so that no two
are alike but all look like vessels. One in fifty has a twin: shifted by a pixel, mirrored half of
the time, with noise. Growth by 16 for four times as many would be quadratic.
"""

import itertools
import sys
import time

import numpy as np
import torch
from PIL import Image
from rounds import conclude

from fundusray.data.fingerprint import SIDE, fingerprint
from fundusray.data.synthetic import draw
from fundusray.data.twins import SIMILAR, find_pairs, groups

DRAWN = 100
SIZES = (1000, 4000, 16000)
QUADRATIC, MOST = 16, 12
"""Growth for four times as many: of comparing all with all; at most."""


def turned(one: np.ndarray, angle: float) -> np.ndarray:
    return np.asarray(Image.fromarray(one).rotate(angle, Image.Resampling.BILINEAR))


def levels(pictures: np.ndarray) -> np.ndarray:
    """int8 [N, LENGTH] of one contrast."""
    spread = pictures.std(axis=(1, 2), keepdims=True)
    return np.clip(np.rint(pictures / spread * 40), -127, 127).astype(np.int8).reshape(-1, SIDE**2)


def made(num: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(prints [num + twins, LENGTH], which row each twin is of)."""
    drawn = [fingerprint(draw(5, i, i % 5, side=192).image) for i in range(DRAWN)]
    base = [one.reshape(SIDE, SIDE).astype(np.float32) for one in drawn]
    chosen, angles = rng.integers(0, DRAWN, (num, 2)), rng.uniform(0, 360, (num, 2))
    pictures = np.stack(
        [
            turned(base[a], t) + turned(base[b], u)
            for (a, b), (t, u) in zip(chosen, angles, strict=True)
        ]
    )
    of = rng.permutation(num)[: num // 50]
    twins = np.roll(pictures[of], (1, 1), (1, 2))
    twins[::2] = twins[::2, :, ::-1]
    twins = twins + rng.normal(0, 0.3 * twins.std(), twins.shape)
    return np.concatenate([levels(pictures), levels(twins)]), of


def all_with_all(prints: np.ndarray) -> set[tuple[int, int]]:
    """Pairs of SIMILAR prints by one product of matrices per shift and mirrored form."""
    pictures = torch.from_numpy(prints).float().reshape(-1, SIDE, SIDE)
    flat = torch.nn.functional.normalize(pictures.reshape(len(prints), -1))
    best = torch.full((len(prints), len(prints)), -1.0)
    for axes in ((), (2,), (1,), (1, 2)):
        for shift in [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]:
            other = pictures.flip(axes).roll(shift, (1, 2)).reshape(len(prints), -1)
            best = torch.maximum(best, flat @ torch.nn.functional.normalize(other).T)
    first, second = torch.nonzero(torch.triu(best, 1) >= SIMILAR, as_tuple=True)
    return set(zip(first.tolist(), second.tolist(), strict=True))


def main() -> int:
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    seconds, recalls = [], []
    for num in SIZES:
        prints, of = made(num, rng)
        began = time.perf_counter()
        pairs = find_pairs(prints, [""] * len(prints))
        seconds.append(time.perf_counter() - began)
        group = groups(len(prints), pairs)
        found = group[num:] == np.minimum(of, group[of])
        recalls.append(float(((group[num:] >= 0) & found).mean()))
        extra = len({(p.first, p.second) for p in pairs}) - len(of)
        print(f"{len(prints):>6,} prints {seconds[-1]:6.2f} s  twins found {recalls[-1]:.4f}"
              f"  other pairs {extra}", flush=True)  # fmt: skip
        if num == SIZES[0]:
            began = time.perf_counter()
            everything = all_with_all(prints)
            peer = time.perf_counter() - began
            ours = {(pair.first, pair.second) for pair in pairs}
            missing = len(everything - ours) / len(everything)
            print(
                f"       all with all {peer:.2f} s, {missing:.1%} of its pairs not found",
                flush=True,
            )
    growth = [b / a for a, b in itertools.pairwise(seconds)]
    told = ", ".join(f"{value:.1f}" for value in growth)
    print(f"time for four times as many: {told} times ({QUADRATIC} would be quadratic)")
    conclude(
        {
            "duplicates_1000_vs_all_with_all": (peer / seconds[0], 1.0),
            "quadratic_growth_over_ours": (QUADRATIC / max(growth), QUADRATIC / MOST),
        }
    )
    return int(min(recalls) < 0.99 or missing > 0.1)


if __name__ == "__main__":
    sys.exit(main())
