"""Mixup: pairs by place, weights by row, nothing that depends on the number of workers."""

import torch

from fundusray.pipeline.loader import Batch
from fundusray.training.mixup import mixup_batch


def batch_of(rows: list[int], valid: list[bool] | None = None) -> Batch:
    image = torch.stack([torch.full((3, 2, 2), float(row)) for row in rows])
    target = torch.tensor(rows) % 3
    return Batch(image, target, torch.tensor(rows), torch.tensor(valid or [True] * len(rows)))


def loss(output: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    return 10.0 * target.float() + output


def test_images_and_losses_are_blended_alike() -> None:
    batch = batch_of([10, 20, 33, 44])
    found, blended = mixup_batch(batch, loss, 0.4, seed=1)
    weight = (found.image[:, 0, 0, 0] - torch.tensor([20.0, 10, 44, 33])) / torch.tensor(
        [-10.0, 10, -11, 11]
    )
    assert ((weight >= 0) & (weight <= 1)).all()
    torch.testing.assert_close(weight[0], weight[1])
    assert abs(weight[0] - weight[2]) > 1e-6
    own, other = batch.target.float(), batch.target[[1, 0, 3, 2]].float()
    expected = 10 * (weight * own + (1 - weight) * other)
    torch.testing.assert_close(blended(torch.zeros(4), batch.target, batch.valid), expected)
    assert torch.equal(found.row, batch.row)


def test_halves_of_a_batch_are_mixed_as_the_whole() -> None:
    whole = batch_of([3, 1, 4, 15, 9, 2])
    parts = [Batch(*(part[place] for part in whole[:4])) for place in (slice(0, 2), slice(2, 6))]
    together = torch.cat([mixup_batch(part, loss, 0.2, seed=5)[0].image for part in parts])
    torch.testing.assert_close(together, mixup_batch(whole, loss, 0.2, seed=5)[0].image)


def test_padding_and_an_odd_one_stay_as_they_are() -> None:
    batch = batch_of([1, 2, 3, 4, 5], [True, False, True, True, True])
    found, blended = mixup_batch(batch, loss, 0.2, seed=0)
    kept = torch.tensor([True, True, False, False, True])
    same = (found.image == batch.image).flatten(1).all(1)
    assert torch.equal(same, kept)
    losses = blended(torch.zeros(5), batch.target, batch.valid)
    torch.testing.assert_close(losses[kept], 10.0 * batch.target[kept].float())


def test_the_weights_follow_beta() -> None:
    rows = list(range(4000))
    image = mixup_batch(batch_of(rows), loss, 0.2, seed=3)[0].image[::2, 0, 0, 0]
    weight = torch.tensor(rows[::2]) + 1 - image
    # Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1)).
    assert abs(weight.mean() - 0.5) < 0.03
    assert abs(weight.var() - 1 / (4 * 1.4)) < 0.02
