"""Our own recipes: a first run without any data, the base of searches for balance, and the best
grader for its cost."""

from fundusray.config import Data, Loss, Model, Recipe, Train, Tune
from fundusray.recipes.rows import register_recipe

TURNED = (
    "hflip(0.5) + vflip(0.5) + affine(scale=(0.9, 1.1), translate=0.03, rotate=180, shear=0) "
    "+ jitter(brightness=(0.85, 1.15), contrast=(0.85, 1.15), p=0.5)"
)
"""A fundus has no upright of its own: turned by any angle, flipped both ways."""
SMALLER = "random_resized_crop(160, scale=(0.5, 1.0), ratio=(0.9, 1.1))"
"""Trained on half of the pixels that are judged, for less than half of the time: what is cut out
and shrunk has details of about the size that the whole has when it is judged (Touvron et al.,
Fixing the train-test resolution discrepancy, 2019)."""


@register_recipe("demo")
def demo() -> Recipe:
    """EfficientNet-Lite0 from ImageNet on 400 drawn photographs: minutes on two CPU cores, kappa
    far above chance."""
    return Recipe(
        data=Data(source="synthetic", num_images=400, size=128),
        model=Model(name="efficientnet_lite0", weights="imagenet"),
        train=Train(
            epochs=6, batch=16, lr=1e-3, optimizer="adamw", weight_decay=0.01, schedule="onecycle"
        ),
        tune=Tune(trials=6, grace=3),
    )


@register_recipe("balancing")
def balancing() -> Recipe:
    """EfficientNet-Lite0 from ImageNet at 224 pixels, split by patient: what
    jobs/tune_balancing.py varies by default."""
    return Recipe(
        data=Data(size=224, split="patient"),
        model=Model(name="efficientnet_lite0", weights="imagenet"),
        train=Train(
            epochs=12, batch=32, lr=5e-4, optimizer="adamw", weight_decay=0.01, schedule="onecycle"
        ),
    )


@register_recipe("screening")
def screening() -> Recipe:
    """The grader that is best for its cost: EfficientNet-Lite0 from ImageNet, one number cut at
    fitted thresholds, photographs turned by any angle, trained on parts of 160 pixels and judged
    whole at 224 under flips. docs/screening.md says what each of these is worth.
    """
    return Recipe(
        data=Data(
            size=224,
            preprocess="graham",
            split="patient",
            augment=f"{TURNED} + {SMALLER}",
            view="resize(224)",
        ),
        model=Model(
            name="efficientnet_lite0",
            weights="imagenet",
            output="regression",
            flips="both",
            dropout=0.2,
        ),
        loss=Loss(name="squared_error"),
        train=Train(
            epochs=10,
            batch=32,
            lr=5e-4,
            optimizer="adamw",
            weight_decay=0.01,
            schedule="cosine",
            warmup=0.05,
        ),
    )
