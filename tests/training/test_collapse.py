"""Fast FGSM overfits catastrophically at a large budget, as Wong, Rice and Kolter (2020) describe,
and the alarm sees it; PGD on the same photographs does not."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fundusray.attacks import evaluation_mode, judging_budget, pgd, training_budget
from fundusray.conditions import AttackCondition
from fundusray.config import Adversarial, Recipe
from fundusray.data.drawn.source import draw_photograph
from fundusray.pipeline.loader import Batch
from fundusray.tasks import Classification
from fundusray.training.objectives import OBJECTIVES
from fundusray.training.predicting import predictions_under
from fundusray.training.robustness import CollapseAlarm, collapse_alarm, robust_figures

TASK = Classification(Recipe(), ("left", "right"))
TRAIN, JUDGED, BATCH, SIDE = 512, 120, 32, 32
# At 16/255, attacked in training mode, this network is never robust above chance: nothing to lose.
FAST = Adversarial(
    method="fast", eps="14/255", step_size="14/255", random_start=False, judge_steps=10
)


class Net(nn.Module):
    """Left or right eye, from three convolutions with batch norms."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs, stride in ((3, 16, 1), (16, 32, 2), (32, 64, 2)):
            convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
        self.net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * (SIDE // 4) ** 2, 2))

    def forward(self, image: Tensor) -> Tensor:
        return self.net((image - 0.5) / 0.5)

    def class_logits(self, raw: Tensor) -> Tensor:
        return raw


def photographs(first: int, num: int) -> Batch:
    """Drawn eyes, left and right in turn; the targets say which."""
    images = np.stack(
        [draw_photograph(0, index, 0, side=SIDE).image for index in range(first, first + num)]
    )
    image = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return Batch(image, torch.arange(num) % 2, torch.arange(num), torch.ones(num, dtype=torch.bool))


def epochs(settings: Adversarial, count: int) -> Iterator[tuple[nn.Module, float]]:
    """(the network, the mean loss) after each epoch of training."""
    torch.manual_seed(0)
    learned, model = photographs(0, TRAIN), Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    steps, done = TRAIN // BATCH, 0
    for _ in range(count):
        model.train()
        total, order = 0.0, torch.randperm(TRAIN)
        for rows in order.split(BATCH):
            batch = Batch(*(part[rows] for part in learned[:4]))
            optimizer.param_groups[0]["lr"] = 0.05 * min(1.0, (1 + done) / (30 * steps))
            for loss in OBJECTIVES.find(settings.method)(
                model, model, batch, lambda o, t: F.cross_entropy(o, t, reduction="none"),
                settings, done,
            ):  # fmt: skip
                optimizer.zero_grad()
                loss.mean().backward()
                optimizer.step()
                total += loss.mean().item() / steps
            done += 1
        yield model, total


def accuracy(logits: Tensor, target: Tensor) -> float:
    return (logits.argmax(1) == target).float().mean().item()


@pytest.mark.slow
def test_the_alarm_sees_fast_fgsm_collapse() -> None:
    judged, history, found = photographs(2000, JUDGED), [], None
    best: CollapseAlarm | None = None
    one_step = replace(training_budget(FAST), steps=1)
    for epoch, (model, loss) in enumerate(epochs(FAST, 300), 1):
        if epoch % 10:
            continue
        attack = AttackCondition("pgd", judging_budget(FAST))
        _, hard = predictions_under(attack, model, [judged], nullcontext(), TASK)
        targets = judged.target.numpy()
        wrong = hard["success"] | (hard["clean_prediction"] != targets)
        row = robust_figures(TASK, targets, wrong, targets)
        robust = row["robust_balanced_accuracy"]
        with evaluation_mode(model):
            easy = accuracy(model(pgd(model, judged.image, judged.target, one_step)), judged.target)
            clean = accuracy(model(judged.image), judged.target)
        print(f"{epoch}: loss {loss:.3f}, clean {clean:.3f}, FGSM {easy:.3f}, PGD {robust:.3f}")
        told = {f"val_{name}": value for name, value in row.items()}
        history.append(told | {"epoch": epoch, "val_own_balanced_accuracy": easy})
        found = collapse_alarm(history, FAST)
        best = best or found
        if found and robust < 0.05:
            break
    assert best is not None and "catastrophic overfitting" in best.sentence
    # What the network knows of clean images and of training's own attack has not suffered.
    assert clean > 0.95 and easy > 0.9 and robust < 0.05
    assert max(row["val_robust_balanced_accuracy"] for row in history) > 0.6
