"""What attacks leave of a network: shares of attacked images, with patients as units."""

from typing import Any

import numpy as np
import pyarrow as pa

from fundusray.metrics.comparison import figure_difference
from fundusray.metrics.predictions import predictions_table
from fundusray.metrics.spread import LEVEL, Spread, share_spread
from fundusray.metrics.summary import figure_summary


def share_interval(
    hits: np.ndarray, counted: np.ndarray, patients: np.ndarray
) -> dict[str, float | str | None]:
    """value, low, high (95 %) and why of the share of `hits` among `counted`, bool [N] both.

    Wilson's interval with the design effect of eyes that belong to one patient, see `intervals`;
    all None where nothing is counted.
    """
    if not counted.any():
        return {"value": None, "low": None, "high": None, "why": "no such image"}
    found = _spread(hits, counted, patients)
    low, high = found.ends(LEVEL) if found.ends else (None, None)
    return {"value": found.value, "low": low, "high": high, "why": found.why}


def share_difference(
    first: np.ndarray,
    second: np.ndarray,
    patients: np.ndarray,
    higher: bool = True,
    among: tuple[np.ndarray, np.ndarray] | None = None,
) -> dict[str, Any]:
    """difference (first - second), low, high, p, verdict on the first, and why, of two shares of
    the same patients' images, bool [N] each; from both shares' own intervals, see `comparison`.

    Args:
        higher: whether more is better.
        among: which images, bool [N], each of the two is a share of, some at least; None: of all.
    """
    counted = among or (np.ones(len(first), bool),) * 2
    sides = (
        _spread(hits, those, patients) for hits, those in zip((first, second), counted, strict=True)
    )
    return figure_difference(*sides, higher)


def _spread(hits: np.ndarray, counted: np.ndarray, patients: np.ndarray) -> Spread:
    # A patient who is not known counts on his own.
    names = [name or f"\0{place}" for place, name in enumerate(np.asarray(patients).tolist())]
    _, number = np.unique(names, return_inverse=True)
    eyes = np.bincount(number, counted).astype(float)
    return share_spread(np.bincount(number, hits & counted).astype(float), eyes, "")


def attack_figures(rows: pa.Table) -> list[dict[str, Any]]:
    """A row for each budget, the smallest first, of a table of attacked images.

    Each has attack, norm, eps, n, num_patients, majority_accuracy, queries (mean of an image), and
    with _low and _high of each:

    clean_accuracy: right as they are, of all;
    robust_accuracy: right as they are and still right, of all;
    success_rate: made wrong, of those that were right and that the attack is about;
    changed_rate: answered otherwise than before, of all (Wu's success rate);
    up_rate, down_rate: given a higher or a lower class than before, of all;
    rounded_rate, jpeg_rate: made wrong also from 8 bits, from a JPEG of quality 90, of those that
        were right, where the rows say it;
    robust_recall_<k>: as robust_accuracy, of class k;
    robust_balanced_accuracy: the mean of those, which one answer for all has of 1 / classes.
    """
    return [_figures(at_budget(rows, eps)) for eps in np.unique(rows["eps"].to_numpy())]


def at_budget(rows: pa.Table, eps: float) -> pa.Table:
    """Those of a table of attacked images at one of its budgets, by image."""
    return rows.filter(pa.array(rows["eps"].to_numpy() == eps)).sort_by("image_id")


def robustly_right(rows: pa.Table) -> np.ndarray:
    """Which images at one budget were right as they are and still are, bool [N]."""
    right = rows["clean_prediction"].to_numpy() == rows["target"].to_numpy()
    return right & ~rows["success"].to_numpy(zero_copy_only=False)


def answers_under_attack(rows: pa.Table, num_classes: int) -> pa.Table:
    """The answers at one budget as a table of predictions whose largest logit is 1.

    Of an image that was right, what the attack made of it; of one that was wrong, the wrong answer
    it had: an attack sets nothing right.
    """
    target, clean, now = (rows[n].to_numpy() for n in ("target", "clean_prediction", "prediction"))
    success = rows["success"].to_numpy(zero_copy_only=False)
    answer = np.where(clean != target, clean, np.where(success, now, target))
    ids = (rows[name].to_pylist() for name in ("image_id", "patient_id"))
    return predictions_table(*ids, target, np.eye(num_classes)[answer])


def _figures(rows: pa.Table) -> dict[str, Any]:
    target, clean, now = (rows[n].to_numpy() for n in ("target", "clean_prediction", "prediction"))
    success = rows["success"].to_numpy(zero_copy_only=False)
    patients = np.array(rows["patient_id"].to_pylist(), dtype=object)
    right, robust, all_rows = clean == target, robustly_right(rows), np.ones(len(target), bool)
    meant = right & _truths(rows, "concerned", all_rows)
    shares = {
        "clean_accuracy": (right, all_rows),
        "robust_accuracy": (robust, all_rows),
        "success_rate": (success, meant),
        "changed_rate": (rows["changed"].to_numpy(zero_copy_only=False), all_rows),
        "up_rate": (now > clean, all_rows),
        "down_rate": (now < clean, all_rows),
    }
    for name in ("rounded", "jpeg"):
        if f"success_{name}" in rows.column_names:
            shares[f"{name}_rate"] = (_truths(rows, f"success_{name}", all_rows), meant)
    classes = np.unique(target).tolist()
    shares |= {f"robust_recall_{k}": (robust, target == k) for k in classes}
    num_classes = int(max(target.max(), clean.max(), now.max())) + 1
    summary = figure_summary(answers_under_attack(rows, num_classes))
    figures: dict[str, Any] = {name: rows[name][0].as_py() for name in ("attack", "norm", "eps")}
    figures |= {
        "n": len(target),
        "num_patients": len({name or place for place, name in enumerate(patients)}),
        "majority_accuracy": float(np.bincount(target).max() / len(target)),
        "queries": float(rows["queries"].to_numpy().mean()),
    }
    for name, (hits, counted) in shares.items():
        found = share_interval(hits, counted, patients)
        figures |= {
            name: found["value"],
            f"{name}_low": found["low"],
            f"{name}_high": found["high"],
        }
    ends = ("", "_low", "_high")
    return figures | {
        f"robust_balanced_accuracy{e}": summary[f"balanced_accuracy{e}"] for e in ends
    }


def _truths(rows: pa.Table, name: str, otherwise: np.ndarray) -> np.ndarray:
    """A column of truths [N], or what stands for it where there is none."""
    if name not in rows.column_names:
        return otherwise
    return rows[name].to_numpy(zero_copy_only=False)


def smallest_breaking_eps(rows: pa.Table) -> dict[str, float]:
    """image_id -> the smallest budget that made it wrong; infinite where none did. Images that are
    wrong as they are do not occur."""
    found: dict[str, float] = {}
    names = ("image_id", "eps", "success", "target", "clean_prediction")
    for image, eps, success, target, clean in zip(
        *(rows[name].to_pylist() for name in names), strict=True
    ):
        if clean == target:
            found[image] = min(found.get(image, np.inf), eps if success else np.inf)
    return found


def damage_figures(rows: pa.Table) -> list[dict[str, Any]]:
    """A row for each level of a table of predictions of damaged photographs, the least first, and
    for each kind of damage at all its levels: corruption ("" of all kinds), level (None of all
    levels), n, accuracy with _low and _high, majority_accuracy."""
    level, kind = rows["level"].to_numpy(), np.array(rows["corruption"].to_pylist())
    target = rows["target"].to_numpy()
    answered = np.stack([rows[name].to_numpy() for name in _logits(rows)], axis=1).argmax(axis=1)
    patients = np.array(rows["patient_id"].to_pylist(), dtype=object)
    parts = [("", int(one), level == one) for one in np.unique(level)]
    kinds = np.unique(kind).tolist()
    parts += [(one, None, kind == one) for one in kinds] if len(kinds) > 1 else []
    figures = []
    for name, step, chosen in parts:
        found = share_interval((answered == target)[chosen], np.ones(chosen.sum(), bool),
                               patients[chosen])  # fmt: skip
        figures.append(
            {
                "corruption": name,
                "level": step,
                "n": int(chosen.sum()),
                "accuracy": found["value"],
                "accuracy_low": found["low"],
                "accuracy_high": found["high"],
                "majority_accuracy": float(np.bincount(target[chosen]).max() / chosen.sum()),
            }
        )
    return figures


def _logits(rows: pa.Table) -> list[str]:
    return [name for name in rows.column_names if name.startswith("logit_")]
