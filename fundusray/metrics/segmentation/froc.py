"""Free-response curves: sensitivity for lesions against false alarms an image, by class.

What a lesion, a detection and a false alarm are stands in `lesions`. Two networks' thresholds
(`half`) have no common scale; their counts are added at equal thresholds all the same, which the
table of a single network need not think of.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from fundusray.metrics.confusion import float_or_none
from fundusray.metrics.predictions import num_unknown
from fundusray.metrics.segmentation.figures import class_patients, patient_ids_of, resting_on
from fundusray.metrics.segmentation.lesions import SIZES, THRESHOLDS
from fundusray.metrics.segmentation.table import segmentation_classes_of, segmentation_columns_of
from fundusray.metrics.spread import LEVEL
from fundusray.metrics.sums import spreads_of_sums


def froc(table: pa.Table) -> list[dict[str, Any]]:
    """A row for each foreground class and threshold: class, threshold, sensitivity, false_alarms
    (an image), lesions (their number), images, and sensitivity_<size> of the sizes of lesions.

    A sensitivity is None where there is no lesion.

    Raises:
        InputError: a table of something else.
    """
    classes, columns = segmentation_classes_of(table), segmentation_columns_of(table)
    lesions, detected = (columns[name].sum(axis=0) for name in ("lesions", "detected"))
    alarms = columns["false_alarms"].mean(axis=0)
    found = []
    for k, name in enumerate(classes[1:]):
        for t, threshold in enumerate(THRESHOLDS):
            row: dict[str, Any] = {
                "class": name,
                "threshold": threshold,
                "sensitivity": _share(detected[k, :, t].sum(), lesions[k].sum()),
                "false_alarms": float(alarms[k, t]),
                "lesions": int(lesions[k].sum()),
                "images": table.num_rows,
            }
            for size, label in enumerate(SIZES):
                row[f"sensitivity_{label}"] = _share(detected[k, size, t], lesions[k, size])
            found.append(row)
    return found


def sensitivity_at(table: pa.Table, false_alarms: float = 1.0) -> list[dict[str, Any]]:
    """A row for each foreground class: class, false_alarms, value, low, high (95 %, by patient) and
    why of the sensitivity at so many false alarms an image, lesions, n and num_patients (who have
    one).

    Read between the two thresholds around it, straight; from 0 detections without any false alarm
    up. A curve that ends before has what it reaches at its lowest threshold.

    Raises:
        InputError: no rows, or a table of something else.
    """
    classes, columns = segmentation_classes_of(table), segmentation_columns_of(table)
    kinds, patients = classes[1:], patient_ids_of(table)
    summed = {
        "lesions": columns["lesions"].sum(axis=2),
        "detected": columns["detected"].sum(axis=2),
        "false_alarms": columns["false_alarms"],
        "images": np.ones(table.num_rows, np.int64),
    }

    def figures(sums: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        values = _sensitivity(sums, false_alarms)
        return {name: values[:, k] for k, name in enumerate(kinds)}

    spreads = spreads_of_sums(figures, summed, patients, dict.fromkeys(kinds, (0.0, 1.0)))
    carriers = class_patients(summed["lesions"], patients)
    found = []
    for k, name in enumerate(kinds):
        people = int(carriers[k])
        spread = resting_on(spreads[name], {name: people})
        low, high = spread.ends(LEVEL) if spread.ends else (None, None)
        found.append(
            {
                "class": name, "false_alarms": false_alarms, "value": float_or_none(spread.value),
                "low": low, "high": high, "why": spread.why,
                "lesions": int(summed["lesions"][:, k].sum()), "n": table.num_rows,
                "num_patients": people, "num_unknown": num_unknown(table),
            }
        )  # fmt: skip
    return found


def _share(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None


def _sensitivity(sums: Mapping[str, np.ndarray], rate: float) -> np.ndarray:
    """[R, K] sensitivities at a rate of false alarms; NaN without lesions."""
    lesions = sums["lesions"][..., None]
    # From the highest threshold down, and from nothing at all; where lesions grow together both
    # can fall again, and what was reached before counts.
    reached = np.where(lesions > 0, sums["detected"] / np.maximum(lesions, 1), np.nan)[..., ::-1]
    alarms = (sums["false_alarms"] / sums["images"][:, None, None])[..., ::-1]
    start = np.zeros((*reached.shape[:-1], 1))
    reached = np.maximum.accumulate(np.concatenate([start, reached], axis=-1), axis=-1)
    alarms = np.maximum.accumulate(np.concatenate([start, alarms], axis=-1), axis=-1)
    last = (alarms <= rate).sum(axis=-1, keepdims=True) - 1
    after = np.minimum(last + 1, alarms.shape[-1] - 1)
    (x0, x1), (y0, y1) = (
        [np.take_along_axis(values, place, axis=-1)[..., 0] for place in (last, after)]
        for values in (alarms, reached)
    )
    share = np.where(x1 > x0, (rate - x0) / np.where(x1 > x0, x1 - x0, 1.0), 0.0)
    return y0 + share * (y1 - y0)
