"""Classification as a task: what is written of an image, and what follows from it."""

import numpy as np
import pytest
import torch

from fundusray.config import Recipe, override
from fundusray.errors import InputError
from fundusray.metrics import METRICS, figure_summary, point_figures
from fundusray.pipeline.loader import Batch
from fundusray.tasks import TASKS, Classification, task_of
from fundusray.tasks.classification import logits_of

CLASSES = ("none", "mild", "moderate", "severe", "proliferative")


def outputs(num: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(num, 5, generator=generator)
    return logits, torch.randint(0, 5, (num,), generator=generator)


def test_a_label_is_learned_as_a_class() -> None:
    task = task_of(Recipe(), CLASSES, True)
    assert isinstance(task, Classification) and TASKS["classification"] is Classification
    assert task.raw_width == 5 and task.selector == "kappa" and task.of_bundle() is task
    with pytest.raises(InputError, match="no task named 'clasification'; did you mean"):
        TASKS.find("clasification")


@pytest.mark.parametrize(
    ("output", "width"), [("softmax", 5), ("regression", 1), ("coral", 4), ("corn", 4)]
)
def test_the_network_puts_out_what_the_task_says(output: str, width: int) -> None:
    recipe = override(Recipe(), {"model.name": "resnet18", "model.output": output})
    task = task_of(recipe, CLASSES, True)
    assert task.raw_width == width
    assert task.network()(torch.rand(2, 3, 32, 32)).shape == (2, width)
    assert task.calibrates == (output == "regression")


def test_figures_are_of_what_was_written() -> None:
    logits, target = outputs()
    task = task_of(Recipe(), CLASSES, True)
    batch = Batch(torch.zeros(40, 3, 4, 4), target, torch.arange(40), torch.ones(40) > 0)
    columns = task.columns(logits, task.target(batch))
    assert np.array_equal(logits_of(columns), logits.numpy())
    figures = task.figures(columns)
    expected = point_figures(target.numpy(), logits.numpy())
    assert {name: figures[name] for name in METRICS} == expected
    loss = torch.nn.functional.cross_entropy(logits, target).item()
    assert figures["loss"] == pytest.approx(loss, rel=1e-6)
    names = [f"i{n}" for n in range(40)]
    table = task.table(names, names, columns | {"linf": np.arange(40.0)})
    assert figure_summary(table)["kappa"] == pytest.approx(figures["kappa"])
    assert table.column_names[-1] == "linf"
    again = task.columns_of(table)
    assert np.array_equal(again["target"], target.numpy())
    assert task.figures(again) == pytest.approx(figures, rel=1e-6)


def test_without_an_order_nothing_is_told_that_needs_one() -> None:
    logits, target = outputs()
    task = task_of(override(Recipe(), {"train.select": "robust_accuracy"}), CLASSES, False)
    figures = task.figures(task.columns(logits, target))
    assert "kappa" not in figures and "accuracy" in figures
    assert task.clean_selector == "balanced_accuracy"
    assert task_of(task.recipe, CLASSES, True).clean_selector == "kappa"


def test_an_attack_succeeds_where_another_class_is_likelier() -> None:
    logits, target = torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]]), torch.tensor([0, 0, 1])
    task = task_of(Recipe(), ("absent", "present"), True)
    assert task.attack_success(logits, target).tolist() == [False, True, True]
