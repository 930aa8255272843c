"""What one GPU does with this package: training, a raw set in memory, attacks, maps, damage.

For a machine with a GPU that has torch, timm, torchvision, pyarrow and scikit-learn, but neither
Ray nor DALI: only parts of the package are imported that need neither. Prints one table in less
than six minutes. Without a GPU the same lines are measured on the CPU with small images, which says
that the script works and nothing of a GPU.
"""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import timm
import torch

from fundusray.attacks import Budget, pgd, run_attack
from fundusray.attacks.folding import folded
from fundusray.config import Adversarial, Loss, Model, Train
from fundusray.corruptions import corrupted, parse_corruption, receipts
from fundusray.corruptions.wu import WU
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.data.prepared.stored import Stored
from fundusray.data.sampling import plan_eval
from fundusray.models import build_model
from fundusray.models.classifiers import feature_layers
from fundusray.pipeline.loader import Batch, make_loader
from fundusray.saliency import Attribution, parse_methods, run_map
from fundusray.tasks.classification import Objective
from fundusray.training import numeric_precision
from fundusray.training.optimizers import build_optimizer
from fundusray.training.step import StepSettings, train_step

NETWORKS = ("efficientnet_b0", "efficientnet_lite0")
CLASSES = 5
AUGMENT = "hflip(0.5) + rotate((-180, 180)) + jitter(brightness=0.2, contrast=0.2)"
TOLERANCE = 0.05
"""Relative, between the first losses of the eager and the compiled step: bf16 has 8 bits."""
PGD_STEPS = 10
MAPPED = 16
"""Images of which maps are made."""
MAPS_TIMED = (
    "integrated_gradients",
    "integrated_gradients(tolerance=0.001, steps=128)",
    "occlusion",
    "grad_cam",
)
LIMIT = 300.0
"""Seconds after which no further line is begun: compiling takes a minute or two a network."""


class Size(NamedTuple):
    """How much is measured."""

    side: int  # pixels
    batch: int  # images of a step
    steps: int  # timed, after WARM that are not
    images: int  # in the raw set


WARM = 4
GPU = Size(side=512, batch=128, steps=20, images=2048)
CPU = Size(side=64, batch=8, steps=2, images=64)


def random_batch(size: Size, device: torch.device) -> Batch:
    """A batch of noise on the device, float32 channels last."""
    shape = (size.batch, 3, size.side, size.side)
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(device)
    image = image.contiguous(memory_format=torch.channels_last)
    rows = torch.arange(size.batch, device=device)
    return Batch(image, rows % CLASSES, rows, torch.ones_like(rows) > 0)


def raw_set(size: Size) -> PreparedSet:
    """A raw prepared set of noise that was never on a disk."""
    each = size.side * size.side * 3
    pixels = np.random.default_rng(0).integers(0, 256, size.images * each, np.uint8)
    rows = np.arange(size.images)
    places = np.stack([np.zeros_like(rows), rows * each, (rows + 1) * each], axis=1)
    table = pa.table({"image_id": [f"{row}" for row in rows], "target": rows % CLASSES})
    info = {
        "classes": [str(k) for k in range(CLASSES)],
        "encoding": "raw",
        "fill": 0.5,
        "size": size.side,
    }
    return PreparedSet("memory", info, table, Stored([pixels], places))


def step_of(name: str, compiled: bool, device: torch.device) -> StepSettings:
    """The trainer's own step over a network in bf16 channels last."""
    how = numeric_precision.Precision("bf16", "channels_last")
    model = build_model(Model(name=name), CLASSES, seed=0).to(device).train()
    numeric_precision.prepare_model(model, how)
    objective = Objective(Loss(), torch.ones(CLASSES, device=device))
    optimizer, precision = build_optimizer(model, Train()), numeric_precision.autocast(how, device)
    network = torch.compile(model) if compiled else model
    return StepSettings(network, model, optimizer, objective, Adversarial(), precision, mixup=0.0)


def wait(device: torch.device) -> None:
    """Until the device has done what it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def rate(work: Callable[[], object], images: int, repeats: int, device: torch.device) -> float:
    """images/s of `work`, which handles `images` in each of its calls."""
    for _ in range(WARM):
        work()
    wait(device)
    clock = time.perf_counter()
    for _ in range(repeats):
        work()
    wait(device)
    return images * repeats / (time.perf_counter() - clock)


def memory(device: torch.device) -> str:
    """The most memory held since the last call, GiB."""
    if device.type != "cuda":
        return "-"
    held = torch.cuda.max_memory_allocated() / (1 << 30)
    torch.cuda.reset_peak_memory_stats()
    return f"{held:.1f} GiB"


def training(size: Size, device: torch.device) -> Iterator[tuple[str, float, str]]:
    """(what, images/s, memory) of a training step, eager and compiled."""
    batch = random_batch(size, device)
    for name in NETWORKS:
        first: list[float] = []
        for compiled in (False, True):
            way = step_of(name, compiled, device)

            def step(way: StepSettings = way) -> float:
                total = train_step(way, batch, scale=1 / size.batch, seed=0, progress=0.0)
                return total.item() / size.batch

            first.append(step())
            assert abs(first[0] - first[-1]) <= TOLERANCE * first[0], f"first losses: {first}"
            kind = "compiled" if compiled else "eager"
            speed = rate(step, size.batch, size.steps, device)
            yield f"training step, {name}, bf16, {kind}", speed, memory(device)


def resident(size: Size, device: torch.device) -> Iterator[tuple[str, float, str]]:
    """(what, images/s, memory) of an epoch of a raw set held in the device's memory."""
    prepared = raw_set(size)
    plan = plan_eval(np.arange(size.images), size.batch)
    for title, text in (("as stored", "none"), ("augmented on the device", AUGMENT)):
        loader = make_loader(
            prepared,
            batch=size.batch,
            augment=text,
            engine="memory",
            device="gpu" if device.type == "cuda" else "cpu",
        )
        epochs = iter(range(1 << 30))

        def epoch(loader=loader, epochs=epochs) -> None:
            for _ in loader.epoch(plan, seed=0, epoch=next(epochs)):
                pass

        yield f"raw set in memory, {title}", rate(epoch, size.images, 3, device), memory(device)


def attacks(size: Size, device: torch.device) -> Iterator[tuple[str, float, str]]:
    """(what, images/s of one PGD step, memory) in full precision, as robustness is measured."""
    batch = random_batch(size, device)
    eps = 2 / 255
    budget = Budget("linf", eps, 2.5 * eps / PGD_STEPS, PGD_STEPS, random_start=False)
    for name in NETWORKS:
        model = build_model(Model(name=name), CLASSES, seed=0).to(device).eval()
        model.to(memory_format=torch.channels_last)

        def attack(model=model) -> None:
            pgd(model, batch.image, batch.target, budget)

        speed = rate(attack, size.batch * PGD_STEPS, max(1, size.steps // PGD_STEPS), device)
        yield f"PGD step, {name}, fp32", speed, memory(device)


def attacked(size: Size, device: torch.device) -> Iterator[tuple[str, float, str]]:
    """(what, images/s, memory) of whole attacks as an evaluation makes them: images that succeed
    are done, the searched copy has its batch norms folded."""
    batch = random_batch(size, device)
    for name in NETWORKS:
        model = build_model(Model(name=name), CLASSES, seed=0).to(device).eval()
        model.to(memory_format=torch.channels_last)
        search = folded(model, batch.image)
        with torch.no_grad():
            answer = model(batch.image).argmax(dim=1)
        for eps in (0.01 / 255, 2 / 255):

            def attack(eps: float = eps, model=model, search=search, answer=answer) -> None:
                run_attack(
                    "pgd", {"steps": PGD_STEPS}, model, batch.image, answer, row=batch.row,
                    norm="linf", eps=eps, success=lambda out, own: out.argmax(dim=1) != own,
                    search=search,
                )  # fmt: skip

            speed = rate(attack, size.batch, max(1, size.steps // PGD_STEPS), device)
            yield f"PGD-{PGD_STEPS} {255 * eps:g}/255, {name}", speed, memory(device)


def attributed(size: Size, device: torch.device) -> Iterator[tuple[str, float, str]]:
    """(what, maps/s, memory) of maps in full precision; integrated gradients are those of the CPU,
    in float32 and as far as TF32 is exact."""
    batch = random_batch(size, device)
    image, target, row = (part[:MAPPED] for part in (batch.image, batch.target, batch.row))
    for name in NETWORKS:
        model = build_model(Model(name=name), CLASSES, seed=0).to(device).eval()
        model.to(memory_format=torch.channels_last)
        layers = feature_layers(name)
        for text in MAPS_TIMED:
            (method,) = parse_methods(text)

            def explain(method=method, model=model, layers=layers) -> Attribution:
                return run_map(
                    method.name, dict(method.args), model, image, target, row=row, layers=layers,
                )  # fmt: skip

            gap = explain().gap
            note = "" if gap is None else f", gap {gap.max().item():.0e}"
            speed = rate(explain, len(image), 1, device)
            yield f"{text}, {name}{note}", speed, memory(device)


def damage(size: Size, device: torch.device) -> Iterator[tuple[str, float, str]]:
    """(what, images/s, memory) of Wu's corruptions at their highest level; their pictures are those
    of the CPU, to a level."""
    image = (random_batch(size, device).image * 255).byte()
    rows = range(size.batch)
    for kind in WU:
        done = receipts(parse_corruption(f"{kind}(level=4)"), 0, rows, size.side)
        few = slice(0, 2)
        apart = corrupted(image[few], done[few]).cpu().int() - corrupted(
            image[few].cpu(), done[few]
        )
        assert apart.abs().max() <= 1, f"{kind}: {apart.abs().max()} levels from the CPU's"
        speed = rate(lambda done=done: corrupted(image, done), size.batch, 3, device)
        yield f"{kind}, level 4", speed, memory(device)


def main() -> None:
    began = time.monotonic()
    cuda = torch.cuda.is_available()
    device, size = torch.device("cuda" if cuda else "cpu"), GPU if cuda else CPU
    name = torch.cuda.get_device_name() if cuda else "CPU (no GPU here: small images)"
    print(f"{name}; torch {torch.__version__}, timm {timm.__version__}")
    print(f"{size.side} px, batches of {size.batch}", flush=True)
    print(f"\n{'':<48} {'images/s':>10} {'memory':>10}")
    for part in (resident, attributed, attacks, attacked, damage, training):
        if time.monotonic() - began > LIMIT:
            print(f"left out, as {LIMIT:.0f} s are over: {part.__name__}")
            continue
        for what, speed, held in part(size, device):
            print(f"{what:<48} {speed:>10,.0f} {held:>10}", flush=True)
    print(f"\n{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
