"""train.batch=auto: what one of several workers may take of the memory."""

from pathlib import Path

import pytest

from fundusray.cluster.batch_probe import found_batch, part_of_memory
from fundusray.config import Recipe, override, to_json
from fundusray.errors import DamagedError


@pytest.mark.parametrize(
    ("workers", "cpus", "machines", "part"),
    [
        (1, 3.95, [4.0], 1.0),
        (2, 1.95, [4.0], 1 / 2),
        (4, 0.95, [4.0], 1 / 4),
        (4, 0.95, [2.0, 2.0], 1 / 2),
        (2, 0.95, [16.0, 16.0], 1 / 2),
        (3, 7.95, [8.0, 8.0, 4.0], 1.0),
        (2, 8.0, [4.0], 1.0),
    ],
)
def test_workers_of_one_machine_share_its_memory(
    workers: int, cpus: float, machines: list[float], part: float
) -> None:
    assert part_of_memory(workers, cpus, 0.0, machines) == part


@pytest.mark.parametrize(("gpus", "part"), [(0.25, 0.25), (1.0, 1.0), (2.0, 1.0)])
def test_workers_of_one_gpu_share_its_memory(gpus: float, part: float) -> None:
    assert part_of_memory(4, 0.95, gpus, [16.0]) == part


def test_a_damaged_note_of_a_batch_is_refused(tmp_path: Path) -> None:
    recipe = override(Recipe(), {"data.size": 32, "model.name": "resnet18", "model.weights": ""})
    asked = (to_json(recipe), 5, 4, str(tmp_path), 1.0)
    assert found_batch(*asked) == found_batch(*asked) <= 4
    (note,) = (tmp_path / "batches").iterdir()
    note.write_text(note.read_text().replace('"batch": ', '"batch": 1'))
    with pytest.raises(DamagedError, match=rf"{note} is damaged.*train\.batch="):
        found_batch(*asked)
