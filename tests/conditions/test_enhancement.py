"""Layered and selective examples as conditions: values with a text, and receipts of each image."""

import json

import pytest
import torch

from fundusray.attacks.segmentation.selective import selective_enhancement
from fundusray.conditions import Condition, Layered, Selective, parse_condition
from fundusray.conditions.enhancement import stored_levels
from fundusray.errors import InputError
from tests.attacks.segmentation.per_pixel import convolutions, drawn_classes, pictures

TEXTS = [
    ("layered(eps=1/100)", "layered(eps=1/100, steps=100)", Layered(1 / 100)),
    ("layered(steps=7,eps=2/255, ball=image)", "layered(eps=2/255, steps=7, ball=image)",
     Layered(2 / 255, 7, "image")),
    ("layered(eps=1/100, max_passes=2, ball=class)",
     "layered(eps=1/100, steps=100, max_passes=2)", Layered(1 / 100, max_passes=2)),
    ("selective(eps=1/100)", "selective(eps=1/100, search=exact)", Selective(1 / 100)),
    ("selective(eps=3/100, search=greedy, ball=image)",
     "selective(eps=3/100, search=greedy, ball=image)", Selective(3 / 100, "greedy", "image")),
]  # fmt: skip
NAMES = ("background", "red", "white", "disc")


@pytest.mark.parametrize(("given", "text", "value"), TEXTS)
def test_a_text_and_its_value_are_the_same_thing(given: str, text: str, value: Condition) -> None:
    condition = parse_condition(given)
    assert condition == value and str(condition) == text and isinstance(condition, Condition)
    assert parse_condition(text) == value and hash(parse_condition(text)) == hash(value)


def test_any_eps_has_a_text_that_gives_it_again() -> None:
    for eps in torch.rand(200, dtype=torch.float64).mul(0.5).tolist():
        for value in (Layered(eps), Selective(eps)):
            assert parse_condition(str(value)) == value


@pytest.mark.parametrize(
    ("text", "need"),
    [
        ("layered", r"layered needs eps"),
        ("layered(eps=1)", r"'1' has no unit"),
        ("layered(eps=1/100, steps=0)", r"steps of layered: a whole number from 1 on"),
        ("selective(eps=1/100, search=fast)", r"search of selective.*'fast'.*exact, greedy"),
        ("selective(eps=1/100, ball=eps)", r"ball of selective.*'eps'.*class, image"),
        ("selective(eps=1/100, steps=3)", r"argument of selective.*steps"),
    ],
)
def test_bad_text_is_refused_with_what_would_be_right(text: str, need: str) -> None:
    with pytest.raises(InputError, match=need):
        parse_condition(text)


def test_receipts_say_what_was_done() -> None:
    net, image, target = convolutions(4), pictures(3, 8), drawn_classes(3, 8, 4)
    layered = Layered(2 / 100, 6)
    made = layered.examples(net, image, target, NAMES)
    for i, receipt in enumerate(made.receipts):
        assert receipt == json.loads(json.dumps(receipt))
        assert receipt["passes"] == len(receipt["order"]) and set(receipt["order"]) <= set(NAMES)
        assert receipt["linf"] == pytest.approx(float((made.image[i] - image[i]).abs().max()))
        assert receipt["single"] == (len(net(made.image[i : i + 1]).argmax(1).unique()) == 1)
    row = torch.arange(3)
    assert torch.equal(layered.changed(net, image, target, row, never), made.image)

    selective = Selective(2 / 100, "greedy")
    made = selective.examples(net, image, target, NAMES)
    found = selective_enhancement(net, image, target, eps=2 / 100, search="greedy")
    assert torch.equal(made.image, found.image)
    assert torch.equal(selective.changed(net, image, target, row, never), found.image)
    for i, receipt in enumerate(made.receipts):
        assert receipt == json.loads(json.dumps(receipt))
        signs = [{"+": 1, "0": 0, "-": -1}[sign] for sign in receipt["choice"]]
        assert signs == found.choice[i].tolist() and receipt["evaluations"] == 32
        assert receipt["loss"] == found.loss[i].item() <= receipt["loss_before"]


def test_what_is_stored_is_in_levels() -> None:
    net, image, target = convolutions(4), pictures(2, 8), drawn_classes(2, 8, 4)
    levels = stored_levels(image)
    assert levels.dtype == torch.uint8
    assert ((levels.float() / 255 - image).abs().max() * 255).item() <= 0.5 + 1e-4
    stored = levels.float() / 255
    (first, second) = Selective(1 / 100).of_stored(net, stored, target)
    by_hand = torch.nn.functional.cross_entropy(net(stored[1:]), target[1:]).item()
    assert second["loss_stored"] == pytest.approx(by_hand, abs=1e-6) and first != second
    one = Layered(1 / 100).of_stored(net, stored, target)
    assert one == [{"single_stored": len(p.unique()) == 1} for p in net(stored).argmax(1)]


def never(answer: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    raise AssertionError("such a condition has no end that a task would know")
