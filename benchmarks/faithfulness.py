"""Insertion and deletion of pixels against Quantus, on the same images and maps, at equal values.

Quantus flips pixels (PixelFlipping); where it starts from grey images and its perturbation puts the
photograph's pixels in, that is insertion. It goes step by step and sees the whole batch at each, or
one image where `--peer-batch 1`; ours is one stream of images and steps. Both ask the same network
for the same probabilities as often, which bounds the ratio where the network is slow: on a CPU by
what folding norms saves and by the size of the peer's batch. Images have one channel, since Quantus
takes every channel of a pixel for a pixel.

Quantus is needed for this alone and is no dependency: pip install quantus (with its own opencv).
"""

import argparse
import sys
import warnings

import numpy as np
import torch
from rounds import compare, conclude
from torch import Tensor, nn

from fundusray.config import Model
from fundusray.models import build_model
from fundusray.saliency import MapProblem
from fundusray.saliency.faithfulness import pixel_curves
from fundusray.saliency.registry import CHUNK

IMAGES, SIDE, CLASSES, STEPS = 8, 128, 5, 64
NEEDED = 10.0
SAME = 1e-5
"""By how much a probability may differ."""


class Grey(nn.Module):
    """A network of photographs that takes grey ones, [B, 1, S, S]."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        return self.net(image.expand(-1, 3, -1, -1))


def put_in(arr: np.ndarray, indices: np.ndarray, photograph: np.ndarray, **_: object) -> np.ndarray:
    """Quantus' perturbation that inserts: the photograph's pixels at some places."""
    row = np.arange(len(arr))[:, None]
    found = arr.copy()
    found[row, indices] = photograph[row, indices]
    return found


class Bench:
    """Smooth grey images, a network with ImageNet's features, and maps without equal values."""

    def __init__(self, num: int, side: int, steps: int, given: argparse.Namespace) -> None:
        self.device, self.chunk, self.peer_batch = given.device, given.chunk, given.peer_batch
        generator = torch.Generator().manual_seed(0)
        coarse = torch.rand(num, 1, 9, 9, generator=generator)
        smooth = nn.functional.interpolate(coarse, side, mode="bicubic").clamp(0, 1)
        self.image = smooth.to(self.device)
        self.values = torch.randn(num, 1, side, side, generator=generator).to(self.device)
        net = build_model(Model(name="efficientnet_lite0", weights="imagenet"), CLASSES, 0)
        self.model = Grey(net).eval().requires_grad_(False).to(self.device)
        with torch.no_grad():
            self.target = self.model(self.image).argmax(dim=1)
        self.step = side * side // steps

    def ours(self) -> tuple[np.ndarray, np.ndarray]:
        """(deletion, insertion), [B, T] each, after each step."""
        row = torch.arange(len(self.image), device=self.device)
        problem = MapProblem(self.model, self.image, self.target, row, {}, self.chunk)
        curves = pixel_curves(problem, self.values, step=self.step, inserted="half_grey")
        return curves.deletion[:, 1:].cpu().numpy(), curves.insertion[:, 1:].cpu().numpy()

    def peer(self) -> tuple[np.ndarray, np.ndarray]:
        """The same of Quantus."""
        return self._flipped(inserted=False), self._flipped(inserted=True)

    def _flipped(self, inserted: bool) -> np.ndarray:
        parts = torch.arange(len(self.image)).split(self.peer_batch)
        return np.concatenate([self._part(part, inserted) for part in parts])

    def _part(self, part: Tensor, inserted: bool) -> np.ndarray:
        image = self.image[part].cpu().numpy()
        args = {"features_in_step": self.step, "perturb_baseline": 0.5, "disable_warnings": True}
        if inserted:
            photograph = image.reshape(len(image), -1)
            args |= {"perturb_func": put_in, "perturb_func_kwargs": {"photograph": photograph}}
            image = np.full_like(image, 0.5)
        metric = PixelFlipping(normalise=False, **args)
        curves = metric(
            model=self.model, x_batch=image, y_batch=self.target[part].cpu().numpy(),
            a_batch=self.values[part].cpu().numpy(), channel_first=True, softmax=True,
            device=self.device, batch_size=len(image),
        )  # fmt: skip
        return np.array(curves)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--side", type=int, default=SIDE)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--peer-batch", type=int, default=64, help="images of Quantus' batch")
    parser.add_argument("--chunk", type=int, default=CHUNK, help="images of one of our passes")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    if given.side**2 % given.steps:
        parser.error(f"{given.side}^2 pixels do not go into {given.steps} equal steps")
    bench = Bench(given.images, given.side, given.steps, given)
    names = ("deletion", "insertion")
    for name, theirs, mine in zip(names, bench.peer(), bench.ours(), strict=True):
        apart = float(np.abs(theirs - mine).max())
        print(f"{name}: {mine.shape[1]} steps, farthest {apart:.1e}", flush=True)
        if not apart <= SAME:
            print(f"FAILED: {name}: probabilities differ by more than {SAME}")
            return 1
    ratio = compare(
        "insertion_and_deletion", bench.peer, bench.ours, given.rounds, items=given.images,
        unit="images",
    )  # fmt: skip
    conclude({"insertion_and_deletion": (ratio, NEEDED)})
    return 0


if __name__ == "__main__":
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from quantus import PixelFlipping
    except ImportError as missing:
        sys.exit(
            f"Quantus is not here ({missing}); it is needed for this benchmark alone: "
            "pip install quantus"
        )
    sys.exit(main())
