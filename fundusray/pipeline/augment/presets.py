"""Augmentations by name, and what is then done to the pictures a model is judged on."""

from typing import NamedTuple

from fundusray.registry import Registry


class AugmentationPreset(NamedTuple):
    """A name for two texts."""

    train: str
    view: str
    """What is done to the pictures a model is judged on."""
    doc: str


PRESETS: Registry[AugmentationPreset] = Registry("augmentation")

_WU = (
    "hflip(0.5) + apply(0.5, affine(scale=(0.9, 1.1), translate={}, rotate=(-10, 30), shear=10)) "
    "+ jitter(brightness=(0.85, 1.15), contrast=(0.85, 1.15), p=0.5)"
)

PRESETS.register("none")(AugmentationPreset("none", "none", "Nothing."))
PRESETS.register("wu")(
    AugmentationPreset(
        _WU.format(0.05),
        "none",
        "Wu (2020): flip, one affine transform, brightness and contrast, each for half of the "
        "pictures. Printed are moves of 0.05 %, a quarter of a pixel: 0.05 of the side is meant; "
        "and turns of -30 to 10 degrees, clockwise where positive as in the libraries that turn, "
        "scale and shear at once (torchvision's RandomAffine, imgaug), so -10 to 30 here.",
    )
)
PRESETS.register("wu_literal")(
    AugmentationPreset(_WU.format(0.0005), "none", "Wu (2020) with moves of 0.05 % as printed.")
)
PRESETS.register("yu")(
    AugmentationPreset(
        "random_crop(224) + rotate(20) + hflip(0.5) + vflip(0.5)",
        "resize(224)",
        "Yu: of pictures prepared at 256 pixels a square of 224, turned by up to 20 degrees and "
        "flipped both ways; judged on the whole picture at 224 pixels.",
    )
)
PRESETS.register("ngc")(
    AugmentationPreset(
        "random_resized_crop(224) + hflip(0.5)",
        "resize(256) + center_crop(224)",
        "NVIDIA's ResNet-50: 8 to 100 % of the picture's area with sides of 3:4 to 4:3 as a square "
        "of 224, flipped; judged in the middle 224 of the picture at 256 pixels.",
    )
)
PRESETS.register("kon")(AugmentationPreset("hflip(0.5)", "none", "Kon (2024): flip."))
