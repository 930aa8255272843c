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
PUBLISHED = {
    "original": ((0.4959, 0.8748), (2.3628, 0.8087)),
    "layered": ((0.5029, 0.8655), (0.5068, 0.8662)),
    "selective": ((0.8410, 0.8769), (1.4774, 0.8386)),
    "combined": ((0.7059, 0.8738), (0.7205, 0.8726)),
}
"""Model -> (loss, pixel accuracy) of Table 1 and of Table 2."""
MIX_SHARE = {"original": 0.5, "layered": 1.0, "selective": 1.0, "combined": 2 / 3}
"""Model -> the share of showings that are of copies: all of one set; of two sets and the
photographs a third each."""
TITLES = {
    "original": "Model one: the photographs as they are.",
    "layered": "Model two: what layered iterative PGD made of them (data.mix).",
    "selective": "Model three: what selective enhancement made of them (data.mix).",
    "combined": "Model four: both and the photographs, a third each (data.mix=<one>,<other>).",
}


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


def _register(model: str) -> None:
    (loss, accuracy), (attacked_loss, attacked_accuracy) = PUBLISHED[model]

    def row() -> Recipe:
        changes = {} if model == "original" else {"data.mix_share": MIX_SHARE[model]}
        return override(segmentation_recipe(), changes)

    row.__doc__ = TITLES[model]
    register_recipe(f"avramidis.table1.{model}", ours=OWN, loss=loss, pixel_accuracy=accuracy)(row)
    attacked: Callable[[], Recipe] = lambda: row()  # noqa: E731
    attacked.__doc__ = f"{TITLES[model]} Under {ATTACK}."
    register_recipe(
        f"avramidis.table2.{model}",
        ours=OWN,
        trained_as=f"avramidis.table1.{model}",
        conditions=(ATTACK,),
        loss=attacked_loss,
        pixel_accuracy=attacked_accuracy,
    )(attacked)


for _model in PUBLISHED:
    _register(_model)
