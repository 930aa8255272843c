"""Attribution maps against captum's at equal values: what they take in time, memory and gradients.

    python benchmarks/attribution.py [--part integrated_gradients,memory,adaptive,...]

- integrated_gradients: 50 steps against captum as it is by default (every step at once) and with
  passes as large as ours (internal_batch_size=32); both by Gauss and Legendre's points.
- memory: what each holds at most while it works, beyond what the process held before; measured by
  the kernel (VmHWM) in a process of its own.
- adaptive: gradients of an image, where each takes as many as its completeness needs, against the
  smallest fixed number with which all images are complete; of a network with rectifiers (ImageNet's
  features; a gap of .05) and of one with SiLU (1e-3).
- grad_cam, occlusion: against captum's, which covers one window a pass by default, and 32 at once.
- resident: whether a thousand maps leave something behind.

The network is efficientnet_b0 with random weights and norms that have seen the images; it is as one
loads it, its weights ready to learn, which captum lets it keep in its graph and ours does not: of
Grad-CAM that is all the difference. Maps have to be equal within 1e-5 of the largest number, and
integrated gradients complete within 1e-3.
"""

import argparse
import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import captum.attr
import torch
from captum.attr import LayerAttribution
from rounds import compare, conclude
from torch import Tensor, nn

from fundusray.config import Model
from fundusray.models import build_model, feature_layers
from fundusray.saliency import explainable, run_map
from fundusray.saliency.integrated_gradients import (
    MOST,
    Paths,
    adaptive_integrated_gradients_of,
    integrated_gradients_of,
)
from fundusray.saliency.registry import CHUNK

NETWORK, RECTIFIED, CLASSES = "efficientnet_b0", "efficientnet_lite0", 5
IMAGES, SIDE, STEPS, WINDOW, STRIDE = 4, 128, 50, 16, 8
GRAD_CAM_IMAGES, OCCLUDED, ADAPTIVE_IMAGES = 16, 2, 12
EQUAL, COMPLETE, FLAT = 1e-5, 1e-3, 0.01
RECTIFIED_COMPLETE = 0.05
"""The gap of a network with rectifiers that counts as complete: it has kinks all along the line, so
that COMPLETE takes thousands of steps, fixed or not."""
STATUS = Path("/proc/self/status")

Ratios = dict[str, tuple[float, float]]
"""Of what is compared (how many times better ours is, how many times it has to be)."""


def smooth_images(num: int, side: int) -> Tensor:
    """[num, 3, S, S] in [0, 1]."""
    coarse = torch.rand(num, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    return nn.functional.interpolate(coarse, side, mode="bicubic").clamp(0, 1)


class Bench:
    """A network in evaluation mode, smooth images, and the classes that it answers."""

    def __init__(self, num: int, side: int, name: str = NETWORK, weights: str = "") -> None:
        self.image = smooth_images(num, side)
        torch.manual_seed(0)
        self.model = build_model(Model(name=name, weights=weights), CLASSES, 0)
        if not weights:
            self._see(smooth_images(8, side))
        self.model.eval()
        self.layers, self.row = feature_layers(name), torch.arange(num)
        with torch.no_grad():
            self.target = self.model(self.image).argmax(dim=1)

    def _see(self, image: Tensor) -> None:
        """Gives the norms these images' statistics, without which signals die away."""
        self.model.train()
        for layer in self.model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = None  # the mean over all passes
        with torch.no_grad():
            self.model(image)

    def ours(self, name: str, **keywords: object) -> Tensor:
        """A map of ours, [B, 1, S, S]."""
        return run_map(
            name, keywords, self.model, self.image, self.target, row=self.row, layers=self.layers
        ).values

    def integrated_gradients(self, steps: int, batch: int | None = None) -> Tensor:
        """captum's integrated gradients summed over channels; `batch`: of a pass."""
        found = captum.attr.IntegratedGradients(self.model).attribute(
            self.image, 0.5, target=self.target, n_steps=steps, internal_batch_size=batch
        )
        return found.sum(dim=1, keepdim=True).float()

    def grad_cam(self) -> Tensor:
        """captum's Grad-CAM of the last feature map, in the image."""
        layer = self.model.get_submodule(self.layers["last"])
        found = captum.attr.LayerGradCam(self.model, layer).attribute(
            self.image, target=self.target
        )
        return LayerAttribution.interpolate(found, self.image.shape[2:], "bilinear").detach()

    def occlusion(self, batch: int = 1) -> Tensor:
        """captum's occlusion; `batch`: windows of a pass."""
        window, stride = (3, WINDOW, WINDOW), (3, STRIDE, STRIDE)
        found = captum.attr.Occlusion(self.model).attribute(
            self.image, window, stride, baselines=0.5, target=self.target,
            perturbations_per_eval=batch,
        )  # fmt: skip
        return found[:, :1]


def require_equal(name: str, ours: Tensor, theirs: Tensor) -> None:
    """Ends the program where two maps differ by more than EQUAL of the largest number."""
    apart = ((ours - theirs).abs().max() / theirs.abs().max()).item()
    print(f"{name}: farthest apart {apart:.1e} of the largest number", flush=True)
    if not apart <= EQUAL:
        sys.exit(f"FAILED: {name}: the maps differ")


def integrated_gradients(given: argparse.Namespace) -> Ratios:
    bench = Bench(given.images, given.side)

    def ours() -> Tensor:
        return bench.ours("integrated_gradients", steps=given.steps)

    require_equal("integrated_gradients", ours(), bench.integrated_gradients(given.steps, CHUNK))
    with explainable(bench.model):
        _, gap = integrated_gradients_of(bench.model, bench.image, bench.target, steps=given.steps)
    print(f"integrated_gradients: completeness gap at most {gap.max():.1e}", flush=True)
    if not gap.max() <= COMPLETE:
        sys.exit("FAILED: integrated_gradients: incomplete")
    ratios: Ratios = {}
    for kind, batch, least in (("default", None, 2.2), ("tuned", CHUNK, 0.95)):
        name = f"integrated_gradients_{kind}"
        ratio = compare(
            name, lambda b=batch: bench.integrated_gradients(given.steps, b), ours, given.rounds,
            items=given.images, unit="images",
        )  # fmt: skip
        ratios[name] = (ratio, least)
    return ratios


def _kilobytes(key: str) -> int:
    """A number of this process from the kernel: VmRSS, what it holds; VmHWM, at most so far."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1])


def peak_of(who: str, given: argparse.Namespace) -> None:
    """Prints by how many kilobytes this process grows at most while it makes the maps once."""
    bench = Bench(given.images, given.side)
    work: Callable[[int], object] = bench.integrated_gradients
    if who == "ours":
        work = lambda steps: bench.ours("integrated_gradients", steps=steps)  # noqa: E731
    # One step of each image, so that code that is loaded late counts for neither.
    work(1)
    gc.collect()
    before = _kilobytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    work(given.steps)
    print(_kilobytes("VmHWM") - before)


def memory(given: argparse.Namespace) -> Ratios:
    peaks = {}
    for who in ("captum", "ours"):
        sizes = [f"--{key}={getattr(given, key)}" for key in ("images", "side", "steps", "threads")]
        command = [sys.executable, __file__, f"--peak-of={who}", *sizes]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        peaks[who] = int(done.stdout.split()[-1])
        print(f"memory: {who} grows by {peaks[who] / 1024:,.0f} MiB at most", flush=True)
    return {"memory": (peaks["captum"] / peaks["ours"], 3)}


def complete_at(bench: Bench, tolerance: float) -> int | None:
    """The smallest of some numbers of steps with which every gap is small; None: none to MOST."""
    hardest, steps = 0, 2
    while steps <= MOST:
        # The image that was incomplete last time is asked first: most numbers fail by it.
        order = [hardest, *(one for one in range(len(bench.image)) if one != hardest)]
        for one in order:
            some = slice(one, one + 1)
            _, gap = integrated_gradients_of(
                bench.model, bench.image[some], bench.target[some], steps=steps
            )
            if gap > tolerance:
                hardest = one
                break
        else:
            return steps
        steps += max(1, steps // 8)
    return None


def adaptive(given: argparse.Namespace) -> Ratios:
    ratios: Ratios = {}
    cases = (
        ("relu", RECTIFIED, "imagenet", RECTIFIED_COMPLETE),
        ("silu", NETWORK, "", COMPLETE),
    )
    for kind, name, weights, tolerance in cases:
        bench = Bench(given.adaptive_images, given.side, name, weights)
        with explainable(bench.model):
            start = torch.full_like(bench.image[:1], 0.5)
            paths = Paths(bench.model, bench.image, start, bench.target)
            _, gap, taken = adaptive_integrated_gradients_of(paths, tolerance)
            fixed = complete_at(bench, tolerance)
        median = taken.median().item()
        print(
            f"adaptive, {kind} ({name}): gaps of {tolerance:g} or less with "
            f"{fixed or f'more than {MOST}'} fixed steps; by tolerance {sorted(taken.tolist())}, "
            f"in the mean {taken.float().mean():.1f}, {int((gap > tolerance).sum())} incomplete",
            flush=True,
        )
        if fixed is not None and not gap.max() <= tolerance:
            print(f"adaptive, {kind}: incomplete where a fixed number of steps is not", flush=True)
            # Not the same work, which no ratio may hide.
            ratios[f"adaptive_{kind}"] = (0.0, 1.5)
            continue
        ratios[f"adaptive_{kind}"] = ((fixed or MOST) / median, 1.5)
    return ratios


def grad_cam(given: argparse.Namespace) -> Ratios:
    bench = Bench(given.grad_cam_images, given.side)
    require_equal("grad_cam", bench.ours("grad_cam"), bench.grad_cam())
    ratio = compare(
        "grad_cam", bench.grad_cam, lambda: bench.ours("grad_cam"), 4 * given.rounds,
        items=given.grad_cam_images, unit="images",
    )  # fmt: skip
    return {"grad_cam": (ratio, 1.1)}


def occlusion(given: argparse.Namespace) -> Ratios:
    bench = Bench(given.occluded, given.side)

    def ours() -> Tensor:
        return bench.ours("occlusion", window=WINDOW, stride=STRIDE)

    require_equal("occlusion", ours(), bench.occlusion(CHUNK))
    ratios: Ratios = {}
    for name, batch, least in (("default", 1, 3.3), ("tuned", CHUNK, 0.95)):
        ratio = compare(
            f"occlusion_{name}", lambda b=batch: bench.occlusion(b), ours, given.rounds,
            items=given.occluded, unit="images",
        )  # fmt: skip
        ratios[f"occlusion_{name}"] = (ratio, least)
    return ratios


def resident(given: argparse.Namespace) -> Ratios:
    """Not a ratio to a peer: what the process holds after a tenth of the maps, and after all."""
    bench = Bench(1, 64, "resnet18")
    each = [("saliency", {}), ("grad_cam", {}), ("integrated_gradients", {"steps": 4})]
    held = {}
    for number in range(1, given.maps + 1):
        name, keywords = each[number % len(each)]
        bench.ours(name, **keywords)
        if number in (given.maps // 10, given.maps):
            gc.collect()
            held[number] = _kilobytes("VmRSS")
    first, last = held.values()
    verdict = "reached" if last <= (1 + FLAT) * first else "not reached"
    after = f"{last / 1024:,.1f} after {given.maps}: {last / first - 1:+.2%}"
    print(
        f"resident: {first / 1024:,.1f} MiB after {given.maps // 10} maps, {after} "
        f"(needs <= {FLAT:.0%}): {verdict}",
        flush=True,
    )
    return {}


PARTS: dict[str, Callable[[argparse.Namespace], Ratios]] = {
    "integrated_gradients": integrated_gradients,
    "memory": memory,
    "adaptive": adaptive,
    "grad_cam": grad_cam,
    "occlusion": occlusion,
    "resident": resident,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", default=",".join(PARTS), help="which, separated by commas")
    sizes = {
        "rounds": 5, "threads": 2, "side": SIDE, "images": IMAGES, "steps": STEPS, "maps": 1000,
        "adaptive-images": ADAPTIVE_IMAGES, "grad-cam-images": GRAD_CAM_IMAGES,
        "occluded": OCCLUDED,
    }  # fmt: skip
    for key, usual in sizes.items():
        parser.add_argument(f"--{key}", type=int, default=usual)
    parser.add_argument("--peak-of", choices=["captum", "ours"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.peak_of:
        peak_of(given.peak_of, given)
        return 0
    parts = given.part.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))} (have: {', '.join(PARTS)})")
    ratios: Ratios = {}
    for part in parts:
        ratios |= PARTS[part](given)
    conclude(ratios)
    return 0


if __name__ == "__main__":
    sys.exit(main())
