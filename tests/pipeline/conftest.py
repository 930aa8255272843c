"""Small prepared sets made by the real functions."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fundusray.config import Data
from fundusray.data.manifest.build import build_manifest
from fundusray.data.prepared import prepared_set, write
from fundusray.data.prepared.prepared_set import PreparedSet

SIZE, NUM = 64, 40


def draw(index: int, side: int = 128) -> np.ndarray:
    """A lit disc with waves in it on black, uint8 [side, side, 3]; no two indices alike."""
    y, x = np.mgrid[:side, :side] / side - 0.5
    waves = np.stack([np.sin(9 * x + index), np.cos(30 * x * y + index), np.sin(20 * y)], -1)
    pixels = 140 + 80 * waves
    pixels[x**2 + y**2 > 0.22] = 0
    return pixels.astype(np.uint8)


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 drawn photographs of 128 pixels in five classes, in the EyePACS layout."""
    root = tmp_path_factory.mktemp("photographs")
    (root / "train").mkdir()
    with open(root / "trainLabels.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "level"])
        for index in range(NUM):
            image_id = f"{index // 2 + 1}_{('left', 'right')[index % 2]}"
            writer.writerow([image_id, (0, 0, 0, 1, 2, 0, 3, 4)[index % 8]])
            Image.fromarray(draw(index)).save(root / "train" / f"{image_id}.jpeg", quality=95)
    return root


@pytest.fixture(scope="session")
def prepare(
    photographs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., PreparedSet]:
    """make(broken={}, **settings) -> a set of the photographs, 64 pixels, in two units.

    broken: row -> what becomes of its encoded image on the way into the shard.
    """

    def make(
        broken: dict[int, Callable[[bytes], bytes]] | None = None, **settings: str
    ) -> PreparedSet:
        data = Data(source="eyepacs", root=str(photographs), size=SIZE, **settings)
        manifest = build_manifest(data, str(photographs), 0)
        folder = prepared_set.set_folder(str(tmp_path_factory.mktemp("storage")), data, manifest)
        ids, spoil = manifest.table["image_id"].to_pylist(), broken or {}
        by_id = {ids[row]: change for row, change in spoil.items()}
        whole = write._prepare

        def prepared_badly(row: dict[str, str], *rest: Any) -> Any:
            done, change = whole(row, *rest), by_id.get(row["image_id"])
            return done._replace(image=change(done.image)) if change else done

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(write, "_prepare", prepared_badly)
            made = [
                prepared_set.write_shard(folder, index, chunk, data, manifest.roots)
                for index, chunk in enumerate(
                    (manifest.table.slice(0, 25), manifest.table.slice(25))
                )
            ]
        prepared_set.assemble_set(folder, data, manifest, made)
        return prepared_set.open_set(folder)

    return make


@pytest.fixture(scope="session")
def prepared(prepare: Callable[..., PreparedSet]) -> PreparedSet:
    """The set as JPEG."""
    return prepare()


@pytest.fixture(scope="session")
def raw(prepare: Callable[..., PreparedSet]) -> PreparedSet:
    """The same pictures as pixels."""
    return prepare(encoding="raw")
