"""The input pipeline against the usual ways of loading images, everything on the CPU.

a  prepared images, decoded only: against Pillow in torchvision's DataLoader. Ours leave the loader
   as bytes and become float on the device of the model, theirs are float; `_in_floats` counts our
   conversion on the CPU as well.
b  prepared images: against decoding and resizing the raw photographs on the fly.
c  prepared images, augmented: against torchvision v2, and against a training step.
d  memory at 1x and 10x images.

Outputs are compared first; exits with 1 only if they differ.
    python benchmarks/input_pipeline.py
"""

import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torchvision.transforms.v2.functional as tv
from PIL import Image
from rounds import conclude, seconds
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.functional import to_tensor

from fundusray.config import Data, Model
from fundusray.data.drawn.source import draw_photograph
from fundusray.data.manifest.build import build_manifest
from fundusray.data.photographs.decode import encode_jpeg
from fundusray.data.photographs.find_fundus import Box
from fundusray.data.prepared import prepared_set
from fundusray.data.prepared.geometry import Geometry
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.data.prepared.preprocess import PREPROCESS, PreparedImage, Preprocess
from fundusray.data.sampling import EpochPlan
from fundusray.models import build_model
from fundusray.pipeline.augment.augmentation import parse_augmentation
from fundusray.pipeline.augment.draws import Draws
from fundusray.pipeline.engines.plain import as_float
from fundusray.pipeline.loader import Batch, Loader, make_loader
from fundusray.training.step import to_device

NUM, NUM_RAW, RAW_HEIGHT, RAW_WIDTH = 64, 12, 2048, 3072
BATCH, WORKERS, ROUNDS = 32, 2, 5
GREY = 128


def resize(image: np.ndarray, size: int) -> PreparedImage:
    """What `on the fly` does to a raw photograph, and nothing that costs more."""
    pixels = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)
    height, width = image.shape[:2]
    geometry = Geometry(0, 0, width, height, size, (height, width))
    return PreparedImage(np.asarray(pixels), geometry, Box(0, 0, size, size))


PREPROCESS.register("resize_only")(Preprocess(resize, fill=0.0, min_side=lambda size: 0, version=1))


class Peer(Dataset):
    """Images as anyone would load them: a file, Pillow, torchvision."""

    def __init__(self, paths: list[str], plan: EpochPlan, work: Callable) -> None:
        self.paths, self.plan, self.work = paths, plan, work
        self.rows = plan.rows.ravel()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self.paths[self.rows[index]]) as image:
            return self.work(image.convert("RGB"), index)


def decode(image: Image.Image, index: int) -> torch.Tensor:
    """A prepared image as it is."""
    return to_tensor(image)


def shrink(image: Image.Image, index: int) -> torch.Tensor:
    """A raw photograph at 256 pixels."""
    return to_tensor(image.resize((256, 256), Image.Resampling.BILINEAR))


class Augment:
    """A prepared image, augmented by torchvision v2 with the parameters of our own draws."""

    def __init__(self, draws: Draws, size: int) -> None:
        self.draws = draws
        inverse = draws.matrix.astype(np.float64)
        forward = np.linalg.inv(inverse[:, :, :2])
        self.flip = np.linalg.det(forward) < 0
        centre = np.full(2, size / 2)
        self.moved = (forward @ (centre - inverse[:, :, 2])[..., None])[..., 0] - centre
        # Turn, shear and scale are read from what is left when the flip is taken off.
        forward[:, :, 0] *= np.where(self.flip, -1, 1)[:, None]
        self.scale = np.sqrt(np.linalg.det(forward))
        turn = np.arctan2(forward[:, 1, 0], forward[:, 0, 0])
        lean = (np.cos(turn) * forward[:, 0, 1] + np.sin(turn) * forward[:, 1, 1]) / self.scale
        self.angle, self.shear = np.rad2deg(turn), -np.rad2deg(np.arctan(lean))

    def __call__(self, image: Image.Image, index: int) -> torch.Tensor:
        draws = self.draws
        if self.flip[index]:
            image = tv.horizontal_flip(image)
        if draws.geometric[index]:
            image = tv.affine(
                image,
                angle=self.angle[index],
                translate=self.moved[index].tolist(),
                scale=self.scale[index],
                shear=[self.shear[index], 0.0],
                interpolation=tv.InterpolationMode.BILINEAR,
                fill=GREY,
            )
        pixels = tv.to_dtype(tv.pil_to_tensor(image), torch.float32, scale=True)
        brightness, contrast = float(draws.brightness[index]), float(draws.contrast[index])
        if brightness != 1 or contrast != 1:
            pixels = ((pixels - 0.5) * contrast + 0.5).mul_(brightness).clamp_(0, 1)
        return pixels


class Race:
    """Two ways of getting the same images, timed in turn."""

    def __init__(self, name: str, data: Peer, loader: Loader, plan: EpochPlan) -> None:
        self.name, self.data, self.loader, self.plan = name, data, loader, plan
        # Its processes live on from round to round. Both sides begin an epoch with empty queues
        # and end with empty queues, so that no image is made outside of the clock.
        batch = data.plan.rows.shape[1]
        self.peer = DataLoader(data, batch, num_workers=WORKERS, persistent_workers=True)

    def ours(self) -> Iterator[Batch]:
        return self.loader.epoch(self.plan, seed=0, epoch=0)

    def check(self, mean: float, most: float) -> bool:
        """Whether the first batches are equal within so many levels of 255."""
        peer = next(iter(self.peer))
        apart = (peer - as_float(next(self.ours()).image[: len(peer)])).abs() * 255
        fine = bool(apart.mean() <= mean and apart.max() <= most)
        print(
            f"check {self.name}: {apart.mean():.3f} (<= {mean}) levels apart in the mean, "
            f"{apart.max():.2f} (<= {most}) at most: {'equal' if fine else 'DIFFERENT'}",
            flush=True,
        )
        return fine

    def in_floats(self) -> Iterator[Batch]:
        return to_device(self.ours(), torch.device("cpu"), contiguous=False)

    def run(self, floats: bool = False) -> float:
        """How many times more images a second ours gives, as they leave the loader or in floats."""
        rates, ours = [], self.in_floats if floats else self.ours
        for _ in range(ROUNDS + 1):
            peer = len(self.data) / seconds(lambda: drain(iter(self.peer)))
            rates.append((peer, self.plan.rows.size / seconds(lambda: drain(ours()))))
        return tell(self.name + "_in_floats" * floats, rates[1:])


def tell(name: str, rates: list[tuple[float, float]]) -> float:
    """Prints images a second of (peer, ours) by round; gives the median of the paired ratios."""
    ratio = statistics.median(ours / peer for peer, ours in rates)
    peer, ours = (statistics.median(rate[side] for rate in rates) for side in (0, 1))
    print(
        f"{name:<30} peer {peer:>8,.1f} images/s   ours {ours:>8,.1f} images/s   "
        f"ratio {ratio:.2f}   ({len(rates)} rounds)",
        flush=True,
    )
    return ratio


def drain(batches: Iterator) -> None:
    for _ in batches:
        pass


def prepare(storage: str, data: Data) -> PreparedSet:
    """A prepared set by the real functions, in one shard."""
    manifest = build_manifest(data, data.root, 0)
    folder = prepared_set.set_folder(storage, data, manifest)
    unit = prepared_set.write_shard(folder, 0, manifest.table, data, manifest.roots)
    prepared_set.assemble_set(folder, data, manifest, [unit])
    return prepared_set.open_set(folder)


def as_files(prepared: PreparedSet, folder: Path) -> list[str]:
    """Paths of the very same encoded images, a file each."""
    folder.mkdir()
    paths = [folder / f"{row}.jpg" for row in range(len(prepared.targets()))]
    for path, content in zip(paths, prepared.encoded(np.arange(len(paths))), strict=True):
        path.write_bytes(content.tobytes())
    return [str(path) for path in paths]


def draw_raw(root: Path) -> list[str]:
    """Paths of distinct photographs, black on both sides, in the layout of EyePACS."""
    (root / "train").mkdir(parents=True)
    lines, paths = ["image,level"], []
    side = (RAW_WIDTH - RAW_HEIGHT) // 2
    for index in range(NUM_RAW):
        name = f"{index // 2 + 1}_{('left', 'right')[index % 2]}"
        pixels = np.pad(
            draw_photograph(0, index, index % 5, RAW_HEIGHT).image, ((0, 0), (side, side), (0, 0))
        )
        paths.append(str(root / "train" / f"{name}.jpeg"))
        Path(paths[-1]).write_bytes(encode_jpeg(pixels))
        lines.append(f"{name},{index % 5}")
    (root / "trainLabels.csv").write_text("\n".join(lines) + "\n")
    return paths


def plan_of(num: int, steps: int, batch: int = BATCH) -> EpochPlan:
    """Rows 0..num-1 again and again."""
    place = np.arange(steps * batch).reshape(steps, batch)
    return EpochPlan(place % num, (place // num).astype(np.int32), np.ones(place.shape, bool))


def loader_of(prepared: PreparedSet, augment: str) -> Loader:
    return make_loader(prepared, batch=BATCH, augment=augment, threads=WORKERS)


def race_prepared(prepared: PreparedSet, paths: list[str], steps: int) -> tuple[bool, float, float]:
    """a: whether the outputs are equal, the ratio, and that in floats."""
    plan = plan_of(NUM, steps)
    name = f"prepared_{prepared.size}"
    race = Race(name, Peer(paths, plan, decode), loader_of(prepared, "none"), plan)
    return race.check(0.5, 4), race.run(), race.run(floats=True)


def race_raw(folder: Path) -> tuple[bool, float]:
    """b: as above."""
    paths = draw_raw(folder / "raw")
    root = str(folder / "raw")
    data = Data(source="eyepacs", root=root, size=256, preprocess="resize_only")
    loader = loader_of(prepare(str(folder), data), "none")
    # Ours shows them many times over, so that both sides take long enough to be timed.
    few, many = plan_of(NUM_RAW, WORKERS, 16), plan_of(NUM_RAW, 24)
    race = Race("prepared_256_vs_raw", Peer(paths, few, shrink), loader, many)
    # Preparing wrote a JPEG of quality 95, and this is what that costs.
    return race.check(1.5, 40), race.run()


def race_augmented(prepared: PreparedSet, paths: list[str]) -> tuple[bool, float]:
    """c: as above, against torchvision v2."""
    plan = plan_of(NUM, 10)
    keys = {"seed": 0, "epoch": 0, "rows": plan.rows.ravel(), "repeat": plan.repeat.ravel()}
    draws = parse_augmentation("wu").draw(prepared.size, **keys)
    peer = Peer(paths, plan, Augment(draws, prepared.size))
    race = Race("augmented_256", peer, loader_of(prepared, "wu"), plan)
    # Pillow rounds otherwise, and draws the outermost half pixel otherwise.
    return race.check(1.0, 130), race.run()


def race_step(prepared: PreparedSet) -> float:
    """c: augmented images a second against those a training step of resnet18 takes."""
    model = build_model(Model(name="resnet18"), 5, 0).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters())
    loader, plan = loader_of(prepared, "wu"), plan_of(NUM, 10)
    batch = next(loader.epoch(plan_of(NUM, 1, 16), seed=0, epoch=0))

    def step(bf16: bool) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = model(batch.image)
        torch.nn.functional.cross_entropy(logits.float(), batch.target % 5).backward()
        optimizer.step()
        optimizer.zero_grad()

    probe = {
        bf16: [seconds(lambda bf16=bf16: step(bf16)) for _ in range(2)] for bf16 in (False, True)
    }
    bf16 = min(probe, key=lambda key: min(probe[key]))
    rates = [
        (
            len(batch.image) / seconds(lambda: step(bf16)),
            plan.rows.size / seconds(lambda: drain(loader.epoch(plan, seed=0, epoch=0))),
        )
        for _ in range(ROUNDS)
    ]
    return tell(f"loader_vs_step ({'bf16' if bf16 else 'fp32'})", rates)


def race_memory(prepared: PreparedSet) -> float:
    """d: largest resident set at 1x images by that at 10x."""
    loader, most = loader_of(prepared, "wu"), {}
    for steps in (4, 4, 40):
        most[steps] = 0.0
        for _ in loader.epoch(plan_of(NUM, steps), seed=0, epoch=0):
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            most[steps] = max(most[steps], pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
    print(f"memory: {most[4]:,.0f} MB at {4 * BATCH} images, {most[40]:,.0f} MB at {40 * BATCH}")
    return most[4] / most[40]


def main() -> int:
    torch.set_num_threads(WORKERS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drawn = {"root": str(folder / "drawn"), "num_images": NUM}
        sets = {size: prepare(name, Data(size=size, **drawn)) for size in (256, 512)}
        paths = {size: as_files(sets[size], folder / f"{size}") for size in sets}
        equal_256, *small = race_prepared(sets[256], paths[256], 40)
        equal_512, *large = race_prepared(sets[512], paths[512], 16)
        results = {
            "prepared_256": ((equal_256, small[0]), 3.5),
            "prepared_256_in_floats": ((equal_256, small[1]), 0.0),
            "prepared_512": ((equal_512, large[0]), 4.0),
            "prepared_512_in_floats": ((equal_512, large[1]), 0.0),
            "prepared_256_vs_raw": (race_raw(folder), 73.0),
            "augmented_256_vs_torchvision": (race_augmented(sets[256], paths[256]), 0.0),
            "loader_vs_step": ((True, race_step(sets[256])), 5.0),
            "memory_1x_vs_10x": ((True, race_memory(sets[256])), 0.9),
        }
    conclude({name: (ratio, need) for name, ((_, ratio), need) in results.items()})
    return 0 if all(equal for (equal, _), _ in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
