"""A scan against decoding alone: the same files, one process, one thread.

A scan decodes at a reduced scale, prepares the photograph to know what prepare would say, looks at
it, takes its print and compares the prints; the peer decodes every pixel of it and does nothing.

python benchmarks/scan.py
"""

import io
import os
import sys
import tempfile
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from rounds import compare, conclude

from fundusray.config import Data
from fundusray.data.drawn.source import draw_photograph
from fundusray.data.manifest.build import Manifest, build_manifest
from fundusray.data.photographs.decode import decode_photograph, encode_jpeg
from fundusray.data.prepared.preprocess import PREPROCESS
from fundusray.data.scan.examine import IDENTITY_COLUMNS, examine_photographs
from fundusray.data.scan.findings import conclude_scan as findings_of

NUM, DIFFERENT, SIZE = 24, 6, 512
HEIGHT, WIDTH = 2048, 3072


def photograph(index: int, height: int, width: int) -> bytes:
    """A drawn photograph with the grain of a sensor, without which it decodes much faster."""
    drawn = Image.fromarray(draw_photograph(0, index, index % 5, side=min(height, 1024)).image)
    square = np.asarray(drawn.resize((height, height), Image.Resampling.BICUBIC))
    pixels = np.zeros((height, width, 3), np.float32)
    left = (width - height) // 2
    pixels[:, left : left + height] = square
    pixels += 2.5 * np.random.default_rng(index).standard_normal(pixels.shape, np.float32)
    return encode_jpeg(np.clip(pixels, 0, 255).astype(np.uint8), 95)


def write(root: str, height: int, width: int) -> list[bytes]:
    """NUM photographs in two class folders, each different one several times; their bytes."""
    contents = [photograph(index, height, width) for index in range(DIFFERENT)]
    for index in range(NUM):
        folder = os.path.join(root, str(index % 2))
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, f"{index}.jpg"), "wb") as file:
            file.write(contents[index % DIFFERENT])
    return [contents[index % DIFFERENT] for index in range(NUM)]


def scan(manifest: Manifest, data: Data) -> None:
    """The whole scan, duplicates included."""
    rows = examine_photographs(manifest.table, data, manifest.roots).to_pylist()
    found = findings_of(
        manifest, {tuple(row[key] for key in IDENTITY_COLUMNS): row for row in rows}, data
    )
    assert found.facts["status"] == {"ok": NUM, "repaired": 0, "refused": 0}
    assert len(found.facts["duplicates"]) == DIFFERENT


def each(contents: list[bytes], work: Callable[[bytes], object]) -> Callable[[], None]:
    def run() -> None:
        for content in contents:
            work(content)

    return run


def bench(height: int, width: int, rounds: int) -> float:
    """How many times faster a scan is than a full decode of the same files."""
    with tempfile.TemporaryDirectory() as root:
        contents = write(root, height, width)
        data = Data(source="folder", root=root, size=SIZE)
        manifest = build_manifest(data, root, 0, labelled=False)
        side = PREPROCESS.find(data.preprocess).min_side(SIZE)
        full = each(contents, lambda content: Image.open(io.BytesIO(content)).convert("RGB"))
        reduced = each(contents, lambda content: decode_photograph(content, side))
        ours = lambda: scan(manifest, data)  # noqa: E731
        of, told = f"{width}x{height}", {"items": NUM, "unit": "images"}
        compare(f"scan, reduced decode, {of}", reduced, ours, rounds, **told)
        return compare(f"scan, full decode, {of}", full, ours, rounds, **told)


def main() -> int:
    """Runs both; the exit code."""
    torch.set_num_threads(1)  # as in a worker
    small = bench(512, 512, 5)
    print(f"a scan of 512-pixel files costs {1 / small:.1f} times their decode: it does more")
    large = bench(HEIGHT, WIDTH, 3)
    print(f"a scan of camera files costs {1 / large:.2f} times their decode")
    conclude({"scan_3072x2048": (large, 1 / 1.3)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
