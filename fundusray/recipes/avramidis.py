"""The four models of K. Avramidis et al., Robustness in medical AI: a training scheme for more
robust semantic segmentation (draft), on lesions of the retina in place of cell nuclei.

Model one learns the photographs; two learns what layered iterative PGD made of them for model one
(method one), three what selective enhancement made of them (method two), four all three at once,
with epochs cut by two thirds: an epoch of three versions is three of one, so all four make the same
number of updates. Table 1 is of the test photographs as they are, Table 2 of the same under 100
steps of PGD toward a picture that is background everywhere, 1 % of the range.

The stored copies are made with model one, so `jobs/segmentation_scheme.py` runs the rows in their
order; alone, the rows of models two to four need `data.mix=<set of jobs/derive.py>`.
"""

from collections.abc import Callable

from fundusray.config import Data, Model, Recipe, Segmentation, Train, override
from fundusray.recipes.rows import register_recipe

ATTACK = "background_pgd(eps=1/100, steps=100)"
"""That of Table 2."""
METHODS = {
    "layered": "layered(eps=1/100, steps=100)",
    "selective": "selective(eps=1/100, search=exact)",
}
"""Model -> what makes the copies that it learns."""
OWN = (
    "the photographs (the paper's are histology from a contest), how they are prepared, the size "
    "of the U-Net, Adam at 1e-3 with a cosine schedule for 60 epochs, flips, the loss beyond cross "
    "entropy, the eps of both methods (1 % as in the attack), steps of 2.5 eps / 100"
)
MIX_SHARE = {"layered": 1.0, "selective": 1.0, "combined": 2 / 3}
"""Model -> the share of showings that are of copies: all of one set; of two sets and the
photographs a third each."""


def segmentation_recipe() -> Recipe:
    """What all four models have in common."""
    return Recipe(
        data=Data(
            source="idrid",
            target="lesions",
            size=512,
            preprocess="graham",
            encoding="raw",
            augment="hflip(0.5) + vflip(0.5)",
        ),
        model=Model(name="unet/efficientnet_lite0", weights="imagenet"),
        segmentation=Segmentation(loss="cross_entropy + dice"),
        train=Train(epochs=60, batch=4, lr=1e-3, optimizer="adam", select="dice"),
    )


def _of_copies(model: str) -> Recipe:
    return override(segmentation_recipe(), {"data.mix_share": MIX_SHARE[model]})


@register_recipe("avramidis.table1.original", ours=OWN, loss=0.4959, pixel_accuracy=0.8748)
def table1_original() -> Recipe:
    """Model one: the photographs as they are."""
    return segmentation_recipe()


@register_recipe("avramidis.table1.layered", ours=OWN, loss=0.5029, pixel_accuracy=0.8655)
def table1_layered() -> Recipe:
    """Model two: what layered iterative PGD made of them (data.mix)."""
    return _of_copies("layered")


@register_recipe("avramidis.table1.selective", ours=OWN, loss=0.841, pixel_accuracy=0.8769)
def table1_selective() -> Recipe:
    """Model three: what selective enhancement made of them (data.mix)."""
    return _of_copies("selective")


@register_recipe("avramidis.table1.combined", ours=OWN, loss=0.7059, pixel_accuracy=0.8738)
def table1_combined() -> Recipe:
    """Model four: both and the photographs, a third each (data.mix=<one>,<other>)."""
    return _of_copies("combined")


def _attacked(model: str, loss: float, pixel_accuracy: float) -> Callable:
    return register_recipe(
        f"avramidis.table2.{model}",
        ours=OWN,
        trained_as=f"avramidis.table1.{model}",
        conditions=(ATTACK,),
        loss=loss,
        pixel_accuracy=pixel_accuracy,
    )


@_attacked("original", loss=2.3628, pixel_accuracy=0.8087)
def table2_original() -> Recipe:
    """Model one: the photographs as they are, under attack."""
    return table1_original()


@_attacked("layered", loss=0.5068, pixel_accuracy=0.8662)
def table2_layered() -> Recipe:
    """Model two: what layered iterative PGD made of them (data.mix), under attack."""
    return table1_layered()


@_attacked("selective", loss=1.4774, pixel_accuracy=0.8386)
def table2_selective() -> Recipe:
    """Model three: what selective enhancement made of them (data.mix), under attack."""
    return table1_selective()


@_attacked("combined", loss=0.7205, pixel_accuracy=0.8726)
def table2_combined() -> Recipe:
    """Model four: both and the photographs, a third each (data.mix=<one>,<other>), under attack."""
    return table1_combined()
