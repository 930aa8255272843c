"""Mixup: each image blended with its neighbour, and its loss with the neighbour's class.

Zhang et al., mixup: beyond empirical risk minimization (2018). Rows 2i and 2i + 1 of a global batch
are blended with each other, with a weight of their own drawn from (seed, the two rows): as the
order of rows is random so is the partner, and neither depends on the number of workers.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from fundusray.pipeline.loader import Batch

PerSample = Callable[..., Tensor]
"""(output, target, valid) -> losses [B]."""


def mixup_batch(
    batch: Batch, per_sample: PerSample, alpha: float, seed: int
) -> tuple[Batch, PerSample]:
    """The batch with blended images, and the loss that blends both targets.

    image = w image_i + (1 - w) image_j and loss = w loss(target_i) + (1 - w) loss(target_j) with w
    from Beta(alpha, alpha), eq. 1 and 2. Beside a partner that does not count, an image stays as
    it is.
    """
    partner = _partners(batch)
    weight = torch.tensor(_weights(batch.row.tolist(), partner.tolist(), alpha, seed))
    weight = weight.to(batch.image.device, batch.image.dtype)
    alone = ~(batch.valid & batch.valid[partner])
    weight = torch.where(alone, torch.ones_like(weight), weight)
    spread = weight.view(-1, 1, 1, 1)
    image = spread * batch.image + (1 - spread) * batch.image[partner]

    def blended(output: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        own, other = (per_sample(output, t, valid) for t in (target, target[partner]))
        return weight * own + (1 - weight) * other

    return batch._replace(image=image), blended


def _partners(batch: Batch) -> Tensor:
    """The neighbour of each place: 1, 0, 3, 2, ...; an odd last one is its own."""
    places = torch.arange(len(batch.row), device=batch.image.device)
    return (places ^ 1).clamp_max(len(places) - 1)


def _weights(rows: list[int], partner: list[int], alpha: float, seed: int) -> list[float]:
    """The weight of each image in its own blend; both of a pair draw the same number.

    The one in the even place keeps w, its neighbour w too: the two blends are mirror images.
    """
    weights = []
    for place, other in enumerate(partner):
        first, second = rows[min(place, other)], rows[max(place, other)]
        rng = np.random.Generator(np.random.Philox(key=[seed, (first << 32) + second]))
        weights.append(float(rng.beta(alpha, alpha)))
    return weights
