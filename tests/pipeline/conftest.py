"""A small prepared set made by the real functions."""

import csv

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from fundusray.config import Data
from fundusray.data import shards
from fundusray.data.manifest import build
from fundusray.data.shards import PreparedSet

SIZE, NUM = 64, 40


def draw(index: int, side: int = 128) -> np.ndarray:
    """A lit disc with waves in it on black, uint8 [side, side, 3]; no two indices alike."""
    y, x = np.mgrid[:side, :side] / side - 0.5
    waves = np.stack([np.sin(9 * x + index), np.cos(30 * x * y + index), np.sin(20 * y)], -1)
    pixels = 140 + 80 * waves
    pixels[x**2 + y**2 > 0.22] = 0
    return pixels.astype(np.uint8)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> PreparedSet:
    """40 images of 64 pixels in five classes, in two shards."""
    root = tmp_path_factory.mktemp("photographs")
    (root / "train").mkdir()
    with open(root / "trainLabels.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "level"])
        for index in range(NUM):
            image_id = f"{index // 2 + 1}_{('left', 'right')[index % 2]}"
            writer.writerow([image_id, (0, 0, 0, 1, 2, 0, 3, 4)[index % 8]])
            Image.fromarray(draw(index)).save(root / "train" / f"{image_id}.jpeg", quality=95)
    data = Data(source="eyepacs", root=str(root), size=SIZE)
    manifest = build(data, str(root), 0)
    folder = shards.set_folder(str(tmp_path_factory.mktemp("storage")), data, manifest)
    chunks: list[pa.Table] = [manifest.table.slice(0, 25), manifest.table.slice(25)]
    units = [
        shards.write_shard(folder, index, chunk, data, str(root))
        for index, chunk in enumerate(chunks)
    ]
    shards.finish(folder, data, manifest, units)
    return shards.open_set(folder)
