"""The worst of several attacks against every choice there is."""

import itertools

import numpy as np
import pytest

from fundusray.errors import InputError
from fundusray.metrics.segmentation import (
    chosen_columns,
    segmentation_columns_of,
    segmentation_figures,
    worst_by_image,
    worst_by_running_miou,
)
from tests.metrics.segmentation.drawn_segmentations import CLASSES, drawn_table


def random_counts(seed: int, images: int, attacks: int, classes: int = 3) -> dict[str, dict]:
    """hits, predicted and labelled of confusion matrices that share their truth."""
    random = np.random.default_rng(seed)
    labelled = random.multinomial(60, [0.8, 0.15, 0.05][:classes], size=images)
    found = {}
    for attack in range(attacks):
        right = random.beta(2, 2, size=(images, classes, 1))
        shares = (1 - right) * random.dirichlet(np.ones(classes), size=(images, classes))
        shares += right * np.eye(classes)
        confusion = random.multinomial(labelled, shares)
        found[f"attack{attack}"] = {
            "hits": np.diagonal(confusion, axis1=1, axis2=2),
            "predicted": confusion.sum(axis=1),
            "labelled": labelled,
        }
    return found


def pooled(columns: dict) -> tuple[float, float]:
    """(pixel accuracy, mean IoU over the classes in the truth)."""
    hits, predicted, labelled = (columns[n].sum(axis=0) for n in ("hits", "predicted", "labelled"))
    there = labelled > 0
    return hits.sum() / labelled.sum(), (hits / np.maximum(predicted + labelled - hits, 1))[
        there
    ].mean()


def image_miou(columns: dict) -> float:
    each = [
        pooled({n: v[k : k + 1] for n, v in columns.items()})[1]
        for k in range(len(columns["hits"]))
    ]
    return float(np.mean(each))


@pytest.mark.parametrize("seed", range(12))
def test_against_every_choice(seed: int) -> None:
    columns_of = random_counts(seed, images=5, attacks=3)
    every = [
        chosen_columns(columns_of, np.array(choice))
        for choice in itertools.product(range(3), repeat=5)
    ]
    by_accuracy = chosen_columns(columns_of, worst_by_image(columns_of))
    assert pooled(by_accuracy)[0] == min(pooled(one)[0] for one in every)
    by_miou = chosen_columns(columns_of, worst_by_image(columns_of, by="miou"))
    assert image_miou(by_miou) == pytest.approx(min(image_miou(one) for one in every), abs=1e-12)
    lowest = min(pooled(one)[1] for one in every)
    running = pooled(chosen_columns(columns_of, worst_by_running_miou(columns_of)))[1]
    # The lowest is not promised; how far from it these are is.
    assert lowest - 1e-12 <= running <= lowest + 0.004


@pytest.mark.parametrize("seed", range(12))
def test_no_single_attack_is_worse(seed: int) -> None:
    columns_of = random_counts(seed, images=60, attacks=4)
    singles = [pooled(columns) for columns in columns_of.values()]
    by_accuracy = chosen_columns(columns_of, worst_by_image(columns_of))
    assert pooled(by_accuracy)[0] < min(one[0] for one in singles)
    running = chosen_columns(columns_of, worst_by_running_miou(columns_of))
    assert pooled(running)[1] < min(one[1] for one in singles)
    by_miou = chosen_columns(columns_of, worst_by_image(columns_of, by="miou"))
    assert pooled(running)[1] <= pooled(by_miou)[1]
    assert image_miou(by_miou) < min(image_miou(columns) for columns in columns_of.values())


def test_what_is_worst_by_image_is_not_worse_either() -> None:
    """There it is, but for a few draws, after the images were gone through; this is one of the
    few."""
    for seed in (*range(10), 31):
        columns_of = random_counts(seed, images=8, attacks=4)
        running = pooled(chosen_columns(columns_of, worst_by_running_miou(columns_of)))[1]
        by_accuracy = pooled(chosen_columns(columns_of, worst_by_image(columns_of)))[1]
        assert running <= by_accuracy + 1e-12, seed


def greedy_alone(columns_of: dict[str, dict]) -> np.ndarray:
    """Each image's attack by what makes the mean IoU of those so far lowest, and no more."""
    choice: list[int] = []
    for n in range(len(columns_of["attack0"]["hits"])):
        first = {
            name: {key: values[: n + 1] for key, values in columns.items()}
            for name, columns in columns_of.items()
        }
        tried = [np.array([*choice, attack]) for attack in range(len(columns_of))]
        each = [pooled(chosen_columns(first, one))[1] for one in tried]
        choice.append(int(np.argmin(each)))
    return np.array(choice)


def test_going_through_the_images_again_helps() -> None:
    better = 0
    for seed in range(20):
        columns_of = random_counts(seed, images=12, attacks=3)
        once = pooled(chosen_columns(columns_of, greedy_alone(columns_of)))[1]
        ours = pooled(chosen_columns(columns_of, worst_by_running_miou(columns_of)))[1]
        assert ours <= once + 1e-12
        better += ours < once - 1e-9
    assert better > 0
    assert (worst_by_image({"only": columns_of["attack0"]}) == 0).all()


def test_of_tables() -> None:
    columns_of = {
        f"noise{noise}": segmentation_columns_of(drawn_table(6, sure=1.5, noise=noise))
        for noise in (1, 2, 3)
    }
    chosen = chosen_columns(columns_of, worst_by_running_miou(columns_of))
    worst = segmentation_figures(chosen, CLASSES)
    assert worst["miou"] <= min(
        segmentation_figures(c, CLASSES)["miou"] for c in columns_of.values()
    )
    assert worst["maupr"] is not None and set(chosen) == set(columns_of["noise1"])


def test_what_is_no_ensemble_is_refused() -> None:
    columns_of = random_counts(0, 5, 2)
    with pytest.raises(InputError, match="'other' has other masks"):
        worst_by_image(columns_of | {"other": random_counts(1, 5, 1)["attack0"]})
    with pytest.raises(InputError, match="pixel_accuracy or miou; got 'dice'"):
        worst_by_image(columns_of, by="dice")
    with pytest.raises(InputError, match="no attack"):
        worst_by_running_miou({})
