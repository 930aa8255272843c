"""Images that turned out not to decode while a network was trained or judged."""

from fundusray.terminal import tell
from fundusray.training.examples import Examples
from fundusray.training.ranks import Ranks


class Undecodable:
    """What the loaders had to leave out."""

    def __init__(self, examples: Examples, ranks: Ranks) -> None:
        self._examples, self._ranks = examples, ranks
        self._ids = examples.image_ids
        self._named: set[int] = set()

    def _name(self, row: int) -> str:
        # Rows beyond the set are its copies in another one.
        return self._ids[row % len(self._ids)]

    def name_new(self) -> None:
        """Names each image once; any worker may meet one."""
        found = self._examples.undecodable()
        for row in sorted(found.keys() - self._named):
            tell(f"quarantined: {self._name(row)} ({found[row]})")
        self._named |= found.keys()

    def of_all_workers(self) -> list[dict[str, str]]:
        """image_id and reason of what any worker left out, the same on every worker."""
        parts = self._ranks.together(self._examples.undecodable())
        found = {row: reason for part in parts for row, reason in part.items()}
        return [{"image_id": self._name(row), "reason": found[row]} for row in sorted(found)]
