"""What is refused before anything is trained."""

from types import SimpleNamespace

import numpy as np
import pytest

from fundusray.cluster import pretrain, train
from fundusray.config import Recipe, override
from fundusray.errors import InputError
from tests.cluster.few import fake_set

CROPPED = {
    "model.name": "inception_v3",
    "data.size": 256,
    "data.augment": "random_crop(64) + hflip(0.5)",
    "data.view": "resize(96)",
}


@pytest.mark.parametrize("changes", [CROPPED, CROPPED | {
    "data.augment": "random_crop(96)", "data.view": "resize(64)",
}])  # fmt: skip
@pytest.mark.parametrize("check", [train.check, pretrain.check])
def test_a_network_is_held_against_the_pictures_it_is_shown(check, changes: dict) -> None:
    with pytest.raises(InputError, match=r"data\.size: inception_v3 needs at least 75.* got 64"):
        check(override(Recipe(), changes))


def test_a_wrong_number_of_weights_is_refused_before_workers_start() -> None:
    targets = np.arange(60) % 5
    table = fake_set(60).table
    prepared = SimpleNamespace(
        targets=lambda: targets, classes=tuple("abcde"), ordered=True, table=table
    )
    sides = {"train": np.arange(40), "val": np.arange(40, 50), "test": np.arange(50, 60)}
    base = override(Recipe(), {"train.batch": 8, "loss.name": "class_weights"})
    train.check_split(override(base, {"loss.args.weights": (1, 2, 3, 4, 5)}), prepared, sides)
    with pytest.raises(InputError, match=r"loss\.args\.weights: 5 classes need 5 numbers"):
        train.check_split(override(base, {"loss.args.weights": (1, 2, 3)}), prepared, sides)
