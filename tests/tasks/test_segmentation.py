"""The task of every pixel: its target, its answers, what is refused beside it."""

import pytest
import torch

from fundusray.config import Recipe, override
from fundusray.errors import InputError
from fundusray.runs.check import check
from fundusray.tasks import class_map, is_segmentation, task_of

CLASSES = ("background", "small", "large")


def test_where_masks_overlap_the_first_kind_wins() -> None:
    masks = torch.tensor([[[[1, 1], [0, 0]], [[1, 0], [1, 0]]]], dtype=torch.uint8)
    assert class_map(masks).tolist() == [[[1, 1], [2, 0]]]
    assert class_map(masks).dtype == torch.int64


def test_the_target_decides_the_task() -> None:
    recipe = override(Recipe(), {"data.target": "vessels", "model.name": "unet"})
    assert is_segmentation(recipe)
    assert not is_segmentation(Recipe())
    assert task_of(recipe, CLASSES, False).selector == "dice"


def test_answers_and_success() -> None:
    """The largest called class; an attack has succeeded where nothing sought is called right."""
    task = task_of(override(Recipe(), {"data.target": "lesions"}), CLASSES, False)
    called = torch.tensor([[[0, 1], [2, 2]], [[0, 0], [0, 0]]])
    outputs = torch.nn.functional.one_hot(called, 3).movedim(-1, 1).float()
    assert task.answers(outputs).tolist() == [2, 0]
    target = torch.tensor([[[0, 1], [1, 1]], [[0, 0], [0, 1]]])
    assert task.attack_success(outputs, target).tolist() == [False, True]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model.name": "efficientnet_b0"}, "take model.name=unet"),
        ({"data.target": "grade"}, "data.target=lesions or vessels"),
        ({"loss.name": "focal"}, "segmentation.loss"),
        ({"segmentation.loss": "focus"}, "focal"),
        ({"sampling.name": "quotas"}, "lesion_crop"),
        ({"adversarial.eps": "1/255"}, "jobs/derive.py"),
        ({"model.dropout": 0.2}, "U-Net has no layers"),
        ({"train.mixup": 0.2}, "masks are not mixed"),
        ({"train.batch": 0}, "give a number"),
        ({"data.masks": ("optic_disc",)}, "leave it empty"),
        ({"data.permute_labels": True}, "not of masks"),
        ({"train.select": "balanced_accuracy"}, "chosen by dice"),
    ],
)
def test_settings_that_mean_nothing_of_pixels_are_refused(changes: dict, said: str) -> None:
    usual = {"data.target": "lesions", "model.name": "unet", "data.augment": "none"}
    check(override(Recipe(), usual))
    with pytest.raises(InputError, match=said):
        check(override(Recipe(), usual | changes))


def test_a_label_is_not_chosen_by_dice() -> None:
    with pytest.raises(InputError, match=r"train\.select=dice"):
        check(override(Recipe(), {"train.select": "dice"}))
