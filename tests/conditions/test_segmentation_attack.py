"""Attacks on segmentations are conditions by their names, and are asked of such networks alone."""

import pytest
import torch

from fundusray.attacks.segmentation import SEGMENTATION_ATTACKS, run_segmentation_attack
from fundusray.conditions import (
    Condition,
    SegmentationAttack,
    parse_attacks,
    parse_attacks_of_any_task,
    parse_condition,
    require_attack_of_task,
)
from fundusray.errors import InputError
from tests.attacks.coloured_squares import accuracy, found, squares

TEXTS = [
    ("background_pgd(eps=1/100)", "background_pgd(eps=1/100, steps=100)"),
    ("background_pgd(eps=0.01unit01, steps=100, to=0)", "background_pgd(eps=1/100, steps=100)"),
    ("background_pgd(eps=1/100,to=3,start=random,steps=7)",
     "background_pgd(eps=1/100, steps=7, to=3, start=random)"),
    ("segpgd(eps=2px255)", "segpgd(eps=2/255, steps=20)"),
    ("segpgd(eps=8/255, step=1/255)", "segpgd(eps=8/255, steps=20)"),
    ("segpgd(eps=8/255, step=2/255)", "segpgd(eps=8/255, steps=20, step=2/255)"),
    ("cospgd(eps=2/255, squash=sigmoid)", "cospgd(eps=2/255, steps=20, squash=sigmoid)"),
    ("sea(eps=4/255, seed=3)", "sea(eps=4/255, steps=300, seed=3)"),
    ("pixel_pgd(eps=4/255, start=image)", "pixel_pgd(eps=4/255, steps=20, start=image)"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "text"), TEXTS)
def test_a_text_and_its_value_are_the_same_thing(given: str, text: str) -> None:
    condition = parse_condition(given)
    assert isinstance(condition, Condition) and str(condition) == text
    assert parse_condition(text) == condition and hash(parse_condition(text)) == hash(condition)


def test_every_attack_is_a_condition_by_its_name() -> None:
    for name in SEGMENTATION_ATTACKS:
        condition = parse_condition(f"{name}(eps=3/255, seed=2)")
        assert str(parse_condition(str(condition))) == str(condition)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("segpgd", "segpgd needs eps, a length with its unit"),
        ("segpgd(eps=2)", "eps of segpgd: '2' has no unit"),
        ("segpgd(eps=2/255, norm=l2)", "no argument of segpgd named 'norm'"),
        ("segpgd(eps=400/255)", "more than from black to white"),
        ("background_pgd(eps=1/100, to=-1)", "background_pgd.to: needs a whole number of at least"),
        ("background_pdg(eps=1/100)", "did you mean 'background_pgd'"),
        ("cospgd(eps=1/100, squash=softmx)", "did you mean 'softmax'"),
    ],
)
def test_bad_text_is_refused(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_condition(text)


def test_several_budgets_are_as_many_conditions() -> None:
    attacks = parse_attacks_of_any_task("segpgd(eps=1/255| 1/100, steps=4)")
    assert attacks == [
        SegmentationAttack("segpgd", 1 / 255, args=(("steps", 4),)),
        SegmentationAttack("segpgd", 0.01, args=(("steps", 4),)),
    ]


def test_attacks_of_the_other_task_are_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match=r"segpgd attacks the classes of pixels.*have: .*square"):
        parse_attacks("segpgd(eps=1/255)")
    with pytest.raises(InputError, match=r"clean is no attack; one is pgd.* segpgd"):
        parse_attacks_of_any_task("clean")
    for text, suits in (("clean", True), ("clean", False), ("sea(eps=1/255)", True)):
        require_attack_of_task(parse_condition(text), segmentation=suits)
    with pytest.raises(InputError, match=r"fgsm attacks the class of a whole .*have: .*segpgd"):
        require_attack_of_task(parse_condition("fgsm(eps=1/255)"), segmentation=True)
    with pytest.raises(InputError, match="one class to a whole image"):
        require_attack_of_task(parse_condition("sea(eps=1/255)"), segmentation=False)


def test_the_cost_is_that_of_its_gradients_and_of_a_look() -> None:
    assert parse_condition("segpgd(eps=1/255, steps=7)").passes == 3 * 7 + 1
    assert parse_condition("sea(eps=1/255, steps=10)").passes == 4 * 3 * 13 + 4


def test_changed_images_are_those_of_the_attack_and_the_worst_of_several() -> None:
    image, target = squares(4)
    row = torch.tensor([3, 1, 8, 5])
    never = lambda outputs, target: torch.zeros(len(target), dtype=torch.bool)  # noqa: E731
    single = parse_condition("cospgd(eps=8/255, steps=4, seed=2)")
    made = run_segmentation_attack(
        "cospgd", {"steps": 4}, found, image, target, row=row, eps=8 / 255, seed=2
    )
    assert torch.equal(single.changed(found, image, target, row, never), made.candidates[""])
    several = parse_condition("sea(eps=8/255, steps=5)")
    changed = several.changed(found, image, target, row, never)
    candidates = several.outcome(found, image, target, row).candidates
    each = torch.stack([accuracy(one, target) for one in candidates.values()])
    torch.testing.assert_close(accuracy(changed, target), each.amin(dim=0))
    assert len(several.changed(found, image[:0], target[:0], row[:0], never)) == 0


def test_no_more_images_are_on_the_way_back_than_a_pass_has() -> None:
    """Of 128 x 128, two on a CPU; what becomes of them is what becomes of each."""
    image, target = squares(3)
    image, target = image.repeat(1, 1, 8, 8), target.repeat(1, 8, 8)
    row = torch.tensor([3, 1, 8])
    together: list[int] = []

    def counting(shown: torch.Tensor) -> torch.Tensor:
        together.append(len(shown) if shown.requires_grad else 0)
        return found(shown)

    never = lambda outputs, target: torch.zeros(len(target), dtype=torch.bool)  # noqa: E731
    attack = parse_condition("segpgd(eps=4/255, steps=1)")
    changed = attack.changed(counting, image, target, row, never)
    assert max(together) == 2
    alone = attack.changed(found, image[2:], target[2:], row[2:], never)
    assert torch.equal(changed[2:], alone)
