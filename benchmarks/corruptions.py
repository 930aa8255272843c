"""Wu's corruptions on one core at 512 pixels, against the same in float with scipy and numpy.

    python benchmarks/corruptions.py

Both get the same receipts, and their pictures agree within a level before anything is timed. The
peer blurs by scipy's FFT convolution (the fastest of scipy's for lines of this length), adds light
pixel by pixel and changes the exposure in linear light, in float32, rounding at the end of each.
The chain at level 4 is to be NEEDED times as fast, and no corruption at any level to take more than
MOST milliseconds an image.
"""

import math
import statistics
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from rounds import compare, conclude, seconds
from scipy.signal import fftconvolve
from torch import Tensor

from fundusray.corruptions import Receipt, corrupted, parse_corruption, receipts
from fundusray.corruptions.fundus_area import seen_area
from fundusray.corruptions.motion_blur import line_of
from fundusray.corruptions.wu import WU
from fundusray.data.drawn.source import draw_photograph
from fundusray.data.prepared.preprocess import resize

SIDE, ROUNDS = 512, 5
NEEDED, MOST = 7.0, 10.0
CHAIN = ("motion_blur", "light_leakage", "under_exposure")
ROWS = range(8)
"""What is drawn for each of these rows is timed, so that neither one angle nor one level's end
decides."""


def peer_motion(image: np.ndarray, seen: np.ndarray, drawn: Mapping[str, Any]) -> np.ndarray:
    """The mean over the fundus along a line, uint8 [3, S, S]."""
    line = line_of(drawn["length"] * SIDE, drawn["angle"])
    reach = max(abs(part) for shift in line.ends for part in shift)
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    for share, shifts in ((1.0, line.whole), (line.share, line.ends)):
        for down, right in shifts:
            kernel[reach + down, reach + right] = share
    # A convolution flips its kernel; this line is symmetric, and flipped to be sure.
    layers = np.concatenate([image * seen, seen]).astype(np.float32)
    total = fftconvolve(layers, kernel[None, ::-1, ::-1], mode="same", axes=(1, 2))
    mean = np.floor(total[:3] / np.maximum(total[3:], 1) + 0.5)
    return np.where(seen, np.clip(mean, 0, 255), image).astype(np.uint8)


def peer_leak(image: np.ndarray, seen: np.ndarray, drawn: Mapping[str, Any]) -> np.ndarray:
    """Light added at the border, uint8 [3, S, S]."""
    offset = drawn["width"] * drawn["spread"] / (1 - drawn["width"] * drawn["spread"])
    variance, angle = offset / drawn["spread"], math.radians(drawn["angle"])
    place = ((np.arange(SIDE) + 0.5) * 2 / SIDE - 1).astype(np.float32)
    away = (place[None, :] + offset * math.cos(angle)) ** 2
    away = away + (place[:, None] + offset * math.sin(angle)) ** 2
    light = drawn["gain"] * np.exp((away - (1 + offset) ** 2) / (2 * variance)) * seen
    colour = np.array(drawn["colour"], np.float32)[:, None, None]
    added = image.astype(np.float32) + np.minimum(255 * colour * light, 255)
    return np.minimum(np.floor(added + 0.5), 255).astype(np.uint8)


def peer_exposure(image: np.ndarray, seen: np.ndarray, drawn: Mapping[str, Any]) -> np.ndarray:
    """More or less light, uint8 [3, S, S]."""
    value = image.astype(np.float32) / 255
    bent = ((value + 0.055) / 1.055) ** 2.4
    light = np.where(value <= 0.04045, value / 12.92, bent) * np.float32(2.0 ** drawn["stops"])
    light = np.minimum(light, 1)
    value = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.floor(value * 255 + 0.5).astype(np.uint8)


PEERS: dict[str, Callable[..., np.ndarray]] = {
    "motion_blur": peer_motion,
    "light_leakage": peer_leak,
    "under_exposure": peer_exposure,
    "over_exposure": peer_exposure,
}


def photograph() -> Tensor:
    """A drawn one, framed, uint8 [1, 3, S, S]."""
    pixels = resize(draw_photograph(0, 1, 3, 640, lifelike=True).image, SIDE).pixels
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()


@lru_cache(None)
def drawn(kind: str, level: int, row: int) -> Receipt:
    """Drawn once, for ours and the peer."""
    return receipts(parse_corruption(f"{kind}(level={level})"), 0, [row], SIDE)[0]


def ours_of(kind: str, level: int, row: int, image: Tensor) -> Tensor:
    return corrupted(image, [drawn(kind, level, row)])


def peer_of(kind: str, level: int, row: int, image: np.ndarray, seen: np.ndarray) -> np.ndarray:
    return PEERS[kind](image, seen, drawn(kind, level, row).parameters)


def largest_difference(image: Tensor, seen: np.ndarray) -> int:
    """Of any pixel, between ours and the peer's, over the chain's links and levels 1 and 4."""
    largest = 0
    for kind in WU:
        for level in (1, 4):
            mine = ours_of(kind, level, 3, image)[0].numpy().astype(int)
            theirs = peer_of(kind, level, 3, image[0].numpy(), seen)
            largest = max(largest, int(np.abs(mine - theirs).max()))
    return largest


def milliseconds(image: Tensor) -> float:
    """Prints each corruption's median time at each level; returns the longest of them."""
    longest = 0.0
    for kind in WU:
        times = []
        for level in range(1, 5):
            ours_of(kind, level, 0, image)
            taken = [seconds(partial(ours_of, kind, level, row, image)) for row in ROWS]
            times.append(1000 * statistics.median(taken))
        longest = max(longest, *times)
        print(f"{kind:<16}" + "".join(f"{each:>8.2f}" for each in times) + "  ms an image, 1 to 4")
    return longest


def main() -> None:
    torch.set_num_threads(1)
    image = photograph()
    pixels, seen = image[0].numpy(), seen_area(image)[0].numpy()
    if (difference := largest_difference(image, seen)) > 1:
        sys.exit(f"ours and the peer's pictures differ by {difference} levels")
    print(f"pictures agree within {difference} level of 255")

    def ours() -> None:
        for row in ROWS:
            changed = image
            for kind in CHAIN:
                changed = ours_of(kind, 4, row, changed)

    def peer() -> None:
        for row in ROWS:
            changed = pixels
            for kind in CHAIN:
                changed = peer_of(kind, 4, row, changed, seen)

    ratio = compare("chain at level 4", peer, ours, ROUNDS, items=len(ROWS), unit="images")
    longest = milliseconds(image)
    lying = image.contiguous(memory_format=torch.channels_last)
    print("channels last:")
    milliseconds(lying)
    conclude({"corruption_chain": (ratio, NEEDED), "ten_ms_over_slowest": (MOST / longest, 1.0)})


if __name__ == "__main__":
    main()
