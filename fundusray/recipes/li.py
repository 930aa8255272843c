"""Table 1 of L. Li et al., Explaining diabetic retinopathy detection deep CNNs via integrated
gradients: an Inception-v3 fed in fixed shares of each stage, and the model it is compared with.

As in the paper: diameter, denoising, light evened out, outer 10 % cropped, half-grey around it, at
256 pixels; two fully connected layers over the ImageNet network; batches of 16 with 8, 1, 2, 1 and
4 images of stages 0 to 4; 550 batches at a rate of .001, 350 at .0002 and 495 at .00005. `OWN` is
what the paper does not state. Its columns of sensitivity and specificity are interchanged;
`sensitivity` here is that of any retinopathy, which the paper prints as specificity. It does not
say whether its kappa is weighted.
"""

from fundusray.config import Data, Model, Recipe, Sampling, Train
from fundusray.recipes.rows import register_recipe

OWN = (
    "Adam, 1024 units in each of the two layers, no dropout or weight decay, no augmentation, "
    "80/20 by image and stratified, accuracy to choose the epoch"
)
"""Values that the paper does not state."""


def _trained() -> Recipe:
    return Recipe(
        data=Data(
            source="eyepacs",
            size=256,
            preprocess="diameter",
            split="image",
            allow_leak=True,
            fractions=(0.8, 0.2, 0.0),
            augment="none",
        ),
        model=Model(name="inception_v3", weights="imagenet", hidden=(1024, 1024)),
        sampling=Sampling(name="quotas", quotas=(0.5, 0.0625, 0.125, 0.0625, 0.25)),
        train=Train(
            phases="all(steps=550) + all(steps=350, lr=0.2) + all(steps=495, lr=0.05)",
            batch=16,
            lr=1e-3,
            optimizer="adam",
            schedule="constant",
            select="accuracy",
        ),
    )


@register_recipe(
    "li.table1.baseline_pratt",
    ours=OWN,
    accuracy=0.7376,
    sensitivity=0.2999,
    specificity=0.9505,
    kappa_of_unstated_kind=0.4398,
    swapped="sensitivity, specificity",
    reference_only="the paper quotes Pratt et al. (2016)",
)
def table1_baseline_pratt() -> Recipe:
    """The figures of Pratt et al. that the paper compares with; running it runs Li's model."""
    return _trained()


@register_recipe(
    "li.table1.ours",
    ours=OWN,
    accuracy=0.75154,
    sensitivity=0.311423,
    specificity=0.9615,
    kappa_of_unstated_kind=0.5107,
    swapped="sensitivity, specificity",
)
def table1_ours() -> Recipe:
    """Inception-v3 with two fully connected layers, batches of fixed shares, 1,395 of them."""
    return _trained()
