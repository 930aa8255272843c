"""Tiled inference of a photograph of 4288 x 2848 pixels with our U-Net, against the whole at once.

- What tiles give equals what the whole image gives, for a network whose answer depends on fewer
  pixels around than a quarter of the overlap: 1e-5 everywhere, or the benchmark fails.
- Speed: pixels of the photograph a second by overlapping tiles, against one pass over an image of
  --whole pixels a side; that one needs gigabytes for a whole photograph.
- Memory: by how much a process grows at most beyond photograph and class map (VmHWM, in a process
  of its own), for the photograph, for a quarter of its height, and for half of both sides.

python benchmarks/tiles.py
"""

import argparse
import gc
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from rounds import compare, conclude
from torch import Tensor, nn

from fundusray.models.tiles import TilePlan, tiled_bands
from fundusray.models.unet import plain_unet

HEIGHT, WIDTH, CLASSES = 2848, 4288, 6
SIDE, OVERLAP, BATCH = 512, 0.25, 2
WHOLE = 1424
EQUAL = 1e-5
STATUS = Path("/proc/self/status")


def photograph(height: int, width: int) -> np.ndarray:
    """Any pixels, uint8 [H, W, 3]."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def as_image(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float().div_(255)


def local_network() -> nn.Module:
    """A network that sees two pixels to each side."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, CLASSES, 3, padding=1)]
    return nn.Sequential(*layers).eval()


def network() -> nn.Module:
    torch.manual_seed(0)
    return plain_unet(CLASSES).eval()


def class_map(model: nn.Module, pixels: np.ndarray, plan: TilePlan, out: np.ndarray) -> None:
    """Fills `out`, uint8 [H, W], with the likeliest classes, band by band."""
    for first, band in tiled_bands(model, pixels, plan, BATCH):
        out[first : first + band.shape[1]] = band.argmax(axis=0)


@torch.inference_mode()
def whole_map(model: nn.Module, pixels: np.ndarray) -> np.ndarray:
    """The same by one pass, uint8 [H, W]."""
    return model(as_image(pixels)).softmax(dim=1)[0].argmax(dim=0).byte().numpy()


def farthest_apart(plan: TilePlan, side: int) -> float:
    """The largest difference of a probability by tiles and by the whole image."""
    pixels, model = photograph(side, side + side // 3), local_network()
    with torch.inference_mode():
        whole = model(as_image(pixels)).softmax(dim=1)[0].numpy()
    tiled = np.concatenate([band for _, band in tiled_bands(model, pixels, plan, BATCH)], axis=1)
    return float(np.abs(tiled - whole).max())


def _kilobytes(key: str) -> int:
    """A number of this process from the kernel: VmRSS, what it holds; VmHWM, at most so far."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1])


def peak_of(height: int, width: int, plan: TilePlan) -> None:
    """Prints by how many kilobytes this process grows at most for a photograph of these sides."""
    pixels, model = photograph(height, width), network()
    out = np.ones((height, width), np.uint8)
    # One tile first, so that code that is loaded late counts for no size.
    class_map(model, pixels[: plan.side, : plan.side], plan, out[: plan.side, : plan.side])
    gc.collect()
    before = _kilobytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    class_map(model, pixels, plan, out)
    print(_kilobytes("VmHWM") - before)


def memory(given: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """Growth of a quarter of the height over growth of all of it: 1 where height costs nothing."""
    sizes = {
        "photograph": (given.height, given.width),
        "a quarter of its height": (given.height // 4, given.width),
        "half of both sides": (given.height // 2, given.width // 2),
    }
    peaks = {}
    for name, (height, width) in sizes.items():
        keys = [f"--{key}={getattr(given, key)}" for key in ("side", "overlap", "threads")]
        keys += [f"--height={height}", f"--width={width}", "--peak"]
        command = [sys.executable, __file__, *keys]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        peaks[name] = max(int(done.stdout.split()[-1]), 1)
        told = f"{width} x {height}: grows by {peaks[name] / 1024:,.0f} MiB at most"
        print(f"memory: {name}, {told}", flush=True)
    whole, low, small = peaks.values()
    print(f"memory: four times the pixels take {whole / small:.2f} times as much", flush=True)
    return {"tiles_memory_quarter_height": (low / whole, 0.9)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    sizes = {
        "height": HEIGHT, "width": WIDTH, "side": SIDE, "whole": WHOLE, "rounds": 3, "threads": 2,
    }  # fmt: skip
    for key, usual in sizes.items():
        parser.add_argument(f"--{key}", type=int, default=usual)
    parser.add_argument("--overlap", type=float, default=OVERLAP)
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    plan = TilePlan(given.side, given.overlap)
    if given.peak:
        peak_of(given.height, given.width, plan)
        return 0
    apart = farthest_apart(plan, given.whole)
    print(f"tiles and whole image, network of 5 pixels: at most {apart:.1e} apart", flush=True)
    if not apart <= EQUAL:
        print("FAILED: tiles give other probabilities than the whole image")
        return 1
    pixels, model = photograph(given.whole, given.whole), network()
    out = np.empty(pixels.shape[:2], np.uint8)
    ratio = compare(
        "tiles", lambda: whole_map(model, pixels), lambda: class_map(model, pixels, plan, out),
        given.rounds, items=out.size // 1000, unit="kilopixels",
    )  # fmt: skip
    tiles = len(plan.starts(given.whole)) ** 2
    passed = tiles * given.side**2 / (given.whole**2)
    print(f"tiles: {tiles} of {given.side} pixels, {passed:.2f} times the pixels", flush=True)
    conclude({"tiles_to_whole": (ratio, 0.4)} | memory(given))
    return 0


if __name__ == "__main__":
    sys.exit(main())
