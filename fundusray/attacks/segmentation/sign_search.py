"""Which signs of several steps help an image most: all 3^C of them tried, or few.

Signs are tuples, of each class 1 (its step is added), 0 (left) or -1 (subtracted).
"""

from collections.abc import Callable, Mapping
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fundusray.attacks.gradient import Predict
from fundusray.attacks.segmentation.maps import images_of_pass

TRIES = 8
"""Combinations that the greedy search tries for each class: 48 of 6 classes, where all are 729."""
SAMPLE = 2048
"""Pixels on which losses are predicted."""
MOVES = 2048
"""Numbers of an image by which it is seen how far images are apart."""
REACH = 2.0
"""Root mean square of the steps between two images at which they begin to tell little of each
other."""
NOISE = 1e-3
"""By how much a prediction may miss what was tried, so that it can be solved for."""
TILE = 1 << 24
"""Predicted logits at a time."""

Signs = tuple[int, ...]


class Candidates:
    """The images that signs of the steps of one image give, and what the network says of them."""

    def __init__(
        self, predict: Predict, image: Tensor, target: Tensor, steps: Tensor, eps: float, most: int
    ) -> None:
        """
        Args:
            image: float32 [3, S, S].
            target: int64 [S, S].
            steps: int8 [C, 3, S, S]: -1, 0 or 1; by eps what a class's step does.
            most: how many eps a pixel is moved by at most.
        """
        self.predict, self.image, self.target, self.steps = predict, image, target, steps
        self.eps, self.most = eps, most

    def images(self, signs: Tensor) -> Tensor:
        """Images [n, 3, S, S] in [0, 1] with these signs int8 [n, C]."""
        moves = self.image.new_zeros((len(signs), *self.image.shape), dtype=torch.int8)
        for c, step in enumerate(self.steps):
            moves += step * signs[:, c, None, None, None]
        # A pixel moves by a whole number of eps, so that the order of the sum does not matter.
        moves = moves.clamp_(-self.most, self.most).float()
        return moves.mul_(self.eps).add_(self.image).clamp_(0, 1)

    @torch.no_grad()
    def logits(self, signs: list[Signs]) -> Tensor:
        """What the network says of them, float32 [n, C, S, S]."""
        some = torch.tensor(signs, dtype=torch.int8, device=self.image.device)
        parts = some.split(images_of_pass(self.image[None]))
        return torch.cat([self.predict(self.images(part)).float() for part in parts])

    def losses(self, signs: list[Signs]) -> list[float]:
        """J of each against the true mask: mean cross entropy; infinite where it is no number."""
        length = images_of_pass(self.image[None])
        found: list[float] = []
        for start in range(0, len(signs), length):
            found += self.losses_of(self.logits(signs[start : start + length]))
        return found

    def losses_of(self, logits: Tensor) -> list[float]:
        """The same of logits [n, C, S, S]."""
        return self.pixel_losses(logits).flatten(1).mean(dim=1).nan_to_num(nan=torch.inf).tolist()

    def pixel_losses(self, logits: Tensor) -> Tensor:
        """Cross entropy of each pixel, [n, S, S]."""
        return F.cross_entropy(logits, self.target.expand(len(logits), -1, -1), reduction="none")


def combinations(num_classes: int) -> list[Signs]:
    """All 3^C, in the order in which equal losses are decided: fewest classes first, of those as
    formula (5) lists what may be done: added, left, subtracted."""
    return sorted(product((1, 0, -1), repeat=num_classes), key=_smallness)


def _smallness(signs: Signs) -> tuple[int, Signs]:
    return sum(map(abs, signs)), tuple(-sign for sign in signs)


def best_of(tried: Mapping[Signs, float]) -> Signs:
    """The signs of the lowest loss; of equal ones the first of `combinations`."""
    return min(tried, key=lambda signs: (tried[signs], _smallness(signs)))


def all_losses(candidates: Candidates) -> dict[Signs, float]:
    """The loss of each of the 3^C combinations, in passes of many images."""
    everything = combinations(len(candidates.steps))
    return dict(zip(everything, candidates.losses(everything), strict=True))


def few_losses(candidates: Candidates) -> dict[Signs, float]:
    """The losses of TRIES C combinations, among which the lowest of all usually is.

    First no change and each class alone. Then, round by round, those that are predicted to be
    lowest: the logits of a combination are taken for a weighted sum of the logits of those that
    were tried, by how far apart their images are (kriging; Rasmussen and Williams 2006, chapter 2;
    linear and Matern 3/2), since a network is nearly linear over such distances where its loss is
    not. Steps of several classes are much alike, so that going from class to class stops early.
    """
    num_classes = len(candidates.steps)
    everything = combinations(num_classes)
    place = {signs: i for i, signs in enumerate(everything)}
    tried = [signs for signs in everything if sum(map(abs, signs)) <= 1]
    logits = candidates.logits(tried)
    losses = candidates.losses_of(logits)
    pixels = _telling_pixels(candidates.pixel_losses(logits))
    target = candidates.target.flatten()[pixels]
    share_kept = len(pixels) / candidates.target.numel()
    seen = logits.flatten(2)[:, :, pixels]
    moves = _sampled_moves(candidates, everything)
    most = min(TRIES * num_classes, len(everything))
    while len(tried) < most:
        known = [place[signs] for signs in tried]
        weights = _weights(moves, known)
        predicted = _predicted_losses(weights, seen, target, losses, share_kept)
        predicted[known] = np.inf
        room = min(num_classes + 1, most - len(tried))
        some = [everything[i] for i in np.argsort(predicted, kind="stable")[:room]]
        logits = candidates.logits(some)
        seen = torch.cat([seen, logits.flatten(2)[:, :, pixels]])
        losses += candidates.losses_of(logits)
        tried += some
    return dict(zip(tried, losses, strict=True))


def _telling_pixels(losses: Tensor) -> Tensor:
    """The pixels whose losses [n, S, S] differ most between some images, int64 [SAMPLE]."""
    low, high = losses.flatten(1).nan_to_num().aminmax(dim=0)
    return (high - low).topk(min(SAMPLE, len(low))).indices.sort().values


def _sampled_moves(candidates: Candidates, everything: list[Signs]) -> np.ndarray:
    """By how many eps each combination moves some of the image's numbers, float32 [3^C, MOVES]."""
    flat = candidates.steps.flatten(1)
    some = torch.linspace(0, flat.shape[1] - 1, min(MOVES, flat.shape[1])).long()
    moves = np.array(everything, np.float32) @ flat[:, some.to(flat.device)].float().cpu().numpy()
    return moves.clip(-candidates.most, candidates.most)


def _weights(moves: np.ndarray, known: list[int]) -> np.ndarray:
    """By how much each of the tried counts for each combination, [3^C, n]."""
    own = moves[known]
    linear = (moves @ own.T / moves.shape[1]).astype(float)
    length = (moves**2).mean(axis=1, dtype=float)
    square = length[:, None] + length[known] - 2 * linear
    apart = np.sqrt(3 * square.clip(0)) / REACH
    alike = 1 + linear + (1 + apart) * np.exp(-apart)
    return np.linalg.solve(alike[known] + NOISE * np.eye(len(known)), alike.T).T


def _predicted_losses(
    weights: np.ndarray, seen: Tensor, target: Tensor, losses: list[float], share_kept: float
) -> np.ndarray:
    """What is expected of each combination, [3^C]: on the pixels that were kept by their predicted
    logits; what the other pixels add is weighted as the logits are.

    Args:
        seen: logits of what was tried, [n, C, P].
        target: classes of these pixels, int64 [P].
        share_kept: of an image's pixels that are among them.
    """
    summed = torch.from_numpy(weights).to(seen)
    flat = (seen - seen[:1]).flatten(1)

    def over_pixels(logits: Tensor) -> Tensor:
        values = F.cross_entropy(logits, target.expand(len(logits), -1), reduction="none")
        return values.mean(dim=1)

    parts = [
        over_pixels((part @ flat).view(len(part), *seen.shape[1:]) + seen[0])
        for part in summed.split(max(1, TILE // flat.shape[1]))
    ]
    predicted = torch.cat(parts).double().cpu().numpy()
    kept = over_pixels(seen).double().cpu().numpy()
    # A network that says what is no number is no reason to try the same again.
    return np.nan_to_num(share_kept * predicted + weights @ (np.array(losses) - share_kept * kept))


SEARCHES: dict[str, Callable[[Candidates], dict[Signs, float]]] = {
    "exact": all_losses,
    "greedy": few_losses,
}
"""How signs are looked for: what each gives are the losses of those that were tried."""
