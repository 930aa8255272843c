"""Small photographs and trees that any test may ask for; real ones only where they are at hand."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fundusray.config import Recipe, override

REPOSITORY = Path(__file__).parent.parent


def pytest_configure() -> None:
    """Tests run side by side: threads of their own would wait for each other."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first, so that the processes end together; what shares a Ray in one of them."""
    items.sort(key=lambda item: item.get_closest_marker("ray") is None)
    for item in items:
        shared = "cluster" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("cluster" if shared else item.path.name))


def draw_fundus(height: int = 96, width: int = 128, seed: int = 0) -> np.ndarray:
    """A round orange retina with a bright disc and dark vessels on black, uint8 [H, W, 3]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    middle_y, middle_x, radius = (height - 1) / 2, (width - 1) / 2, 0.48 * min(height, width)
    retina = np.hypot(y - middle_y, x - middle_x) <= radius
    image = np.empty((height, width, 3), np.float32)
    image[:] = rng.uniform(0.9, 1.1) * np.array([190, 95, 45])
    disc = np.hypot(y - middle_y, x - middle_x - 0.5 * radius) <= 0.15 * radius
    image[disc] = (250, 220, 150)
    for slope in rng.uniform(-1, 1, 4):
        image[np.abs(y - middle_y - slope * (x - middle_x)) < 0.02 * radius + 0.5] *= 0.5
    image += rng.normal(0, 3, image.shape)
    image[~retina] = 0
    return np.clip(image, 0, 255).astype(np.uint8)


def jpeg(pixels: np.ndarray, **options) -> bytes:
    """The pixels as a JPEG file; options are Pillow's."""
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "JPEG", **({"quality": 90} | options))
    return sink.getvalue()


@pytest.fixture
def fundus() -> np.ndarray:
    """A drawn photograph, uint8 [96, 128, 3]."""
    return draw_fundus()


@pytest.fixture
def eyepacs_tree(tmp_path: Path) -> Callable[..., Path]:
    """make(num_patients=6, height=96, width=128) -> root of a tree in the EyePACS layout.

    Both eyes of patients 1..num_patients; the grades 0, 0, 1, 2, 3, 4 in turn.
    """

    def make(num_patients: int = 6, height: int = 96, width: int = 128) -> Path:
        root = tmp_path / "eyepacs"
        (root / "train").mkdir(parents=True)
        rows = ["image,level"]
        for index in range(2 * num_patients):
            image_id = f"{index // 2 + 1}_{('left', 'right')[index % 2]}"
            rows.append(f"{image_id},{(0, 0, 1, 2, 3, 4)[index % 6]}")
            pixels = draw_fundus(height, width, seed=index)
            (root / "train" / f"{image_id}.jpeg").write_bytes(jpeg(pixels))
        (root / "trainLabels.csv").write_text("\n".join(rows) + "\n")
        return root

    return make


@pytest.fixture(scope="session")
def small() -> Recipe:
    """A recipe that trains in seconds, pinned so that it repeats to the bit; with few weights, as
    most of a short run is writing and hashing them."""
    return override(
        Recipe(name="small"),
        {
            "data.num_images": 48,
            "data.size": 32,
            "data.fractions": (0.5, 0.25, 0.25),
            "model.name": "timm/test_resnet",
            "model.dropout": 0.25,
            "train.batch": 8,
            "train.precision": "fp32",
            "train.layout": "contiguous",
        },
    )


@pytest.fixture(scope="session")
def cases() -> Path:
    """Tables and folders as people have them (FUNDUSRAY_CASES); skipped where there are none."""
    folder = Path(os.environ.get("FUNDUSRAY_CASES", REPOSITORY.parent / "shared" / "cases"))
    if not folder.is_dir():
        pytest.skip(f"no cases in {folder}; set FUNDUSRAY_CASES to run this test")
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real photographs (FUNDUSRAY_DATA); the test is skipped where there is none."""
    folder = Path(os.environ.get("FUNDUSRAY_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real photographs in {folder}; set FUNDUSRAY_DATA to run this test")
    return folder
