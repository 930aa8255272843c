"""Tables of as many rows as the largest sets have."""

from pathlib import Path
from types import ModuleType

import pytest

from fundusray.data.reading import nested_folders
from fundusray.data.reading.folders import FolderListing
from fundusray.data.sources import aptos, eyepacs
from tests.data.trees import LAYOUTS, write


@pytest.mark.parametrize(
    ("name", "module", "num"),
    [("eyepacs", eyepacs, 1_000_000), ("aptos", aptos, 250_000), ("csv", nested_folders, 250_000)],
)
def test_a_long_table_is_checked_to_its_last_row(
    name: str, module: ModuleType, num: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = LAYOUTS[name]
    images = [f"{i // 2}_{('left', 'right')[i % 2]}" for i in range(num)]
    folder, extension = layout.photo.rpartition("/")[0], layout.photo.partition("}")[2]
    held = dict.fromkeys([image + extension for image in images[:-1]], 1)
    listing = FolderListing(f"{folder}/" if folder else "", held, [], set(), [], [])
    monkeypatch.setattr(module, "list_folder", lambda root, name="": listing)
    rows = [layout.row.format(image=image, grade=i % 5) for i, image in enumerate(images)]
    write(tmp_path / layout.table, "\n".join([layout.header, *rows]).encode())
    del rows
    found = layout.read(tmp_path)
    assert len(found.columns["grade"]) == num - 1 and len(found.problems) == 1
    assert found.problems[0].where == f"{layout.table}:{num + 1}"
