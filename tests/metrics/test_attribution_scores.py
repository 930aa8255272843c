"""Scores of maps: by hand, against scikit-learn and scipy, and on eyes whose lesions are exact."""

from functools import cache

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import average_precision_score

from fundusray.data.drawn.source import draw_photograph
from fundusray.errors import InputError
from fundusray.metrics.attribution_scores import (
    ANY_LESION,
    BY_CHANCE,
    RankedMap,
    ScoreSettings,
    attribution_scores,
    average_precision,
    near_mask,
    patch_precision,
)
from fundusray.metrics.lesion_sizes import LesionSizes, lesion_components

SETTINGS = ScoreSettings(tolerance=1, patch_side=2, num_patches=2)


def by_name(rows: list[dict]) -> dict[tuple[str, str], float]:
    named = {(row["lesion"], row["score"]): row["value"] for row in rows}
    assert len(named) == len(rows)
    return named


@cache
def eye(side: int = 96) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """(masks with the disc, fundus) of a drawn eye of grade 3."""
    drawn = draw_photograph(1, 4, 3, side)
    masks = drawn.masks | {"optic_disc": drawn.landmarks["disc"]}
    return masks, drawn.image.max(axis=2) > 8


def test_every_score_by_hand() -> None:
    """4 x 4 pixels, two of them a lesion's; strengths 9, 8, 4, 4, 4 and no more."""
    values = np.array([[9, 0, 0, -5], [0, 8, 4, 0], [0, 4, 4, 0], [0, 0, 0, -1]], float)
    mask = np.zeros((4, 4), bool)
    mask[1, 1] = mask[1, 2] = True
    scores = by_name(attribution_scores(values, {"exudate": mask}, settings=SETTINGS))
    share = 2 / 16
    for score, value, chance in (
        # Of the five strongest pixels both are right: 2 * 2 / (5 + 2).
        ("explainability_consistency", 4 / 7, 2 * share / (1 + share)),
        ("pointing_game", 0, share),
        # (0, 0) touches (1, 1) at a corner, which is 1.41 pixels.
        ("pointing_game_tolerant", 0, 8 / 16),
        ("mass_share", 12 / 29, share),
        # Of the two strongest one is right: 1 / (2 + 2 - 1).
        ("top_k_iou", 1 / 3, share / (2 - share)),
        # Means of the four patches: 17/4, 1, 1, 1; the lesion is in the first two.
        ("patch_precision", (1 + 1 / 3) / 2, 2 / 4),
        # Recall rises by a half at precision 1/2, and by a half at precision 2/5.
        ("average_precision", 0.5 / 2 + 0.5 * 2 / 5, share),
    ):
        assert scores["exudate", score] == pytest.approx(value), score
        assert scores["exudate", score + BY_CHANCE] == pytest.approx(chance), score
        assert scores[ANY_LESION, score] == pytest.approx(value), score


def test_the_tolerance_reaches_a_pixel_further() -> None:
    values = np.zeros((9, 9))
    values[4, 4] = 1
    mask = np.zeros((9, 9), bool)
    mask[4, 7] = True
    for reach, hit in ((2, 0), (3, 1)):
        settings = ScoreSettings(tolerance=reach)
        scores = by_name(attribution_scores(values, {"a": mask}, settings=settings))
        assert scores["a", "pointing_game_tolerant"] == hit
        assert scores["a", "pointing_game"] == 0


@pytest.mark.parametrize("reach", [1, 4, 15])
def test_near_is_a_distance(reach: int) -> None:
    mask = np.random.default_rng(reach).random((23, 31)) < 0.01
    assert mask.any()
    assert np.array_equal(near_mask(mask, reach), ndimage.distance_transform_edt(~mask) <= reach)


@pytest.mark.parametrize("levels", [2, 5, 10_000])
def test_average_precision_is_that_of_scikit_learn(levels: int) -> None:
    rng = np.random.default_rng(levels)
    values, mask = rng.integers(-levels, levels, (30, 30)), rng.random((30, 30)) < 0.1
    fundus = rng.random((30, 30)) < 0.8
    mask &= fundus
    expected = average_precision_score(mask[fundus], np.maximum(values, 0)[fundus])
    ranked = RankedMap.of(values, fundus)
    assert average_precision(ranked, mask)[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("flat", [-3.0, 0.0, 0.1])
def test_a_flat_map_has_what_chance_has(flat: float) -> None:
    masks, fundus = eye()
    scores = by_name(attribution_scores(np.full(fundus.shape, flat), masks, fundus=fundus))
    pairs = [key for key in scores if not key[1].endswith(BY_CHANCE)]
    assert len(pairs) > 20
    for lesion, score in pairs:
        chance = scores[lesion, score + BY_CHANCE]
        assert scores[lesion, score] == pytest.approx(chance, abs=1e-9), (lesion, score)


def test_the_mask_itself_scores_one() -> None:
    masks, fundus = eye()
    lesions = {kind: mask for kind, mask in masks.items() if kind != "optic_disc"}
    oracle = np.any(list(lesions.values()), axis=0).astype(float)
    # Lesions are more than what is above the quantile, and found all the same.
    assert oracle[fundus].mean() > 0.08
    settings = ScoreSettings(patch_side=8, sizes=LesionSizes(quantile=0.92))
    scores = by_name(attribution_scores(oracle, masks, fundus=fundus, settings=settings))
    for (lesion, score), value in scores.items():
        if lesion == ANY_LESION and not score.endswith(BY_CHANCE):
            assert value == pytest.approx(1), score
    assert scores["optic_disc", "mass_share"] < 0.1
    assert ("optic_disc", "average_precision") not in scores


def test_a_random_map_scores_the_area_share() -> None:
    masks, fundus = eye()
    kept: dict[tuple[str, str], list[float]] = {}
    for seed in range(40):
        values = np.random.default_rng(seed).random(fundus.shape)
        for key, value in by_name(attribution_scores(values, masks, fundus=fundus)).items():
            kept.setdefault(key, []).append(value)
    share = np.any([m for k, m in masks.items() if k != "optic_disc"], axis=0)[fundus].mean()
    assert kept[ANY_LESION, "mass_share" + BY_CHANCE][0] == pytest.approx(share)
    for score in ("mass_share", "average_precision", "top_k_iou", "explainability_consistency"):
        chance = kept[ANY_LESION, score + BY_CHANCE][0]
        assert np.mean(kept[ANY_LESION, score]) == pytest.approx(chance, rel=0.1), score
    for score in ("pointing_game", "pointing_game_tolerant", "patch_precision"):
        values, chance = kept[ANY_LESION, score], kept[ANY_LESION, score + BY_CHANCE][0]
        spread = np.sqrt(chance * (1 - chance) / len(values))
        assert abs(np.mean(values) - chance) < 4 * spread, score


def test_what_is_off_the_fundus_does_not_count() -> None:
    masks, fundus = eye()
    rng = np.random.default_rng(0)
    values = rng.normal(size=fundus.shape)
    scores = attribution_scores(values, masks, fundus=fundus)
    elsewhere = np.where(fundus, values, 1e6)
    widened = {kind: mask | ~fundus for kind, mask in masks.items() if mask.any()}
    assert attribution_scores(elsewhere, widened, fundus=fundus) == scores


def test_kinds_that_are_not_there_have_no_row() -> None:
    masks, fundus = eye()
    empty = {"nothing": np.zeros_like(fundus)}
    scores = attribution_scores(np.ones(fundus.shape), masks | empty, fundus=fundus)
    assert "nothing" not in {row["lesion"] for row in scores}
    assert attribution_scores(np.ones(fundus.shape), empty) == []


def test_patches_are_those_on_the_fundus() -> None:
    """A patch that is mostly off the fundus is none, however strong what is left of it is."""
    fundus = np.ones((8, 8), bool)
    fundus[:, :3] = False
    values = np.where(np.arange(8) == 3, 10.0, 0.0) * np.ones((8, 1))
    mask = values > 0
    ranked = RankedMap.of(values, fundus)
    # Of the four patches of side 4 the left ones have a quarter of themselves on the fundus.
    assert patch_precision(ranked, mask, 4, 2) == (0.0, 0.0)
    assert patch_precision(ranked, mask, 2, 2) == (1.0, 4 / 12)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 1.0])
def test_components_are_those_of_scipy(share: float) -> None:
    mask = np.random.default_rng(3).random((27, 40)) < share
    parts = lesion_components(mask)
    labels, num = ndimage.label(mask, np.ones((3, 3)))
    assert np.array_equal(parts.number, labels) and len(parts.area) == num
    for k, (rows, columns) in enumerate(ndimage.find_objects(labels)):
        box = (rows.stop - rows.start, columns.stop - columns.start)
        assert (parts.height[k], parts.width[k]) == box
        assert parts.area[k] == (labels == k + 1).sum()


def test_recall_by_size_is_counted() -> None:
    """Two small lesions, of which the map has one, a middle one that it has, a large one not."""
    values, mask = np.zeros((100, 100)), np.zeros((100, 100), bool)
    for top, left, side, seen in ((5, 5, 2, 1), (5, 20, 2, 0), (30, 30, 10, 1), (50, 50, 40, 0)):
        mask[top : top + side, left : left + side] = True
        values[top : top + side, left : left + side] = seen
    settings = ScoreSettings(sizes=LesionSizes(photograph_pixels=2.5))
    scores = by_name(attribution_scores(values, {"a": mask}, settings=settings))
    assert scores["a", "recall_below_10"] == 0.5
    assert scores["a", "recall_10_to_50"] == 1
    assert scores["a", "recall_above_50"] == 0
    # Of the boxes of 2 x 2 those that touch a square of the map's: (3 x 3 + 11 x 11) / 99 x 99.
    chance = scores["a", "recall_below_10_by_chance"]
    assert chance == pytest.approx((9 + 121) / 99**2, abs=0.01)


def test_signs_count_for_recall() -> None:
    """A lesion half for and half against the class is not found, as its mean is 0."""
    values, mask = np.zeros((20, 20)), np.zeros((20, 20), bool)
    mask[5:9, 5:9] = True
    values[5:9, 5:9] = np.where(np.arange(4) < 2, 1, -1)
    settings = ScoreSettings(sizes=LesionSizes(quantile=0.5))
    scores = by_name(attribution_scores(values, {"a": mask}, settings=settings))
    assert scores["a", "recall_below_10"] == 0 and scores["a", "mass_share"] == 1


def test_wrong_input_is_refused_in_words() -> None:
    values, mask = np.zeros((4, 4)), np.ones((4, 4), bool)
    for given, masks, fundus, words in (
        (values, {"a": np.ones((4, 5), bool)}, None, "does not fit its photograph"),
        (values[None], {"a": mask}, None, "one at a time"),
        (values * np.nan, {"a": mask}, None, "not finite"),
        (values, {"a": mask}, ~mask, "fundus mask is empty"),
        (values, {ANY_LESION: mask}, None, "another name"),
    ):
        with pytest.raises(InputError, match=words):
            attribution_scores(given, masks, fundus=fundus)
    with pytest.raises(InputError, match="have to rise"):
        LesionSizes(edges=(50, 10))
    with pytest.raises(InputError, match="patch_side is at least 1"):
        ScoreSettings(patch_side=0)
