"""Occlusion is captum's, a linear network's sums, and covers every pixel."""

import captum.attr
import pytest
import torch
from torch import Tensor, nn

from fundusray.errors import InputError
from fundusray.saliency import MapMethod, run_map
from fundusray.saliency.occlusion import window_corners
from tests.saliency.layered_networks import CLASSES, SIZE, Plain, built, problem_of
from tests.saliency.planted import Linear


class Large(nn.Module):
    """A network whose answers differ by far more than rounding wherever a window is covered."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.head = nn.Linear(6 * SIZE * SIZE, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        return 50 * self.head(self.first(image).relu().flatten(1))


def mapped(model: nn.Module, num: int = 3, chunk: int = 7, **keywords: object) -> Tensor:
    problem = problem_of(model, num)
    return run_map(
        "occlusion", keywords, model, problem.image, problem.target, row=problem.row, layers={},
        chunk=chunk,
    ).values  # fmt: skip


@pytest.mark.parametrize(("window", "stride"), [(4, 2), (4, 4), (5, 3), (3, 1), (12, 12), (7, 4)])
@pytest.mark.parametrize("fill", [0.5, 0.0])
def test_is_captums(window: int, stride: int, fill: float) -> None:
    model = built(Large)
    problem = problem_of(model, 3)
    theirs = captum.attr.Occlusion(model).attribute(
        problem.image, (3, window, window), (3, stride, stride), baselines=fill,
        target=problem.target,
    )  # fmt: skip
    assert (theirs == theirs[:, :1]).all()
    ours = mapped(model, window=window, stride=stride, fill=fill)
    assert (ours - theirs[:, :1]).abs().max() <= 1e-5 * theirs.abs().max()


def test_of_a_linear_network_it_is_the_mean_of_sums() -> None:
    """Covering a window takes the sum of weight times difference away: of each pixel the mean over
    the windows that hold it."""
    size, window, stride = 9, 3, 2
    weight = torch.randn(3, size, size, generator=torch.Generator().manual_seed(2))
    image = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(3))
    target = torch.ones(2, dtype=torch.int64)
    args = {"window": window, "stride": stride, "fill": 0.25}
    model = Linear(weight).eval()
    found = run_map("occlusion", args, model, image, target, row=target, layers={}).values
    share = (weight * (image - 0.25)).sum(dim=1)
    for row in range(size):
        for column in range(size):
            sums = [
                share[:, top : top + window, left : left + window].sum(dim=(1, 2))
                for top in range(0, size, stride)
                for left in range(0, size, stride)
                if top <= row < top + window and left <= column < left + window
                and top <= size - window and left <= size - window
            ]  # fmt: skip
            expected = torch.stack(sums).mean(dim=0)
            torch.testing.assert_close(found[:, 0, row, column], expected, rtol=1e-4, atol=1e-4)
    other = run_map("occlusion", args, model, image, 0 * target, row=target, layers={}).values
    assert (other == 0).all()


@pytest.mark.parametrize(
    ("size", "window", "stride"), [(12, 4, 2), (12, 5, 3), (13, 4, 4), (7, 7, 7), (7, 6, 5)]
)
def test_every_pixel_is_covered_and_no_window_is_idle(size: int, window: int, stride: int) -> None:
    cover = torch.zeros(size, size)
    for top, left in window_corners(size, window, stride):
        assert top < size and left < size
        cover[top : top + window, left : left + window] += 1
    assert cover.min() >= 1
    starts = sorted({top for top, _ in window_corners(size, window, stride)})
    # The one before the last does not reach the border yet.
    assert len(starts) == 1 or starts[-2] + window < size
    passes = MapMethod("occlusion", (("window", window), ("stride", stride))).passes(size)
    assert passes == 1 + len(starts) ** 2


def test_windows_are_an_eighth_of_the_side_and_half_a_window_apart_unless_given() -> None:
    model = built(Large)
    assert SIZE // 8 == 1
    assert torch.equal(mapped(model), mapped(model, window=1, stride=1))
    assert torch.equal(mapped(model, window=5), mapped(model, window=5, stride=2))
    assert MapMethod("occlusion").passes(128) == 1 + 15 * 15


def test_the_probability_and_the_passes() -> None:
    model = built(Plain)
    problem = problem_of(model, 2)
    values = mapped(model, 2, window=12, output="probability")
    with torch.no_grad():
        shares = [model(x).softmax(dim=1) for x in (problem.image, 0 * problem.image + 0.5)]
    drop = (shares[0] - shares[1]).gather(1, problem.target[:, None])
    torch.testing.assert_close(values, drop[..., None, None].expand_as(values))
    whole = mapped(built(Large), window=4, chunk=1000)
    for chunk in (1, 10):
        torch.testing.assert_close(mapped(built(Large), window=4, chunk=chunk), whole)


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"window": 13}, r"window=13: occlusion's window is larger than the image \(12\)"),
        ({"window": 4, "stride": 5}, "stride=5: pixels between windows of 4 would never be"),
        ({"stride": 3}, "stride=3: pixels between windows of 1"),
        ({"window": -1}, "window: needs a whole number of at least 0"),
        ({"window": 2.5}, "window: needs a whole number"),
        ({"fill": 2.0}, r"fill: needs a number in \[0, 1\]"),
        ({"side": 3}, "side.*window"),
    ],
)
def test_windows_that_do_not_fit_are_refused(keywords: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        mapped(built(Plain), **keywords)
