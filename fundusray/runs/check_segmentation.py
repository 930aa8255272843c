"""What is refused of a recipe that learns every pixel, and of a network of pixels elsewhere."""

from fundusray.config import Recipe
from fundusray.errors import InputError
from fundusray.losses.pixel_losses import parsed_pixel_losses
from fundusray.metrics.registered import OF_MASKS
from fundusray.models.segmenters import PLAIN, is_segmenter
from fundusray.tasks import is_segmentation

SETTINGS = {
    "model": ("dropout", "image_size"),
    "loss": ("name", "args", "sparsity"),
    "sampling": ("name", "quotas"),
    "adversarial": ("method", "eps"),
}
"""Section -> settings of a label of the photograph, which mean nothing of pixels."""
INSTEAD = {
    "model": "a U-Net has no layers for it, so leave it out",
    "loss": 'give segmentation.loss, e.g. "cross_entropy(weights=balanced) + dice"',
    "sampling": 'leave it natural; rare lesions are sought by data.augment="lesion_crop(256)"',
    "adversarial": "train on stored copies: jobs/derive.py with condition=layered(eps=1/100), then "
    "data.mix=<its folder>",
}


def check_segmentation(recipe: Recipe) -> None:
    """Refuses a network that does not answer what is asked, and settings that mean nothing.

    Raises:
        InputError: what does not fit, and what to do.
    """
    data, name = recipe.data, recipe.model.name
    pixels = is_segmentation(recipe)
    if pixels and not is_segmenter(name):
        raise InputError(
            f"data.target={data.target} asks what every pixel is, and model.name={name} says one "
            f"label of a photograph; take model.name={PLAIN} or {PLAIN}/efficientnet_lite0"
        )
    if is_segmenter(name) and not pixels:
        raise InputError(
            f"model.name={name} says what every pixel is, and data.target={data.target} asks for "
            "one label of a photograph; give data.target=lesions or vessels, or another model.name"
        )
    if not pixels:
        if recipe.train.select in OF_MASKS:
            raise InputError(
                f"train.select={recipe.train.select} is of masks, and data.target={data.target} of "
                "a label; take kappa or balanced_accuracy"
            )
        return
    parsed_pixel_losses(recipe.segmentation.loss)
    _require_usual(recipe)
    if recipe.train.mixup:
        raise InputError("train.mixup: masks are not mixed; leave it 0")
    if recipe.train.select not in (*OF_MASKS, Recipe().train.select):
        raise InputError(
            f"train.select={recipe.train.select}: is of labels; the epoch of masks is chosen by "
            f"{', '.join(OF_MASKS)}, so leave it out"
        )
    if data.judge != "graded":
        raise InputError(f"data.judge={data.judge}: is of labels, not of masks; leave it out")
    if data.permute_labels:
        raise InputError("data.permute_labels: is of labels, not of masks; leave it out")
    if not recipe.train.batch:
        raise InputError("train.batch=auto: is not found out for networks of pixels; give a number")
    if data.masks:
        raise InputError(
            f"data.masks={','.join(data.masks)}: leave it empty; data.target={data.target} says "
            "which masks are kept, data.classes=background,<kinds> which of them"
        )


def require_label(recipe: Recipe, name: str) -> None:
    """Refuses a recipe, or the network of one, that says what every pixel is, where one label of a
    photograph is asked about.

    Args:
        name: what the command calls it.

    Raises:
        InputError: which jobs take it.
    """
    if is_segmentation(recipe):
        raise InputError(
            f"{name} says what every pixel is (data.target={recipe.data.target}), and this job is "
            "about one label of a photograph; segmentations are for jobs/train.py, evaluate.py, "
            "attack.py, derive.py, segment.py and segmentation_scheme.py"
        )


def _require_usual(recipe: Recipe) -> None:
    """Refuses settings of a label that are not their default."""
    usual = Recipe()
    for section, names in SETTINGS.items():
        for key in names:
            given = getattr(getattr(recipe, section), key)
            if given != getattr(getattr(usual, section), key):
                raise InputError(
                    f"{section}.{key}={given}: means nothing where data.target="
                    f"{recipe.data.target} is learned; {INSTEAD[section]}"
                )
