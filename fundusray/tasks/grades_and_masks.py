"""Grades and masks at once, of photographs on which all that is to be seen is known.

What is kept is the classification network. The mask head, a light decoder on its feature maps, only
shapes them: masks tell of every photograph where the disease is, so that far fewer are needed.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fundusray.data.drawn.lesions import LESIONS
from fundusray.data.drawn.source import LANDMARKS
from fundusray.models import Classifier, head_parameters
from fundusray.pipeline.augment import augmentation
from fundusray.pipeline.loader import Batch
from fundusray.tasks.classification import AUXILIARY_WEIGHT, Classification
from fundusray.tasks.task import TASKS, Columns, Task

KINDS = (*LESIONS, *LANDMARKS)
"""What is looked for; mask i is of kind i."""
WIDTH = 48
"""Channels of the mask head."""
MASK_WEIGHT = 1.0
DICE = "dice_"
HITS, MARKED = "hits_", "marked_"
"""Columns of each kind: places said and true; said plus true."""


class Outputs(NamedTuple):
    """What the network puts out."""

    grade: Tensor
    """Class logits [B, K]."""
    auxiliary: Tensor | None
    """Those of an auxiliary head, in training."""
    masks: Tensor
    """Logits [B, M, h, w]."""


class Target(NamedTuple):
    """What a batch is held against."""

    grade: Tensor
    """int64 [B]."""
    masks: Tensor
    """[B, M, S, S] in [0, 1]."""


class MaskedClassifier(nn.Module):
    """A classifier and its mask head; images [B, 3, S, S] to `Outputs`.

    The head adds up feature maps from coarse to fine, each through one linear layer, as a feature
    pyramid does (Lin et al. 2017), and reads the masks off the finest, a quarter of the image's
    side where the network has such a map.
    """

    def __init__(self, model: Classifier, size: int) -> None:
        super().__init__()
        self.model = model
        channels = feature_maps(model, size)
        self._maps: dict[str, Tensor] = {}
        for name in channels:
            hook = _Keep(self._maps, name)
            model.get_submodule(name).register_forward_hook(hook)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            self.lateral = nn.ModuleList(nn.Conv2d(c, WIDTH, 1) for c in channels.values())
            self.read = nn.Sequential(
                nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(WIDTH, len(KINDS), 1),
            )
        # Most pixels show nothing; the head need not learn that first.
        nn.init.constant_(self.read[-1].bias, -3.0)

    def forward(self, image: Tensor) -> Outputs:
        raw = self.model.raw(image)
        auxiliary = self.model.class_logits(raw[1]) if isinstance(raw, tuple) else None
        total: Tensor | None = None
        for lateral, kept in zip(self.lateral, list(self._maps.values())[::-1], strict=True):
            here = lateral(kept)
            if total is not None:
                here = here + F.interpolate(total, size=here.shape[-2:], mode="nearest")
            total = here
        self._maps.clear()
        return Outputs(self.model.class_logits(raw), auxiliary, self.read(total))


@dataclass
class _Keep:
    """A hook that lays a layer's output aside; a copied network's lays it aside in the copy."""

    maps: dict[str, Tensor]
    name: str

    def __call__(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.maps[self.name] = output


def feature_maps(model: Classifier, size: int) -> dict[str, int]:
    """Module name -> channels of the last feature map of every side, the coarsest first, from 2
    pixels up to a quarter of the image's side."""
    found: dict[int, tuple[str, int]] = {}
    handles = []
    for name, module in model.named_modules():

        def note(module: nn.Module, inputs: Any, output: Any, name: str = name) -> None:
            if isinstance(output, Tensor) and output.ndim == 4:
                found[output.shape[-1]] = (name, output.shape[1])

        if name.startswith("net."):
            handles.append(module.register_forward_hook(note))
    training = model.training
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, size, size))
    model.train(training)
    for handle in handles:
        handle.remove()
    sides = [side for side in sorted(found) if 2 <= side <= (size + 3) // 4]
    return dict(found[side] for side in sides)


@torch.no_grad()
def calm(model: Classifier) -> None:
    """Makes the head of a random start a tenth as wide.

    timm begins efficientnet's last layer so wide that its logits are off by 4 and a short training
    spends its first hundred steps on unlearning them.
    """
    parameters = dict(model.named_parameters())
    for name in head_parameters(model):
        if parameters[name].ndim > 1:
            parameters[name].mul_(0.1)


class Losses:
    """Cross entropy of the grades; of the masks cross entropy and 1 - Dice of each kind over the
    worker's batch (Milletari et al. 2016), so that a kind seldom seen counts.

    A place of the coarser mask shows what any pixel within it shows.
    """

    def per_sample(
        self,
        output: Outputs,
        target: Target,
        valid: Tensor,
        progress: float = 0.0,
        batch_counts: Tensor | None = None,
    ) -> Tensor:
        """[B] losses, see `task.SampleLosses`; 1 - Dice is the same number for every image."""
        logits, auxiliary, read = (None if part is None else part.float() for part in output)
        graded = F.cross_entropy(logits, target.grade, reduction="none")
        if auxiliary is not None:
            extra = F.cross_entropy(auxiliary, target.grade, reduction="none")
            graded = graded + AUXILIARY_WEIGHT * extra
        wanted = coarse(target.masks, read)
        share = torch.sigmoid(read)
        counts = valid.to(share.dtype)[:, None, None, None]
        dims = (0, 2, 3)
        both, either = (share * wanted * counts).sum(dims), ((share + wanted) * counts).sum(dims)
        dice = (2 * both + 1) / (either + 1)
        each = F.binary_cross_entropy_with_logits(read, wanted, reduction="none").mean((1, 2, 3))
        return graded + MASK_WEIGHT * (each + (1 - dice).mean())


def coarse(masks: Tensor, read: Tensor) -> Tensor:
    """Masks [B, M, S, S] on the places of the mask logits [B, M, h, w], float32."""
    return F.adaptive_max_pool2d(masks.float(), read.shape[-2:])


@TASKS.register("grades_and_masks")
@dataclass(frozen=True)
class GradesAndMasks(Classification):
    """As classification, and the masks of KINDS, uint8 [B, M, S, S]; see `task.Task`.

    The bundle is of the last epoch, and holds the classifier.
    """

    chooses = False
    calibrates = False

    @property
    def selector(self) -> str:
        return "kappa"

    @property
    def selectors(self) -> tuple[str, ...]:
        return (*super().selectors, "dice")

    def network(self) -> MaskedClassifier:
        model = super().network()
        if not (self.recipe.model.weights or self.recipe.model.init_from):
            calm(model)
        data = self.recipe.data
        return MaskedClassifier(
            model, augmentation.output_size(augmentation.train_text(data), data.size)
        )

    def bundled(self, network: nn.Module) -> nn.Module:
        return network.model

    def of_bundle(self) -> Task:
        return Classification(self.recipe, self.classes, self.ordered)

    def target(self, batch: Batch) -> Target:
        return Target(batch.target, batch.masks)

    def losses(self, counts: Tensor) -> Losses:
        return Losses()

    def columns(self, outputs: Outputs, target: Target) -> Columns:
        """target and logit_<k>; hits_<kind> and marked_<kind>, of which Dice is 2 hits / marked."""
        said, wanted = outputs.masks > 0, coarse(target.masks, outputs.masks) > 0.5
        hits = (said & wanted).sum((2, 3)).cpu().numpy()
        marked = (said.sum((2, 3)) + wanted.sum((2, 3))).cpu().numpy()
        found = super().columns(outputs.grade, target.grade)
        for place, kind in enumerate(KINDS):
            found |= {f"{HITS}{kind}": hits[:, place], f"{MARKED}{kind}": marked[:, place]}
        return found

    def figures(self, columns: Columns) -> dict[str, float | None]:
        """Those of the grades; dice_<kind> of each kind over all images, and `dice`, their mean."""
        found = super().figures(columns)
        for kind in KINDS:
            hits, marked = (columns[f"{name}{kind}"].sum() for name in (HITS, MARKED))
            found[f"{DICE}{kind}"] = float(2 * hits / max(marked, 1))
        return found | {"dice": float(np.mean([found[f"{DICE}{kind}"] for kind in KINDS]))}

    def constant_answer(self, metric: str, targets: np.ndarray) -> float:
        """Nothing marked has a Dice of 0."""
        return 0.0 if metric == "dice" else super().constant_answer(metric, targets)

    def columns_of(self, table: pa.Table) -> Columns:
        names = [name for name in table.column_names if name.startswith((HITS, MARKED))]
        return super().columns_of(table) | {name: table[name].to_numpy() for name in names}
