"""RetinaMNIST (MedMNIST v2, Yang et al. 2023; from DeepDRiD): small photographs in one archive."""

from fundusray import files
from fundusray.config import Data
from fundusray.data.manifest.contract import GRADES, SOURCES, SourceContent
from fundusray.data.photographs import archives
from fundusray.data.reading.folders import bad_id, is_inside, list_folder, local_path, need_folder
from fundusray.data.reading.rows import (
    LEVELS,
    NEED_LEVEL,
    TableRows,
    converted_column,
    joined_parts,
    one_of,
)
from fundusray.errors import InputError

LAYOUT = "source 'retinamnist' expects retinamnist.npz (or _64, _128, _224), or its folder"


@SOURCES.register("retinamnist", title="RetinaMNIST", marks=("retinamnist.npz",))
def retinamnist(data: Data, root: str, seed: int) -> SourceContent:
    """RetinaMNIST of any size: grades 0 to 4 and the split of the archive.

    A photograph's path is `retinamnist_128.npz#train/17`, its size that of its pixels. Patients
    and eyes were not published.

    Raises:
        InputError: no archive, several, or one that cannot be what it says.
    """
    location = _locate(root)
    name = files.base_name(location)
    shapes = archives.read_shapes(location)
    held = [part for part in archives.PARTS if f"{part}_images" in shapes]
    return joined_parts([_part(location, name, part, shapes) for part in held], {"grade": GRADES})


def _locate(root: str) -> str:
    """The archive: the root itself, or the one in it."""
    if root.lower().endswith(".npz") and not files.is_dir(root):
        if not files.exists(root):
            raise InputError(f"data.root={root}: no such file; {LAYOUT}")
        location = local_path(root) or root
        if wrong := bad_id(files.base_name(location)):
            raise InputError(f"data.root={root}: {wrong}; rename the archive")
        return location
    root = need_folder(root, LAYOUT)
    names = [name for name in list_folder(root).files if name.lower().endswith(".npz")]
    if len(names) != 1:
        got = ", ".join(sorted(names)) or "none"
        raise InputError(f"{root}: one .npz archive is needed, got {got}; give data.root=<file>")
    if bad_id(names[0]) or not is_inside(root, names[0]):
        raise InputError(f"{root}: {names[0]!r} is a link out of the data root; give the file")
    return files.join(root, names[0])


def _part(location: str, name: str, part: str, shapes: dict[str, tuple[int, ...]]) -> TableRows:
    labels = archives.read_array(location, f"{part}_labels").reshape(-1)
    ids = [f"{part}-{row}" for row in range(len(labels))]
    paths = [f"{name}#{part}/{row}" for row in range(len(labels))]
    rows = TableRows(ids, paths.__getitem__, ids, {"label": list(map(str, labels.tolist()))})
    _, height, width, _ = shapes[f"{part}_images"]
    rows.columns["path"] = paths
    rows.columns["num_bytes"] = [height * width * 3] * len(ids)
    rows.columns["grade"] = converted_column(rows, "label", one_of(LEVELS), NEED_LEVEL)
    rows.columns["split"] = [part] * len(ids)
    return rows
