"""One change for all, learned from batches as a loader gives them, judged beside noise."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from fundusray.attacks import Budget
from fundusray.attacks.universal import sign_noise, with_universal
from fundusray.errors import InputError
from fundusray.pipeline.loader import Batch
from fundusray.training.universal import learned_universal, universal_columns
from tests.attacks.linear_networks import convolutional_network, grey_images

SIZE = 12
BUDGET = Budget("linf", 0.03, 0.03 / 4, 8)


def passes(image: Tensor, first_row: int = 0) -> Callable[[], Iterator[Batch]]:
    """Batches of eight; the second of each is padding and white, and its class says nothing."""

    def once() -> Iterator[Batch]:
        for start in range(0, len(image), 8):
            part = image[start : start + 8].clone()
            valid = torch.ones(len(part), dtype=torch.bool)
            valid[1], part[1] = False, 1.0
            row = torch.arange(len(part)) + start + first_row
            yield Batch(part, torch.full_like(row, 99), row, valid)

    return once


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return convolutional_network(grey_images(96, SIZE))


def test_it_leads_away_from_the_answers_and_further_than_noise(network: nn.Module) -> None:
    image = grey_images(96, SIZE)
    network.train()
    learned = learned_universal(network, passes(image[:48]), BUDGET, None, seed=2)
    columns = universal_columns(network, passes(image[48:], 48), learned, BUDGET, seed=2)
    assert network.training  # as it was before
    kept = [row for row in range(96) if row % 8 != 1]
    assert learned.row.tolist() == kept[:42] and columns["row"].tolist() == kept[42:]
    assert learned.perturbation.abs().max() <= BUDGET.eps + 1e-7
    assert (columns["linf"] <= BUDGET.eps + 1e-6).all()
    clean, moved, noisy = (
        columns[name] for name in ("clean_prediction", "prediction", "noise_prediction")
    )
    with torch.no_grad():
        others = image[torch.tensor(kept[42:])]
        asked = network.eval()(others).argmax(1)
        attacked = network(with_universal(others, learned.perturbation)).argmax(1)
        noise = sign_noise(learned.perturbation, BUDGET, 2)
        by_noise = network(with_universal(others, noise)).argmax(1)
    assert clean.tolist() == asked.tolist() and moved.tolist() == attacked.tolist()
    assert noisy.tolist() == by_noise.tolist()
    assert (moved != clean).mean() > max(0.5, 2 * (noisy != clean).mean())


def test_it_leads_to_a_class(network: nn.Module) -> None:
    image = grey_images(64, SIZE)
    learned = learned_universal(network, passes(image[:32]), BUDGET, 2, seed=0)
    columns = universal_columns(network, passes(image[32:], 32), learned, BUDGET, seed=0)
    assert (columns["prediction"] == 2).mean() > 0.6 + (columns["clean_prediction"] == 2).mean() / 2
    again = learned_universal(network, passes(image[:32]), BUDGET, 2, seed=0)
    assert torch.equal(again.perturbation, learned.perturbation)


def test_what_it_was_learned_from_does_not_judge_it(network: nn.Module) -> None:
    image = grey_images(16, SIZE)
    learned = learned_universal(network, passes(image), BUDGET, None, seed=0)
    with pytest.raises(InputError, match="learned from row 8"):
        universal_columns(network, passes(image[8:], 8), learned, BUDGET, seed=0)
