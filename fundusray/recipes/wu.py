"""Tables 4 and 5 of J. Wu, Robust training and interpretability for fundus imaging (2020).

What all rows share: EyePACS, Graham's preprocessing, pixels in [-1, 1] inside the model, a random
70/30 split of the images and no third set, the paper's augmentations, ImageNet weights, 20 epochs
of which the best is kept. The split puts the two eyes of a patient on both sides, so the figures
flatter; `data.split=patient` is the variant without that leak. The paper calls the split random;
here it keeps the shares of the grades (stratified). `OWN` is what the paper does not state.
"""

from collections.abc import Callable

from fundusray.config import Data, Model, Recipe, Train, override
from fundusray.recipes.rows import register_recipe

OWN = (
    "Adam at 1e-4 with a cosine schedule and no weight decay, no dropout where none is named, "
    "kappa to choose the best epoch, Graham's gain and blur, which ImageNet weights, clockwise "
    "turns, contrast about half-grey, a stratified split"
)
"""Values that the paper does not state."""


def _trained(network: str, size: int, batch: int) -> Recipe:
    """A network at an image size, plain cross entropy."""
    return Recipe(
        data=Data(
            source="eyepacs",
            size=size,
            preprocess="graham",
            split="image",
            allow_leak=True,
            fractions=(0.7, 0.3, 0.0),
            augment="wu",
        ),
        model=Model(name=network, weights="imagenet", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        train=Train(
            epochs=20, batch=batch, lr=1e-4, optimizer="adam", schedule="cosine", select="kappa"
        ),
    )


def balanced(batch: int, changes: dict[str, str | float]) -> Recipe:
    """The network of Table 5 with some settings changed."""
    return override(_trained("efficientnet_b0", 512, batch), changes)


def _row(
    name: str, accuracy: float, balanced_accuracy: float, kappa: float, time: str
) -> Callable[[Callable[[], Recipe]], Callable[[], Recipe]]:
    """A row of a table: its name and the three figures and the time it gives."""
    return register_recipe(
        f"wu.{name}",
        ours=OWN,
        accuracy=accuracy,
        balanced_accuracy=balanced_accuracy,
        kappa=kappa,
        time=time,
    )


@_row("table4.resnet18_256", 0.812, 0.476, 0.701, "2h40")
def table4_resnet18_256() -> Recipe:
    """ResNet-18 at 256 pixels."""
    return _trained("resnet18", 256, batch=128)


@_row("table4.resnet18_512", 0.836, 0.521, 0.76, "8h26")
def table4_resnet18_512() -> Recipe:
    """ResNet-18 at 512 pixels."""
    return _trained("resnet18", 512, batch=64)


@_row("table4.resnet50_256", 0.819, 0.519, 0.725, "5h59")
def table4_resnet50_256() -> Recipe:
    """ResNet-50 at 256 pixels."""
    return _trained("resnet50", 256, batch=64)


@_row("table4.resnet50_512", 0.826, 0.467, 0.725, "19h25")
def table4_resnet50_512() -> Recipe:
    """ResNet-50 at 512 pixels."""
    return _trained("resnet50", 512, batch=64)


@_row("table4.efficientnet_b0_256", 0.815, 0.44, 0.696, "2h29")
def table4_efficientnet_b0_256() -> Recipe:
    """EfficientNet-B0 at 256 pixels."""
    return _trained("efficientnet_b0", 256, batch=192)


@_row("table4.efficientnet_b0_512", 0.852, 0.586, 0.805, "14h59")
def table4_efficientnet_b0_512() -> Recipe:
    """EfficientNet-B0 at 512 pixels."""
    return _trained("efficientnet_b0", 512, batch=16)


@_row("table4.efficientnet_b1_256", 0.817, 0.455, 0.706, "2h29")
def table4_efficientnet_b1_256() -> Recipe:
    """EfficientNet-B1 at 256 pixels."""
    return _trained("efficientnet_b1", 256, batch=192)


@_row("table4.efficientnet_b1_512", 0.85, 0.587, 0.805, "19h15")
def table4_efficientnet_b1_512() -> Recipe:
    """EfficientNet-B1 at 512 pixels."""
    return _trained("efficientnet_b1", 512, batch=16)


@_row("table4.efficientnet_b2_256", 0.823, 0.549, 0.739, "2h20")
def table4_efficientnet_b2_256() -> Recipe:
    """EfficientNet-B2 at 256 pixels."""
    return _trained("efficientnet_b2", 256, batch=96)


@_row("table4.efficientnet_b2_512", 0.852, 0.61, 0.811, "19h49")
def table4_efficientnet_b2_512() -> Recipe:
    """EfficientNet-B2 at 512 pixels."""
    return _trained("efficientnet_b2", 512, batch=16)


@_row("table4.efficientnet_b3_256", 0.828, 0.539, 0.746, "5h50")
def table4_efficientnet_b3_256() -> Recipe:
    """EfficientNet-B3 at 256 pixels."""
    return _trained("efficientnet_b3", 256, batch=96)


@_row("table4.efficientnet_b3_512", 0.851, 0.585, 0.803, "10h01")
def table4_efficientnet_b3_512() -> Recipe:
    """EfficientNet-B3 at 512 pixels."""
    return _trained("efficientnet_b3", 512, batch=24)


@_row("table4.inception_v3_299", 0.816, 0.497, 0.706, "7h12")
def table4_inception_v3_299() -> Recipe:
    """Inception-v3 at 299 pixels."""
    return _trained("inception_v3", 299, batch=64)


@_row("table5.baseline", 0.852, 0.586, 0.805, "14h59")
def table5_baseline() -> Recipe:
    """EfficientNet-B0 at 512 pixels, cross entropy: what the rows below are measured against."""
    return _trained("efficientnet_b0", 512, batch=16)


@_row("table5.focal_gamma1", 0.847, 0.587, 0.8, "6h02")
def table5_focal_gamma1() -> Recipe:
    """Focal loss, gamma 1."""
    return balanced(48, {"loss.name": "focal", "loss.args.gamma": 1.0})


@_row("table5.focal_gamma2", 0.848, 0.629, 0.814, "6h08")
def table5_focal_gamma2() -> Recipe:
    """Focal loss, gamma 2."""
    return balanced(48, {"loss.name": "focal", "loss.args.gamma": 2.0})


@_row("table5.focal_gamma3", 0.843, 0.602, 0.815, "6h12")
def table5_focal_gamma3() -> Recipe:
    """Focal loss, gamma 3."""
    return balanced(48, {"loss.name": "focal", "loss.args.gamma": 3.0})


@_row("table5.focal_gamma4", 0.842, 0.593, 0.803, "5h50")
def table5_focal_gamma4() -> Recipe:
    """Focal loss, gamma 4."""
    return balanced(48, {"loss.name": "focal", "loss.args.gamma": 4.0})


@_row("table5.class_balanced_beta0_9", 0.848, 0.597, 0.809, "6h05")
def table5_class_balanced_beta0_9() -> Recipe:
    """Class balanced loss, beta 0.9."""
    return balanced(48, {"loss.name": "class_balanced", "loss.args.beta": 0.9})


@_row("table5.class_balanced_beta0_99", 0.852, 0.621, 0.802, "6h09")
def table5_class_balanced_beta0_99() -> Recipe:
    """Class balanced loss, beta 0.99."""
    return balanced(48, {"loss.name": "class_balanced", "loss.args.beta": 0.99})


@_row("table5.class_balanced_beta0_999", 0.848, 0.605, 0.807, "6h20")
def table5_class_balanced_beta0_999() -> Recipe:
    """Class balanced loss, beta 0.999."""
    return balanced(48, {"loss.name": "class_balanced", "loss.args.beta": 0.999})


@_row("table5.inverse_frequency", 0.798, 0.596, 0.764, "14h30")
def table5_inverse_frequency() -> Recipe:
    """Each class weighs one over its frequency."""
    return balanced(16, {"loss.name": "inverse_frequency"})


@_row("table5.oversample_dropout0", 0.704, 0.399, 0.612, "46h39")
def table5_oversample_dropout0() -> Recipe:
    """Minorities repeated until classes are equal, dropout 0."""
    return balanced(16, {"sampling.name": "oversample", "model.dropout": 0.0})


@_row("table5.oversample_dropout0_75", 0.826, 0.555, 0.775, "21h37")
def table5_oversample_dropout0_75() -> Recipe:
    """Minorities repeated until classes are equal, dropout 0.75."""
    return balanced(48, {"sampling.name": "oversample", "model.dropout": 0.75})


@_row("table5.oversample_dropout0_9", 0.78, 0.578, 0.78, "20h05")
def table5_oversample_dropout0_9() -> Recipe:
    """Minorities repeated until classes are equal, dropout 0.9."""
    return balanced(48, {"sampling.name": "oversample", "model.dropout": 0.9})


@_row("table5.oversample_restart", 0.76, 0.63, 0.765, "5h04")
def table5_oversample_restart() -> Recipe:
    """Five epochs of oversampling from the trained baseline: alone, also give
    model.init_from=<bundle of wu.table5.baseline>; jobs/table.py finds it by its name."""
    changes = {"sampling.name": "oversample", "train.epochs": 5}
    return balanced(48, changes | {"model.weights": "", "model.init_from": "wu.table5.baseline"})
