"""Preparing photographs against the usual ways.  python benchmarks/prepare.py

Decoding: scaled decodes in two threads against Pillow's full decode in a DataLoader's two
processes. Graham's blur, on one thread as in a worker: the product of thin matrices against the
fastest exact convolution at hand.
Memory: the peak of preparing 200 and 2,000 photographs.

Outputs are compared first; exits with 1 only if they differ. Fetches nothing; about a minute.
"""

import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from rounds import compare, conclude, seconds
from scipy.ndimage import gaussian_filter1d
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from fundusray.config import Data
from fundusray.data.drawn.source import draw_photograph
from fundusray.data.manifest.build import build_manifest
from fundusray.data.photographs.decode import decode_photograph, encode_jpeg
from fundusray.data.prepared import prepared_set
from fundusray.data.prepared.blur import gaussian_blur, gaussian_kernel
from fundusray.data.prepared.preprocess import PREPROCESS

SIZE, THREADS, NUM = 512, 2, 16
HEIGHT, WIDTH = 2048, 3072


def photographs() -> list[bytes]:
    """Drawn photographs of 3072 x 2048 pixels as JPEG; four different ones in turn."""
    contents = []
    rng = np.random.default_rng(0)
    for index in range(4):
        drawn = Image.fromarray(draw_photograph(0, index, index, side=1024).image)
        square = np.asarray(drawn.resize((HEIGHT, HEIGHT), Image.Resampling.BICUBIC))
        pixels = np.zeros((HEIGHT, WIDTH, 3), np.float32)
        left = (WIDTH - HEIGHT) // 2
        pixels[:, left : left + HEIGHT] = square
        # The grain of a sensor: a photograph without it decodes much faster than a real one.
        pixels += 2.5 * rng.standard_normal(pixels.shape, np.float32)
        contents.append(encode_jpeg(np.clip(pixels, 0, 255).astype(np.uint8), 90))
    return [contents[i % 4] for i in range(NUM)]


class Raw(Dataset):
    """The peer: a full decode, then torchvision's antialiased resize; uint8 [3, S, S]."""

    def __init__(self, contents: list[bytes]) -> None:
        self.contents = contents
        self.resize = v2.Resize((SIZE, SIZE), antialias=True)

    def __len__(self) -> int:
        return len(self.contents)

    def __getitem__(self, index: int) -> torch.Tensor:
        image = Image.open(io.BytesIO(self.contents[index])).convert("RGB")
        return v2.functional.pil_to_tensor(self.resize(image))


def bench_decode(contents: list[bytes]) -> tuple[float, bool]:
    """(ratio, outputs agree) of raw photographs to a uint8 batch at 512 pixels."""
    batch = np.empty((NUM, SIZE, SIZE, 3), np.uint8)

    def one(index: int) -> None:
        pixels = decode_photograph(contents[index], SIZE).pixels
        batch[index] = Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.BILINEAR)

    def ours() -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(one, range(NUM)))

    loader = DataLoader(Raw(contents), NUM // 3, num_workers=THREADS, persistent_workers=True)
    expected = torch.cat(list(loader)).permute(0, 2, 3, 1).numpy()
    ours()
    difference = np.abs(batch.astype(np.int16) - expected)
    agree = difference.mean() <= 1 and difference.max() <= 16
    print(f"decode: difference mean {difference.mean():.2f}, max {difference.max()} grey levels")
    peer = lambda: list(loader)  # noqa: E731
    return compare("raw 3072x2048 to 512 px", peer, ours, items=NUM, unit="images"), agree


def bench_whole(contents: list[bytes]) -> tuple[float, bool]:
    """(ratio, outputs agree) of a photograph's whole preparation, scaled against full decode."""
    step = PREPROCESS["graham"]

    def prepare(min_side: int, index: int) -> np.ndarray:
        pixels = step.function(decode_photograph(contents[index], min_side).pixels, SIZE).pixels
        encode_jpeg(pixels)
        return pixels

    def run(min_side: int) -> list[np.ndarray]:
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(partial(prepare, min_side), range(NUM // 2)))

    scaled = step.min_side(SIZE)
    difference = np.abs(np.stack(run(scaled)).astype(np.int16) - np.stack(run(0)))
    print(
        f"graham: difference of the scaled decode mean {difference.mean():.2f}, "
        f"max {difference.max()} grey levels (after a gain of 4)"
    )
    ratio = compare(
        "whole graham preparation", partial(run, 0), partial(run, scaled), 3, items=NUM // 2,
        unit="images",
    )  # fmt: skip
    return ratio, bool(difference.mean() <= 2)


def depthwise(image: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The blur as two depthwise convolutions."""
    reach = len(weights) // 2
    padded = F.pad(image[None], [reach] * 4, mode="reflect")
    across = F.conv2d(padded, weights.expand(3, 1, 1, -1), groups=3)
    return F.conv2d(across, weights[:, None].expand(3, 1, -1, 1), groups=3)[0]


def toeplitz(image: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """The blur as two products with the whole matrix of the convolution."""
    return matrix @ (image @ matrix.T)


def scipy_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """scipy's separable convolution, in the image's type."""
    for axis in (1, 2):
        image = gaussian_filter1d(image, sigma, axis=axis, mode="mirror")
    return image


def bench_blur(content: bytes, sigma: float) -> tuple[float, bool]:
    """(ratio to the fastest exact way, outputs agree) of the blur at 512 pixels."""
    pixels = PREPROCESS["resize"].function(decode_photograph(content, SIZE).pixels, SIZE).pixels
    image = torch.from_numpy(pixels.transpose(2, 0, 1).copy()).float()
    weights = torch.from_numpy(gaussian_kernel(sigma)).float()
    # The blur of the unit vectors is the matrix.
    matrix = torch.from_numpy(gaussian_filter1d(np.eye(SIZE), sigma, axis=0, mode="mirror")).float()
    ways: dict[str, Callable[[], object]] = {
        "torch depthwise": lambda: depthwise(image, weights),
        "torch Toeplitz": lambda: toeplitz(image, matrix),
        "scipy float32": lambda: scipy_blur(image.numpy(), sigma),
    }
    ours = partial(gaussian_blur, image, sigma)
    exact = scipy_blur(image.numpy().astype(np.float64), sigma)
    error = np.abs(ours().numpy() - exact).max()
    times = {name: min(seconds(way) for _ in range(4)) for name, way in ways.items()}
    best = min(times, key=times.get)
    told = ", ".join(f"{name} {1000 * time:.1f}" for name, time in times.items())
    photograph = Image.fromarray(pixels)
    approximate = min(
        seconds(lambda: photograph.filter(ImageFilter.GaussianBlur(sigma))) for _ in range(3)
    )
    told += f"; not exact: Pillow {1000 * approximate:.1f}"
    print(f"blur sigma {sigma}: max error {error:.4f} grey levels; ms: {told}")
    ratio = compare(f"blur {sigma} against {best}", ways[best], ours, 15, unit="images")
    return ratio, bool(error <= 0.01)


def peak_memory(num: int) -> None:
    """Prepares `num` small photographs; prints the MiB resident before, and at most."""
    torch.set_num_threads(1)
    before = resident("VmRSS")
    content = encode_jpeg(draw_photograph(0, 0, 2, side=192).image)
    with tempfile.TemporaryDirectory() as place:
        for index in range(num):
            folder = os.path.join(place, "raw", str(index % 2))
            os.makedirs(folder, exist_ok=True)
            with open(os.path.join(folder, f"{index}.jpg"), "wb") as file:
                file.write(content)
        root = os.path.join(place, "raw")
        data = Data(source="folder", root=root, size=64)
        manifest = build_manifest(data, root, 0)
        target = prepared_set.set_folder(place, data, manifest)
        chunks = [manifest.table.slice(start, 128) for start in range(0, num, 128)]
        roots = manifest.roots
        units = [prepared_set.write_shard(target, i, c, data, roots) for i, c in enumerate(chunks)]
        prepared_set.assemble_set(target, data, manifest, units)
        assert len(prepared_set.open_set(target)) == num
    print(before, resident("VmHWM"))


def resident(kind: str) -> float:
    """This process's resident memory, MiB; VmHWM is its peak. (ru_maxrss holds the parent's.)"""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith(kind))


def bench_memory() -> float:
    """Peak memory of ten times as many photographs over that of some, each in its own process."""
    peaks = []
    for num in (200, 2000):
        command = [sys.executable, __file__, "memory", str(num)]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        before, peak = map(float, told.split())
        peaks.append(peak)
        print(
            f"memory: {num:,} photographs, peak {peak:,.0f} MiB ({peak - before:,.0f} of them work)"
        )
    return peaks[1] / peaks[0]


def main() -> int:
    """Runs all; the exit code."""
    torch.set_num_threads(1)  # as in a worker, where whole photographs run side by side
    contents = photographs()
    ratios, agreed = {}, []
    for name, least, run in (
        ("decode_512", 2.0, partial(bench_decode, contents)),
        ("graham_whole_512", 1.3, partial(bench_whole, contents)),
        ("blur_sigma_8.5", 1.3, partial(bench_blur, contents[0], 8.5)),
        ("blur_sigma_17", 4.0, partial(bench_blur, contents[0], 17.0)),
    ):
        ratio, agree = run()
        ratios[name] = (ratio, least)
        agreed.append(agree)
        if not agree:
            print(f"FAILED {name}: outputs differ")
    growth = bench_memory()
    print(f"memory: ten times as many photographs take {growth:.2f} times as much")
    conclude(ratios)
    return 0 if all(agreed) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["memory"]:
        peak_memory(int(sys.argv[2]))
    else:
        sys.exit(main())
