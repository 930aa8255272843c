"""What a driver tells its workers."""

from dataclasses import dataclass

from fundusray import files


@dataclass(frozen=True)
class Job:
    """One training; plain values, so that it travels as JSON."""

    recipe: str
    """The recipe as JSON."""
    prepared: str
    """Folder of the prepared set, or of the drawn photographs."""
    folder: str
    """The run's folder."""
    key: str
    """The run's hash; checkpoints of another run are refused."""
    storage: str
    threads: int
    attempt: str
    """Names this call of fit, so that a failure noted by an earlier one does not count."""
    split: str = ""
    """Digest of who is on which side, as the driver wrote it into the run's folder; of drawn
    photographs, which are split by their numbers, none."""
    title: str = ""
    """What its progress calls it; empty: the folder's name."""

    @property
    def shown(self) -> str:
        """What its progress calls it."""
        return self.title or files.base_name(self.folder)
