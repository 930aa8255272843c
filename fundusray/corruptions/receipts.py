"""What is done to each image, as a value that can be stored and that rebuilds it to the bit."""

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fundusray.corruptions.registry import CORRUPTIONS
from fundusray.corruptions.text import Corruption
from fundusray.errors import InputError
from fundusray.hashed_numbers import uniform_numbers

NUMBERS = 128
"""Random numbers of an image and a kind; no draw takes more."""
KEYS = {"version", "name", "level", "parameters"}


@dataclass(frozen=True)
class Receipt:
    """One corruption of one image."""

    name: str
    """The corruption itself, where a mixture was asked for."""
    level: int
    parameters: Mapping[str, Any] = field(hash=False)
    """JSON values; lengths are shares of the image's side."""
    version: int

    def to_json(self) -> str:
        """One line that `from_json` reads; equal receipts give equal lines."""
        content = {key: getattr(self, key) for key in sorted(KEYS)}
        return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @staticmethod
    def from_json(text: str) -> "Receipt":
        """The receipt that was stored.

        Raises:
            InputError: it is none, of a corruption that is not there, or of another version.
        """
        try:
            content = json.loads(text)
        except ValueError as error:
            raise InputError(f"a receipt is a line of JSON, got {text[:80]!r}: {error}") from error
        if not isinstance(content, dict) or set(content) != KEYS:
            raise InputError(f"a receipt has {', '.join(sorted(KEYS))}, got {text[:80]!r}")
        if not isinstance(content["parameters"], dict) or not isinstance(content["level"], int):
            raise InputError(f"a receipt has a whole level and parameters, got {text[:80]!r}")
        receipt = Receipt(**content)
        _require_version(receipt)
        return receipt


def _require_version(receipt: Receipt) -> None:
    current = CORRUPTIONS.facts(receipt.name).version
    if receipt.version != current:
        raise InputError(
            f"a receipt of version {receipt.version!r} of {receipt.name}, which is at version "
            f"{current} here and gives other pixels: rebuild it with the fundusray that made it, "
            "or draw a new one from (corruption, seed, row)"
        )


def receipts(
    corruption: Corruption, seed: int, rows: Tensor | Sequence[int], side: int
) -> list[Receipt]:
    """What the corruption does to the images of these rows, whose side is `side` pixels.

    Each is a function of (the corruption's text, seed, row) alone. The numbers of a kind do not
    depend on the level: an image's leak of level 2 and of level 3 lie at the same side of the
    fundus, so that levels compare in pairs.
    """
    row = torch.as_tensor(rows, dtype=torch.int64).cpu()
    levels = _drawn(seed, row, "level", corruption.highest - corruption.lowest + 1)
    kinds = corruption.kinds
    choices = _drawn(seed, row, f"kind of {corruption.name}", len(kinds))
    numbers = {
        kind: uniform_numbers(seed, row, _use(kind), NUMBERS).tolist()
        for kind in {kinds[choice] for choice in choices}
    }
    made = []
    for place, (number, choice) in enumerate(zip(row.tolist(), choices, strict=True)):
        kind, level = kinds[choice], corruption.lowest + levels[place]
        facts = CORRUPTIONS.facts(kind)
        drawn = facts.draw(facts.levels[level - 1], iter(numbers[kind][place]), side)
        if facts.per_pixel:
            drawn |= {"seed": seed, "row": number}
        made.append(Receipt(kind, level, drawn, facts.version))
    return made


def _use(text: str) -> int:
    """A use of a row's random numbers that no other text shares."""
    return zlib.crc32(text.encode())


def _drawn(seed: int, row: Tensor, use: str, num: int) -> list[int]:
    """One of `num` for each row, each as likely as the others."""
    numbers = uniform_numbers(seed, row, _use(use), 1)[:, 0].tolist()
    return [min(num - 1, math.floor(number * num)) for number in numbers]


def corrupted(image: Tensor, done: Sequence[Receipt]) -> Tensor:
    """The images uint8 [B, 3, S, S] as their receipts say, as they lay in memory.

    Raises:
        InputError: images of another kind, or a receipt of another version.
    """
    if image.dtype != torch.uint8 or image.ndim != 4 or image.shape[1] != 3:
        raise InputError(
            "a corruption needs images of 8 bits, uint8 [B, 3, S, S], got "
            f"{str(image.dtype).removeprefix('torch.')} {list(image.shape)}"
        )
    if image.shape[2] != image.shape[3] or len(image) != len(done):
        raise InputError(
            "a corruption needs square images and a receipt for each, got "
            f"{list(image.shape)} and {len(done)} receipts"
        )
    for each in done:
        _require_version(each)
    names = list(dict.fromkeys(each.name for each in done))
    if len(names) == 1:
        changed = CORRUPTIONS.find(names[0])(image, [each.parameters for each in done])
        lies_alike = changed.stride() == image.stride()
        return changed if lies_alike else torch.empty_like(image).copy_(changed)
    result = image.clone()
    for name in names:
        places = [place for place, each in enumerate(done) if each.name == name]
        parameters = [done[place].parameters for place in places]
        result[places] = CORRUPTIONS.find(name)(image[places], parameters)
    return result
