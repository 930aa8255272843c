"""FAB projects as an independent solver does and comes as near as a linear network's border is."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from fundusray.attacks.fast_boundary import move_to_plane
from tests.attacks.small_networks import Linear, attacked, convolutions, distance, pictures


def case(seed: int, num: int = 12) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(images, normals, values): some planes within the box, some out of its reach."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(40, num, generator=generator, dtype=torch.float64)
    image[:10] = image[:10].round()
    normal = torch.randn(40, num, generator=generator, dtype=torch.float64)
    normal[5:15, :3] = 0.0
    value = torch.randn(40, generator=generator, dtype=torch.float64) * 2
    return image, normal, value


def test_a_move_in_linf_is_that_of_linear_programming() -> None:
    image, normal, value = case(0)
    move = move_to_plane(image, normal, value, "linf")
    for x, w, v, ours in zip(*(part.numpy() for part in (image, normal, value, move)), strict=True):
        num = len(x)
        cost = np.append(np.zeros(num), 1.0)
        above = np.block([[np.eye(num), -np.ones((num, 1))], [-np.eye(num), -np.ones((num, 1))]])
        bounds = [*zip(-x, 1 - x, strict=True), (0, None)]
        best = linprog(
            cost, above, np.zeros(2 * num), np.append(w, 0.0)[None], [-v], bounds=bounds
        )  # fmt: skip
        assert ((x + ours + 1e-12 >= 0) & (x + ours <= 1 + 1e-12)).all()
        if best.success:
            assert abs(ours).max() == pytest.approx(best.fun, abs=1e-7)
            assert w @ ours == pytest.approx(-v, abs=1e-9)
        else:
            # Out of reach: as near as the box allows.
            assert abs(v + w @ ours) == pytest.approx(
                abs(v) - np.maximum(-np.sign(v) * w * (1 - x), np.sign(v) * w * x).sum()
            )


def test_a_move_in_l2_is_that_of_its_optimality() -> None:
    """min ||d|| with w d = -v in a box: d = clip(t w) for one t, found here by bisection."""
    image, normal, value = case(1)
    move = move_to_plane(image, normal, value, "l2")
    low = torch.full((40, 1), -1e4, dtype=torch.float64)
    high = -low
    for _ in range(80):
        middle = (low + high) / 2
        moved = torch.minimum(torch.maximum(middle * normal, -image), 1 - image)
        above = (moved * normal).sum(1, keepdim=True) + value[:, None] > 0
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    torch.testing.assert_close(move, moved, atol=1e-6, rtol=0)


def test_moves_of_nothing_and_next_to_nothing() -> None:
    image, normal, value = case(2)
    for norm in ("linf", "l2"):
        whole = move_to_plane(image, normal, value, norm)
        for scale in (1e-30, 1e30):
            scaled = move_to_plane(image, scale * normal, scale * value, norm)
            torch.testing.assert_close(scaled, whole)
        assert (move_to_plane(image, 0 * normal, value, norm) == 0).all()
        assert (move_to_plane(image, normal, 0 * value, norm) == 0).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("name", ["fab", "fab_t"])
def test_without_a_budget_the_nearest_comes_back(name: str, classes: int, norm: str) -> None:
    """On linear networks within a percent of the border's distance."""
    image = pictures(12, 6, 0.4, 0.6)
    model = Linear(classes, image)
    z = model(image).detach()
    target = z.argmax(1)
    normals = model.weight[target].detach()[:, None] - model.weight.detach()
    sizes = normals.abs().sum(2) if norm == "linf" else normals.norm(dim=2)
    far = (z.gather(1, target[:, None]) - z) / sizes.clamp_min(1e-9)
    exact = far.scatter(1, target[:, None], torch.inf).amin(1)
    outcome = attacked(name, {"steps": 12}, model, image, norm=norm, eps=math.inf)
    ratio = distance(outcome.image, image, norm) / exact
    assert outcome.success.all() and ratio.min() >= 1 and ratio.max() < 1.01
    # Within a budget it ends with the first that is within.
    eps = exact.median().item() * 1.02
    bounded = attacked(name, {"steps": 12}, model, image, norm=norm, eps=eps)
    assert torch.equal(bounded.success, exact * 1.02 < eps) or (
        bounded.success.sum() == (exact < eps).sum()
    )
    assert torch.equal(bounded.image[~bounded.success], image[~bounded.success])
    assert (bounded.queries <= outcome.queries).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_breaks_what_torchattacks_breaks(norm: str) -> None:
    import torchattacks

    image, model = pictures(16, 15), convolutions()
    target = model(image).argmax(1)
    eps = 3 / 255 if norm == "linf" else 0.2
    sizes = {"norm": {"linf": "Linf", "l2": "L2"}[norm], "eps": eps, "steps": 8, "n_classes": 5}
    for name, targeted in (("fab", False), ("fab_t", True)):
        peer = torchattacks.FAB(model, multi_targeted=targeted, **sizes)
        found = peer(image, target)
        theirs = (model(found).argmax(1) != target) & (distance(found, image, norm) <= eps + 1e-6)
        ours = attacked(name, {"steps": 8}, model, image, norm=norm, eps=eps)
        assert 0.1 < theirs.float().mean() < 0.9
        assert (ours.success | ~theirs).all()


class Waves(torch.nn.Module):
    """Borders that bend, so that where a search begins decides where it ends."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = torch.randn(48, 30, generator=generator)
        self.last = torch.randn(30, 3, generator=generator)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        waves = torch.sin(3 * image.flatten(1) @ self.first) @ self.last
        return waves + torch.tensor([12.0, 0.0, 0.0])


def test_another_start_never_loses_what_there_was() -> None:
    image, model = pictures(12, 4), Waves()
    once, often = (
        attacked("fab", {"steps": 2, "restarts": tries}, model, image, eps=math.inf)
        for tries in (1, 4)
    )
    near, nearer = (distance(each.image, image, "linf") for each in (once, often))
    assert (nearer[once.success] <= near[once.success]).all()
    assert (often.success | ~once.success).all()
    assert 0 < once.success.sum() < often.success.sum()
