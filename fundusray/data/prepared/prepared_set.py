"""Prepared sets: every photograph preprocessed once, kept in memory-mapped files.

A set is a folder, local or in a store: `unit-00000.arrow` (image_id, image as JPEG), or
`unit-00000.u8` (the pixels) in a raw set, and where masks are kept `unit-00000.masks`, with what is
known of it beside it in `unit-00000.json`, `manifest.parquet` (row i is position i),
`skipped.parquet`, `contents.parquet` (what was in the photographs' files), and `set.json`, which is
written last: with it the set is complete. Units are made independently and in any order; one that
is there and whole is not made again.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from fundusray import files
from fundusray.data.labels.class_names import is_ordered
from fundusray.data.photographs.find_fundus import Box
from fundusray.data.prepared.assemble import assemble_set, set_folder
from fundusray.data.prepared.geometry import Geometry
from fundusray.data.prepared.masks import decompressed_planes, num_planes, unpacked_masks
from fundusray.data.prepared.stored import Stored, mapped_column, mapped_pixels, stored_rows
from fundusray.data.prepared.write import CROP, FORMAT, SEEN, masks_file, write_shard
from fundusray.errors import DamagedError, InputError

__all__ = ["PreparedSet", "assemble_set", "is_complete", "open_set", "set_folder", "write_shard"]

CACHE = "~/.cache/fundusray"
COPIERS = min(4, os.cpu_count() or 1)
"""Threads that copy pixels; copying does not hold the interpreter, and memory is soon the limit."""
PIECE = 4 << 20
"""Bytes that are worth a thread: half a millisecond of copying."""
NEEDED_KEYS = {"classes", "contents", "encoding", "fill", "manifest", "shards", "size", "tables"}


def is_complete(folder: str) -> bool:
    """Whether the set was finished."""
    return files.exists(files.join(folder, "set.json"))


@dataclass(frozen=True)
class PreparedSet:
    """An opened set; its images stay on disk until they are asked for."""

    folder: str
    """Where its files are on this machine."""
    info: dict[str, Any]
    """What set.json holds."""
    table: pa.Table
    """The manifest's rows; row i is position i."""
    images: Stored = field(repr=False)
    """JPEG, or the pixels of a raw set."""
    stored_masks: Stored | None = field(default=None, repr=False)
    """Compressed bit planes; None where no masks are kept."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; a target is a position in it."""
        return tuple(self.info["classes"])

    @property
    def ordered(self) -> bool:
        """Whether the order of the classes is known; of two, which one is the positive."""
        return self.info.get("ordered", is_ordered(self.classes))

    @property
    def size(self) -> int:
        """Side of every image, pixels."""
        return self.info["size"]

    @property
    def fill(self) -> float:
        """Value outside the fundus, in [0, 1]."""
        return self.info["fill"]

    @property
    def encoding(self) -> str:
        """How images are kept: jpeg, which `encoded` gives, or raw, which `pixels` gives."""
        return self.info["encoding"]

    @property
    def mask_kinds(self) -> tuple[str, ...]:
        """The kinds of masks that are kept, in the order of the channels; empty: none are."""
        return tuple(self.info.get("masks", {}).get("kinds", ()))

    def __len__(self) -> int:
        return len(self.images.places)

    def encoded(self, rows: np.ndarray) -> list[np.ndarray]:
        """The JPEG bytes of some rows, uint8 1-D, read-only views of the mapped files.

        Raises:
            InputError: the set is raw.
        """
        self._need("jpeg")
        return self.images.views(rows)

    def pixels(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """The pixels of some rows of a raw set, uint8 [B, S, S, 3], C-contiguous, as asked for.

        They are read in the order in which they lie in the files, large batches by some threads.

        Args:
            out: such an array, which is filled and given back; used again and again it saves
                the system from handing out new memory.

        Raises:
            InputError: the set holds JPEG.
        """
        self._need("raw")
        rows = np.asarray(rows, np.int64)
        shape = (len(rows), self.size, self.size, 3)
        if out is None:
            out = np.empty(shape, np.uint8)
        fits = out.shape == shape and out.dtype == np.uint8 and out.flags.c_contiguous
        assert fits, f"out needs to be uint8 {shape}, C-contiguous"
        order = np.argsort(rows, kind="stable")
        shares = np.array_split(order, max(1, min(COPIERS, out.nbytes // PIECE)))
        if len(shares) == 1:
            self._copy(rows, order, out)
        else:
            list(_copiers().map(lambda share: self._copy(rows, share, out), shares))
        return out

    def _copy(self, rows: np.ndarray, share: np.ndarray, out: np.ndarray) -> None:
        """Fills the positions `share` of `out` with the pixels of their rows."""
        for to, content in zip(share.tolist(), self.images.views(rows[share]), strict=True):
            out[to] = content.reshape(out.shape[1:])

    def masks(self, rows: np.ndarray) -> np.ndarray:
        """The masks of some rows, uint8 [B, M, S, S], 0 or 1, channel i of `mask_kinds[i]`.

        Raises:
            InputError: none are kept.
        """
        return unpacked_masks(self.mask_planes(rows), len(self.mask_kinds))

    def mask_planes(self, rows: np.ndarray) -> np.ndarray:
        """The masks of some rows as bit planes, uint8 [B, S, S, P], see data.prepared.masks.

        Raises:
            InputError: none are kept.
        """
        if self.stored_masks is None:
            raise InputError(
                f"{self.folder} was prepared without masks; prepare it with data.masks=<kinds>"
            )
        planes = num_planes(len(self.mask_kinds))
        out = np.empty((len(rows), self.size, self.size, planes), np.uint8)
        for to, content in zip(out, self.stored_masks.views(rows), strict=True):
            decompressed_planes(content, to)
        return out

    def annotated(self, rows: np.ndarray) -> np.ndarray:
        """Of which kinds of masks some rows have a file, bool [B, M]. Without one a mask is empty:
        the structure was not seen, or not looked for, as the source has it."""
        masks = self.table["masks"].take(np.asarray(rows, np.int64)).to_pylist()
        having = [{kind for kind, _ in each} for each in masks]
        kinds = self.mask_kinds
        return np.array([[k in each for k in kinds] for each in having], bool).reshape(
            -1, len(kinds)
        )

    def geometry(self, row: int) -> Geometry:
        """Where a row's image lies in its upright photograph.

        Raises:
            InputError: the set is of an earlier version, which did not keep it.
        """
        self._need_columns(CROP, "where its images lie in their photographs")
        crop = (self.table[name][row].as_py() for name in CROP)
        photograph = (self.table["height"][row].as_py(), self.table["width"][row].as_py())
        return Geometry(*crop, self.size, photograph)

    def seen(self, rows: np.ndarray) -> list[Box]:
        """What of some rows' images their photographs cover; the rest is beyond their border.

        Raises:
            InputError: the set is of an earlier version, which did not keep it.
        """
        self._need_columns(SEEN, "what of its images their photographs cover")
        part = self.table.select(SEEN).take(np.asarray(rows, np.int64))
        return [Box(*row.values()) for row in part.to_pylist()]

    def _need_columns(self, names: tuple[str, ...], what: str) -> None:
        if names[0] not in self.table.column_names:
            raise InputError(
                f"{self.folder} is of an earlier version and does not say {what}; delete "
                f"{files.join(self.folder, 'set.json')} and prepare it again"
            )

    def _need(self, encoding: str) -> None:
        if self.encoding != encoding:
            raise InputError(
                f"{self.folder} was prepared with data.encoding={self.encoding}, this needs "
                f"{encoding}; prepare it with data.encoding={encoding}"
            )

    def targets(self) -> np.ndarray:
        """The class of every row, int64 [N]."""
        return self.table["target"].to_numpy().astype(np.int64)

    def patients(self) -> list[str]:
        """The patient of every row."""
        return self.table["patient_id"].to_pylist()

    def image_ids(self) -> list[str]:
        """The id of every row."""
        return self.table["image_id"].to_pylist()


@lru_cache(maxsize=1)
def _copiers() -> ThreadPoolExecutor:
    """The threads that copy, kept: starting them would cost as much as they gain."""
    return ThreadPoolExecutor(COPIERS)


# A forked process has none of its parent's threads.
os.register_at_fork(after_in_child=_copiers.cache_clear)


def open_set(folder: str, cache: str | None = None) -> PreparedSet:
    """A prepared set, every file of which is what set.json says; a remote one is copied first.

    Args:
        cache: where copies of remote sets are kept; a folder of the home directory unless given.

    Raises:
        InputError: it is not there, of another version, or damaged; names the file and the cure.
    """
    if not is_complete(folder):
        raise InputError(f"{folder} holds no finished prepared set; run jobs/prepare.py first")
    local = files.local_copy(folder, cache or os.path.expanduser(CACHE))
    info = _read_info(folder, local)
    for name, fault in _faults(local, info).items():
        raise _damaged(folder, local, name, fault)
    table = files.read_table(files.join(local, "manifest.parquet"))
    names, raw = [shard["name"] for shard in info["shards"]], info["encoding"] == "raw"
    paths = [files.join(local, name) for name in names]
    images = stored_rows(
        mapped_pixels(p, info["size"]) if raw else mapped_column(p, "image") for p in paths
    )
    masks = None
    if "masks" in info:
        masks = stored_rows(mapped_column(masks_file(path), "masks") for path in paths)
    for what, stored in (("images", images), ("masks", masks)):
        if stored is not None and len(stored.places) != table.num_rows:
            fault = f"{table.num_rows} rows, but there are {len(stored.places)} {what}"
            raise _damaged(folder, local, "manifest.parquet", fault)
    return PreparedSet(local, info, table, images, masks)


def set_description(folder: str) -> tuple[dict[str, Any] | None, str]:
    """(what set.json says of a finished set, None where it says nothing; how it is damaged)."""
    if not is_complete(folder):
        return None, ""
    try:
        return _read_info(folder, folder), ""
    except InputError as error:
        return None, str(error).partition(";")[0]


def set_damage(folder: str, info: dict[str, Any]) -> list[str]:
    """What is wrong with a finished set on a disk, file by file; nothing where it is whole."""
    return [f"{files.join(folder, n)}: {fault}" for n, fault in _faults(folder, info).items()]


def _faults(local: str, info: dict[str, Any]) -> dict[str, str]:
    """File -> what is wrong with it, of those that are not what set.json says."""
    expected = {shard["name"]: shard["sha256"] for shard in info["shards"]} | info["tables"]
    sizes = {shard["name"]: shard["bytes"] for shard in info["shards"]}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda name: _fault(local, name, expected[name], sizes), expected)
    return {name: fault for name, fault in zip(expected, found, strict=True) if fault}


def _read_info(folder: str, local: str) -> dict[str, Any]:
    try:
        info = files.read_json(files.join(local, "set.json"))
        found = info["format"]
    except KeyError as error:
        raise _damaged(folder, local, "set.json", "it lacks format") from error
    except DamagedError as error:
        fault = str(error).removeprefix(f"{files.join(local, 'set.json')}: ").partition(";")[0]
        raise _damaged(folder, local, "set.json", fault) from error
    if found != FORMAT:
        raise InputError(
            f"{folder} has format {found}, this version reads {FORMAT}; delete the folder and "
            "prepare it again"
        )
    if missing := NEEDED_KEYS - set(info):
        raise _damaged(folder, local, "set.json", f"it lacks {', '.join(sorted(missing))}")
    return info


def _fault(local: str, name: str, sha256: str, sizes: dict[str, int]) -> str:
    """What is wrong with a file; empty when nothing is."""
    path = files.join(local, name)
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return "it is missing"
    if name in sizes and stat.st_size != sizes[name]:
        return f"it has {stat.st_size:,} bytes, {sizes[name]:,} were written"
    if _digest(path, stat.st_size, stat.st_mtime_ns, stat.st_ino) != sha256:
        return "its content has changed (sha256)"
    return ""


@lru_cache(maxsize=65536)
def _digest(path: str, num_bytes: int, changed_ns: int, inode: int) -> str:
    """A file's sha256; computed once in a process for as long as the file is not touched."""
    return files.sha256_file(path)


def _damaged(folder: str, local: str, name: str, fault: str) -> InputError:
    if local == folder:
        cure = f"delete {files.join(folder, 'set.json')}: only what is damaged is then made again"
    else:
        cure = f"delete {local}, this machine's copy of {folder}"
    return InputError(f"{files.join(local, name)} is damaged: {fault}; {cure}, and run again")
