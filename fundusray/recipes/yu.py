"""The five runs of Yu, Lab 4: Diabetic retinopathy detection (ResNet-18 and -50 on EyePACS).

As in the paper: EyePACS split 80/20 by image, no third set, ImageNet mean and standard deviation,
SGD at 1e-3 with momentum 0.9 and weight decay 5e-4 throughout, incomplete batches left out, the
best test accuracy kept; pictures of 256 pixels, of which a random 224 are turned by up to 20
degrees and flipped both ways, and judged whole at 224. The start is torchvision's DEFAULT weights,
of ResNet-50 the second version (V2), of ResNet-18 the first. Class weights divide a batch by its
own sum of them, as torch's CrossEntropyLoss does. The pretrained networks train the head alone for
5 epochs, then everything for 20 with a fresh optimiser; the others everything for 25.

`yu.ngc_resnet50` is the recipe of NVIDIA's ResNet-50 v1.5 that the report names as the way to go
on: SGD with momentum .875, .256 per 256 images, a cosine, weights alone decay by 1/32768, label
smoothing, mixup, 250 epochs; random crops of 8 to 100 % of the picture's area at 224 and flips,
judged in the middle 224 of the picture at 256. Warm-up is quoted for batches of 512 and more alone:
there train.warmup=0.032, 8 of 250 epochs.
"""

from fundusray.config import Data, Model, Recipe, Train, override
from fundusray.recipes.rows import PRESETS, register_recipe

NGC: dict[str, str | int | float | bool] = {
    "loss.args.smoothing": 0.1,
    "train.phases": "",
    "train.epochs": 250,
    "train.optimizer": "sgd",
    "train.lr": 0.256,
    "train.lr_scaling": "linear",
    "train.lr_batch": 256,
    "train.momentum": 0.875,
    "train.weight_decay": 1 / 32768,
    "train.decay_norms": False,
    "train.schedule": "cosine",
    "train.warmup": 0.0,
    "train.mixup": 0.2,
    "data.augment": "ngc",
    "data.view": "",
}
"""`ngc_resnet50`: NVIDIA's recipe for ResNet-50 v1.5."""
PRESETS.register("ngc_resnet50")(NGC)


V1, V2 = "imagenet/tv_in1k", "imagenet/tv2_in1k"
"""torchvision's weights; DEFAULT is the newest that a network has."""
OWN = "a constant rate after the head's phase too, a stratified split"
"""Values that the paper does not state."""


def _trained(network: str, weights: str, batch: int) -> Recipe:
    """A network from the given weights, plain cross entropy."""
    return Recipe(
        data=Data(
            source="eyepacs",
            size=256,
            preprocess="center_crop",
            split="image",
            allow_leak=True,
            fractions=(0.8, 0.2, 0.0),
            augment="yu",
        ),
        model=Model(
            name=network,
            weights=weights,
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        ),
        train=Train(
            epochs=25,
            phases="head(epochs=5) + all(epochs=20)" if weights else "",
            batch=batch,
            lr=1e-3,
            optimizer="sgd",
            momentum=0.9,
            weight_decay=5e-4,
            decay_norms=True,
            schedule="constant",
            drop_last=True,
            select="accuracy",
        ),
    )


@register_recipe("yu.resnet18_pretrained", ours=OWN, accuracy=0.80669)
def resnet18_pretrained() -> Recipe:
    """ResNet-18 from ImageNet weights."""
    return _trained("resnet18", V1, batch=64)


@register_recipe("yu.resnet18_scratch", ours=OWN)
def resnet18_scratch() -> Recipe:
    """ResNet-18 from a random start; the paper gives a curve, no figure."""
    return _trained("resnet18", "", batch=64)


@register_recipe("yu.resnet50_pretrained", ours=OWN, accuracy=0.828612)
def resnet50_pretrained() -> Recipe:
    """ResNet-50 from ImageNet weights."""
    return _trained("resnet50", V2, batch=16)


@register_recipe("yu.resnet50_scratch", ours=OWN)
def resnet50_scratch() -> Recipe:
    """ResNet-50 from a random start; the paper gives a curve, no figure."""
    return _trained("resnet50", "", batch=16)


@register_recipe("yu.resnet50_pretrained_class_weights", ours=OWN, accuracy=0.756868)
def resnet50_pretrained_class_weights() -> Recipe:
    """ResNet-50 as above with the paper's weights: images of grade 0 (20,655) over the grade's."""
    weights = (1.0, 10.5652173913043, 4.9061757719714, 29.5916905444126, 35.5507745266781)
    changes = {"loss.name": "class_weights", "loss.args.weights": weights}
    changes |= {"loss.args.divide": "weights"}
    return override(_trained("resnet50", V2, batch=16), changes)


@register_recipe(
    "yu.ngc_resnet50",
    ours="batches of 256, mixup's alpha of 0.2 (NVIDIA's), a stratified split, accuracy to choose "
    "the epoch",
)
def ngc_resnet50() -> Recipe:
    """ResNet-50 v1.5 from a random start as NVIDIA's examples train it, 250 epochs with mixup."""
    return override(_trained("resnet50", "", batch=256), NGC)
