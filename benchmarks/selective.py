"""Selective enhancement: all 3^6 combinations in passes of many images against the naive loop (one
forward pass for each combination), and the greedy search against the exact one.

On drawn photographs, with a U-Net that was trained on their lesions for a while. The naive loop is
written out here: six gradients, then combination after combination, the lowest loss kept. Both have
to keep the same combination of each image, or, where two are as good but for rounding, equal
losses. The greedy search has to reach the exact one's loss, but for rounding; its gap is printed,
as a share of what the exact search gains.
"""

import argparse
import sys
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from rounds import compare, conclude
from torch import Tensor, nn

from fundusray.attacks import folded
from fundusray.attacks.segmentation.selective import choice_text, selective_enhancement
from fundusray.config import Data, Model
from fundusray.models.segmenters import build_segmenter
from fundusray.tasks.grades_and_masks import KINDS
from fundusray.tasks.segmentation import class_map
from fundusray.training.drawn_lesions import draw_part

EPS = 1 / 100
LESIONS = ("microaneurysm", "haemorrhage", "hard_exudate", "cotton_wool", "disc")
CLASSES = 1 + len(LESIONS)
TRAINED, BATCH = 48, 8
ROUNDING = 1e-6
"""By how much losses may differ."""


def drawn(side: int, start: int, stop: int) -> tuple[Tensor, Tensor]:
    """(images [B, 3, S, S] in [0, 1], classes int64 [B, S, S])."""
    part = draw_part(Data(size=side, preprocess="resize"), 0, start, stop)
    bits = torch.from_numpy(part.masks.astype(np.int64))
    masks = torch.stack([bits >> KINDS.index(kind) & 1 for kind in LESIONS], dim=1)
    return torch.from_numpy(part.image).permute(0, 3, 1, 2).float() / 255, class_map(masks)


def trained(side: int, steps: int) -> nn.Module:
    """A U-Net that knows the drawn lesions a little."""
    net = build_segmenter(Model(name="unet"), CLASSES, 0)
    if not steps:
        return net.eval()
    image, target = drawn(side, 0, TRAINED)
    weight = torch.tensor([1.0] + [4.0] * len(LESIONS))
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        some = torch.randperm(TRAINED, generator=generator)[:BATCH]
        loss = F.cross_entropy(net(image[some]), target[some], weight=weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"trained {steps} steps, loss {loss.item():.3f}", flush=True)
    return net.eval()


class Bench:
    """A network, images it has not seen, and both ways of enhancing them: ours asks the network as
    jobs/derive.py does, batch norms folded into convolutions and channels last."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.net = trained(given.side, given.train_steps).to(given.device).requires_grad_(False)
        image, target = drawn(given.side, TRAINED, TRAINED + max(given.images, given.greedy_images))
        self.image, self.target = image.to(given.device), target.to(given.device)
        self.num = given.images
        copy = folded(self.net, self.image[:1]).to(memory_format=torch.channels_last)
        self.copy = lambda image: copy(image.contiguous(memory_format=torch.channels_last))

    def naive(self) -> tuple[list[str], list[float]]:
        """(choice, its loss) of the first images, one forward pass for each combination."""
        choices, losses = [], []
        for image, target in zip(self.image[: self.num], self.target[: self.num], strict=True):
            steps = []
            for c in range(CLASSES):
                x = image[None].clone().requires_grad_(True)
                F.cross_entropy(self.net(x), torch.full_like(target[None], c)).backward()
                steps.append(EPS * x.grad.sign())
            best, kept = float("inf"), ()
            order = sorted(product((1, 0, -1), repeat=CLASSES), key=lambda s: sum(map(abs, s)))
            for signs in order:
                moved = sum(s * step for s, step in zip(signs, steps, strict=True))
                with torch.no_grad():
                    logits = self.net((image[None] + moved).clamp(0, 1))
                    loss = F.cross_entropy(logits, target[None]).item()
                if loss < best:
                    best, kept = loss, signs
            choices.append(choice_text(np.array(kept)))
            losses.append(best)
        return choices, losses

    def ours(self, search: str, num: int) -> tuple[list[str], list[float], list[int], list[float]]:
        """(choice, its loss, passes, loss of no change) of the first images."""
        found = selective_enhancement(
            self.copy, self.image[:num], self.target[:num], eps=EPS, search=search
        )
        choices = [choice_text(choice.cpu()) for choice in found.choice]
        before, passes = found.loss_before.tolist(), found.evaluations.tolist()
        return choices, found.loss.tolist(), passes, before


def same_work(bench: Bench) -> bool:
    """Whether exact search and naive loop keep the same combinations."""
    theirs, mine = bench.naive(), bench.ours("exact", bench.num)
    equal = [a == b for a, b in zip(theirs[0], mine[0], strict=True)]
    apart = [abs(a - b) for a, b in zip(theirs[1], mine[1], strict=True)]
    print(f"exact: {sum(equal)} of {len(equal)} same combinations, losses {max(apart):.1e} apart")
    return all(same or near < ROUNDING for same, near in zip(equal, apart, strict=True))


def greedy_figures(bench: Bench, num: int) -> tuple[float, float]:
    """(how many times fewer passes, share of images of the exact search's loss)."""
    exact, greedy = bench.ours("exact", num), bench.ours("greedy", num)
    gaps, gained = [], []
    for best, few, before in zip(exact[1], greedy[1], exact[3], strict=True):
        gaps.append(few - best)
        gained.append((few - best) / max(before - best, ROUNDING))
    for row in zip(exact[0], greedy[0], exact[1], greedy[1], gained, strict=True):
        print("  exact {0} {2:.6f}   greedy {1} {3:.6f}   gap {4:.4f} of the gain".format(*row))
    print(f"greedy: largest gap {max(gaps):.1e}, {max(gained):.4f} of the gain", flush=True)
    same = sum(gap < ROUNDING for gap in gaps) / num
    return sum(exact[2]) / sum(greedy[2]), same


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=1, help="of the naive loop")
    parser.add_argument("--greedy-images", type=int, default=40)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--train-steps", type=int, default=150)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    bench = Bench(given)
    if not same_work(bench):
        print("FAILED: the exact search keeps another combination than the naive loop")
        return 1
    fewer, same = greedy_figures(bench, given.greedy_images)
    exact = compare(
        "exact_search", bench.naive, lambda: bench.ours("exact", given.images), given.rounds,
        items=given.images, unit="images",
    )  # fmt: skip
    greedy = compare(
        "greedy_search", lambda: bench.ours("exact", given.images),
        lambda: bench.ours("greedy", given.images), given.rounds, items=given.images,
        unit="images",
    )  # fmt: skip
    conclude(
        {
            "selective_exact_over_naive": (exact, 5.0),
            "selective_greedy_fewer_passes": (fewer, 15.0),
            "selective_greedy_same_loss_share": (same, 0.95),
            "selective_greedy_over_exact": (greedy, 1.0),
        }
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
