"""How often a sampling shows each class, and how many different images that is."""

from collections.abc import Sequence
from typing import NamedTuple

from fundusray.errors import InputError
from fundusray.settings import Sampling
from fundusray.settings.choices import registry


class ClassShowings(NamedTuple):
    """Images of each class [K] that one epoch shows."""

    images: list[float]
    """Showings; with quotas to within one of it."""
    distinct: list[int]
    """Different images among them."""
    effective: list[float]
    """Kish's effective sample size: (sum m)^2 / sum m^2 over images shown m times each."""

    @property
    def shares(self) -> list[float]:
        """[K] shares of the showings, which sum to 1."""
        total = sum(self.images)
        return [images / total for images in self.images]


def sampling_sentence(sampling: Sampling) -> str:
    """The sampling in words, e.g. `class quotas 0.5, 0.3, 0.2`."""
    quotas = ", ".join(f"{quota:g}" for quota in sampling.quotas)
    return " ".join(filter(None, (registry("sampling.name").facts(sampling.name).title, quotas)))


def class_showings(sampling: Sampling, counts: Sequence[int], batch: int = 1) -> ClassShowings:
    """What an epoch of `sampling` shows of `counts` [K] training images in global batches.

    natural: every image once. oversample: every class as often as the most frequent. quotas: as
    many batches as cover the training images, in fixed shares; of its first epoch, for a later one
    can begin within a pass over a class and so show a few images twice, others not. Each sampling
    says so itself, where it is registered.

    Raises:
        InputError: no image, or quotas that do not fit the classes.
    """
    if sum(counts) == 0:
        raise InputError("no class has a training image; check data.split and data.fractions")
    images = registry("sampling.name").facts(sampling.name).images(sampling, counts, batch)
    pairs = [(each, count) for each, count in zip(images, counts, strict=True)]
    return ClassShowings(
        images=images,
        distinct=[min(round(each), count) for each, count in pairs],
        effective=[_effective(each, count) for each, count in pairs],
    )


def _effective(images: float, count: int) -> float:
    """Of `count` images gone through again and again until `images` are shown."""
    if images <= 0:
        return 0.0
    times, rest = divmod(images, count)
    squares = rest * (times + 1) ** 2 + (count - rest) * times**2
    return images**2 / squares
