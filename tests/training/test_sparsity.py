"""What evidence costs: the L1 norm of each image's evidence map, beside the recipe's loss."""

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fundusray.config import Adversarial, Loss, Recipe, override
from fundusray.errors import InputError
from fundusray.models import Classifier
from fundusray.models.bundle import load_bundle
from fundusray.pipeline.loader import Batch
from fundusray.runs.check import check
from fundusray.settings.deciding import deciding
from fundusray.tasks import Classification
from fundusray.tasks.classification import Objective
from fundusray.training.mixup import mixup_batch
from fundusray.training.objectives import OBJECTIVES
from fundusray.training.step import StepSettings, train_step

SPARSITY = 1e-3
RECIPE = override(Recipe(), {"model.name": "bagnet9", "loss.sparsity": SPARSITY})
COUNTS = torch.ones(3)


def network(recipe: Recipe = RECIPE) -> Classifier:
    return Classification(recipe, ("a", "b", "c")).network().train()


def batch_of(num: int = 4, valid: tuple[bool, ...] = (True,) * 4) -> Batch:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(num, 3, 17, 17, generator=generator)
    return Batch(image, torch.arange(num) % 3, torch.arange(num), torch.tensor(valid))


def magnitudes(evidence: Tensor) -> Tensor:
    """[B] sums over an image's map, by a loop."""
    return torch.tensor([sum(abs(v) for v in part.flatten().tolist()) for part in evidence])


def test_one_step_has_the_loss_by_hand() -> None:
    batch, model = batch_of(valid=(True, True, False, True)), network()
    raw, evidence = model(batch.image)
    assert evidence.shape == (4, 3, 2, 2)
    torch.testing.assert_close(raw, evidence.mean(dim=(2, 3)))
    each = F.cross_entropy(raw, batch.target, reduction="none") + SPARSITY * magnitudes(evidence)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    objective = Classification(RECIPE, ("a", "b", "c")).losses(COUNTS)
    way = StepSettings(model, model, optimizer, objective, Adversarial(), nullcontext(), mixup=0.0)
    total = train_step(way, batch, scale=1 / 3, seed=0, progress=0.0)
    assert total.item() == pytest.approx(each[batch.valid].sum().item(), rel=1e-5)
    # Through the last layer: by its bias, of cross entropy softmax - 1 of the class, and of each
    # place's magnitude its sign.
    hot = F.one_hot(batch.target, 3)
    slope = raw.softmax(1) - hot + SPARSITY * evidence.sign().sum(dim=(2, 3))
    torch.testing.assert_close(
        model.net.fc.bias.grad, slope[batch.valid].mean(dim=0), rtol=1e-4, atol=1e-6
    )


def test_the_evidence_grows_smaller_where_it_costs() -> None:
    batch, sizes = batch_of(), []
    for sparsity in (1e-8, 0.1):
        recipe = override(RECIPE, {"loss.sparsity": sparsity})
        model = network(recipe)
        optimizer = torch.optim.SGD(model.net.fc.parameters(), lr=3e-4)
        objective = Objective(recipe.loss, COUNTS)
        none = Adversarial()
        way = StepSettings(model, model, optimizer, objective, none, nullcontext(), mixup=0.0)
        for _ in range(10):
            train_step(way, batch, scale=0.25, seed=0, progress=0.0)
        sizes.append(model(batch.image)[1].abs().mean().item())
    assert sizes[1] < 0.7 * sizes[0]


def test_data_parallel_training_is_the_same(tmp_path: Path) -> None:
    """With a real process group of one worker, in the layout of a GPU."""
    batch, gradients, totals = batch_of(), [], []
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1
    )
    try:
        for parallel in (False, True):
            model = network().to(memory_format=torch.channels_last)
            outer = nn.parallel.DistributedDataParallel(model) if parallel else model
            totals.append(one_step(model, outer, batch, nullcontext()))
            gradients.append(model.net.conv1.weight.grad)
    finally:
        torch.distributed.destroy_process_group()
    assert totals[0] == totals[1]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)


def test_a_step_in_bf16_sums_what_evidence_costs_in_full_precision() -> None:
    batch, model, outputs = batch_of(), network(), []
    model.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    total = one_step(model, model, batch, torch.autocast("cpu", dtype=torch.bfloat16))
    ((raw, evidence),) = outputs
    assert evidence.dtype == torch.bfloat16 and total.dtype == torch.float32
    each = F.cross_entropy(raw.float(), batch.target, reduction="none")
    each = each + SPARSITY * magnitudes(evidence)
    assert total.item() == pytest.approx(each.sum().item(), rel=1e-5)


def one_step(model: nn.Module, outer: nn.Module, batch: Batch, precision: Any) -> Tensor:
    """The sum of losses of a step that changes nothing but gradients."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    objective = Objective(RECIPE.loss, COUNTS)
    way = StepSettings(outer, model, optimizer, objective, Adversarial(), precision, mixup=0.0)
    return train_step(way, batch, scale=0.25, seed=0, progress=0.0)


def test_a_blended_image_pays_once() -> None:
    batch, model = batch_of(), network()
    objective = Objective(Loss(sparsity=SPARSITY), COUNTS)
    blended, losses = mixup_batch(batch, partial(objective.per_sample, progress=0.0), 0.4, 7)
    _, plain = mixup_batch(batch, partial(Objective(Loss(), COUNTS).per_sample, progress=0.0),
                           0.4, 7)  # fmt: skip
    raw, evidence = model(blended.image)
    paid = losses((raw, evidence), batch.target, batch.valid)
    free = plain(raw, batch.target, batch.valid)
    torch.testing.assert_close(paid - free, SPARSITY * magnitudes(evidence), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("method", ["pgd", "fast", "free", "trades", "mart"])
def test_attacked_images_pay_for_what_is_learned(method: str) -> None:
    """TRADES for the clean ones, whose loss it takes; the others for the attacked ones."""
    batch, settings = batch_of(), Adversarial(method=method, eps="4/255", steps=2)
    first: list[Tensor] = []
    for weight in (1, 2):
        model, passes = network(), []

        def keep(module: Any, inputs: Any, output: Any, passes: list = passes) -> None:
            if isinstance(output, tuple):
                passes.append(output[1].detach())

        model.register_forward_hook(keep)
        objective = Objective(Loss(sparsity=weight * SPARSITY), COUNTS)
        loss = partial(objective.per_sample, valid=batch.valid, progress=0.0)
        first.append(next(OBJECTIVES.find(method)(model, model, batch, loss, settings, 3)).detach())
    learned = passes[-1]
    if len(learned) == 8:
        learned = learned[:4] if method == "trades" else learned[4:]
    paid = SPARSITY * magnitudes(learned)
    torch.testing.assert_close(first[1] - first[0], paid, rtol=1e-3, atol=1e-5)


def test_without_it_nothing_is_other_than_before() -> None:
    recipe = override(RECIPE, {"loss.sparsity": 0.0})
    assert isinstance(network(recipe)(batch_of().image), Tensor)
    assert "loss.sparsity" not in deciding(recipe)
    assert deciding(RECIPE)["loss.sparsity"] == SPARSITY
    other = override(RECIPE, {"loss.name": "focal"})
    assert other.loss == Loss(name="focal", sparsity=SPARSITY)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model.name": "resnet18"}, "loss.sparsity=0.001 needs an evidence map; model.name=resn"),
        ({"model.output": "coral", "loss.name": "coral"}, "sparsity=0.001 needs.*model.output=cor"),
        ({"loss.sparsity": -1}, r"loss\.sparsity: a finite weight, 0 or more, got -1"),
        ({"loss.sparsity": "nan"}, "loss.sparsity: needs float, got 'nan'"),
    ],
)
def test_is_refused_where_there_is_no_evidence(changes: dict, words: str) -> None:
    check(RECIPE)
    with pytest.raises(InputError, match=words):
        check(override(RECIPE, changes))


def test_a_whole_training_makes_a_bundle_with_evidence(make_trainer: Any, tmp_path: Path) -> None:
    changes = {"model__name": "bagnet9", "loss__sparsity": 1e-4, "train__epochs": 1}
    make_trainer(tmp_path / "run", **changes).run()
    model = load_bundle(str(tmp_path / "run" / "bundle")).model
    assert isinstance(model, Classifier) and not model.no_evidence
    with torch.no_grad():
        evidence = model.evidence(torch.rand(1, 3, 32, 32))
    assert evidence.isfinite().all() and evidence.shape[2:] == (3, 3)
