"""Images of a prepared set that turn out not to decode while it is used."""

from collections.abc import Callable

import numpy as np

from fundusray.data.photographs.decode import encode_jpeg
from fundusray.data.prepared.prepared_set import PreparedSet
from fundusray.data.prepared.write import QUALITY
from fundusray.errors import BadInputsError
from fundusray.pipeline.engines.plain import Content, fill_level

MOST_NAMED = 20


class UndecodableImages:
    """Which rows are set aside, and what the engine is given in their place."""

    def __init__(self, prepared: PreparedSet, max_bad: float) -> None:
        self._prepared, self._max_bad = prepared, max_bad
        self.rows: dict[int, str] = {}
        """Row -> reason."""
        flat = np.full((prepared.size, prepared.size, 3), fill_level(prepared.fill), np.uint8)
        self._stand_in = np.frombuffer(encode_jpeg(flat, QUALITY), np.uint8)

    def holds(self, rows: np.ndarray) -> np.ndarray:
        """Which of the rows are set aside, bool."""
        return np.isin(rows, list(self.rows))

    def encoded(self, rows: np.ndarray) -> Content:
        """The encoded images of the rows; a flat one for each that is set aside."""
        images = self._prepared.encoded(rows)
        for index in np.flatnonzero(self.holds(rows)):
            images[index] = self._stand_in
        return images

    def examine(self, rows: np.ndarray, faults: Callable[[list[np.ndarray]], list[str]]) -> bool:
        """Sets aside those of the rows that do not decode alone; whether there were new ones.

        faults: why each of some encoded images does not decode, empty where it does.

        Raises:
            BadInputsError: more are set aside than max_bad allows.
        """
        rows = np.unique(rows)
        rows = rows[~self.holds(rows)]
        reasons = faults(self._prepared.encoded(rows))
        found = {row: why for row, why in zip(rows.tolist(), reasons, strict=True) if why}
        self.rows |= found
        self.check_share()
        return bool(found)

    def check_share(self) -> None:
        """Refuses a set of which more images do not decode than max_bad allows.

        Raises:
            BadInputsError: names them.
        """
        bad, num = len(self.rows), len(self._prepared.targets())
        if bad <= self._max_bad * num:
            return
        ids = self._prepared.image_ids()
        lines = [
            f"{bad:,} of {num:,} images of the prepared set {self._prepared.folder} do not decode"
            f" ({bad / num:.1%}; data.max_bad allows {self._max_bad:.1%}):",
            *(f"  {ids[row]!r}: {reason}" for row, reason in list(self.rows.items())[:MOST_NAMED]),
        ]
        if bad > MOST_NAMED:
            lines.append(f"  and {bad - MOST_NAMED:,} more")
        enough = np.ceil(bad / num * 1000) / 1000
        lines.append(
            f"remove that folder and prepare it again, or set data.max_bad={enough:g} to go on "
            "without them"
        )
        raise BadInputsError("\n".join(lines))
