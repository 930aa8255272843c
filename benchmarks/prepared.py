"""Prepared sets of 512 pixels to uint8 batches [32, 3, 512, 512] on the CPU.

Raw sets, gathered from memory-mapped files, against two ways of NVIDIA DALI: decoding the JPEG set
of the same photographs (alone, and by the loader), and its reader of .npy
files that hold the very same pixels. Raw batches are compared with numpy's indexing bit by bit, and
each row must come once per epoch, whether 1, 2 or 4 workers share it. Then memory at 1x and 10x
batches.

Exits with 1 only if outputs differ.  python benchmarks/prepared.py
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

# As the package does it: without this DALI takes every large batch fresh from the system, and that
# alone costs it most of its speed.
os.environ.setdefault("DALI_MALLOC_POOL_THRESHOLD", "1M")

from nvidia.dali import Pipeline, fn, pipeline_def, types
from rounds import conclude

from fundusray.config import Data, Sampling
from fundusray.data.drawn.source import draw_photograph
from fundusray.data.manifest.build import build_manifest
from fundusray.data.photographs.decode import encode_jpeg
from fundusray.data.prepared import prepared_set
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.data.sampling import EpochPlan, plan_epoch, worker_share
from fundusray.pipeline.loader import Loader, make_loader

DRAWN, TURNS, SIZE, BATCH = 16, 8, 512, 32
NUM = DRAWN * TURNS
THREADS, ROUNDS, UNIT = 2, 9, 40
DALI = {"batch_size": BATCH, "num_threads": THREADS, "device_id": None}
AHEAD = 8
"""Batches taken off DALI's queues before its clock starts; they hold fewer."""
SETTLE = 0.05
"""Seconds in which what a method still does behind its last batch comes to an end."""

Epoch = Callable[[], Iterator[Any]]


def photographs(root: Path) -> None:
    """Distinct photographs in the layout of EyePACS: drawn ones, each turned and mirrored."""
    (root / "train").mkdir(parents=True)
    lines = ["image,level"]
    for index in range(NUM):
        if index % TURNS == 0:
            image = draw_photograph(0, index // TURNS, index // TURNS % 5, SIZE).image
        turned = np.rot90(image if index % 2 else image[::-1], index % TURNS // 2)
        name = f"{index // 2 + 1}_{('left', 'right')[index % 2]}"
        (root / "train" / f"{name}.jpeg").write_bytes(encode_jpeg(np.ascontiguousarray(turned)))
        lines.append(f"{name},{index // TURNS % 5}")
    (root / "trainLabels.csv").write_text("\n".join(lines) + "\n")


def prepare(storage: str, root: str, encoding: str) -> PreparedSet:
    """A prepared set of several units by the real functions."""
    data = Data(source="eyepacs", root=root, size=SIZE, preprocess="resize", encoding=encoding)
    manifest = build_manifest(data, root, 0)
    folder = prepared_set.set_folder(storage, data, manifest)
    chunks = [manifest.table.slice(start, UNIT) for start in range(0, NUM, UNIT)]
    roots = manifest.roots
    units = [
        prepared_set.write_shard(folder, i, chunk, data, roots) for i, chunk in enumerate(chunks)
    ]
    prepared_set.assemble_set(folder, data, manifest, units)
    return prepared_set.open_set(folder)


def plan_of(epoch: int) -> EpochPlan:
    """Every row once, shuffled."""
    rows = np.arange(NUM)
    return plan_epoch(Sampling(), rows, rows % 5, num_classes=5, batch=BATCH, seed=0, epoch=epoch)


@pipeline_def
def from_jpeg(source: Callable) -> Any:
    """Decoded to uint8 HWC."""
    (encoded,) = fn.external_source(
        source, num_outputs=1, dtype=[types.UINT8], ndim=[1], no_copy=True
    )
    return fn.decoders.image(encoded, device="cpu")


@pipeline_def
def from_numpy(paths: list[str]) -> Any:
    """Arrays as they are on disk, in this order again and again."""
    return fn.readers.numpy(files=paths, name="reader")


def built(pipe: Pipeline) -> Pipeline:
    pipe.build()
    return pipe


def drain(batches: Iterator[Any]) -> None:
    for _ in batches:
        pass


class Gather:
    """Ours, bare: into two arrays that are used in turn."""

    def __init__(self, prepared: PreparedSet) -> None:
        self.prepared = prepared
        self.arrays = np.empty((2, BATCH, SIZE, SIZE, 3), np.uint8)

    def epoch(self, plan: EpochPlan) -> Iterator[torch.Tensor]:
        for step, rows in enumerate(plan.rows):
            pixels = self.prepared.pixels(rows, self.arrays[step % 2])
            yield torch.from_numpy(pixels).permute(0, 3, 1, 2)


class DaliJpeg:
    """The peer: the JPEG set decoded to uint8, and nothing else."""

    def __init__(self, prepared: PreparedSet) -> None:
        self.prepared = prepared
        self.left: Iterator[np.ndarray] = iter(())
        self.pipe = built(
            from_jpeg(self.feed, batch_size=BATCH, num_threads=THREADS, device_id=None)
        )

    def feed(self) -> tuple[list[np.ndarray]]:
        """The inputs of the next batch."""
        return (self.prepared.encoded(next(self.left)),)

    def epoch(self, plan: EpochPlan) -> Iterator[np.ndarray]:
        """Begins and ends with empty queues."""
        self.left = iter(plan.rows)
        while True:
            try:
                (pixels,) = self.pipe.run()
            except StopIteration:
                self.pipe.reset()
                return
            yield pixels


class DaliNumpy:
    """The peer: .npy files in the order of one plan, again and again."""

    def __init__(self, raw: PreparedSet, folder: Path, plan: EpochPlan) -> None:
        folder.mkdir()
        for row in range(NUM):
            np.save(folder / f"{row}.npy", raw.pixels(np.array([row]))[0])
        paths = [str(folder / f"{row}.npy") for row in plan.rows.ravel()]
        self.pipe = built(from_numpy(paths, **DALI))

    def epoch(self, plan: EpochPlan) -> Iterator[Any]:
        for _ in plan.rows:
            (pixels,) = self.pipe.run()
            yield pixels

    def drain(self) -> None:
        """Leaves the queues as they are in the middle of work: nothing is had for free."""
        for _ in range(AHEAD):
            self.pipe.run()


def rate(way: Any, plans: list[EpochPlan], drained: Callable[[], None] | None = None) -> float:
    """Images a second over some epochs."""
    time.sleep(SETTLE)
    if drained:
        drained()
    start = time.perf_counter()
    for epoch, plan in enumerate(plans):
        drain(way.epoch(plan, seed=0, epoch=epoch) if isinstance(way, Loader) else way.epoch(plan))
    return sum(plan.rows.size for plan in plans) / (time.perf_counter() - start)


def race(name: str, peer: Callable[[], float], ours: Callable[[], float]) -> float:
    """The median over rounds of ours by peer, images a second; in turn, after one of each."""
    pairs = [(peer(), ours()) for _ in range(ROUNDS + 1)][1:]
    theirs, mine = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
    ratio = statistics.median(ours / peer for peer, ours in pairs)
    print(
        f"{name:<28} peer {theirs:>9,.0f} images/s   ours {mine:>9,.0f} images/s   "
        f"ratio {ratio:.2f}   ({ROUNDS} rounds)",
        flush=True,
    )
    return ratio


def pixels_of(raw: PreparedSet) -> np.ndarray:
    """Every pixel of a raw set, by numpy alone, uint8 [N, S, S, 3]."""
    paths = [Path(raw.folder, shard["name"]) for shard in raw.info["shards"]]
    return np.concatenate([np.fromfile(path, np.uint8) for path in paths]).reshape(
        -1, SIZE, SIZE, 3
    )


def same(
    raw: PreparedSet, gather: Gather, loader: Loader, dali: DaliNumpy, plan: EpochPlan
) -> bool:
    """Whether all give, bit by bit, what numpy's indexing does."""
    every = pixels_of(raw)
    fine = len(every) == NUM
    batches = loader.epoch(plan, seed=0, epoch=0)
    ways = zip(plan.rows, gather.epoch(plan), batches, dali.epoch(plan), strict=True)
    for rows, bare, batch, theirs in ways:
        expected = every[rows].transpose(0, 3, 1, 2)
        fine &= np.array_equal(bare.numpy(), expected)
        fine &= np.array_equal(batch.image.numpy(), expected)
        fine &= np.array_equal(np.stack([np.asarray(one) for one in theirs]), every[rows])
        fine &= batch.image.dtype == torch.uint8 and bool(
            batch.image.is_contiguous(memory_format=torch.channels_last)
        )
    batches = len(plan.rows)
    print(f"check pixels: {NUM} images in {batches} batches: {verdict_text(fine)}", flush=True)
    return fine


def near(raw: PreparedSet, dali: DaliJpeg, plan: EpochPlan) -> bool:
    """Whether the peer decodes the same pictures, but for what JPEG costs."""
    apart = []
    for rows, batch in zip(plan.rows, dali.epoch(plan), strict=True):
        theirs = np.stack([np.asarray(one) for one in batch]).astype(np.int16)
        apart.append(np.abs(theirs - raw.pixels(rows)).mean())
    fine = bool(np.mean(apart) <= 2)
    print(f"check JPEG: {np.mean(apart):.2f} levels apart in the mean (<= 2): {verdict_text(fine)}")
    return fine


def once(raw: PreparedSet) -> bool:
    """Whether each row comes once per epoch, and in the same global batches, for any workers."""
    fine = True
    for epoch in range(2):
        plan = plan_of(epoch)
        for world in (1, 2, 4):
            parts = []
            for rank in range(world):
                loader = make_loader(raw, batch=BATCH // world, augment="none", engine="memory")
                own = worker_share(plan, rank, world)
                rows = [batch.row[batch.valid] for batch in loader.epoch(own, seed=0, epoch=epoch)]
                parts.append(torch.stack(rows).numpy())
            together = np.concatenate(parts, axis=1)
            fine &= np.array_equal(np.sort(together.ravel()), np.arange(NUM))
            fine &= np.array_equal(together, plan.rows)
    print(f"check rows: once per epoch with 1, 2 and 4 workers: {verdict_text(fine)}", flush=True)
    return fine


def verdict_text(fine: bool) -> str:
    return "equal" if fine else "DIFFERENT"


def race_memory(loader: Loader) -> float:
    """Most memory of the process's own at 1x batches by that at 10x."""
    most = {}
    for times in (1, 1, 10):
        most[times] = 0.0
        for epoch in range(times):
            for _ in loader.epoch(plan_of(epoch), seed=0, epoch=epoch):
                status = Path("/proc/self/status").read_text()
                own = next(line for line in status.splitlines() if line.startswith("RssAnon"))
                most[times] = max(most[times], int(own.split()[1]) / 1024)
    print(f"memory: {most[1]:,.0f} MiB at {NUM} images, {most[10]:,.0f} MiB at {10 * NUM}")
    return most[1] / most[10]


def races(raw: PreparedSet, jpeg: PreparedSet, folder: Path) -> tuple[bool, dict]:
    """Whether all outputs are what they should be, and the ratios with what they need to be."""
    plans = [plan_of(epoch) for epoch in range(8)]
    gather, loader = Gather(raw), make_loader(raw, batch=BATCH, augment="none", engine="memory")
    # Before any peer has taken memory that this process would keep.
    results = {"memory_1x_vs_10x": (race_memory(loader), 0.9)}
    decoder, reader = DaliJpeg(jpeg), DaliNumpy(raw, folder, plans[0])
    encoded = make_loader(jpeg, batch=BATCH, augment="none", threads=THREADS)
    fine = same(raw, gather, loader, reader, plans[0])
    fine &= near(raw, decoder, plans[0])
    ours = {"gather": lambda: rate(gather, plans), "loader": lambda: rate(loader, plans)}
    theirs = {
        "dali_jpeg_uint8": (lambda: rate(decoder, plans[:1]), 8.0),
        "jpeg_loader": (lambda: rate(encoded, plans[:1]), 8.0),
        "dali_numpy": (lambda: rate(reader, plans, reader.drain), 1.2),
    }
    for peer, (slow, least) in theirs.items():
        for who, fast in ours.items():
            results[f"{who}_vs_{peer}"] = (race(f"{who} vs {peer}", slow, fast), least)
    return fine, results


def main() -> int:
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as name:
        photographs(Path(name) / "drawn")
        raw, jpeg = (prepare(name, f"{name}/drawn", encoding) for encoding in ("raw", "jpeg"))
        fine, results = races(raw, jpeg, Path(name) / "npy")
        fine &= once(raw)
    conclude(results)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
