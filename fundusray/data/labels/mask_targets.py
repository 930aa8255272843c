"""What is learned of every pixel: targets that are masks in place of a label (data.target=lesions).

Each pixel has one class: the background, or a kind of mask. Where masks overlap the kind that
stands first wins, so that a small lesion on a large structure is not lost: microaneurysms before
haemorrhages, these before exudates, and all before the optic disc. A kind of which a photograph has
no mask file is not on it.
"""

from collections.abc import Sequence
from typing import Any

from fundusray.config import Data
from fundusray.errors import InputError
from fundusray.registry import Registry

BACKGROUND = "background"
"""Class 0: whatever no mask marks."""

MASK_TARGETS: Registry[tuple[str, ...]] = Registry("target of masks")
"""data.target -> its kinds of masks, the one that wins where they overlap first."""

MASK_TARGETS.register("lesions")(
    ("microaneurysms", "haemorrhages", "hard_exudates", "soft_exudates", "optic_disc")
)
MASK_TARGETS.register("vessels")(("vessels",))


def is_mask_target(target: str) -> bool:
    """Whether data.target is one of every pixel, and no label of the photograph."""
    return target in MASK_TARGETS


def pixel_classes(data: Data, own: Sequence[str] = ()) -> tuple[str, ...]:
    """The classes of a pixel, the background first: data.classes, else those that the source names
    itself, else the target's.

    Args:
        own: classes of the source, the background among them; none where it knows its kinds alone.

    Raises:
        InputError: data.classes without the background first.
    """
    if data.classes and data.classes[0] != BACKGROUND:
        raise InputError(
            f"data.classes={','.join(data.classes)}: of data.target={data.target} the first class "
            f"is {BACKGROUND}, then come kinds of masks: "
            f"data.classes={BACKGROUND},{','.join(MASK_TARGETS.find(data.target))}"
        )
    return data.classes or tuple(own) or (BACKGROUND, *MASK_TARGETS.find(data.target))


def rows_with_masks(masks: Sequence[Sequence[tuple[str, Any]]], kinds: Sequence[str]) -> list[int]:
    """The target of every row: 0 where it has a mask of these kinds, -1 (none) where it has none,
    since nobody then looked for what they mark."""
    wanted = set(kinds)
    return [0 if any(kind in wanted for kind, _ in row) else -1 for row in masks]
