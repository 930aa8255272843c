"""Whether an attribution map lies where the lesions are: scores of one map against exact masks.

All of them look at the map's positive part, on the fundus only. Pixels that are equally strong are
taken in any order: a score is then its mean over the orders. So a map that says nothing (all equal,
or nowhere above 0) has of each score what chance has, and beside each score stands that chance,
`<score>_by_chance`, with p the lesions' share of the fundus:

explainability_consistency: the largest F1 (Dice) of "this pixel is a lesion's" over all thresholds
    of the map; by chance 2 p / (1 + p), that of marking all. See CONSISTENCY.
pointing_game: whether the strongest pixel is a lesion's (Zhang et al. 2018); by chance p.
pointing_game_tolerant: whether it is within `tolerance` pixels of one; by chance their share.
mass_share: the share of the map's sum on lesions; by chance p.
top_k_iou: intersection over union of the lesions and the k strongest pixels, k the lesions' area;
    by chance p / (2 - p).
patch_precision: of the strongest `num_patches` patches those that hold a pixel of a lesion
    (Djoumessi et al. 2024), of fewer where fewer do; by chance the share of patches that do. A
    patch is as strong as its mean; they stand side by side, each with half or more on the fundus.
average_precision: the area under the precision-recall curve, by steps; by chance p.
recall_below_10 and so on: see `lesion_sizes`; the only one of signed values.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fundusray.errors import InputError
from fundusray.metrics.lesion_sizes import LesionSizes, recall_by_size

CONSISTENCY = (
    "explainability_consistency is the largest F1 of pixels over all thresholds of a map. The "
    "abstract of Van Craenendonck et al. (2020) calls its score a metric between 0 and 1 of the "
    "correspondence between heatmap and lesion pixels and does not give the formula; their "
    ".21-.51 on IDRiD stands beside ours for orientation only."
)
"""To be said wherever the score stands beside the published one."""
BY_CHANCE = "_by_chance"
"""Behind a score's name: what a map that says nothing has of it."""
ANY_LESION = "any lesion"
"""All kinds together, without landmarks."""
LANDMARKS = ("optic_disc", "disc", "macula", "fovea", "vessel", "vessels")
"""Kinds that every eye has, be it ill or not: of them only the share of the mass is scored."""


@dataclass(frozen=True, kw_only=True)
class ScoreSettings:
    """What the scores of a map leave open.

    Raises:
        InputError: a number that is below what it can be.
    """

    tolerance: int = 5
    """Of the tolerant pointing game, pixels of the map. The 15 of Zhang et al. (2018) are of whole
    objects; on eyes with lesions at 256 pixels, half of the fundus is so near one."""
    patch_side: int = 16
    """Pixels of the map."""
    num_patches: int = 10
    landmarks: tuple[str, ...] = LANDMARKS
    """Kinds that are no lesions."""
    sizes: LesionSizes = field(default_factory=LesionSizes)

    def __post_init__(self) -> None:
        for name, least in (("tolerance", 0), ("patch_side", 1), ("num_patches", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is at least {least}, got {getattr(self, name)}")


@dataclass(frozen=True)
class RankedMap:
    """The positive part of a map on the fundus, its pixels by strength."""

    strength: np.ndarray
    """float64 [S, S]; 0 off the fundus, and everywhere where all of it is equal."""
    fundus: np.ndarray
    """bool [S, S]."""
    order: np.ndarray
    """int64 [N]: places of the fundus in the flattened map, the strongest first."""
    selected: np.ndarray
    """int64 [G]: how many pixels are as strong as each of the G strengths or stronger."""

    @staticmethod
    def of(values: np.ndarray, fundus: np.ndarray) -> "RankedMap":
        """Of signed values [S, S]."""
        strength = np.where(fundus, np.maximum(values, 0), 0).astype(np.float64)
        places = np.flatnonzero(fundus)
        inside = strength.ravel()[places]
        if inside.max() == inside.min():
            strength, inside = np.zeros_like(strength), np.zeros_like(inside)
        order = np.argsort(-inside, kind="stable")
        last = np.append(np.flatnonzero(np.diff(inside[order])), len(order) - 1)
        return RankedMap(strength, fundus, places[order], last + 1)

    def hits(self, mask: np.ndarray) -> np.ndarray:
        """How many of the selected pixels are the mask's, int64 [G]."""
        return np.cumsum(mask.ravel()[self.order])[self.selected - 1]


def attribution_scores(
    values: np.ndarray,
    masks: Mapping[str, np.ndarray],
    *,
    fundus: np.ndarray | None = None,
    settings: ScoreSettings | None = None,
) -> list[dict[str, Any]]:
    """The scores of a map: rows with lesion, score and value.

    A kind without a pixel on the fundus has no row; landmarks have mass_share only; all kinds that
    are no landmarks are scored together as ANY_LESION.

    Args:
        values: [S, S]; positive speaks for the class.
        masks: kind -> [S, S], truth values.
        fundus: [S, S], truth values: what is looked at; None: all.

    Raises:
        InputError: shapes that do not go together, a map that is not finite, a fundus without a
            pixel, or a kind called as ANY_LESION.
    """
    settings = settings or ScoreSettings()
    values = np.asarray(values)
    inside = np.ones(values.shape, bool) if fundus is None else np.asarray(fundus).astype(bool)
    _check(values, masks, inside)
    kinds = {kind: np.asarray(mask).astype(bool) & inside for kind, mask in masks.items()}
    kinds = {kind: mask for kind, mask in kinds.items() if mask.any()}
    ranked = RankedMap.of(values, inside)
    rows: list[dict[str, Any]] = []

    def add(lesion: str, scores: Mapping[str, tuple[float, float]]) -> None:
        for score, (value, chance) in scores.items():
            rows.append({"lesion": lesion, "score": score, "value": float(value)})
            rows.append({"lesion": lesion, "score": score + BY_CHANCE, "value": float(chance)})

    for kind in (kind for kind in kinds if kind in settings.landmarks):
        add(kind, {"mass_share": mass_share(ranked, kinds[kind])})
    lesions = {kind: mask for kind, mask in kinds.items() if kind not in settings.landmarks}
    for kind, mask in lesions.items():
        add(kind, _pixel_scores(ranked, mask, settings))
        add(kind, _recalls(values, [mask], inside, settings))
    if lesions:
        masks_of_kinds = list(lesions.values())
        add(ANY_LESION, _pixel_scores(ranked, np.any(masks_of_kinds, axis=0), settings))
        add(ANY_LESION, _recalls(values, masks_of_kinds, inside, settings))
    return rows


def _check(values: np.ndarray, masks: Mapping[str, np.ndarray], fundus: np.ndarray) -> None:
    if values.ndim != 2:
        raise InputError(f"a map is scored as [S, S], got {values.shape}; score one at a time")
    if ANY_LESION in masks:
        raise InputError(f"'{ANY_LESION}' is made of the other kinds; give that mask another name")
    for kind, mask in {**masks, "fundus": fundus}.items():
        if np.shape(mask) != values.shape:
            raise InputError(
                f"mask {kind} is {np.shape(mask)} and the map {values.shape}: it does not fit its "
                "photograph; prepare mask and photograph in the same way"
            )
    if not np.isfinite(values).all():
        raise InputError("a map with numbers that are not finite cannot be scored")
    if not fundus.any():
        raise InputError("the fundus mask is empty: give the mask of the photograph's fundus")


def _pixel_scores(
    ranked: RankedMap, mask: np.ndarray, settings: ScoreSettings
) -> dict[str, tuple[float, float]]:
    near = near_mask(mask, settings.tolerance) & ranked.fundus
    return {
        "explainability_consistency": explainability_consistency(ranked, mask),
        "pointing_game": pointing_game(ranked, mask),
        "pointing_game_tolerant": pointing_game(ranked, near),
        "mass_share": mass_share(ranked, mask),
        "top_k_iou": top_k_iou(ranked, mask),
        "patch_precision": patch_precision(ranked, mask, settings.patch_side, settings.num_patches),
        "average_precision": average_precision(ranked, mask),
    }


def _recalls(
    values: np.ndarray, masks: list[np.ndarray], fundus: np.ndarray, settings: ScoreSettings
) -> dict[str, tuple[float, float]]:
    recalls = recall_by_size(values, masks, fundus, settings.sizes)
    return {f"recall_{name}": pair for name, pair in recalls.items()}


def area_share(ranked: RankedMap, mask: np.ndarray) -> float:
    """The mask's share of the fundus: p."""
    return float(mask.sum() / len(ranked.order))


def explainability_consistency(ranked: RankedMap, mask: np.ndarray) -> tuple[float, float]:
    """(the largest F1 of pixels over all thresholds of the map, that of chance).

    Not the formula of Van Craenendonck et al. (2020), see CONSISTENCY: of the readings that go from
    0 to 1 and need no threshold of their own it is the one with precision and recall alike.
    """
    share = area_share(ranked, mask)
    best = (2 * ranked.hits(mask) / (ranked.selected + mask.sum())).max()
    return float(best), 2 * share / (1 + share)


def pointing_game(ranked: RankedMap, mask: np.ndarray) -> tuple[float, float]:
    """(whether the strongest pixel is the mask's, the mask's share)."""
    return float(ranked.hits(mask)[0] / ranked.selected[0]), area_share(ranked, mask)


def mass_share(ranked: RankedMap, mask: np.ndarray) -> tuple[float, float]:
    """(the mask's share of the map's sum, of the fundus)."""
    total, share = ranked.strength.sum(), area_share(ranked, mask)
    return float(ranked.strength[mask].sum() / total) if total else share, share


def top_k_iou(ranked: RankedMap, mask: np.ndarray) -> tuple[float, float]:
    """(intersection over union of the mask and as many of the strongest pixels, that of chance)."""
    num = int(mask.sum())
    common = _first_hits(ranked.selected, ranked.hits(mask), num)
    share = area_share(ranked, mask)
    return common / (2 * num - common), share / (2 - share)


def average_precision(ranked: RankedMap, mask: np.ndarray) -> tuple[float, float]:
    """(the sum of precision times the rise of recall over all thresholds, the mask's share)."""
    hits = ranked.hits(mask)
    rise = np.diff(hits, prepend=0) / mask.sum()
    return float((rise * hits / ranked.selected).sum()), area_share(ranked, mask)


def patch_precision(
    ranked: RankedMap, mask: np.ndarray, side: int, num: int
) -> tuple[float, float]:
    """(of the `num` strongest patches those with a pixel of the mask, the share of all patches).

    Where fewer than `num` patches hold one, of so many: with the mask itself as a map it is 1.

    Args:
        side: of a patch, pixels.
    """
    total, count, hit = (
        _patch_sums(layer, side) for layer in (ranked.strength, ranked.fundus, mask)
    )
    kept = count >= side * side / 2
    kept = kept if kept.any() else count > 0
    hit = hit[kept] > 0
    strength = total[kept] / count[kept]
    order = np.argsort(-strength, kind="stable")
    last = np.append(np.flatnonzero(np.diff(strength[order])), len(order) - 1)
    num = max(min(num, int(hit.sum())), 1)
    return _first_hits(last + 1, np.cumsum(hit[order])[last], num) / num, float(hit.mean())


def _first_hits(selected: np.ndarray, hits: np.ndarray, num: int) -> float:
    """Hits among the first `num`, on average over the orders of those who are equal.

    Args:
        selected, hits: [G], counted up to and with each group of equals.
    """
    group = int(np.searchsorted(selected, num))
    before, hits_before = (selected[group - 1], hits[group - 1]) if group else (0, 0)
    part = (num - before) / (selected[group] - before)
    return float(hits_before + part * (hits[group] - hits_before))


def _patch_sums(layer: np.ndarray, side: int) -> np.ndarray:
    """Sums over patches side by side from the top left, those at the end cut off by the border."""
    rows = np.add.reduceat(layer.astype(np.float64), np.arange(0, layer.shape[0], side), axis=0)
    return np.add.reduceat(rows, np.arange(0, layer.shape[1], side), axis=1)


def near_mask(mask: np.ndarray, reach: int) -> np.ndarray:
    """Where the mask is or is at most `reach` pixels away (from centre to centre), bool [H, W]."""
    if not reach or not mask.any():
        return mask
    height, width = mask.shape
    row = np.arange(height)[:, None]
    far = height + width + reach
    above = row - np.maximum.accumulate(np.where(mask, row, -far), axis=0)
    below = np.minimum.accumulate(np.where(mask, row, height + far)[::-1], axis=0)[::-1] - row
    away = np.minimum(above, below) ** 2
    near = np.zeros_like(mask)
    for step in range(-min(reach, width - 1), min(reach, width - 1) + 1):
        close = away <= reach**2 - step**2
        here = slice(max(step, 0), width + min(step, 0))
        there = slice(max(-step, 0), width + min(-step, 0))
        near[:, here] |= close[:, there]
    return near
