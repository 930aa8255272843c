"""One run, whole."""

from dataclasses import dataclass, field
from typing import Any

from fundusray.settings.deciding import SILENT
from fundusray.settings.learning import Adversarial, Loss, Model, Sampling, Train
from fundusray.settings.need import require, require_name
from fundusray.settings.photographs import Data
from fundusray.settings.places import Cluster, Results, Tune
from fundusray.settings.segmentation import Segmentation


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One run, whole."""

    name: str = field(default="custom", metadata=SILENT)
    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    loss: Loss = field(default_factory=Loss)
    segmentation: Segmentation = field(default_factory=Segmentation)
    sampling: Sampling = field(default_factory=Sampling)
    train: Train = field(default_factory=Train)
    adversarial: Adversarial = field(default_factory=Adversarial)
    cluster: Cluster = field(default_factory=Cluster, metadata=SILENT)
    tune: Tune = field(default_factory=Tune, metadata=SILENT)
    run: Results = field(default_factory=Results, metadata=SILENT)
    seed: int = 0
    published: dict[str, Any] = field(default_factory=dict, metadata=SILENT)
    """The paper's figures for this row, shown beside measured ones."""

    def __post_init__(self) -> None:
        if self.name:
            require_name("name", self.name)
        require(0 <= self.seed < 2**63, "seed", "a whole number from 0 to 2^63 - 1", self.seed)

    @property
    def split_seed(self) -> int:
        """The seed of all that a training must not change: who is on which side, the halves of
        those who are judged, which photographs are drawn."""
        return self.seed if self.data.split_seed < 0 else self.data.split_seed
