"""Every attack on segmentations keeps to its budget, to [0, 1] and to its own rows."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fundusray.attacks.budget import Budget
from fundusray.attacks.noise import random_offset
from fundusray.attacks.segmentation import (
    SEGMENTATION_ATTACKS,
    SegmentationAttackFacts,
    SegmentationOutcome,
    SegmentationProblem,
    run_segmentation_attack,
    whole_segmentation_args,
)
from fundusray.attacks.segmentation.registry import GRADIENT_PASSES
from fundusray.errors import InputError
from tests.attacks.coloured_squares import accuracy, finder, found, squares

NAMES = ["background_pgd", "pixel_pgd", "segpgd", "cospgd", "sea"]
EPS = 12 / 255


def outcome(
    name: str, image: Tensor, target: Tensor, steps: int = 10, row: Tensor | None = None,
    eps: float = EPS, seed: int = 0, **args: object,
) -> SegmentationOutcome:  # fmt: skip
    row = torch.arange(len(image)) if row is None else row
    args |= {"steps": steps}
    return run_segmentation_attack(name, args, found, image, target, row=row, eps=eps, seed=seed)


def test_the_network_has_learned() -> None:
    image, target = squares(6)
    assert accuracy(image, target).min() > 0.95


@pytest.mark.parametrize("name", NAMES)
def test_every_attack_keeps_to_its_budget_and_harms_more_than_noise(name: str) -> None:
    image, target = squares(4)
    image = image.clone()
    image[0, :, :3] = 0.0
    image[0, :, -3:] = 1.0
    made = outcome(name, image, target)
    offset = random_offset(image, torch.arange(4), 0, Budget("linf", EPS, 1.0, 1))
    noisy = accuracy((image + EPS * offset.sign()).clamp(0, 1), target)
    assert tuple(made.candidates) == SEGMENTATION_ATTACKS.facts(name).candidates
    for key, attacked in made.candidates.items():
        far = (attacked - image).double().abs().amax(dim=(1, 2, 3))
        assert far.min() > 0 and far.max() <= EPS + 1e-6
        torch.testing.assert_close(made.linf[key], far, rtol=0, atol=0)
        assert attacked.min() >= 0 and attacked.max() <= 1
        assert attacked.dtype == torch.float32
        now = accuracy(attacked, target)
        assert (now < accuracy(image, target)).all() and (now < noisy).all()
    passes = SEGMENTATION_ATTACKS.facts(name).passes(whole_segmentation_args(name, {"steps": 10}))
    assert (GRADIENT_PASSES * made.queries == passes).all()


@pytest.mark.parametrize("name", NAMES)
def test_an_image_depends_on_its_row_and_the_seed_alone(name: str) -> None:
    image, target = squares(3)
    row = torch.tensor([7, 2, 40])
    start = {} if name == "sea" else {"start": "random"}
    whole = outcome(name, image, target, 4, row, **start)
    again = outcome(name, image, target, 4, row, **start)
    part = outcome(name, image[[2, 0]], target[[2, 0]], 4, row[[2, 0]], **start)
    other = outcome(name, image, target, 4, row, seed=1, **start)
    for key, attacked in whole.candidates.items():
        assert torch.equal(attacked, again.candidates[key])
        assert torch.equal(attacked[[2, 0]], part.candidates[key])
        assert not torch.equal(attacked, other.candidates[key])


def test_images_of_another_type_are_attacked_in_a_wide_one() -> None:
    image, target = squares(2)
    made = run_segmentation_attack(
        "segpgd", {"steps": 3}, lambda shown: found(shown.float()), image.bfloat16(), target,
        row=torch.arange(2), eps=1 / 255,
    )  # fmt: skip
    assert made.candidates[""].dtype == torch.float32
    assert made.linf[""].max() <= 1 / 255 + 1e-6


def test_no_images_are_no_trouble() -> None:
    image, target = squares(2)
    made = outcome("sea", image[:0], target[:0])
    assert {tuple(one.shape) for one in made.candidates.values()} == {(0, 3, 16, 16)}
    assert len(made.queries) == 0


@pytest.mark.parametrize(
    ("name", "args", "eps", "words"),
    [
        ("segpgt", {}, EPS, "no segmentation attack named 'segpgt'; did you mean 'segpgd'"),
        ("pgd", {}, EPS, "no segmentation attack named 'pgd'"),
        ("segpgd", {"stps": 3}, EPS, "no argument of segpgd named 'stps'; did you mean 'steps'"),
        ("segpgd", {"steps": 0}, EPS, "segpgd.steps: needs a whole number of at least 1, got 0"),
        ("cospgd", {"squash": "tanh"}, EPS, "cospgd.squash: needs softmax or sigmoid"),
        ("segpgd", {}, 0.0, "segpgd needs eps, a length above 0"),
        ("segpgd", {}, float("nan"), "segpgd needs eps, a length above 0"),
        ("segpgd", {}, 1.5, "up to 1 where pixels are in"),
        ("background_pgd", {"to": 3}, EPS, "to=3: the network knows the classes 0 to 2 of pixels"),
    ],
)
def test_bad_calls_are_refused(name: str, args: dict, eps: float, words: str) -> None:
    image, target = squares(1)
    with pytest.raises(InputError, match=words):
        run_segmentation_attack(name, args, found, image, target, row=torch.arange(1), eps=eps)


def test_networks_and_images_that_are_none_are_refused() -> None:
    image, target = squares(2)
    row = {"row": torch.arange(2), "eps": EPS}
    with pytest.raises(InputError, match=r"pixels in \[0, 1\]"):
        run_segmentation_attack("segpgd", {}, found, image * 2, target, **row)
    with pytest.raises(InputError, match="says two things of the same images"):
        drawing = nn.Sequential(nn.Dropout2d(0.5), finder()).train()
        run_segmentation_attack("segpgd", {}, drawing, image, target, **row)
    with pytest.raises(InputError, match=r"logits of at least two classes for each pixel"):
        classifier = lambda shown: found(shown).mean(dim=(2, 3))  # noqa: E731
        run_segmentation_attack("segpgd", {}, classifier, image, target, **row)
    with pytest.raises(InputError, match=r"a class for each pixel, \(2, 16, 16\), got \(2, 8, 8\)"):
        run_segmentation_attack("segpgd", {}, found, image, target[:, ::2, ::2], **row)
    with pytest.raises(InputError, match="gives no gradient"):
        run_segmentation_attack("segpgd", {}, lambda x: found(x.detach()), image, target, **row)


@pytest.mark.parametrize(
    ("step", "words"), [(1.01 * EPS, "is beyond linf"), (float("nan"), "no numbers")]
)
def test_an_attack_beyond_its_budget_is_caught(step: float, words: str) -> None:
    SEGMENTATION_ATTACKS._entries["too_far"] = lambda problem: problem.image + step
    SEGMENTATION_ATTACKS._facts["too_far"] = SegmentationAttackFacts(title="", source="")
    try:
        with pytest.raises(AssertionError, match=words):
            image, target = squares(1)
            run_segmentation_attack(
                "too_far", {}, found, image, target, row=torch.arange(1), eps=EPS
            )
    finally:
        del SEGMENTATION_ATTACKS._entries["too_far"], SEGMENTATION_ATTACKS._facts["too_far"]


def test_queries_are_counted_image_by_image() -> None:
    image, target = squares(3)
    problem = SegmentationProblem(found, image, target, torch.arange(3), EPS)
    problem.logits(image)
    problem.logits(image[[1, 1, 2]], torch.tensor([1, 1, 2]))
    gradient, logits = problem.gradient(
        image[2:], target[2:], lambda z, y: F.cross_entropy(z, y, reduction="none"),
        torch.tensor([2]),
    )  # fmt: skip
    assert problem.queries.tolist() == [1, 3, 3]
    assert logits.shape == (1, 3, 16, 16)
    shown = image[2:].clone().requires_grad_()
    F.cross_entropy(found(shown), target[2:], reduction="sum").backward()
    torch.testing.assert_close(gradient, shown.grad)
    other = dataclasses.replace(problem, image=image[:1], target=target[:1], row=torch.arange(1))
    assert other.queries.tolist() == [0]
