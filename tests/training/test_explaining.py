"""Maps of batches as a loader gives them: of valid images alone, of the class that is asked for."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from fundusray.conditions import Condition, parse_condition
from fundusray.config import Model, Recipe
from fundusray.errors import InputError
from fundusray.models import build_model
from fundusray.models.bundle import Bundle
from fundusray.pipeline.loader import Batch
from fundusray.saliency import parse_methods, run_map
from fundusray.training.evaluator import layers_of
from fundusray.training.explaining import ExplainedImage, answers, explained_images
from tests.attacks.linear_networks import convolutional_network, grey_images

SIZE, NUM = 12, 5
METHODS = "saliency, integrated_gradients(steps=20, tolerance=0.01), grad_cam(layer=0)"
TARGETS = {row: row % 4 for row in range(NUM)}
EPS = 0.1


def batches(image: Tensor, rows: list[int], size: int = 3) -> Iterator[Batch]:
    """Each but the last holds an image that is not valid, first; its class is none."""
    for start in range(0, len(rows), size - 1):
        some = torch.tensor(rows[start : start + size - 1])
        white = torch.ones(1, *image.shape[1:])
        row = torch.cat([some[:1], some])
        yield Batch(
            torch.cat([white, image[some]]),
            torch.full_like(row, 99),
            row,
            torch.arange(len(row)) > 0,
        )
    row = torch.zeros(2, dtype=torch.int64)
    yield Batch(torch.ones(2, *image.shape[1:]), row, row, row > 0)


@pytest.fixture(scope="module")
def image() -> Tensor:
    return grey_images(NUM, SIZE)


@pytest.fixture(scope="module")
def network(image: Tensor) -> nn.Module:
    return convolutional_network(grey_images(64, SIZE))


def explained(
    network: nn.Module, image: Tensor, rows: list[int], condition: str = "clean", size: int = 3
) -> dict[tuple[int, str], ExplainedImage]:
    found: Condition = parse_condition(condition)
    each = explained_images(
        network, batches(image, rows, size), parse_methods(METHODS), TARGETS, found, {}
    )
    kept = [((one.row, one.method.name), one) for one in each]
    assert len(dict(kept)) == len(kept)
    return dict(kept)


def test_answers_are_of_valid_images(network: nn.Module, image: Tensor) -> None:
    network.train()
    found = answers(network, batches(image, [3, 0, 4]))
    assert network.training
    with torch.no_grad():
        expected = network.eval()(image).argmax(dim=1).tolist()
    assert found == {row: expected[row] for row in (3, 0, 4)}
    assert answers(network, []) == {}


def test_each_map_of_each_valid_image(network: nn.Module, image: Tensor) -> None:
    rows = [4, 1, 0, 2, 3]
    network.train()
    found = explained(network, image, rows)
    assert network.training
    network.eval()
    methods = parse_methods(METHODS)
    assert list(found) == [
        (row, method.name) for some in ([4, 1], [0, 2], [3]) for method in methods for row in some
    ]
    with torch.no_grad():
        shares = network(image).softmax(dim=1)
    for method in methods:
        target = torch.tensor([TARGETS[row] for row in range(NUM)])
        row = torch.arange(NUM)
        own = run_map(method.name, dict(method.args), network, image, target, row=row, layers={})
        for number in range(NUM):
            one = found[number, method.name]
            assert one.method == method and one.target == TARGETS[number] and one.seconds > 0
            assert one.prediction == shares[number].argmax()
            assert one.probability == pytest.approx(shares[number, one.target].item(), rel=1e-5)
            assert (one.image == image[number].numpy()).all()
            theirs = own.values[number, 0]
            assert one.values.shape == (SIZE, SIZE)
            torch.testing.assert_close(
                torch.from_numpy(one.values), theirs, rtol=1e-4, atol=1e-4 * theirs.abs().max()
            )
            if method.name == "integrated_gradients":
                assert one.gap is not None and one.gradients == own.gradients[number]
                assert one.gap == pytest.approx(own.gap[number].item(), abs=1e-3)
            else:
                assert one.gap is None and one.gradients is None


def test_an_attack_condition_explains_the_attacked_image(network: nn.Module, image: Tensor) -> None:
    rows, condition = list(range(NUM)), f"pgd(eps={EPS * 255}/255, steps=10)"
    clean, attacked = (explained(network, image, rows, text) for text in ("clean", condition))
    moved = 0
    for (row, name), one in attacked.items():
        assert one.target == TARGETS[row]
        here = torch.from_numpy(one.image)[None]
        assert 0 < (here - image[row]).abs().max() <= EPS + 1e-6
        with torch.no_grad():
            shares = network(here).softmax(dim=1)[0]
        # The answer and the map are of this very image.
        assert one.prediction == shares.argmax()
        assert one.probability == pytest.approx(shares[one.target].item(), rel=1e-4)
        args = dict(one.method.args)
        target = torch.tensor([one.target])
        own = run_map(name, args, network, here, target, row=torch.tensor([row]), layers={})
        theirs = own.values[0, 0]
        torch.testing.assert_close(
            torch.from_numpy(one.values), theirs, rtol=1e-3, atol=1e-3 * theirs.abs().max()
        )
        moved += one.prediction != clean[row, name].prediction
    assert moved == len(attacked)
    # Whatever images an attacked one came with.
    alone = explained(network, image, [3], condition)
    for key, one in alone.items():
        apart = abs(one.values - attacked[key].values).max()
        assert apart <= 1e-3 * abs(one.values).max()


def test_the_worst_damage_is_refused(network: nn.Module, image: Tensor) -> None:
    with pytest.raises(InputError, match=r"worst_case.*give the damage itself"):
        explained(network, image, [0], "worst_case(of=light_leakage, level=2)")


def test_layers_are_those_of_networks_with_feature_maps() -> None:
    def bundle(name: str) -> Bundle:
        model = Model(name=name)
        return Bundle(build_model(model, 2, 0), Recipe(model=model), ("no", "yes"), {})

    assert set(layers_of(bundle("resnet18"))) == {"early", "last"}
    assert layers_of(bundle("timm/vit_tiny_patch16_224")) == {}
    joined = replace(bundle("resnet18"), model=torch.nn.Identity())
    assert layers_of(joined) == {}
