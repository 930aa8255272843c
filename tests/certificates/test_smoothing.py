"""Certificates of linear networks are their margins; the noise is the row's; doubts abstain."""

import math

import pytest
import torch
from torch import Tensor

from fundusray.certificates import (
    ABSTAINED,
    Certificates,
    Smoothing,
    certify,
    certify_referable,
    lower_bound,
)
from fundusray.errors import InputError
from tests.attacks.linear_networks import (
    LinearNetwork,
    convolutional_network,
    grey_images,
)


def rows(image: Tensor) -> Tensor:
    return torch.arange(len(image))


def images_at(network: LinearNetwork, distances: list[float]) -> Tensor:
    """Grey images so far from the border, on the side of class 1."""
    normal = (network.weight[1] - network.weight[0]).view(3, 8, 8)
    unit = normal / normal.norm()
    image = torch.full((3, 8, 8), 0.5, dtype=torch.float64)
    network.bias = -network(image[None])[0]
    return torch.stack([image + distance * unit for distance in distances])


def test_the_radius_of_a_linear_network_is_its_margin() -> None:
    """Under noise it answers class 1 with probability Phi(distance / sigma), so that the exact
    radius is the distance; what is certified stays below and comes near with many draws."""
    network, sigma = LinearNetwork(2), 0.25
    distance = torch.tensor([0.1, 0.25, 0.4], dtype=torch.float64)
    image = images_at(network, distance.tolist())
    gaps = []
    for draws in (200, 20_000):
        smoothing = Smoothing(sigma, choosing=50, draws=draws, batch=500)
        found = certify(network, image, rows(image), smoothing, 2)
        assert found.answer.tolist() == [1, 1, 1]
        assert (found.radius < distance).all()
        assert (found.counts.sum(dim=1) == draws).all()
        shares = found.counts[:, 1] / draws
        exact = torch.special.ndtr(distance / sigma)
        error = torch.sqrt(exact * (1 - exact) / draws)
        assert ((shares - exact).abs() < 4 * error).all()
        gaps.append(distance - found.radius)
    assert (gaps[1] < gaps[0] / 3).all()
    assert (gaps[1] < 0.05 * distance + 0.01).all()


def test_certificates_are_wrong_no_more_often_than_alpha() -> None:
    """600 images at one distance, alpha = .2: about a fifth of the radii exceed it, not more."""
    network = LinearNetwork(2)
    image = images_at(network, [0.1]).expand(600, -1, -1, -1)
    smoothing = Smoothing(0.25, choosing=20, draws=60, alpha=0.2, batch=2000)
    found = certify(network, image, rows(image), smoothing, 2)
    wrong = ((found.radius > 0.1) | (found.answer == 0)).double().mean().item()
    assert 0.08 < wrong < 0.2 + 3 * math.sqrt(0.2 * 0.8 / 600)


def test_it_abstains_on_the_border() -> None:
    network = LinearNetwork(2)
    image = images_at(network, [0.0, 1e-4, 1.0])
    found = certify(network, image, rows(image), Smoothing(0.25, 50, 300, batch=200), 2)
    assert found.answer.tolist() == [ABSTAINED, ABSTAINED, 1]
    assert found.radius[:2].tolist() == [0, 0]
    # All draws agree: so far as so many draws reach.
    most = Smoothing(0.25, 50, 300).most_radius
    assert found.radius[2].item() == pytest.approx(most)
    bound = torch.tensor(lower_bound(300, 300, 0.001), dtype=torch.float64)
    assert most == pytest.approx(0.25 * torch.special.ndtri(bound).item())


def test_no_change_within_the_radius_has_another_answer() -> None:
    """Of a network that is not linear: the smoothed answer, measured anew, at the radius's end."""
    image = grey_images(4, 12)
    network = convolutional_network(image)
    smoothing = Smoothing(0.1, 100, 1000, batch=250)
    found = certify(network, image, rows(image), smoothing, 4)
    sure = (found.answer != ABSTAINED).nonzero()[:, 0]
    assert len(sure) >= 2
    shown = image[sure].clone().requires_grad_(True)
    loss = torch.nn.functional.cross_entropy(network(shown), found.answer[sure])
    (gradient,) = torch.autograd.grad(loss, shown)
    unit = gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    moved = image[sure] + 0.99 * found.radius[sure].float().view(-1, 1, 1, 1) * unit
    again = certify(network, moved, 100 + sure, smoothing, 4)
    most = again.counts.argmax(dim=1)
    assert torch.equal(most, found.answer[sure])


def test_noise_is_the_rows_and_memory_is_bounded() -> None:
    image = grey_images(5)
    network = LinearNetwork(3).centred(image)
    row = torch.tensor([9, 2, 70, 4, 33])
    sizes: list[int] = []

    def counted(shown: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        sizes.append(len(shown))
        return network(shown)

    whole = certify(counted, image, row, Smoothing(0.2, 10, 40, batch=16), 3)
    assert max(sizes) == 16
    assert sum(sizes) == 5 * (10 + 40)
    for batch in (1, 7, 400):
        part = certify(network, image[[3, 1]], row[[3, 1]], Smoothing(0.2, 10, 40, batch=batch), 3)
        for ours, theirs in zip(part, whole, strict=True):
            assert torch.equal(ours, theirs[[3, 1]])
    other = certify(network, image, row, Smoothing(0.2, 10, 40, seed=1), 3)
    assert not torch.equal(other.counts, whole.counts)
    # What chooses the class is drawn apart from what measures its share.
    same = certify(network, image, row, Smoothing(0.2, 40, 40), 3)
    assert torch.equal(same.counts, whole.counts)


def test_grades_of_one_kind_count_together() -> None:
    """Grades 2, 3 and 4 a third each: no class is certain, referable is."""

    class Grades:
        def __call__(self, shown: Tensor) -> Tensor:
            pixel = shown[:, 0, 0, 0]
            borders = torch.stack([pixel < -0.43, (pixel - 0).abs() <= 0.43, pixel > 0.43], dim=1)
            return torch.cat([torch.zeros(len(shown), 2), borders.float()], dim=1)

    image = torch.zeros(3, 3, 4, 4)
    smoothing = Smoothing(1.0, 100, 500)
    classes: Certificates = certify(Grades(), image, rows(image), smoothing, 5)
    kinds = certify_referable(Grades(), image, rows(image), smoothing, 5)
    assert (classes.answer == ABSTAINED).all()
    assert kinds.answer.tolist() == [1, 1, 1]
    assert kinds.counts.tolist() == [[0, 500]] * 3
    assert torch.equal(kinds.counts[:, 1], classes.counts[:, 2:].sum(dim=1))
    assert (kinds.radius == smoothing.most_radius).all()


def test_no_images_are_no_trouble() -> None:
    found = certify(lambda shown: shown, torch.zeros(0, 3, 4, 4), torch.zeros(0).long(),
                    Smoothing(0.2), 5)  # fmt: skip
    assert found.counts.shape == (0, 5)
    assert found.radius.shape == found.answer.shape == (0,)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"sigma": 0.0}, "sigma, a length above 0, got 0.0"),
        ({"sigma": math.inf}, "sigma, a length above 0, got inf"),
        ({"sigma": 0.1, "alpha": 0.5}, r"alpha, a probability in \(0, 0.5\), got 0.5"),
        ({"sigma": 0.1, "choosing": 0}, "whole numbers from 1 on"),
        ({"sigma": 0.1, "draws": 9}, "9 draws certify nothing at alpha=0.001; give at least 10"),
    ],
)
def test_what_certifies_nothing_is_refused(args: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Smoothing(**args)


def test_ten_draws_are_enough() -> None:
    assert Smoothing(0.1, draws=10).most_radius > 0
