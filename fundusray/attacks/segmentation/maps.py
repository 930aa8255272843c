"""Networks whose answer is a map: how many images go through one at a time, and which is none."""

from torch import Tensor

from fundusray.errors import InputError

PIXELS, PIXELS_OF_CPU = 1 << 20, 1 << 15
"""Of the images of one pass: four of 512 x 512; on a CPU so few that what a layer makes of small
ones stays in its cache."""


def images_of_pass(image: Tensor) -> int:
    """How many images of this size a pass has."""
    most = PIXELS_OF_CPU if image.device.type == "cpu" else PIXELS
    return max(1, most // image.shape[2:].numel())


def require_pixel_logits(logits: Tensor, image: Tensor) -> None:
    """Refuses a network of another kind.

    Raises:
        InputError: logits of another shape than [B, C, S, S].
    """
    size = image.shape[2:]
    if logits.ndim != 4 or logits.shape[1] < 2 or logits.shape[2:] != size:
        raise InputError(
            "this is for networks that segment, which have logits of at least two classes for each "
            f"pixel, [B, C, {size[0]}, {size[1]}]; got {tuple(logits.shape)}"
        )
