"""Photographs damaged on their way to the network, as a bad camera damages them: before the last
step of their preprocessing, not after it.

Where photographs are damaged, their set holds frames (`data.prepared.preprocess.framed_data`): the
photograph in its square as the camera took it. What is done to a frame is a function of the
corruption's text, the seed, the row and how often the row came before in the epoch, so that a
training sees every time what a stored set of damaged copies would hold.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from fundusray.attacks.noise import drawn_rows
from fundusray.config import Data
from fundusray.corruptions import Corruption, Receipt, corrupted, parse_corruption, receipts
from fundusray.data.photographs.decode import encode_jpeg
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.data.prepared.preprocess import PREPROCESS
from fundusray.data.prepared.write import QUALITY
from fundusray.errors import InputError
from fundusray.pipeline.engines.plain import decode_image

REPEATS = 1 << 40
"""Between a row and its repeat in what numbers are drawn from; no set has so many rows."""
EPOCHS = 1 << 20
"""Between the seed of an epoch and that of the next."""


@dataclass(frozen=True)
class Damage:
    """Corrupts frames and finishes them; a `pipeline.loader.PixelChange`."""

    prepared: PreparedSet
    """Of frames."""
    data: Data
    """Whose preprocessing finishes them."""
    corruption: Corruption | None = None
    """None: frames are finished only."""
    seed: int = 0
    share: float = 1.0
    """Of showings that are damaged."""
    fresh: bool = False
    """Whether every epoch damages anew."""
    given: Mapping[int, Receipt] | None = None
    """Row -> what is done to it, in place of what the corruption draws."""

    @property
    def fill(self) -> float:
        return PREPROCESS.find(self.data.preprocess).fill

    def __call__(
        self, pixels: np.ndarray, rows: np.ndarray, *, seed: int, epoch: int, repeat: np.ndarray
    ) -> np.ndarray:
        """The pixels uint8 [B, S, S, 3] as the network's preprocessing gives them."""
        if self.given is not None:
            pixels = _applied(pixels, [self.given[row] for row in rows.tolist()])
        elif self.corruption is not None:
            pixels = self._damaged(pixels, rows, epoch, repeat)
        finish = PREPROCESS.find(self.data.preprocess).finish
        if finish is not None and self.prepared.info["preprocess"] != self.data.preprocess:
            finished = partial(finish, **self.data.preprocess_args)
            seen = self.prepared.seen(rows)
            pixels = np.stack([finished(one, box) for one, box in zip(pixels, seen, strict=True)])
        return _through_jpeg(pixels) if self.encodes else pixels

    @property
    def encodes(self) -> bool:
        """Whether pixels go through the JPEG of a prepared set. Those of a network that learned
        from JPEG do, so that it is judged on what it knows; one that was trained or judged on
        damaged photographs has had its own from raw frames."""
        learned = self.data.corrupt or self.data.judge_corrupt
        return self.data.encoding == "jpeg" and not learned

    def _damaged(
        self, pixels: np.ndarray, rows: np.ndarray, epoch: int, repeat: np.ndarray
    ) -> np.ndarray:
        assert self.corruption is not None
        seed = self.seed + (EPOCHS * (epoch + 1) if self.fresh else 0)
        keys = np.asarray(rows, np.int64) + REPEATS * np.asarray(repeat, np.int64)
        chosen = np.ones(len(keys), bool)
        if self.share < 1:
            chosen = drawn_rows(torch.from_numpy(keys), seed, self.share).numpy()
        if not chosen.any():
            return pixels
        changed = pixels.copy()
        drawn = receipts(self.corruption, seed, keys[chosen], self.prepared.size)
        changed[chosen] = _applied(pixels[chosen], drawn)
        return changed


def _applied(pixels: np.ndarray, done: list[Receipt]) -> np.ndarray:
    """Frames uint8 [B, S, S, 3] as their receipts say."""
    image = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    return corrupted(image, done).permute(0, 2, 3, 1).numpy()


def _through_jpeg(pixels: np.ndarray) -> np.ndarray:
    """Images uint8 [B, S, S, 3] as a prepared set keeps them and gives them back."""
    kept = [np.frombuffer(encode_jpeg(one, QUALITY), np.uint8) for one in pixels]
    return np.stack([decode_image(one, pixels.shape[1]) for one in kept])


def training_damage(data: Data, prepared: PreparedSet, seed: int) -> Damage | None:
    """What training photographs of a set go through; None where nothing is done to them."""
    if not data.corrupt:
        return finishing(data, prepared)
    corruption = parse_corruption(data.corrupt)
    return Damage(prepared, data, corruption, seed, data.corrupt_share, data.corrupt_fresh)


def judging_damage(data: Data, prepared: PreparedSet) -> Damage | None:
    """What validation photographs go through where they are also judged damaged, else None."""
    if not data.judge_corrupt:
        return None
    return Damage(prepared, data, parse_corruption(data.judge_corrupt))


def finishing(data: Data, prepared: PreparedSet) -> Damage | None:
    """What photographs of a set go through that are shown undamaged; None of a set that is
    finished.

    Raises:
        InputError: the set is neither of the preprocessing nor of its frames.
    """
    stored, damage = prepared.info["preprocess"], Damage(prepared, data)
    if stored == data.preprocess:
        return damage if damage.encodes and prepared.encoding == "raw" else None
    if stored != PREPROCESS.find(data.preprocess).frame:
        raise InputError(
            f"{prepared.folder} holds photographs prepared by {stored}, this needs "
            f"{data.preprocess}; prepare it with data.preprocess={data.preprocess}"
        )
    return damage
